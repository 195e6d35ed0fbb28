"""The options that choose a vision-language model, for the commands that use one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

from clipsearch.cli.app import OUTPUT, first_of, flag, option, say
from clipsearch.errors import BadArgument, BadRequest

if TYPE_CHECKING:
    from clipsearch.index import Index
    from clipsearch.search.hit import Hit
    from clipsearch.search.question import Question
    from clipsearch.search.vqa import Vlm

VLM = "Vision-language model"

VlmModelOption = Annotated[str | None, option("NAME", "Model that captions or answers.", VLM)]
EndpointOption = Annotated[str | None, option("URL", "OpenAI-compatible server that runs it.", VLM)]
AllowRemoteOption = Annotated[bool, flag("--allow-remote", "Send photos to a server elsewhere.", VLM)]


DetectorOption = Annotated[str | None, option("NAME", "Box everything that owlv2, a detector, finds.", OUTPUT)]
SegmenterOption = Annotated[str | None, option("NAME", "Mask what clipseg, a segmenter, finds.", OUTPUT)]


class Locating(NamedTuple):
    """The options of --where: whether to locate matches, and the model to use instead of that of the index."""

    where: bool
    detector: str | None
    segmenter: str | None

    @property
    def with_detector(self) -> bool:
        """Whether to use a detector or a segmenter."""
        return self.detector is not None or self.segmenter is not None

    @property
    def key(self) -> str | None:
        """The field of a hit that gets the result."""
        return ("detections" if self.with_detector else "where") if self.where else None

    def check(self) -> None:
        """Raise `BadRequest` for contradictory options."""
        if self.detector is not None and self.segmenter is not None:
            raise BadRequest("use --detector or --segmenter, not both")
        if self.with_detector and not self.where:
            raise BadRequest(f"--{'detector' if self.segmenter is None else 'segmenter'} needs --where")

    def detected(self, index: Index, hits: list[Hit], question: Question) -> list[Hit]:
        """The hits, with what the detector or the segmenter finds in them if there is one."""
        if not self.with_detector:
            return hits
        return index.with_detections(hits, question, self.detector, segmenter=self.segmenter)


class Check(NamedTuple):
    """The options of --check: the question, if given, and the model that answers it."""

    question: str | None
    model: str | None
    endpoint: str | None
    allow_remote: bool

    def confirmed(self, index: Index, question: Question, find: Callable[[Question], list[Hit]]) -> list[Hit]:
        """The hits that `find` returns; with --check, the first of them that the model confirms.

        Raises `BadArgument` for options that need --check, or an invalid question.
        """
        if self.question is None:
            for name, value in self._asdict().items():
                if value:
                    raise BadArgument("vlm_model" if name == "model" else name, "has no effect without --check")
            return find(question)
        from clipsearch.search.vqa import ASKED, checked_question

        try:
            checked_question(self.question)
        except BadArgument as error:
            raise BadArgument("check", error.problem) from None
        hits = find(question._replace(limits=question.limits._replace(k=ASKED * question.limits.k)))
        vlm = vlm_of(self.model, self.endpoint, allow_remote=self.allow_remote)
        found, unreadable = index.confirmed(hits, self.question, question.limits.k, vlm)
        if unreadable:
            say(f"not checked, cannot be read: {first_of(unreadable)}")
        return found


def vlm_of(model: str | None, endpoint: str | None, *, allow_remote: bool) -> Vlm | None:
    """The model that the options name; None without options, so that most runs import nothing."""
    if model is None and endpoint is None and not allow_remote:
        return None
    from clipsearch.search.vqa import Vlm

    return Vlm(model, endpoint, allow_remote)
