"""Contact sheets: photos as a single HTML page with embedded thumbnails, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clipsearch.errors import BadRequest, reason
from clipsearch.images.decode import jpeg_of
from clipsearch.images.sandbox import Decoders
from clipsearch.output import text
from clipsearch.output.annotate import annotated
from clipsearch.output.text import printable
from clipsearch.paths import replacing
from clipsearch.threads import ordered_map, usable_cores

if TYPE_CHECKING:
    from clipsearch.search.copies import Copy, Group
    from clipsearch.search.hit import Hit, Where
    from clipsearch.store.photo import Line, Photo

    WithThumbnails = Callable[[Iterable["Draft"]], Iterator["Card"]]

_WORKERS = min(8, usable_cores())  # each may hold a photo of 200 megapixels
# The start of every contact sheet, and of no other file: only such a file is replaced.
_FIRST = b'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta name="generator" content="clipsearch contact sheet">\n'
_HERE = Path(__file__).parent
_LOOK, _CARDS, _SCRIPT = ((_HERE / name).read_text(encoding="utf-8") for name in ("look.css", "sheet.css", "sheet.js"))
_STYLE = _LOOK + _CARDS

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


class Thumbnail(NamedTuple):
    """A JPEG in base64 and its size in pixels."""

    data: str
    width: int
    height: int


class LinkedPath(NamedTuple):
    """A printable path with a link: its folders, each with a trailing slash, and its name."""

    folders: tuple[str, ...]
    name: str
    url: str

    @staticmethod
    def of(path: bytes, time: float | None = None) -> LinkedPath:
        """Abbreviates the home folder as `~`. Links to a video open it at `time`."""
        folder, slash, name = printable(text.from_home(path)).rpartition("/")
        parts = tuple(f"{part}/" for part in folder.split("/")) if slash else ()
        return LinkedPath(parts, name, Path(os.fsdecode(path)).as_uri() + ("" if time is None else f"#t={time:g}"))


class Others(NamedTuple):
    """Other paths on a card, and what they are: "similar", "same file"."""

    label: str
    paths: Sequence[LinkedPath]


class Card(NamedTuple):
    """A photo on the page; `thumbnail` is None if the file cannot be read. Times are local, in ISO 8601."""

    head: str
    facts: Sequence[str]
    path: LinkedPath
    name: str
    taken: str | None
    camera: str | None
    place: str | None
    size: str
    others: Sequence[Others]
    video: str | None = None  # its length
    changed: str | None = None
    thumbnail: Thumbnail | None = None


class Draft(NamedTuple):
    """A card without its thumbnail, and what to draw over that."""

    photo: Photo
    card: Card
    there: Where | None = None
    lines: Sequence[Line] | None = None


class Section(NamedTuple):
    """Cards under an optional title."""

    cards: Iterable[Card]
    title: str = ""
    subtitle: str = ""


def write_sheet(path: Path, hits: Sequence[Hit], title: str, subtitle: str = "", *, private: bool = False) -> None:
    """Write a page of hits, with a link to each photo.

    Written completely or not at all; replaces nothing but an earlier contact sheet. With `private`, only the owner can
    read it. Raises `BadRequest`.
    """
    _write(path, sheet(hits, title, subtitle), private=private)


def write_duplicates(path: Path, groups: Sequence[Group], title: str, subtitle: str = "") -> None:
    """Write a page of copies, a section per group. Raises `BadRequest`."""
    _write(path, duplicates_sheet(groups, title, subtitle))


def sheet(hits: Sequence[Hit], title: str, subtitle: str = "") -> Iterator[str]:
    """The page of hits in pieces, so that its thumbnails are never all in memory."""
    with _thumbnails() as with_thumbnails:
        cards = with_thumbnails(Draft(hit.photo, _card_of_hit(hit), hit.where, hit.lines) for hit in hits)
        yield from _page(title or "photos", subtitle, text.photos(len(hits)), [Section(cards)], empty=not hits)


def duplicates_sheet(groups: Sequence[Group], title: str, subtitle: str = "") -> Iterator[str]:
    """The page of copies in pieces."""
    count = f"{text.photos(sum(map(len, groups)))} in {len(groups):,} {'group' if len(groups) == 1 else 'groups'}"
    with _thumbnails() as with_thumbnails:
        sections = (_section_of_group(with_thumbnails, number, group) for number, group in enumerate(groups, 1))
        yield from _page(title, subtitle, count, sections, empty=not groups)


def _write(path: Path, page: Iterator[str], *, private: bool = False) -> None:
    try:
        if _is_stream(path):
            with open(path, "w", encoding="utf-8", opener=lambda name, _: os.open(name, os.O_WRONLY)) as file:
                file.writelines(page)
            return
        before = _earlier_sheet(path)
        with replacing(path, private=private, new=before is None) as temporary:
            with open(temporary, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(page)
            if _earlier_sheet(path) != before:
                raise BadRequest(f"{path} was changed by another program meanwhile; choose another name")
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {reason(error)}") from None


def _is_stream(path: Path) -> bool:
    """Whether this is a pipe, terminal or device, into which the page is written."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _earlier_sheet(path: Path) -> tuple[int, ...] | None:
    """The identity and time of an earlier contact sheet or an empty file; None if there is no file.

    Raises `BadRequest` for any other file, and for links, which may lead to anything.
    """
    if path.is_symlink():
        raise BadRequest(f"{path} is a link; name the file itself")
    try:
        with open(path, "rb") as file:
            if file.read(len(_FIRST)) not in (b"", _FIRST):
                raise BadRequest(f"{path} exists and is not a contact sheet of clipsearch; choose another name")
            status = os.fstat(file.fileno())
            return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    except FileNotFoundError:
        return None


