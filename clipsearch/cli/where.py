"""`clipsearch where`: locate something in a photo."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

from clipsearch.cli.app import (
    OUTPUT,
    AnyPhotos,
    DebugOption,
    Failures,
    IndexOption,
    RecordFormatOption,
    advise,
    argument,
    destination,
    flag,
    image_source,
    new_app,
    open_folder,
    option,
    record_format,
    write_found,
    write_records,
)
from clipsearch.cli.vlm import DetectorOption, Locating, SegmenterOption
from clipsearch.errors import BadRequest
from clipsearch.index import Index
from clipsearch.output import records, terminal
from clipsearch.search.embed import image_bytes
from clipsearch.search.hit import Found

app = new_app()


@app.command("where")
def where_(
    about: Annotated[str, argument("TEXT", "What to look for.")],
    photos: AnyPhotos,
    png: Annotated[str | None, option("DIR", "Write marked copies into DIR; never overwrites.", OUTPUT)] = None,
    detector: DetectorOption = None,
    segmenter: SegmenterOption = None,
    count: Annotated[bool, flag("--count", "With --detector: print only how many it finds.", OUTPUT)] = False,
    format: RecordFormatOption = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Locate something in photos: print a box for each.

    Uses the model of the index. There is always a best box, even if the photo does not show the thing. The score is the
    cosine between the text and the crop.

    --detector owlv2, or another OWL model of the Hugging Face Hub, finds all such things instead, or none. --segmenter
    clipseg, or another CLIPSeg model, finds their outline. Scores are the model's. They need the extra vlm.

    Examples:
      clipsearch where "a dog" beach.jpg
      clipsearch where "a dog" beach.jpg hotel.jpg --png heat
      clipsearch where "a dog" beach.jpg -f jsonl | jq -c .box
      clipsearch where "a dog" beach.jpg --detector owlv2 --count
      clipsearch where "a dog" beach.jpg --segmenter clipseg --png masks

    Exit status: 0 done, 2 error, or a photo could not be read.
    """
    form = record_format(format)
    models = Locating(True, detector, segmenter)
    models.check()
    if count and detector is None:
        raise BadRequest("--count needs --detector")
    folder = destination("png", png, "the name of a folder")
    failures = Failures()
    with open_folder(index) as opened:

        def in_photo(photo: str, data: bytes) -> list[Found]:
            return _in_photo(about, photo, data, opened, models)

        each = _in_each(photos, in_photo, folder, failures)
        found = (one for _, in_one in each for one in in_one)
        if count:
            counts = ((_path(photo), about, len(in_one)) for photo, in_one in each)
            write_records(records.counts(counts, "tsv" if form == "table" else form))
        else:
            write_found(found, form, terminal.where, records.where)
        if not models.with_detector and len(failures.names) < len(photos):
            advise(opened, [about])
    failures.exit()


def _in_each(
    photos: Iterable[str], in_photo: Callable[[str, bytes], list[Found]], folder: str | None, failures: Failures
) -> Iterator[tuple[str, list[Found]]]:
    """What is found in each photo. Unusable ones are added to `failures`."""
    for photo in photos:
        try:
            data = image_bytes(image_source(photo))
            found = in_photo(photo, data)
            if folder is not None and found:
                from clipsearch.output.annotate import write_annotated

                write_annotated(Path(folder).expanduser(), _name(photo), data, [one.there for one in found])
        except BadRequest as error:
            failures.add(photo, error)
        else:
            yield photo, found


def _in_photo(about: str, photo: str, data: bytes, index: Index, models: Locating) -> list[Found]:
    """What the detector or the segmenter finds, or without them, the best part."""
    name = "the image on stdin" if photo == "-" else photo
    if not models.with_detector:
        where, of = index.locate(about, data, name=name)
        return [Found(_path(photo), about, of.width, of.height, where)]
    there, of = index.detect(about, data, models.detector, segmenter=models.segmenter, name=name)
    return [Found(_path(photo), about, of.width, of.height, one) for one in there]


def _path(photo: str) -> bytes:
    return os.fsencode(os.path.abspath(photo) if os.path.exists(photo) else photo)


def _name(photo: str) -> str:
    """The file name of a marked copy; drops the query string of a URL."""
    return Path(photo.partition("?")[0]).stem or "photo"
