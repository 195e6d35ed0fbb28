"""`clipsearch concept`: manage concepts, which queries use as @NAME."""

from typing import Annotated

from clipsearch.cli.app import (
    DebugOption,
    IndexOption,
    JsonOption,
    argument,
    image_source,
    new_app,
    open_folder,
    print_json,
    print_line,
    say,
)
from clipsearch.output import records, text
from clipsearch.search.concepts import checked_name

app = new_app(help="Name example photos and search for them as @NAME.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, argument("NAME", "Name of the concept, used as @NAME.")],
    photos: Annotated[list[str], argument("FILE...", "Example photos.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Create a concept from example photos, or add examples.

    The photos need not be indexed and are not needed afterwards.

    Examples:
      clipsearch concept add grandma a.jpg b.jpg
      clipsearch query "@grandma on a beach"
    """
    name = checked_name(name)
    with open_folder(index) as opened:
        count = opened.add_concept(name, [image_source(photo) for photo in photos])
    say(f"@{name} has {text.photos(count)}")


@app.command("list")
def list_(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List concepts with their number of examples.

    Example:
      clipsearch concept list --json | jq -r '.concepts[].name'
    """
    with open_folder(index) as opened:
        concepts = opened.concepts
    if json:
        print_json(records.concepts(concepts))
        return
    for name in concepts.names():
        print_line(f"@{name}  {text.photos(len(concepts.examples(name)))}")


@app.command()
def remove(
    name: Annotated[str, argument("NAME", "Name of the concept.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Remove a concept. Its photos are not touched.

    Example:
      clipsearch concept remove grandma
    """
    with open_folder(index) as opened:
        opened.concepts.remove(name)
