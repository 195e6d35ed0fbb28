"""`clipsearch relocate`: update the path of an indexed folder."""

from typing import Annotated

from clipsearch.cli.app import DebugOption, IndexOption, argument, new_app, open_folder, say

app = new_app()


@app.command()
def relocate(
    old: Annotated[str, argument("OLD", "An indexed folder.")],
    new: Annotated[str, argument("NEW", "Its new path.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Update the path of a folder that was moved or renamed.

    Also for a drive with a new mount point. Nothing is embedded again.

    Example:
      clipsearch relocate /media/old-name /media/new-name
    """
    done = open_folder(index).relocate(old, new)
    say(f"{done.there:,} of {done.known:,} photos found in the new folder. For the rest, run: clipsearch index")
