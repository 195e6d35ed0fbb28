"""`clipsearch ask`: ask a vision-language model about photos."""

from typing import Annotated

from clipsearch.cli.app import (
    AnyPhotos,
    DebugOption,
    Failures,
    IndexOption,
    TextFormatOption,
    argument,
    chosen_format,
    image_source,
    new_app,
    open_index,
    write_records,
)
from clipsearch.cli.vlm import AllowRemoteOption, EndpointOption, VlmModelOption, vlm_of
from clipsearch.output import records

app = new_app()


@app.command()
def ask(
    question: Annotated[str, argument("QUESTION", "What to ask about each photo.")],
    photos: AnyPhotos,
    vlm_model: VlmModelOption = None,
    endpoint: EndpointOption = None,
    allow_remote: AllowRemoteOption = False,
    format: TextFormatOption = None,
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
    failures = Failures()
    with open_index(index) as opened:
        vlm = vlm_of(vlm_model, endpoint, allow_remote=allow_remote)
        found = opened.answers(question, list(map(image_source, photos)), vlm, on_error=failures.add)
        write_records(records.answers(found, form, with_paths=len(photos) > 1))
    failures.exit()
