"""The options that choose a vision-language model, for the commands that have one."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.indexing.options import Vlm

VLM = "Captions and answers"

VlmModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Model that captions or answers.",
        rich_help_panel=VLM,
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="OpenAI-compatible server that runs it.",
        rich_help_panel=VLM,
    ),
]
AllowRemoteOption = Annotated[
    bool,
    typer.Option("--allow-remote", help="Send photos to a server elsewhere.", rich_help_panel=VLM),
]


def vlm_of(model: str | None, endpoint: str | None, *, allow_remote: bool) -> Vlm:
    """The model that the options name."""
    return Vlm(model, endpoint, allow_remote)
