"""`clipsearch why`: why a file is or is not indexed."""

from typing import Annotated

import typer

from clipsearch.cli.app import (
    NOTHING_FOUND,
    DebugOption,
    IndexOption,
    JsonOption,
    argument,
    new_app,
    open_folder,
    print_json,
    write,
)
from clipsearch.indexing.why import State
from clipsearch.output import records, text

app = new_app()


@app.command()
def why(
    paths: Annotated[list[str], argument("PATH...", "Files or folders.")],
    index: IndexOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Explain why a file is or is not indexed.

    Possible reasons: excluded, skipped, offline, changed since it was indexed, or not in an indexed folder.

    Examples:
      clipsearch why ~/Pictures/2023/00.png
      clipsearch why ~/Pictures/2023/*.png --json | jq '.paths[].state'

    Exit status: 0 all are indexed and unchanged, 1 at least one is not, 2 error.
    """
    with open_folder(index) as opened:
        found = opened.why(paths)
    if json:
        print_json(records.whys(found))
    else:
        write(text.why(one) for one in found)
    if any(one.state is not State.INDEXED for one in found):
        raise typer.Exit(NOTHING_FOUND)
