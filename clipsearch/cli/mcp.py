"""`clipsearch mcp`: the MCP server."""

from clipsearch.cli.app import DebugOption, IndexOption, new_app
from clipsearch.extras import needs
from clipsearch.paths import index_folder

app = new_app()


@app.command()
def mcp(index: IndexOption = None, debug: DebugOption = False) -> None:
    """Serve the index to an AI assistant (MCP).

    The assistant starts this command and talks to it on stdin and stdout in the Model Context Protocol. It can search,
    label, locate and see the status; it cannot change anything or read a file that is not indexed. Needs the extra mcp:
    in a clone of the repository, run pip install '.[mcp]'.

    Example:
      clipsearch mcp < /dev/null

    Exit status: 0 ended by the assistant, 2 error.
    """
    with needs("mcp"):
        from clipsearch.web.assistant import assistant
    assistant(index_folder(index)).run()
