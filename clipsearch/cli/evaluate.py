"""`clipsearch eval`: measure how well the index finds photos by captions."""

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
    print_json,
    print_line,
    say,
    say_missing,
)
from clipsearch.errors import BadRequest
from clipsearch.output import records, text
from clipsearch.paths import index_folder
from clipsearch.search.evaluate import evaluate
from clipsearch.store.catalogue import Store

app = new_app()


@app.command("eval")
@explained
def eval_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Lines: a path from here, a tab, a caption; - is stdin.")],
    index: IndexOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how well the index finds photos by captions that people wrote for them.

    Text to image: how often a photo is among the best 1, 5 and 10 for its caption, of all that are indexed, and its
    median rank. Image to text: the same for the captions of FILE, asked by photo. A photo may have several lines.

    Examples:
      clipsearch eval captions.tsv
      clipsearch eval captions.tsv --json | jq .text_to_image.recall_at_10
    """
    pairs = list(_captions(file))
    if sys.stderr.isatty():
        say(f"reading {len(pairs):,} captions with the index's model")
    with Store.open(index_folder(index)) as store:
        measured = evaluate(store, pairs)
    say_missing(measured.missing)
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
            raise BadRequest(f"{where}: not a path, a tab and a caption")
        yield path, caption
