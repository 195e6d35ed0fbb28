"""`clipsearch concept`: named examples that queries can use as @NAME."""

from typing import Annotated

import typer

from clipsearch.cli.app import (
    DebugOption,
    IndexOption,
    JsonOption,
    explained,
    new_app,
    open_folder,
    picture,
    print_json,
    print_line,
    say,
)
from clipsearch.output import records, text
from clipsearch.search.concepts import checked_name

app = new_app(help="Name a few example photos and search for them as @NAME.", no_args_is_help=True)


@app.command()
@explained
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the concept, used as @NAME.")],
    photos: Annotated[list[str], typer.Argument(metavar="FILE...", help="Example photos.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Create a concept from example photos, or add examples to it.

    The photos need not be indexed and are not needed afterwards.

    Examples:
      clipsearch concept add grandma a.jpg b.jpg
      clipsearch query "@grandma on a beach"
    """
    name = checked_name(name)
    with open_folder(index) as opened:
        count = opened.add_concept(name, [picture(place) for place in photos])
    say(f"@{name} has {text.photos(count)}")


@app.command("list")
@explained
def list_(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List all concepts and their number of examples.

    Example:
      clipsearch concept list --json | jq -r '.concepts[].name'
    """
    with open_folder(index) as opened:
        known = opened.concepts
    if json:
        print_json(records.concepts(known))
        return
    for name in known.names():
        print_line(f"@{name}  {text.photos(len(known.examples(name)))}")


@app.command()
@explained
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the concept.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Remove a concept. Its photos are not touched.

    Example:
      clipsearch concept remove grandma
    """
    with open_folder(index) as opened:
        opened.concepts.remove(name)
