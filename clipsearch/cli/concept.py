"""`clipsearch concept`: names for what a few photos show."""

import os
from typing import Annotated

import typer

from clipsearch.cli.app import (
    DebugOption,
    IndexOption,
    JsonOption,
    explained,
    image_bytes,
    new_app,
    print_json,
    print_line,
    say,
)
from clipsearch.output import records, text
from clipsearch.paths import index_folder
from clipsearch.search.concepts import Concepts, checked_name
from clipsearch.search.embed import Embedder
from clipsearch.store.catalogue import Store

app = new_app(
    help="Name what a few photos show, such as a person or a place, and ask for it as @NAME.", no_args_is_help=True
)


@app.command()
@explained
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it; query finds it as @NAME.")],
    photos: Annotated[list[str], typer.Argument(metavar="FILE...", help="Photos that show it.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Make a concept of photos, or give it more of them.

    The photos need not be indexed, and are not needed again.

    Examples:
      clipsearch concept add grandma a.jpg b.jpg
      clipsearch query "@grandma on a beach"
    """
    name = checked_name(name)
    examples = [(os.fsencode(os.path.abspath(p) if os.path.exists(p) else p), image_bytes(p)) for p in photos]
    with Store.open(index_folder(index)) as store:
        count = Concepts(store.folder).add(name, examples, Embedder(store))
    say(f"@{name} has {text.photos(count)}")


@app.command("list")
@explained
def list_(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List the concepts and how many photos each was made of.

    Example:
      clipsearch concept list --json | jq -r '.concepts[].name'
    """
    with Store.open(index_folder(index)) as store:
        known = Concepts(store.folder)
    if json:
        print_json(records.concepts(known))
        return
    for name in known.names():
        print_line(f"@{name}  {text.photos(len(known.examples(name)))}")


@app.command()
@explained
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A concept, with or without its @.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Forget a concept. Its photos are not touched.

    Example:
      clipsearch concept remove grandma
    """
    with Store.open(index_folder(index)) as store:
        Concepts(store.folder).remove(name)
