"""`clipsearch forget`: remove folders from the index."""

from typing import Annotated

import typer

from clipsearch.cli.app import DebugOption, IndexOption, explained, new_app, open_folder, say
from clipsearch.output import text

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
    say(f"removed {text.files(open_folder(index).forget(directories))} from the index")
