"""`clipsearch where`: locate something in a photo."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli.app import (
    FAILED,
    OUTPUT,
    DebugOption,
    IndexOption,
    RecordFormatOption,
    advise,
    chosen_format,
    colour,
    destination,
    image_source,
    message_of,
    new_app,
    open_folder,
    say,
    width,
    write,
    write_records,
)
from clipsearch.errors import BadRequest
from clipsearch.index import Index
from clipsearch.output import records, terminal
from clipsearch.search.embed import image_bytes
from clipsearch.search.where import Found

app = new_app()


@app.command("where")
def where_(
    about: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Files, URLs or - (stdin), indexed or not.")],
    png: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Write heat maps into DIR; never overwrites.", rich_help_panel=OUTPUT),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Box everything that owlv2, a detector, finds.", rich_help_panel=OUTPUT),
    ] = None,
    count: Annotated[
        bool, typer.Option("--count", help="With --detector: print only how many it finds.", rich_help_panel=OUTPUT)
    ] = False,
    format: RecordFormatOption = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Locate something in photos: print a box for each.

    Uses the model of the index. There is always a best box, even if the photo does not show the thing. The score is the
    cosine between the text and the crop.

    --detector owlv2, or another OWL model of the Hugging Face Hub, finds all such things instead, or none; scores are
    its own. It needs the extra vlm.

    Examples:
      clipsearch where "a dog" beach.jpg
      clipsearch where "a dog" beach.jpg hotel.jpg --png heat
      clipsearch where "a dog" beach.jpg -f jsonl | jq -c .box
      clipsearch where "a dog" beach.jpg --detector owlv2 --count

    Exit status: 0 done, 2 error, or a photo could not be read.
    """
    form = chosen_format(format, records.LABEL_FORMATS, "table" if sys.stdout.isatty() else "tsv")
    if detector is not None:
        _detect(about, photos, detector, form, index, png=png, count=count)
        return
    if count:
        raise BadRequest("--count needs --detector")
    heat = destination("png", png, "the name of a folder")
    failed: list[str] = []
    with open_folder(index) as opened:
        found = _found(about, photos, opened, heat, failed)
        if form == "table":
            write(terminal.where(found, width(), colour=colour()))
        else:
            write_records(records.where(found, form))
        if len(failed) < len(photos):
            advise(opened, [about])
    if failed:
        raise typer.Exit(FAILED)


def _detect(
    about: str, photos: list[str], detector: str, form: str, index: str | None, *, png: list[str] | None, count: bool
) -> None:
    """Print the boxes of a detector, or with `count` only how many."""
    if png:
        raise BadRequest("--png draws the heat map, which --detector does not make")
    failed: list[str] = []

    def on_error(name: str, error: BadRequest) -> None:
        say(f"clipsearch: {message_of(error)}")
        failed.append(name)

    with open_folder(index) as opened:
        sources = list(map(image_source, photos))
        photos_found = list(opened.detections(about, sources, detector, on_error=on_error))
    found = (Found(one.path, about, one.width, one.height, there) for one in photos_found for there in one.found)
    if count:
        counts = ((one.path, about, len(one.found)) for one in photos_found)
        write_records(records.counts(counts, "tsv" if form == "table" else form))
    elif form == "table":
        write(terminal.where(found, width(), colour=colour()))
    else:
        write_records(records.where(found, form))
    if failed:
        raise typer.Exit(FAILED)


def _found(about: str, photos: Iterable[str], index: Index, heat: str | None, failed: list[str]) -> Iterator[Found]:
    """Locate the text in each photo. An unusable one is reported on stderr and added to `failed`."""
    for photo in photos:
        try:
            data = image_bytes(image_source(photo))
            where, metadata = index.locate(about, data, name="the image on stdin" if photo == "-" else photo)
            if heat is not None:
                from clipsearch.output.annotate import write_heat_map

                write_heat_map(Path(heat).expanduser(), _name(photo), data, where)
        except BadRequest as error:
            say(f"clipsearch: {message_of(error)}")
            failed.append(photo)
        else:
            path = os.fsencode(os.path.abspath(photo) if os.path.exists(photo) else photo)
            yield Found(path, about, metadata.width, metadata.height, where)


def _name(photo: str) -> str:
    """The file name of a heat map; drops the query string of a URL."""
    return Path(photo.partition("?")[0]).stem or "photo"
