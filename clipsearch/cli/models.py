"""`clipsearch models`: list the models that can be used."""

from typing import Annotated

import typer

from clipsearch.cli.app import OUTPUT, DebugOption, JsonOption, explained, new_app, print_json
from clipsearch.models.hub import available
from clipsearch.models.model import DEFAULT, MINI

app = new_app()


@app.command()
@explained
def models(
    every: Annotated[
        bool, typer.Option("--all", help="Also those that would be downloaded.", rich_help_panel=OUTPUT)
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the models that can be used, and which are on this machine.

    Without --all: the bundled one, the default, and those in the local cache.

    Examples:
      clipsearch models
      clipsearch models --all | grep ViT-L
    """
    rows = [{"name": MINI, "state": "bundled", "default": False}]
    for name, path in available().items():
        if every or path or name == DEFAULT:
            rows.append({"name": name, "state": "cached" if path else "download", "default": name == DEFAULT})
    if json:
        print_json({"models": rows})
        return
    broad = max(len(str(row["name"])) for row in rows)
    for row in rows:
        mark = "  (default)" if row["default"] else ""
        print(f"{row['name']:<{broad}}  {row['state']}{mark}")
