"""The index for assistants, over the Model Context Protocol: search, label, where, status. It only reads.

Photos are named by the paths that a search has given; no file that is not in the index can be asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from clipsearch.errors import BadRequest, ClipsearchError
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing.status import status_of
from clipsearch.output import records
from clipsearch.search.label import Classifier
from clipsearch.search.query import Limits, Term
from clipsearch.search.where import Found, where
from clipsearch.store.catalogue import Photo
from clipsearch.store.filters import written
from clipsearch.web.desk import Desk
from clipsearch.web.pictures import Pictures

Answer = TypeVar("Answer")

MOST = 50  # photos that one answer has
_ABOUT = "Finds the user's own photos, on this machine, by what is in them. Paths are those of the user's files."
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def assistant(folder: Path) -> MCPServer:
    """A server of the index in a folder."""
    desk, pictures = Desk(folder), Pictures()
    server: MCPServer = MCPServer("clipsearch", instructions=_ABOUT)

    @server.tool(annotations=_READS, structured_output=False)
    async def search(
        text: str = "",
        without: str = "",
        like: str = "",
        under: str = "",
        after: str = "",
        before: str = "",
        camera: str = "",
        near: str = "",
        count: int = 10,
        images: bool = False,
    ) -> list[Any]:
        """Photos that show a text, or are like an indexed photo, best first; without both, the newest.

        after, before: dates such as 2023-06 or "last week". near: latitude,longitude,kilometres. images: small
        pictures too. confidence is the probability, 0 to 1, that a photo shows the text.
        """
        filters = {"under": under, "after": after, "before": before, "camera": camera, "near": near}
        chosen = {name: value for name, value in filters.items() if value}
        hits, photos = await _told(desk.ask(_search, text, without, like, chosen, min(count, MOST)))
        answer: list[Any] = [json.dumps(hits)]
        if images:
            answer += [Image(data=pictures.small([photo], "small").data, format="jpeg") for photo in photos]
        return answer

    @server.tool(annotations=_READS, structured_output=False)
    async def label(labels: list[str], photos: list[str]) -> list[Any]:
        """Probabilities, which add up to 1, of some labels for each of some indexed photos."""
        return [json.dumps(await _told(desk.ask(_label, labels, photos)))]

    @server.tool(name="where", annotations=_READS, structured_output=False)
    async def where_(text: str, photo: str) -> list[Any]:
        """Which part of an indexed photo a text is about: a box in pixels, and its score."""
        return [json.dumps(await _told(desk.ask(_where, text, photo, pictures)))]

    @server.tool(annotations=_READS, structured_output=False)
    async def status() -> list[Any]:
        """Folders that are indexed, how many photos they have, and the model."""
        return [json.dumps(await _told(desk.ask(lambda desk: records.status(status_of(desk.store())))))]

    return server


async def _told(answer: Awaitable[Answer]) -> Answer:
    """The answer, or the sentence that says why there is none."""
    try:
        return await answer
    except ClipsearchError as error:
        raise ToolError(str(error)) from None


def _search(
    desk: Desk, text: str, without: str, like: str, filters: dict[str, str], count: int
) -> tuple[list[dict[str, Any]], list[Photo]]:
    searcher = desk.searcher(written(**filters, size=[], type=[]))
    terms = searcher.terms(text) if text else []
    if like:
        terms.append(Term(searcher.embedder.store.unit_rows_of([_photo(desk, like).image_id])[0]))
    terms += searcher.terms(without, -1) if without else []
    hits = searcher.with_confidence(searcher.query(terms, Limits(count)), terms)
    return [records.as_object(hit) for hit in hits], [hit.photo for hit in hits]


def _label(desk: Desk, labels: list[str], paths: list[str]) -> list[dict[str, Any]]:
    photos = [_photo(desk, path) for path in paths[:MOST]]
    classifier = Classifier(desk.embedder(), labels)
    rows = desk.store().unit_rows_of([photo.image_id for photo in photos])
    found = classifier.classify([photo.path for photo in photos], rows, len(classifier.labels))
    return [{"path": os.fsdecode(one.path), "labels": dict(one.labels)} for one in found]


def _where(desk: Desk, text: str, path: str, pictures: Pictures) -> Any:
    photo = _photo(desk, path)
    embedder = desk.embedder()
    data = pictures.small([photo], "large").data
    with Decoders(embedder.for_parts, 1) as decoders:
        there, _ = where(embedder, embedder.texts([text])[0], data, decoders)
    found = Found(photo.path, text, photo.metadata.width, photo.metadata.height, there)
    return json.loads(b"".join(records.where([found], "jsonl")))


def _photo(desk: Desk, path: str) -> Photo:
    store = desk.store()
    place = store.locate(os.fsencode(path), store.roots())
    image = store.image_of(*place) if place else None
    for photo in store.photos_of([image] if image is not None else []):
        if os.fsdecode(photo.path) == path:
            return photo
    raise BadRequest(f"{path} is not in the index")
