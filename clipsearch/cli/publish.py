"""`clipsearch publish`: write the index to a collection of Milvus."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from clipsearch.cli.app import DebugOption, IndexOption, JsonOption, explained, new_app, print_json, say
from clipsearch.errors import BadArgument
from clipsearch.indexing.publish import Progress
from clipsearch.indexing.publish import publish as publish_index
from clipsearch.output import text
from clipsearch.paths import Collection, index_folder, index_place

app = new_app()


@app.command()
@explained
def publish(
    uri: Annotated[str, typer.Argument(metavar="URI", help="milvus://HOST:PORT/NAME, or a path that ends in .db.")],
    replace: Annotated[bool, typer.Option("--replace", help="Also where another index was published before.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    json: JsonOption = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Write the index to a collection of Milvus, for photos that outgrow one machine, and keep it in step.

    The first time everything is written, later what changed. It can be stopped at any time and goes on the next time.
    A path that ends in .db is a collection of Milvus Lite, which needs no server. It needs: pip install
    'clipsearch[milvus]'.

    The server's token is read from CLIPSEARCH_MILVUS_TOKEN, or from the file that CLIPSEARCH_MILVUS_TOKEN_FILE names.
    CLIPSEARCH_MILVUS_TLS=1 encrypts; the certificate of an authority of your own, in PEM, may take the place of 1.

    Examples:
      clipsearch publish photos.db
      clipsearch query "a dog on a beach" --index photos.db
      clipsearch publish milvus://milvus.example.org:19530/photos --json | jq .written

    Exit status: 0 when it is in step, 2 for an error, 130 when interrupted.
    """
    place = index_place(uri)
    if not isinstance(place, Collection):
        raise BadArgument("uri", f"must be milvus://HOST:PORT/NAME or a path that ends in .db, not {uri!r}")
    with _progress(not quiet and sys.stderr.isatty()) as progress:
        done = publish_index(index_folder(index), place, replace=replace, progress=progress)
    if json:
        print_json({"collection": str(place), **done._asdict()})
    elif not quiet:
        say(f"{text.photos(done.photos)} in {place}: {done.written:,} written, {done.deleted:,} deleted")


@contextlib.contextmanager
def _progress(shown: bool) -> Iterator[Progress | None]:
    """A progress bar on stderr, if it is to be shown."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("publishing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
