"""`clipsearch publish`: copy the index to a Milvus collection."""

from typing import Annotated

from clipsearch.cli.app import (
    DebugOption,
    IndexOption,
    JsonOption,
    argument,
    flag,
    new_app,
    open_folder,
    print_json,
    progress_of,
    say,
)
from clipsearch.errors import BadArgument
from clipsearch.output import text
from clipsearch.paths import Collection, index_place

app = new_app()


@app.command()
def publish(
    uri: Annotated[str, argument("URI", "milvus://HOST:PORT/NAME or a path ending in .db.")],
    replace: Annotated[bool, flag("--replace", "Replace one of another index or format.")] = False,
    quiet: Annotated[bool, flag("--quiet", "Print only errors.", None, "-q")] = False,
    json: JsonOption = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Copy the index to a Milvus collection.

    For more photos than one machine can search. The first run writes everything, later runs only changes. You can
    interrupt it at any time; the next run continues. A path ending in .db is a Milvus Lite collection and needs no
    server. Needs the extra milvus: in a clone of the repository, run pip install '.[milvus]'.

    The token comes from CLIPSEARCH_MILVUS_TOKEN, or from the file named by CLIPSEARCH_MILVUS_TOKEN_FILE. For TLS set
    CLIPSEARCH_MILVUS_TLS to 1, or to the PEM file of your own certificate authority.

    Examples:
      clipsearch publish photos.db
      clipsearch query "a dog on a beach" --index photos.db
      clipsearch publish milvus://milvus.example.org:19530/photos

    Exit status: 0 up to date, 2 error, 130 interrupted.
    """
    place = index_place(uri)
    if not isinstance(place, Collection):
        raise BadArgument("uri", f"must be milvus://HOST:PORT/NAME or a path ending in .db, not {uri!r}")
    with progress_of("publishing", shown=not quiet) as progress:
        done = open_folder(index).publish(place, replace=replace, on_progress=progress)
    if json:
        print_json({"collection": str(place), **done._asdict()})
    elif not quiet:
        say(f"{text.photos(done.photos)} in {place}: {done.written:,} written, {done.deleted:,} deleted")