def _page(title: str, subtitle: str, count: str, sections: Iterable[Section], *, empty: bool) -> Iterator[str]:
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)};"
        " base-uri 'none'; form-action 'none'"
    )
    return _ENVIRONMENT.get_template("sheet.html").generate(
        policy=policy,
        title=printable(title),
        subtitle=printable(subtitle),
        count=count,
        empty=empty,
        sections=sections,
        style=Markup(_STYLE),  # noqa: S704  # ours
        script=Markup(_SCRIPT),  # noqa: S704
    )


def _hash(inline: str) -> str:
    """An inline style or script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode('ascii')}'"


# ------------------------------------------------------------------------------------------ cards


def _card_of_hit(hit: Hit) -> Card:
    facts = []
    if hit.score is not None:
        facts.append(f"score {hit.score:.3f}")
    if hit.confidence is not None:
        facts.append(f"confidence {hit.confidence:.0%}")
    if at := text.found_at(hit):
        facts.append(at)
    facts += map(printable, text.reasons(hit))
    others = [
        Others("similar", [LinkedPath.of(photo.file) for photo in hit.similar]),
        Others("same file", [LinkedPath.of(path) for path in hit.same_file]),
    ]
    return _card(hit.photo, str(hit.rank), f"Photo {hit.rank}", facts, others)


def _section_of_group(with_thumbnails: WithThumbnails, number: int, group: Group) -> Section:
    cards = with_thumbnails(Draft(copy.photo, _card_of_copy(copy, n)) for n, copy in enumerate(group, 1))
    return Section(cards, f"Group {number}", text.photos(len(group)))


def _card_of_copy(copy: Copy, number: int) -> Card:
    others = [Others("same file", [LinkedPath.of(path) for path in copy.same_file])]
    card = _card(copy.photo, text.likeness(copy), f"Photo {number}", [text.amount(copy.photo.size)], others)
    return card._replace(changed=copy.photo.changed)  # one reason why the best was chosen


def _card(photo: Photo, head: str, name: str, facts: Sequence[str], others: Sequence[Others]) -> Card:
    of, place = photo.metadata, photo.place
    return Card(
        head=head,
        facts=facts,
        path=LinkedPath.of(photo.file, photo.time),
        name=f"{name}: {printable(os.path.basename(photo.file))}",
        taken=printable(of.taken) if of.taken else None,
        camera=printable(of.camera) if of.camera else None,
        place=printable(place.title) if place else None,
        size=f"{of.width} \N{MULTIPLICATION SIGN} {of.height}",
        others=[other for other in others if other.paths],
        video=text.video_length(photo),
    )


@contextlib.contextmanager
def _thumbnails() -> Iterator[WithThumbnails]:
    """Adds thumbnails to cards, in threads and decoding processes. Leaving the block cancels the rest."""
    pool = ThreadPoolExecutor(_WORKERS)
    try:
        with Decoders(_WORKERS) as decoders:
            yield lambda drafts: ordered_map(pool, partial(_finished, decoders), drafts, 2 * _WORKERS)
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(decoders: Decoders, draft: Draft) -> Card:
    image = decoders.thumbnail(draft.photo.file, draft.photo.time)
    if image is None:
        return draft.card
    image = annotated(image, draft.there, draft.lines)
    data = base64.b64encode(jpeg_of(image)).decode("ascii")
    return draft.card._replace(thumbnail=Thumbnail(data, image.width, image.height))
