"""`clipsearch mcp`: answer assistants."""

from clipsearch.cli.app import DebugOption, IndexOption, explained, new_app
from clipsearch.errors import BadRequest
from clipsearch.paths import index_folder

app = new_app()


@app.command()
@explained
def mcp(index: IndexOption = None, debug: DebugOption = False) -> None:
    """Answer an assistant's questions about the index, over the Model Context Protocol on stdin and stdout.

    The assistant starts it. It can search, label, ask where something is, and see the status; it changes nothing and
    sees no file that is not in the index. It needs: pip install 'clipsearch[mcp]'.

    Example:
      clipsearch mcp < /dev/null

    Exit status: 0 when the assistant has ended it, 2 for an error.
    """
    try:
        from clipsearch.web.assistant import assistant
    except ModuleNotFoundError as error:
        if error.name != "mcp":
            raise
        raise BadRequest("mcp needs one more package; install it with: pip install 'clipsearch[mcp]'") from None
    assistant(index_folder(index)).run()
