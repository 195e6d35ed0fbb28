"""`clipsearch forget`: remove folders from the index."""

from typing import Annotated

import typer

from clipsearch.cli.app import DebugOption, IndexOption, explained, new_app, say
from clipsearch.indexing.relocate import forget as forget_folders
from clipsearch.output import text
from clipsearch.paths import index_folder

app = new_app()


@app.command()
@explained
def forget(
    directories: Annotated[list[str], typer.Argument(metavar="DIR...", help="Indexed folders.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Remove folders, or an offline drive in one of them, from the index. The photos are not touched.

    Example:
      clipsearch forget /media/old-drive
    """
    say(f"removed {text.files(forget_folders(index_folder(index), directories))} from the index")
