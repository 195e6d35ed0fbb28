"""`clipsearch forget`: remove folders from the index."""

from typing import Annotated

from clipsearch.cli.app import DebugOption, IndexOption, argument, new_app, open_folder, say
from clipsearch.output import text

app = new_app()


@app.command()
def forget(
    directories: Annotated[list[str], argument("DIR...", "Indexed folders or offline drives.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Remove folders from the index.

    DIR is an indexed folder, or an offline drive inside one. Photos are not touched.

    Example:
      clipsearch forget /media/old-drive
    """
    say(f"removed {text.files(open_folder(index).forget(directories))} from the index")
