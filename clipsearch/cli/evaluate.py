"""`clipsearch eval`: measure the model on your own photos and captions."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from clipsearch.cli.app import (
    DebugOption,
    IndexOption,
    JsonOption,
    explained,
    lines,
    new_app,
    open_folder,
    print_json,
    print_line,
    say,
    some,
)
from clipsearch.errors import BadRequest
from clipsearch.output import records, text

app = new_app()


@app.command("eval")
@explained
def eval_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Lines of path, tab, caption; - is stdin.")],
    index: IndexOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure recall on your own photos and captions.

    Text to image: how often the photo of a caption is among the first 1, 5 and 10 of the whole index (R@k), and its
    median rank. Image to text: the same for finding the captions of a photo among those in FILE. Paths are relative to
    the current folder; a photo may have several lines.

    Examples:
      clipsearch eval captions.tsv
      clipsearch eval captions.tsv --json | jq .text_to_image.recall_at_10
    """
    pairs = list(_captions(file))
    if sys.stderr.isatty():
        say(f"embedding {len(pairs):,} captions")
    with open_folder(index) as opened:
        measured = opened.evaluate(pairs)
    if measured.missing:
        say(f"not in the index, ignored: {some(measured.missing)}")
    if json:
        print_json(records.evaluation(measured))
    else:
        print_line(text.evaluation(measured))


def _captions(source: str) -> Iterator[tuple[bytes, str]]:
    for where, line in lines(source):
        path, _, rest = line.partition(b"\t")
        try:
            caption = rest.decode().strip()
        except UnicodeDecodeError:
            raise BadRequest(f"{where}: the caption is not UTF-8") from None
        if not path or not caption or b"\0" in line:
            raise BadRequest(f"{where}: expected a path, a tab and a caption")
        yield path, caption
