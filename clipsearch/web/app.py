"""The addresses of the page: each is asked with GET, but for the images that are dropped on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from clipsearch.errors import BadRequest, ClipsearchError, ImageUnusable, NoIndex, first_line
from clipsearch.index import Index
from clipsearch.output.pictures import SIZES, OpenVideo, Picture, Pictures, open_video, with_annotations
from clipsearch.output.records import as_json
from clipsearch.paths import Collection
from clipsearch.search.question import CUT, OPTIONS, Question, checked_id, parse
from clipsearch.threads import usable_cores
from clipsearch.web.gallery import Gallery
from clipsearch.web.guard import Guard
from clipsearch.web.index_thread import IndexThread
from clipsearch.web.uploads import TooMany, Uploads

_HERE = Path(__file__).parent
_STATIC = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SHARED = _HERE.parent / "output" / "look.css"
_FOR_EVER = "private, max-age=31536000, immutable"
_MOST_LABELS = 64


def create_app(
    place: Path | Collection, token: str, host: str = "127.0.0.1", pictures: Pictures | None = None
) -> Starlette:
    """The page over an index, for those who have the token, at the address `host`."""
    page = Page(place, pictures or Pictures())

    @contextlib.asynccontextmanager
    async def open_until_the_end(_: Starlette) -> AsyncIterator[None]:
        yield
        page.close()

    return Starlette(
        routes=page.routes(),
        middleware=[Middleware(Guard, token=token, host=host)],
        exception_handlers={ClipsearchError: _explained, Exception: _internal},
        lifespan=open_until_the_end,
    )


class Page:
    """Answers the page's requests. Questions, lookups and images have an index each, so that none waits for another."""

    def __init__(self, place: Path | Collection, pictures: Pictures) -> None:
        # Results change while one types: most of the texts are not whole, and would push out what was asked in a shell.
        self._asked, self._lookup = IndexThread(place, cache_texts=False), IndexThread(place)
        self._images = IndexThread(place)
        self._pictures, self._uploads = pictures, Uploads(pictures)
        self._gallery = Gallery(self._uploads)
        self._turns: dict[str, int] = {}
        self._making = asyncio.Semaphore(usable_cores())
        self._files = _static_files()

    def close(self) -> None:
        """Let go of the index and of the processes."""
        self._asked.close()
        self._lookup.close()
        self._images.close()
        self._pictures.close()

    def routes(self) -> Sequence[Route]:
        """All addresses."""
        return [
            Route("/", self.home),
            Route("/static/{name}", self.static),
            Route("/search", self.search),
            Route("/months", self.months),
            Route("/choices", self.choices),
            Route("/status", self.status),
            Route("/labels", self.labels),
            Route("/upload", self.upload, methods=["POST"]),
            Route("/photo/{id}", self.about),
            Route("/photo/{id}/original", self.original),
            Route("/photo/{id}/where.jpg", self.where),
            Route("/photo/{id}/{size}.jpg", self.picture),
        ]

    # -------------------------------------------------------------------------------- the page itself

    async def home(self, _: Request) -> Response:
        """The page, empty: its scripts ask for the rest."""
        return HTMLResponse(self._files["page.html"][0])

    async def static(self, request: Request) -> Response:
        """A style or a script."""
        name = request.path_params["name"]
        if name not in self._files or name == "page.html":
            return _gone("there is no such file")
        data, type = self._files[name]
        return Response(data, media_type=type, headers={"Cache-Control": "no-cache"})

    # -------------------------------------------------------------------------------- questions

    async def search(self, request: Request) -> Response:
        """A part of the results. One that is overtaken by a later one of the same page is not looked for at all."""
        question, first, count = _question(request), _number(request, "first", 0), _number(request, "count", 60)
        tab, turn = request.query_params.get("tab", ""), _number(request, "turn", 0)
        self._turns[tab] = max(turn, self._turns.pop(tab, 0))
        while len(self._turns) > 100:
            self._turns.pop(next(iter(self._turns)))

        def answer(index: Index) -> dict[str, Any] | None:
            if turn < self._turns.get(tab, 0):
                return None
            return self._gallery.page(index, question, first, count)

        found = await self._asked.call(answer)
        return Response(status_code=204) if found is None else _json(found)

    async def months(self, request: Request) -> Response:
        """How many photos each month has."""
        question = _question(request)
        return _json({"months": await self._lookup.call(lambda index: self._gallery.months(index, question.filter))})

    async def choices(self, _: Request) -> Response:
        """Folders, cameras, concepts."""
        return _json({"cut": CUT, **await self._lookup.call(self._gallery.choices)})

    async def status(self, _: Request) -> Response:
        """Whether there is an index, and whether it is being written."""
        return _json(await self._lookup.call(self._gallery.status))

    async def labels(self, request: Request) -> Response:
        """Probabilities for one photo, counts for all results."""
        question, photo = _question(request), request.query_params.get("photo")
        labels = request.query_params.getlist("label")
        if len(labels) > _MOST_LABELS:
            raise BadRequest(f"at most {_MOST_LABELS} labels at a time")
        id = None if photo is None else checked_id(photo)
        return _json(await self._asked.call(lambda index: self._gallery.labels(index, labels, id, question)))

    async def upload(self, request: Request) -> Response:
        """An image that was dropped, as the body of the request; answers with its id."""
        name = request.query_params.get("name", "")[:255] or "image"
        return _json({"id": await self._uploads.take(self._images, name, request.stream())})

    # -------------------------------------------------------------------------------- photos

    async def about(self, request: Request) -> Response:
        """What is known of a photo."""
        id = checked_id(request.path_params["id"])
        return _json(await self._lookup.call(lambda index: self._gallery.about(index, id)))

    async def picture(self, request: Request) -> Response:
        """A photo made small."""
        id, size = checked_id(request.path_params["id"]), request.path_params["size"]
        if size not in SIZES:
            return _gone("there is no such size")
        upload = self._uploads.get(id)
        if upload is not None:
            return _image(Picture(upload.picture))
        photos = await self._lookup.call(lambda index: index.photos_with(id))
        async with self._making:
            if await request.is_disconnected():  # it was scrolled out of sight, or the question is another one
                return Response(status_code=204)
            return _image(await run_in_threadpool(self._pictures.thumbnail, photos, size))

    async def where(self, request: Request) -> Response:
        """A photo, large, with the part of it that a question is about and the lines that have its words."""
        id, question = checked_id(request.path_params["id"]), _question(request)
        if not (question.terms or question.filter.reads):
            raise BadRequest("say what to look for")
        photos = await self._lookup.call(lambda index: index.photos_with(id))
        picture = await run_in_threadpool(self._pictures.thumbnail, photos, "large")
        there = lines = None
        if question.terms:
            there = await self._images.call(lambda index: self._gallery.where(index, picture.data, question))
        if question.filter.reads:
            lines = await self._lookup.call(lambda index: index.lines(id, question.filter.reads))
        return _image(await run_in_threadpool(with_annotations, picture, there, lines))

    async def original(self, request: Request) -> Response:
        """A photo as it is, or all its pixels."""
        id = checked_id(request.path_params["id"])
        photos = await self._lookup.call(lambda index: index.photos_with(id))
        if any(photo.is_video for photo in photos):
            return _Video(await run_in_threadpool(open_video, photos))
        answer = _image(await run_in_threadpool(self._pictures.original, photos))
        if photos:
            name = photos[0].path.rpartition(b"/")[2].decode("utf-8", "replace")
            answer.headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(name, safe='')}"
        return answer


