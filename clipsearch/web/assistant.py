"""The index for assistants, over the Model Context Protocol: search, label, where, status. It only reads.

Photos are named by the paths that a search has given; no file that is not in the index can be asked for.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from clipsearch.errors import BadRequest, ClipsearchError
from clipsearch.indexing.status import status_of
from clipsearch.output import records
from clipsearch.search.hit import Hit
from clipsearch.search.label import Classifier
from clipsearch.search.opened import Opened
from clipsearch.search.query import Limits
from clipsearch.search.term import Term
from clipsearch.search.where import Found
from clipsearch.store.filters import Filter, several
from clipsearch.store.photo import Photo
from clipsearch.web.desk import Desk
from clipsearch.web.pictures import Pictures

P = ParamSpec("P")
Answer = TypeVar("Answer")
Several = str | list[str]

MOST = 50  # photos that one answer has
_ABOUT = "Finds the user's own photos, on this machine, by what is in them. Paths are those of the user's files."
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def assistant(folder: Path) -> MCPServer:
    """A server of the index in a folder."""
    desk, pictures = Desk(folder), Pictures()
    server: MCPServer = MCPServer("clipsearch", instructions=_ABOUT)

    @server.tool(annotations=_READS, structured_output=False)
    @_told
    async def search(
        text: str = "",
        without: str = "",
        like: str = "",
        under: Several = "",
        after: Several = "",
        before: Several = "",
        camera: Several = "",
        near: Several = "",
        reads: Several = "",
        count: int = 10,
        images: bool = False,
    ) -> list[Any]:
        """Photos that show a text, or are like an indexed photo, best first; without both, the newest.

        after, before: dates such as 2023-06 or "last week". near: latitude,longitude,kilometres. reads: words that are
        written in it. A list means any of its folders, cameras, places or texts; of dates, all hold. images: small
        pictures too. confidence is the probability, 0 to 1, that a photo shows the text.
        """
        filters = {"under": under, "after": after, "before": before, "camera": camera, "near": near, "reads": reads}
        where = Filter.parse((name, one) for name, value in filters.items() for one in several(value) if one)
        hits = await desk.ask(_search, where, text, without, like, min(count, MOST))
        answer: list[Any] = [_json([records.as_object(hit) for hit in hits])]
        if images:
            small = [await asyncio.to_thread(pictures.small, [hit.photo], "small") for hit in hits]
            answer += [Image(data=picture.data, format="jpeg") for picture in small]
        return answer

    @server.tool(annotations=_READS, structured_output=False)
    @_told
    async def label(labels: list[str], photos: list[str]) -> list[Any]:
        """Probabilities, which add up to 1, of some labels for each of some indexed photos."""
        return [_json(await desk.ask(_label, labels, photos))]

    @server.tool(name="where", annotations=_READS, structured_output=False)
    @_told
    async def where_(text: str, photo: str) -> list[Any]:
        """Which part of an indexed photo a text is about: a box in pixels, and its score."""
        return [_json(await desk.ask(_where, text, photo, pictures))]

    @server.tool(annotations=_READS, structured_output=False)
    @_told
    async def status() -> list[Any]:
        """Folders that are indexed, how many photos they have, and the model."""
        return [_json(await desk.ask(lambda index: records.status(status_of(index.store()))))]

    return server


def _told(tool: Callable[P, Awaitable[Answer]]) -> Callable[P, Awaitable[Answer]]:
    """A tool whose failures are sentences for the assistant."""

    @functools.wraps(tool)
    async def call(*args: P.args, **options: P.kwargs) -> Answer:
        try:
            return await tool(*args, **options)
        except ClipsearchError as error:
            raise ToolError(str(error)) from None

    return call


def _json(value: Any) -> str:
    return records.as_json(value).decode()


def _search(index: Opened, filters: Filter, text: str, without: str, like: str, count: int) -> list[Hit]:
    searcher = index.searcher(filters)
    terms = searcher.terms(text) if text else []
    if like:
        terms.append(Term(searcher.embedder.store.unit_rows_of([_photo(index, like).image_id])[0]))
    terms += searcher.terms(without, -1) if without else []
    return searcher.with_confidence(searcher.query(terms, Limits(count)), terms)


def _label(index: Opened, labels: list[str], paths: list[str]) -> list[dict[str, Any]]:
    photos = [_photo(index, path) for path in paths[:MOST]]
    classifier = Classifier(index.embedder(), labels)
    rows = index.store().unit_rows_of([photo.image_id for photo in photos])
    found = classifier.classify([photo.path for photo in photos], rows, len(classifier.labels))
    return [records.labels_object(one) for one in found]


def _where(index: Opened, text: str, path: str, pictures: Pictures) -> dict[str, Any]:
    photo = _photo(index, path)
    there, _ = index.finder().where(text, pictures.small([photo], "large").data)
    return records.where_object(Found(photo.path, text, photo.metadata.width, photo.metadata.height, there))


def _photo(index: Opened, path: str) -> Photo:
    store = index.store()
    place = store.locate(os.fsencode(path), store.roots())
    image = store.image_of(*place) if place else None
    for photo in store.photos_of([image] if image is not None else []):
        if os.fsdecode(photo.path) == path:
            return photo
    raise BadRequest(f"{path} is not in the index")
