"""`clipsearch forget`: take folders out of the index."""

from typing import Annotated

import typer

from clipsearch.cli.app import DebugOption, IndexOption, explained, new_app, say
from clipsearch.indexing.relocate import forget as forget_folders
from clipsearch.paths import index_folder

app = new_app()


@app.command()
@explained
def forget(
    directories: Annotated[list[str], typer.Argument(metavar="DIR...", help="Folders as status lists them.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Take folders out of the index, or a drive in one of them that is offline. The photos are never touched.

    Example:
      clipsearch forget /media/old-drive
    """
    say(f"forgot {forget_folders(index_folder(index), directories):,} files")
