"""Read-only access for AI assistants over the Model Context Protocol: search, label, where, status.

Photos are named by the paths that a search returned; files that are not indexed cannot be read.
"""

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
from clipsearch.search.hit import Hit
from clipsearch.search.label import Labelled
from clipsearch.search.question import (
    FILTERS,
    PHOTO,
    Filter,
    Limits,
    Question,
    Term,
    several,
    text_terms,
)
from clipsearch.search.where import Found
from clipsearch.web.index_thread import IndexThread

P = ParamSpec("P")
Answer = TypeVar("Answer")
Several = str | list[str]

MOST = 50  # photos per answer
_ABOUT = "Searches the user's own photos on this machine by what they show. Paths are those of the user's files."
_SEARCH = """The photos that match a text or resemble an indexed photo, best first; without both, the newest.

text: what the photo shows; "-word" steers away. like: path of an indexed photo. images: also return thumbnails.
confidence is the probability, 0 to 1, that a photo shows the text. Filters take a text or a list; of a list, one must
match (of keywords, dates and sizes, all).
"""
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def assistant(folder: Path) -> MCPServer:
    """An MCP server for the index in a folder."""
    index, pictures = IndexThread(folder), Pictures()
    server: MCPServer = MCPServer("clipsearch", instructions=_ABOUT)

    async def search(
        text: str = "", without: str = "", like: str = "", count: int = 10, images: bool = False, **filters: Several
    ) -> list[Any]:
        pairs = [(name, one) for name, value in filters.items() for one in several(value) if one]
        hits = await index.call(_search, Filter.parse(pairs), text, without, like, min(count, MOST))
        answer: list[Any] = [_json([records.as_object(hit) for hit in hits])]
        if images:
            small = [await asyncio.to_thread(pictures.thumbnail, [hit.photo], "small") for hit in hits]
            answer += [Image(data=picture.data, format="jpeg") for picture in small]
        return answer

    server.tool(annotations=_READS, structured_output=False)(_with_filters(_as_tool_errors(search)))

    @server.tool(annotations=_READS, structured_output=False)
    @_as_tool_errors
    async def label(labels: list[str], photos: list[str]) -> list[Any]:
        """The probability of each label for some indexed photos. They add up to 1 over the labels."""
        return [_json(await index.call(_label, labels, photos))]

    @server.tool(name="where", annotations=_READS, structured_output=False)
    @_as_tool_errors
    async def where_(text: str, photo: str) -> list[Any]:
        """The part of an indexed photo that matches a text: a box in pixels, and its score."""
        return [_json(await index.call(_where, text, photo, pictures))]

    @server.tool(annotations=_READS, structured_output=False)
    @_as_tool_errors
    async def status() -> list[Any]:
        """The indexed folders, their number of photos, and the model."""
        return [_json(records.status(await index.call(Index.status)))]

    return server


def _with_filters(search: Callable[..., Awaitable[list[Any]]]) -> Callable[..., Awaitable[list[Any]]]:
    """Replace `**filters` by one parameter for each filter of the table, and document them."""
    signature = inspect.signature(search, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(entry.option, kind, default="", annotation=Several) for entry in FILTERS]
    plain = [one.replace(kind=kind) for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    search.__signature__ = signature.replace(parameters=[*plain, *options])  # type: ignore[attr-defined]
    search.__annotations__ = {one.name: one.annotation for one in [*plain, *options]} | {"return": list[Any]}
    search.__doc__ = _SEARCH + "".join(f"\n{entry.option} ({entry.metavar}): {entry.help}" for entry in FILTERS)
    return search


def _as_tool_errors(tool: Callable[P, Awaitable[Answer]]) -> Callable[P, Awaitable[Answer]]:
    """Report errors of the library to the assistant as sentences."""

    @functools.wraps(tool)
    async def call(*args: P.args, **options: P.kwargs) -> Answer:
        try:
            return await tool(*args, **options)
        except ClipsearchError as error:
            raise ToolError(str(error)) from None

    return call


def _json(value: Any) -> str:
    return records.as_json(value).decode()


def _search(index: Index, filter: Filter, text: str, without: str, like: str, count: int) -> list[Hit]:
    terms = text_terms(text) if text else []
    if like:
        terms.append(Term(index.photo_at(like).content.hex(), kind=PHOTO))
    terms += text_terms(without, negative=True) if without else []
    return index.ask(Question(tuple(terms), filter, Limits(count)), confidence=True)


def _label(index: Index, labels: list[str], paths: list[str]) -> list[dict[str, Any]]:
    answer = []
    for path in paths[:MOST]:
        shares = index.label_photo(labels, index.photo_at(path).content.hex())
        ranked = sorted(shares.items(), key=lambda share: -share[1])
        answer.append(records.labels_object(Labelled(os.fsencode(path), tuple(ranked))))
    return answer


def _where(index: Index, text: str, path: str, pictures: Pictures) -> dict[str, Any]:
    photo = index.photo_at(path)
    there, _ = index.locate(text, pictures.thumbnail([photo], "large").data)
    return records.where_object(Found(photo.path, text, photo.metadata.width, photo.metadata.height, there))
