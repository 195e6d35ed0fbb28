"""`clipsearch caption`: describe photos in words."""

from typing import Annotated

import typer

from clipsearch.cli.app import (
    FAILED,
    OUTPUT,
    DebugOption,
    IndexOption,
    chosen_format,
    image_source,
    message_of,
    new_app,
    open_index,
    say,
    write_records,
)
from clipsearch.cli.vlm import AllowRemoteOption, EndpointOption, VlmModelOption, vlm_of
from clipsearch.errors import BadRequest
from clipsearch.output import records

app = new_app()


@app.command()
def caption(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Files, URLs or - (stdin), indexed or not.")],
    vlm_model: VlmModelOption = None,
    endpoint: EndpointOption = None,
    allow_remote: AllowRemoteOption = False,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="FORMAT", help="text, json or jsonl.", rich_help_panel=OUTPUT),
    ] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Print captions of photos by a vision-language model.

    Without options, prints the captions in the index (see index --captions). Photos without one are captioned by the
    same model, or else by Salesforce/blip-image-captioning-base, which needs the extra vlm. Nothing is stored.

    Examples:
      clipsearch caption beach.jpg
      clipsearch caption *.jpg -f jsonl | jq -r .generated_caption

    Exit status: 0 done, 2 error, or a photo could not be read.
    """
    form = chosen_format(format, records.TEXT_FORMATS, "text")
    failed: list[str] = []

    def on_error(name: str, error: BadRequest) -> None:
        say(f"clipsearch: {message_of(error)}")
        failed.append(name)

    with open_index(index) as opened:
        vlm = vlm_of(vlm_model, endpoint, allow_remote=allow_remote)
        found = opened.captions(list(map(image_source, photos)), vlm, on_error=on_error)
        write_records(records.captions(found, form, with_paths=len(photos) > 1))
    if failed:
        raise typer.Exit(FAILED)