def _static_files() -> dict[str, tuple[bytes, str]]:
    """The styles and scripts, and the page that names them."""
    paths = [_SHARED, *sorted((_HERE / "static").iterdir())]
    files = {path.name: (path.read_bytes(), _STATIC[path.suffix]) for path in paths if path.suffix in _STATIC}
    icons = json.loads((_HERE / "templates/icons.json").read_text())
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        cut=CUT,
        icons=icons,
        orientations=OPTIONS["orientation"].choices,
        types=OPTIONS["type"].choices,
    )
    return files | {"page.html": (page.encode(), "text/html; charset=utf-8")}


def _question(request: Request) -> Question:
    return parse(request.query_params.multi_items())


def _number(request: Request, name: str, usual: int) -> int:
    value = request.query_params.get(name, str(usual))
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise BadRequest(f"{name} must be a whole number")
    return int(value)


def _json(value: Any) -> Response:
    return Response(as_json(value), media_type="application/json")


def _image(picture: Picture) -> Response:
    headers = {"Content-Security-Policy": "default-src 'none'; sandbox"}
    if picture.immutable:
        headers["Cache-Control"] = _FOR_EVER
    return Response(picture.data, media_type=picture.type, headers=headers)


class _Video(FileResponse):
    """Streams an open video, in the ranges that the browser asks for."""

    def __init__(self, video: OpenVideo) -> None:
        headers = {"Content-Security-Policy": "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"}
        super().__init__(video.path, media_type=video.type, headers=headers, stat_result=os.fstat(video.file.fileno()))
        self._file = video.file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _gone(message: str) -> Response:
    return JSONResponse({"error": message}, 404)


async def _explained(_: Request, error: Exception) -> Response:
    """An error of the library, as the page shows it."""
    kinds = ((TooMany, 429), (BadRequest, 400), (NoIndex, 404), (ImageUnusable, 404))
    status = next((status for kind, status in kinds if isinstance(error, kind)), 500)
    return JSONResponse({"error": str(error)}, status)


async def _internal(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"internal error: {type(error).__name__}: {first_line(error)}"}, 500)
