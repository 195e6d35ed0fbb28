"""`clipsearch models`: list the available models."""

from typing import Annotated, Any

from clipsearch.cli.app import OUTPUT, DebugOption, JsonOption, flag, new_app, print_json, print_line
from clipsearch.index import available_models

app = new_app()


@app.command()
def models(
    every: Annotated[bool, flag("--all", "List all models that can be downloaded.", OUTPUT)] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the available models, and which are on this machine.

    Lists the bundled model, the recommended ones with their short names, and those in the local cache. COCO and
    Flickr30k: published text-to-image R@1, the percentage of captions that find their own photo first.

    Examples:
      clipsearch models
      clipsearch models --all | grep ViT-L
    """
    rows = available_models(every=every)
    if json:
        print_json({"models": rows})
        return
    for row in rows:
        print_line(_line(row, max(len(row["name"]) for row in rows)))


def _line(row: dict[str, Any], width: int) -> str:
    line = f"{row['name']:<{width}}  {row['state']}"
    if row["short"] is None:
        return line
    size = f"{row['megabytes'] / 1000:.1f} GB" if row["megabytes"] >= 1000 else f"{row['megabytes']} MB"
    figures = [f"{name} {row[key]}" for name, key in (("COCO", "coco"), ("Flickr30k", "flickr30k")) if row[key]]
    about = ", ".join([size, row["licence"], row["languages"], *figures])
    return f"{line:<{width + 10}}  {'(' + row['short'] + ')':<14}  {about}"
