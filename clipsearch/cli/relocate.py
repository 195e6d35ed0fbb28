"""`clipsearch relocate`: say that an indexed folder is somewhere else now."""

from typing import Annotated

import typer

from clipsearch.cli.app import DebugOption, IndexOption, explained, new_app, say
from clipsearch.indexing.relocate import relocate as relocate_folder
from clipsearch.paths import index_folder

app = new_app()


@app.command()
@explained
def relocate(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A folder as status lists it.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Where it is now.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Say that an indexed folder is somewhere else now: a new mount point, a new name. Nothing is embedded again.

    Example:
      clipsearch relocate /media/old-name /media/new-name
    """
    done = relocate_folder(index_folder(index), old, new)
    say(f"{done.there:,} of {done.known:,} photos are there; clipsearch index brings the rest up to date")
