"""The MCP server: read-only tools for AI assistants. They name photos by path and cannot read unindexed files."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from clipsearch.errors import ClipsearchError
from clipsearch.index import Index
from clipsearch.output import records
from clipsearch.output.pictures import Pictures
from clipsearch.output.text import not_searched
from clipsearch.search.hit import Found, Hit
from clipsearch.search.label import Labelled
from clipsearch.search.question import (
    BY_SCORE,
    CUT,
    FILTERS,
    PHOTO,
    STRICT,
    Filter,
    Limits,
    Question,
    Term,
    several,
    text_terms,
)
from clipsearch.search.vqa import Answered, Captioned, Vlm
from clipsearch.web.index_thread import IndexThread

P = ParamSpec("P")
Answer = TypeVar("Answer")
OneOrMore = str | list[str]

MAX_PHOTOS = 50  # per call
_INSTRUCTIONS = "Searches the user's photo files on this machine by content. Results have absolute paths."
_SEARCH = f"""Find photos by text, by similarity to an indexed photo, or both; best first. With neither: the newest.

text: describes the photo; "-word" in it steers away. without: steers away from a text. like: path of an indexed photo,
which is left out. sort: orders the best count photos by score, date (-date: newest first), name, path or size; without
text and like, the first count photos in that order are found. A photo matches by its look, by the text in it, or by its
tags: keywords, people, title, caption, place and names, or by the caption that a model wrote for it. why says which;
only restricts it to look, text, tags or captions.
confidence is the probability, 0 to 1, that the look shows the text. min_confidence: {CUT:g} returns only photos that
probably show it or match by text or tags, {STRICT:g} nothing rather than a guess. images: also return thumbnails. A
filter takes one value or a list; any value may match, except that all of keyword, person, without_person, size, after,
before and not_under must. "beach OR sea" means either. person is a recognised face or a name in the photo's metadata.
"""
_READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class _Server(MCPServer):
    """Refuses unknown arguments: the library ignores them, and a misspelt filter would filter nothing."""

    async def call_tool(self, name: str, arguments: dict[str, Any], *context: Any, **options: Any) -> Any:
        known = next((one.input_schema["properties"] for one in await self.list_tools() if one.name == name), arguments)
        unknown = sorted(arguments.keys() - known.keys())
        if unknown:
            raise ToolError(f"{name} has no argument {unknown[0]!r}; choose from {', '.join(known)}")
        return await super().call_tool(name, arguments, *context, **options)


def assistant(folder: Path, vlm: Vlm | None = None) -> MCPServer:
    """An MCP server for the index in a folder, with the tools search, label, where, describe, ask and status.

    `vlm` describes and answers; by default, the model that captions the index.
    """
    index, pictures = IndexThread(folder), Pictures()
    slow_index = IndexThread(folder)  # searches do not wait for a vision-language model
    server = _Server("clipsearch", instructions=_INSTRUCTIONS)

    async def search(
        text: str = "",
        without: str = "",
        like: str = "",
        count: int = 10,
        min_confidence: float = 0,
        sort: str = BY_SCORE,
        only: str = "",
        images: bool = False,
        **filters: OneOrMore,
    ) -> list[Any]:
        pairs = [(name, one) for name, value in filters.items() for one in several(value) if one]
        limits = Limits(
            min(count, MAX_PHOTOS), min_confidence=min_confidence or None, sort=sort or BY_SCORE, only=only or None
        )
        hits, advice = await index.call(_search, Filter.parse(pairs), limits, text, without, like)
        answer: list[Any] = [_json([records.as_object(hit) for hit in hits]), *advice]
        if images:
            thumbnails = [await asyncio.to_thread(pictures.thumbnail, [hit.photo], "small") for hit in hits]
            answer += [Image(data=picture.data, format="jpeg") for picture in thumbnails]
        return answer

    server.tool(annotations=_READ_ONLY, structured_output=False)(_with_filters(_as_tool_errors(search)))

    @server.tool(annotations=_READ_ONLY, structured_output=False)
    @_as_tool_errors
    async def label(labels: list[str], photos: list[str]) -> list[Any]:
        """Classify indexed photos: the probability of each label. The probabilities of a photo add up to 1."""
        return [_json(await index.call(_label, labels, photos))]

    @server.tool(name="where", annotations=_READ_ONLY, structured_output=False)
    @_as_tool_errors
    async def where_(text: str, photo: str) -> list[Any]:
        """Locate a text in an indexed photo: a box in pixels, and its score. There is always a best box."""
        return [_json(await index.call(_where, text, photo, pictures))]

    @server.tool(annotations=_READ_ONLY, structured_output=False)
    @_as_tool_errors
    async def describe(photo: str) -> list[Any]:
        """Describe an indexed photo in words: its caption by a vision-language model, which may be wrong."""
        return [_json(await slow_index.call(_describe, photo, vlm, pictures))]

    @server.tool(annotations=_READ_ONLY, structured_output=False)
    @_as_tool_errors
    async def ask(question: str, photo: str) -> list[Any]:
        """Ask a vision-language model about an indexed photo. It can count, but may be wrong. score: of the answer."""
        return [_json(await slow_index.call(_ask, question, photo, vlm, pictures))]

    @server.tool(annotations=_READ_ONLY, structured_output=False)
    @_as_tool_errors
    async def status() -> list[Any]:
        """Indexed folders, photo counts, skipped files and the model."""
        return [_json(records.status(await index.call(Index.status)))]

    return server


def _with_filters(search: Callable[..., Awaitable[list[Any]]]) -> Callable[..., Awaitable[list[Any]]]:
    """Replace `**filters` in the signature by one documented parameter per entry of `FILTERS`."""
    signature = inspect.signature(search, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(entry.option, kind, default="", annotation=OneOrMore) for entry in FILTERS]
    plain = [one.replace(kind=kind) for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    search.__signature__ = signature.replace(parameters=[*plain, *options])  # type: ignore[attr-defined]
    search.__annotations__ = {one.name: one.annotation for one in [*plain, *options]} | {"return": list[Any]}
    search.__doc__ = _SEARCH + "".join(f"\n{entry.option} ({entry.metavar}): {entry.help}" for entry in FILTERS)
    return search


def _as_tool_errors(tool: Callable[P, Awaitable[Answer]]) -> Callable[P, Awaitable[Answer]]:
    """Turn `ClipsearchError` into `ToolError`, so the assistant sees its message."""

    @functools.wraps(tool)
    async def call(*args: P.args, **options: P.kwargs) -> Answer:
        try:
            return await tool(*args, **options)
        except ClipsearchError as error:
            raise ToolError(str(error)) from None

    return call


def _json(value: Any) -> str:
    return records.as_json(value).decode()


def _search(
    index: Index, filter: Filter, limits: Limits, text: str, without: str, like: str
) -> tuple[list[Hit], list[str]]:
    """The hits, and why there may be more: texts that the model cannot read well, offline folders."""
    terms = text_terms(text) if text else []
    if like:
        terms.append(Term(index.photo_at(like).content.hex(), kind=PHOTO))
    terms += text_terms(without, negative=True) if without else []
    question = Question(tuple(terms), filter, limits)
    hits = index.ask(question, confidence=True)
    return hits, [*index.advice(question.texts), *not_searched(index.left_out.offline)]


def _label(index: Index, labels: list[str], paths: list[str]) -> list[dict[str, Any]]:
    answer = []
    for path in paths[:MAX_PHOTOS]:
        probabilities = index.label_photo(labels, index.photo_at(path).content.hex())
        ranked = sorted(probabilities.items(), key=lambda item: -item[1])
        answer.append(records.labels_object(Labelled(os.fsencode(path), tuple(ranked))))
    return answer


def _where(index: Index, text: str, path: str, pictures: Pictures) -> dict[str, Any]:
    photo = index.photo_at(path)
    where, _ = index.locate(text, pictures.thumbnail([photo], "large").data)
    return records.where_object(Found(photo.file, text, photo.metadata.width, photo.metadata.height, where))


def _describe(index: Index, path: str, vlm: Vlm | None, pictures: Pictures) -> dict[str, Any]:
    photo = index.photo_at(path)
    caption = photo.generated_caption
    if caption is None:
        (one,) = index.captions(pictures.thumbnail([photo], "large").data, vlm)
        caption = one.caption
    return records.caption_object(Captioned(photo.file, caption))


def _ask(index: Index, question: str, path: str, vlm: Vlm | None, pictures: Pictures) -> dict[str, Any]:
    photo = index.photo_at(path)
    (one,) = index.answers(question, pictures.thumbnail([photo], "large").data, vlm)
    return records.answered_object(Answered(photo.file, one.answer))
