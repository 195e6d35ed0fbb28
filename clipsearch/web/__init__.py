"""The web page and the MCP server: requests in, one call to `Index`, JSON and images out."""
