"""Results to bytes, a terminal or a page."""
