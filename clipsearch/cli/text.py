"""`clipsearch text`: print the text that was read in photos."""

from collections.abc import Iterator
from typing import Annotated

import typer

from clipsearch.cli.app import (
    FAILED,
    NOTHING_FOUND,
    OUTPUT,
    DebugOption,
    IndexOption,
    chosen_format,
    message_of,
    new_app,
    open_index,
    say,
    write_records,
)
from clipsearch.errors import NotIndexed
from clipsearch.index import Index
from clipsearch.output import records
from clipsearch.search.hit import Line, Photo

app = new_app()


@app.command()
def text(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Indexed photos.")],
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="FORMAT", help="text, json or jsonl.", rich_help_panel=OUTPUT),
    ] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Print the text in photos, as read by OCR.

    Text is read by: clipsearch index --ocr. JSON has the box of each line.

    Examples:
      clipsearch text ~/Pictures/2023/00.png
      clipsearch text ~/Pictures/2023/*.png --format jsonl | jq -r '.lines[].text'

    Exit status: 0 found text, 1 found none, 2 error, or a photo is not indexed.
    """
    form = chosen_format(format, records.TEXT_FORMATS, "text")
    failed: list[str] = []
    with open_index(index) as opened:
        found = list(_found(opened, photos, failed))
    write_records(records.texts(found, form))
    if failed:
        raise typer.Exit(FAILED)
    if not any(lines for _, lines in found):
        raise typer.Exit(NOTHING_FOUND)


def _found(index: Index, paths: list[str], failed: list[str]) -> Iterator[tuple[Photo, list[Line]]]:
    """The text of each photo. One that is not indexed is reported on stderr and added to `failed`."""
    for path in paths:
        try:
            yield index.text(path)
        except NotIndexed as error:
            say(f"clipsearch: {message_of(error)}")
            failed.append(path)
