"""`clipsearch mcp`: answer assistants."""

from clipsearch.cli.app import DebugOption, IndexOption, explained, new_app
from clipsearch.extras import needs
from clipsearch.paths import index_folder

app = new_app()


@app.command()
@explained
def mcp(index: IndexOption = None, debug: DebugOption = False) -> None:
    """Serve the index to an AI assistant (MCP).

    The assistant starts this command and speaks the Model Context Protocol with it on stdin and stdout. It can search,
    label, locate and see the status; it cannot change anything or see a file that is not indexed. Needs:
    pip install 'clipsearch[mcp]'.

    Example:
      clipsearch mcp < /dev/null

    Exit status: 0 ended by the assistant, 2 error.
    """
    with needs("mcp"):
        from clipsearch.web.assistant import assistant
    assistant(index_folder(index)).run()
