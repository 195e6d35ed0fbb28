"""`clipsearch eval`: measure recall on your own photos and captions."""

import sys
from collections.abc import Iterator
from typing import Annotated

from clipsearch.cli.app import (
    DebugOption,
    IndexOption,
    JsonOption,
    argument,
    first_of,
    lines,
    new_app,
    open_folder,
    print_json,
    print_line,
    say,
)
from clipsearch.errors import BadRequest
from clipsearch.output import records, text

app = new_app()


@app.command("eval")
def eval_(
    file: Annotated[str, argument("FILE", "Lines of path, tab, caption; - is stdin.")],
    index: IndexOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure recall on your own photos and captions.

    Text to image: how often a caption finds its photo among the first 1, 5 and 10 results from the whole index (R@1,
    R@5, R@10), and the median rank. Image to text: the same for finding the captions of a photo among those in FILE.
    Paths are relative to the current folder. A photo may have several captions, one per line.

    Examples:
      clipsearch eval captions.tsv
      clipsearch eval captions.tsv --json | jq .text_to_image.recall_at_10
    """
    pairs = list(_captions(file))
    if sys.stderr.isatty():
        say(f"embedding {len(pairs):,} captions")
    with open_folder(index) as opened:
        evaluation = opened.evaluate(pairs)
    if evaluation.missing:
        say(f"not in the index, ignored: {first_of(evaluation.missing)}")
    if json:
        print_json(records.evaluation(evaluation))
    else:
        print_line(text.evaluation(evaluation))


def _captions(source: str) -> Iterator[tuple[bytes, str]]:
    for position, line in lines(source):
        path, _, rest = line.partition(b"\t")
        try:
            caption = rest.decode().strip()
        except UnicodeDecodeError:
            raise BadRequest(f"{position}: the caption is not UTF-8") from None
        if not path or not caption or b"\0" in line:
            raise BadRequest(f"{position}: expected a path, a tab and a caption")
        yield path, caption
