"""`clipsearch ask`: ask a vision-language model about photos."""

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
def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about each photo.")],
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
    """Ask a vision-language model about photos.

    It can count, and tell which thing has which color, but may be wrong. Without options, uses the endpoint that
    captions the index (see index --captions), or else dandelin/vilt-b32-finetuned-vqa, which needs the extra vlm. In
    JSON, score is the probability of the answer, or null if the model gives none.

    Examples:
      clipsearch ask "how many dogs are there?" beach.jpg
      clipsearch ask "is it raining?" *.jpg -f jsonl | jq -c '[.path, .answer]'

    Exit status: 0 done, 2 error, or a photo could not be read.
    """
    form = chosen_format(format, records.TEXT_FORMATS, "text")
    failed: list[str] = []

    def on_error(name: str, error: BadRequest) -> None:
        say(f"clipsearch: {message_of(error)}")
        failed.append(name)

    with open_index(index) as opened:
        vlm = vlm_of(vlm_model, endpoint, allow_remote=allow_remote)
        found = opened.answers(question, list(map(image_source, photos)), vlm, on_error=on_error)
        write_records(records.answers(found, form, with_paths=len(photos) > 1))
    if failed:
        raise typer.Exit(FAILED)
