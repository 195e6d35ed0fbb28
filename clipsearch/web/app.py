"""The HTTP routes of the page. What changes something is POST or DELETE."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from clipsearch.errors import BadRequest, ClipsearchError, ImageUnusable, NoIndex, first_line
from clipsearch.index import Index
from clipsearch.output.pictures import SIZES, OpenVideo, Picture, Pictures, face_box, open_video, with_annotations
from clipsearch.output.records import as_json
from clipsearch.paths import Collection
from clipsearch.search.question import CUT, FILTERS, OPTIONS, STRICT, TERMS, Question, checked_id, parse
from clipsearch.search.vqa import Vlm
from clipsearch.threads import usable_cores
from clipsearch.web.actions import Actions, NotAllowed
from clipsearch.web.gallery import Gallery, Part
from clipsearch.web.guard import Guard, new_token
from clipsearch.web.index_thread import IndexThread
from clipsearch.web.limits import RateLimit, TooManyRequests
from clipsearch.web.people import People
from clipsearch.web.photo_models import PhotoModels
from clipsearch.web.review import COPIES, Review
from clipsearch.web.uploads import Uploads

_HERE = Path(__file__).parent
_STATIC = {
    ".css": "text/css; charset=utf-8",
    ".bin": "application/octet-stream",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SHARED = _HERE.parent / "output" / "look.css"
_ONE_YEAR = "private, max-age=31536000, immutable"
_MAX_LABELS = 64
_MAX_THROUGH = 2
_MAX_TABS = 100  # browser tabs whose latest search is remembered


def create_app(
    place: Path | Collection,
    token: str,
    host: str = "127.0.0.1",
    pictures: Pictures | None = None,
    secret: str | None = None,
    *,
    once: str | None = None,
    allow_delete: bool = False,
    vlm: Vlm | None = None,
    detector: str | None = None,
) -> Starlette:
    """The app for one index. Only requests with the token, or the cookie it is exchanged for, are answered.

    `host` is the address that the server listens on, `secret` the value of the cookie; None for a new one. `once` is
    another token, for a single use. `allow_delete`: photos may be moved to the trash. `vlm` answers questions about
    photos, and `detector` finds things in them.
    """
    page = Page(place, pictures or Pictures(), PhotoModels(place, vlm, detector), allow_delete=allow_delete)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        page.close()

    return Starlette(
        routes=page.routes(),
        middleware=[Middleware(Guard, token=token, host=host, secret=secret or new_token(), once=once)],
        exception_handlers={ClipsearchError: _error_response, Exception: _internal_error},
        lifespan=lifespan,
    )


class Page:
    """The handlers. Each kind of request has an index of its own, so none blocks the others."""

    def __init__(
        self, place: Path | Collection, pictures: Pictures, models: PhotoModels, *, allow_delete: bool
    ) -> None:
        # The page searches at each key press: caching unfinished words would evict the queries people run in a shell.
        self._search_index = IndexThread(place, cache_texts=False)
        self._lookup_index, self._image_index = IndexThread(place), IndexThread(place)
        self._action_index, self._review_index = IndexThread(place), IndexThread(place)
        self._summary_index = IndexThread(place)  # counts of all photos
        self._actions = Actions(self._action_index, allow_delete=allow_delete)
        self._review = Review(self._review_index, self._actions)
        self._people = People(self._actions)
        self._saving = RateLimit("change")
        self._models, self._asking = models, RateLimit("question")
        self._pictures, self._uploads = pictures, Uploads(pictures)
        self._gallery = Gallery(self._uploads)
        self._latest: dict[str, int] = {}  # tab to the number of its latest search
        self._thumbnail_slots = asyncio.Semaphore(usable_cores())
        self._files = _static_files(allow_delete=allow_delete)

    def close(self) -> None:
        """Close the indexes and stop the decoder processes."""
        self._search_index.close()
        self._lookup_index.close()
        self._summary_index.close()
        self._image_index.close()
        self._action_index.close()
        self._review_index.close()
        self._pictures.close()

    def routes(self) -> Sequence[Route]:
        return [
            Route("/", self.home),
            Route("/static/{name}", self.static),
            Route("/search", self.search),
            Route("/count", self.count),
            Route("/matches", self.matches),
            Route("/months", self.months),
            Route("/places", self.places),
            Route("/choices", self.choices),
            Route("/folders", self.folders),
            Route("/suggest", self.suggest),
            Route("/status", self.status),
            Route("/labels", self.labels),
            Route("/upload", self.upload, methods=["POST"]),
            Route("/saved", self.saved),
            Route("/saved", self.save, methods=["POST"]),
            Route("/saved", self.unsave, methods=["DELETE"]),
            Route("/action/{name}", self.command),
            Route("/action/{name}", self.act, methods=["POST"]),
            Route("/undo/{ticket}", self.undo, methods=["POST"]),
            Route("/download/{ticket}/photos.zip", self.download),
            Route("/duplicates", self.duplicates_page),
            Route("/duplicates/groups", self.find_groups),
            Route("/duplicates/{ticket}/groups", self.groups),
            Route("/duplicates/{ticket}/move", self.move_command),
            Route("/duplicates/{ticket}/move", self.move_copies, methods=["POST"]),
            Route("/people", self.people_page),
            Route("/people/groups", self.people),
            Route("/people/faces", self.faces),
            Route("/people/{name}", self.change_people, methods=["POST"]),
            Route("/photo/{id}", self.about),
            Route("/photo/{id}/more", self.more),
            Route("/photo/{id}/answer", self.answer, methods=["POST"]),
            Route("/photo/{id}/detections", self.detections, methods=["POST"]),
            Route("/photo/{id}/original", self.original),
            Route("/photo/{id}/where.jpg", self.where),
            Route("/photo/{id}/face.jpg", self.face),
            Route("/photo/{id}/{size}.jpg", self.picture),
        ]

    # -------------------------------------------------------------------------------- the page itself

    async def home(self, _: Request) -> Response:
        """The HTML, without results: its scripts fetch them."""
        return HTMLResponse(self._files["page.html"][0])

    async def static(self, request: Request) -> Response:
        """A stylesheet, script or icon."""
        name = request.path_params["name"]
        if name not in self._files or name.endswith(".html"):
            return _not_found("no such file")
        data, type = self._files[name]
        return Response(data, media_type=type, headers={"Cache-Control": "no-cache"})

    # -------------------------------------------------------------------------------- searching

    async def search(self, request: Request) -> Response:
        """Results, as `Part` has the parameters.

        `terms` has the terms of the question as they were understood, one parameter each, without the text being typed.
        """
        question, query = _question(request), request.query_params
        through, layout = query.getlist("through")[:_MAX_THROUGH], query.get("layout") == "1"
        first, count = _number(request, "first", 0), _number(request, "count", 60)
        part = Part(first, count, through, layout, _number(request, "list", 0))
        given = parse(pair for pair in request.query_params.multi_items() if pair[0] in TERMS)

        def answer(index: Index, _: Callable[[], bool]) -> dict[str, Any]:
            return self._gallery.page(index, question, part) | {"terms": given.parameters()}

        return await self._latest_answer(request, answer)

    async def count(self, request: Request) -> Response:
        """The number of matches, which may take seconds. A newer search of the same tab ends it."""
        question = _question(request)
        return await self._latest_answer(
            request, lambda index, is_wanted: self._gallery.count(index, question, is_wanted)
        )

    async def matches(self, request: Request) -> Response:
        """All matches, to select them, as far as `MAX_SELECTED`. A newer search of the same tab ends it."""
        question = _question(request)
        return await self._latest_answer(
            request, lambda index, is_wanted: self._gallery.matches(index, question, is_wanted)
        )

    async def _latest_answer(
        self, request: Request, answer: Callable[[Index, Callable[[], bool]], dict[str, Any]]
    ) -> Response:
        """An answer as JSON; 204 if the same `tab` has sent a request with a higher `turn` meanwhile."""
        tab, turn = request.query_params.get("tab", ""), _number(request, "turn", 0)
        self._latest[tab] = max(turn, self._latest.pop(tab, 0))
        while len(self._latest) > _MAX_TABS:
            self._latest.pop(next(iter(self._latest)))

        def is_wanted() -> bool:
            return turn >= self._latest.get(tab, 0)

        def answer_if_wanted(index: Index) -> dict[str, Any] | None:
            found = answer(index, is_wanted) if is_wanted() else None
            return found if is_wanted() else None

        found = await self._search_index.call(answer_if_wanted)
        return Response(status_code=204) if found is None else _json(found)

    async def months(self, request: Request) -> Response:
        """The number of photos per month, for the timeline: `taken`, and `changed` for files without a date."""
        question = _question(request)
        months = await self._summary_index.call(lambda index: self._gallery.months(index, question.filter))
        return _json(months)

    async def places(self, request: Request) -> Response:
        """Clusters of the matches in `box`, as for `--within`, of a grid with `columns` cells around the earth."""
        question, columns = _question(request), _number(request, "columns", 1)
        box = OPTIONS["within"].parse(request.query_params.get("box", "-90,-180,90,180"))
        return _json(await self._search_index.call(lambda index: self._gallery.places(index, question, box, columns)))

    async def choices(self, _: Request) -> Response:
        """The values to filter by, with counts of photos."""
        return _json(await self._summary_index.call(self._gallery.choices))

    async def folders(self, request: Request) -> Response:
        """The folders in the folder `in`, with counts of photos."""
        parent = request.query_params.get("in", "")
        return _json(await self._summary_index.call(self._gallery.folders, parent))

    async def suggest(self, request: Request) -> Response:
        """Filters and terms that the `text` in the search field could mean."""
        text = request.query_params.get("text", "")
        return _json(await self._summary_index.call(self._gallery.suggestions, text))

    async def status(self, _: Request) -> Response:
        """The state of the index; the page polls it."""
        return _json(await self._lookup_index.call(self._gallery.status))

    async def labels(self, request: Request) -> Response:
        """The probability of each label for `photo`, or without it, the number of results per label."""
        question, photo = _question(request), request.query_params.get("photo")
        labels = request.query_params.getlist("label")
        if len(labels) > _MAX_LABELS:
            raise BadRequest(f"at most {_MAX_LABELS} labels are allowed")
        id = None if photo is None else checked_id(photo)
        return _json(await self._search_index.call(lambda index: self._gallery.labels(index, labels, id, question)))

    async def upload(self, request: Request) -> Response:
        """Receive an image as the request body; returns the id to search with."""
        name = request.query_params.get("name", "")[:255] or "image"
        return _json({"id": await self._uploads.take(self._image_index, name, request.stream())})

    # -------------------------------------------------------------------------------- saved searches

    async def saved(self, _: Request) -> Response:
        """The saved searches that the page can show, each with its URL."""
        return _json(await self._lookup_index.call(self._gallery.saved))

    async def save(self, request: Request) -> Response:
        """Save the question in the parameters under `as`."""
        self._saving.check()
        question, name = _question(request), request.query_params.get("as", "")
        await self._action_index.call(lambda index: self._gallery.save(index, name, question))
        return await self.saved(request)

    async def unsave(self, request: Request) -> Response:
        """Delete the search saved under `as`."""
        self._saving.check()
        name = request.query_params.get("as", "")
        await self._action_index.call(lambda index: index.saved_searches.remove(name))
        return await self.saved(request)

    # -------------------------------------------------------------------------------- selected photos

    async def command(self, request: Request) -> Response:
        """The shell command of an action with `value`, for `count` photos whose paths are on stdin."""
        name, value = request.path_params["name"], request.query_params.get("value", "")
        count = _number(request, "count", 1)
        command = await self._lookup_index.call(lambda index: self._actions.command(index, name, value, count))
        return _json({"command": command})

    async def act(self, request: Request) -> Response:
        """Do something with photos of the index, as `Actions.run`."""
        return _json(await self._actions.run(request.path_params["name"], request.stream()))

    async def undo(self, request: Request) -> Response:
        """Undo an action that gave the ticket."""
        return _json(await self._actions.undo(request.path_params["ticket"]))

    async def download(self, request: Request) -> Response:
        """Stream a ZIP archive that an action prepared."""
        parts = self._actions.download(request.path_params["ticket"])
        headers = {"Content-Disposition": 'attachment; filename="photos.zip"'}
        return StreamingResponse(parts, media_type="application/zip", headers=headers)

    # -------------------------------------------------------------------------------- duplicates

    async def duplicates_page(self, _: Request) -> Response:
        """The HTML of the review; its scripts fetch the groups."""
        return HTMLResponse(self._files["review.html"][0])

    async def find_groups(self, request: Request) -> Response:
        """Find groups of `kind`, copies or similar, under the filter. This may take minutes."""
        kind = request.query_params.get("kind", COPIES)
        return _json(await self._review.find(kind, _question(request).filter))

    async def groups(self, request: Request) -> Response:
        """`count` groups of a review from number `first` on."""
        ticket = request.path_params["ticket"]
        return _json(self._review.part(ticket, _number(request, "first", 0), _number(request, "count", 20)))

    async def move_command(self, request: Request) -> Response:
        """The shell command that moves copies to the folder `value`, without the files to keep."""
        ticket, folder = request.path_params["ticket"], request.query_params.get("value", "")
        command = await self._lookup_index.call(lambda index: self._review.command(index, ticket, folder))
        return _json({"command": command})

    async def move_copies(self, request: Request) -> Response:
        """Move all but the files to keep to a folder."""
        return _json(await self._review.move(request.path_params["ticket"], request.stream()))

    # -------------------------------------------------------------------------------- people

    async def people_page(self, _: Request) -> Response:
        """The HTML for naming people; its scripts fetch the faces."""
        return HTMLResponse(self._files["people.html"][0])

    async def people(self, _: Request) -> Response:
        """Named people and unnamed groups of faces."""
        return _json(await self._summary_index.call(self._people.groups))

    async def faces(self, request: Request) -> Response:
        """At most `count` faces of the person or group `who`, the least certain first."""
        who, count = request.query_params.get("who", ""), _number(request, "count", 12)
        return _json(await self._summary_index.call(self._people.faces, who, count))

    async def change_people(self, request: Request) -> Response:
        """Say something about faces, as `People.change`."""
        return _json(await self._people.change(request.path_params["name"], request.stream()))

    # -------------------------------------------------------------------------------- photos

    async def about(self, request: Request) -> Response:
        """The metadata of a photo."""
        id, file = checked_id(request.path_params["id"]), request.query_params.get("file", "")
        return _json(await self._lookup_index.call(lambda index: self._gallery.about(index, id, file)))

    async def more(self, request: Request) -> Response:
        """What results leave out because it takes longer: exposure, text and faces in the photo, frames of a video.

        `can_ask` and `can_detect` say whether `answer` and `detections` have a model.
        """
        id = checked_id(request.path_params["id"])
        photos = await self._lookup_index.call(lambda index: index.photos_with(id))
        if not photos:
            return _not_found("this photo is no longer in the index")
        contents = await self._lookup_index.call(lambda index: self._gallery.contents(index, id))
        async with self._thumbnail_slots:
            exposure = await run_in_threadpool(self._pictures.exposure, photos)
        can = {"can_ask": self._models.can_ask, "can_detect": self._models.can_detect}
        return _json({"exposure": exposure and exposure._asdict(), **can, **contents})

    async def answer(self, request: Request) -> Response:
        """The answer of a vision-language model to `question` about the photo."""
        if not self._models.can_ask:
            return _not_found("no model answers questions; see clipsearch serve --help")
        return _json(await self._models.ask(*await self._asked(request, "question")))

    async def detections(self, request: Request) -> Response:
        """What the detector finds in the photo for `text`."""
        if not self._models.can_detect:
            return _not_found("no detector was chosen; see clipsearch serve --help")
        return _json(await self._models.detect(*await self._asked(request, "text")))

    async def _asked(self, request: Request, parameter: str) -> tuple[bytes, str]:
        """The large picture of the photo, and the parameter."""
        id = checked_id(request.path_params["id"])
        self._asking.check()
        photos = await self._lookup_index.call(lambda index: index.photos_with(id))
        picture = await run_in_threadpool(self._pictures.thumbnail, photos, "large")
        return picture.data, request.query_params.get(parameter, "")

    async def picture(self, request: Request) -> Response:
        """A thumbnail in one of `SIZES`."""
        id, size = checked_id(request.path_params["id"]), request.path_params["size"]
        if size not in SIZES:
            return _not_found("no such size")
        upload = self._uploads.get(id)
        if upload is not None:
            return _image(Picture(upload.picture))
        photos = await self._lookup_index.call(lambda index: index.photos_with(id))
        async with self._thumbnail_slots:
            if await request.is_disconnected():  # scrolled past, or replaced by the results of a new search
                return Response(status_code=204)
            return _image(await run_in_threadpool(self._pictures.thumbnail, photos, size))

    async def face(self, request: Request) -> Response:
        """A square picture of a face, which is in `box` of the photo."""
        id, box = checked_id(request.path_params["id"]), face_box(request.query_params.get("box", ""))
        photos = await self._lookup_index.call(lambda index: index.photos_with(id))
        async with self._thumbnail_slots:
            return _image(await run_in_threadpool(self._pictures.face, photos, box))

    async def where(self, request: Request) -> Response:
        """A large image with a heat map of the match, and boxes around the lines of text that matched."""
        id, question = checked_id(request.path_params["id"]), _question(request)
        if not (question.terms or question.filter.reads):
            raise BadRequest("the query is empty; enter something to look for")
        photos = await self._lookup_index.call(lambda index: index.photos_with(id))
        picture = await run_in_threadpool(self._pictures.thumbnail, photos, "large")
        found = lines = None
        if question.terms:
            found = await self._image_index.call(lambda index: self._gallery.where(index, picture.data, question))
        if question.filter.reads:
            lines = await self._lookup_index.call(lambda index: index.lines(id, question.filter.reads))
        return _image(await run_in_threadpool(with_annotations, picture, found, lines))

    async def original(self, request: Request) -> Response:
        """The file itself, or a JPEG of all its pixels if browsers cannot show it or it has changed.

        Of a video that browsers do not play, the frame that was found.
        """
        id = checked_id(request.path_params["id"])
        photos = await self._lookup_index.call(lambda index: index.photos_with(id))
        if any(photo.is_video for photo in photos):
            video = await run_in_threadpool(open_video, photos)
            if video is not None:
                return _Video(video)
            return _image(await run_in_threadpool(self._pictures.thumbnail, photos, "large"))
        answer = _image(await run_in_threadpool(self._pictures.original, photos))
        if photos:
            name = photos[0].file.rpartition(b"/")[2].decode("utf-8", "replace")
            answer.headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(name, safe='')}"
        return answer


def _static_files(*, allow_delete: bool) -> dict[str, tuple[bytes, str]]:
    """The static files and the rendered pages: name to contents and media type."""
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
    about = {"cut": CUT, "strict": STRICT, "icons": icons, "filters": FILTERS, "allow_delete": allow_delete}
    about["modules"] = [name for name in files if name.endswith(".js") and not name.startswith(("review", "people"))]
    for name in ("page.html", "review.html", "people.html"):
        files[name] = environment.get_template(name).render(about).encode(), "text/html; charset=utf-8"
    return files


def _question(request: Request) -> Question:
    return parse(request.query_params.multi_items())


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, str(default))
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise BadRequest(f"{name} must be a whole number")
    return int(value)


def _json(value: Any) -> Response:
    return Response(as_json(value), media_type="application/json")


def _image(picture: Picture) -> Response:
    headers = {"Content-Security-Policy": "default-src 'none'; sandbox"}
    if picture.immutable:
        headers["Cache-Control"] = _ONE_YEAR
    return Response(picture.data, media_type=picture.type, headers=headers)


class _Video(FileResponse):
    """Streams an open video; supports range requests."""

    def __init__(self, video: OpenVideo) -> None:
        headers = {"Content-Security-Policy": "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"}
        super().__init__(video.path, media_type=video.type, headers=headers, stat_result=os.fstat(video.file.fileno()))
        self._file = video.file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _not_found(message: str) -> Response:
    return JSONResponse({"error": message}, 404)


async def _error_response(_: Request, error: Exception) -> Response:
    statuses = ((NotAllowed, 403), (TooManyRequests, 429), (BadRequest, 400), (NoIndex, 404), (ImageUnusable, 404))
    status = next((status for kind, status in statuses if isinstance(error, kind)), 500)
    return JSONResponse({"error": str(error)}, status)


async def _internal_error(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"internal error: {type(error).__name__}: {first_line(error)}"}, 500)
