"""`clipsearch mcp`: the MCP server."""

from clipsearch.cli.app import DebugOption, IndexOption, new_app
from clipsearch.cli.vlm import AllowRemoteOption, EndpointOption, VlmModelOption, vlm_of
from clipsearch.extras import needs
from clipsearch.paths import index_folder

app = new_app()


@app.command()
def mcp(
    vlm_model: VlmModelOption = None,
    endpoint: EndpointOption = None,
    allow_remote: AllowRemoteOption = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Serve the index to an AI assistant (MCP).

    The assistant starts this command and talks to it on stdin and stdout in the Model Context Protocol. It can search,
    label, locate, see the status, and have a vision-language model describe photos and answer questions about them (see
    ask). It cannot change anything or read a file that is not indexed. Needs the extra mcp: in a clone of the
    repository, run pip install '.[mcp]'.

    Example:
      clipsearch mcp < /dev/null

    Exit status: 0 ended by the assistant, 2 error.
    """
    with needs("mcp"):
        from clipsearch.web.assistant import assistant
    vlm = vlm_of(vlm_model, endpoint, allow_remote=allow_remote)
    assistant(index_folder(index), vlm).run()
