"""`clipsearch text`: print the text that was read in photos."""

from typing import Annotated

import typer

from clipsearch.cli.app import (
    NOTHING_FOUND,
    DebugOption,
    Failures,
    IndexOption,
    TextFormatOption,
    argument,
    chosen_format,
    new_app,
    open_index,
    write_records,
)
from clipsearch.errors import NotIndexed
from clipsearch.output import records
from clipsearch.search.hit import Line, Photo

app = new_app()


@app.command()
def text(
    photos: Annotated[list[str], argument("PHOTO...", "Indexed photos.")],
    format: TextFormatOption = None,
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
    failures = Failures()
    found: list[tuple[Photo, list[Line]]] = []
    with open_index(index) as opened:
        for path in photos:
            try:
                found.append(opened.text(path))
            except NotIndexed as error:
                failures.add(path, error)
    write_records(records.texts(found, form))
    failures.exit()
    if not any(lines for _, lines in found):
        raise typer.Exit(NOTHING_FOUND)
