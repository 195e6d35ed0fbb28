"""Contact sheets: photos as a single HTML page with embedded thumbnails, which loads nothing from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.output import text
from clipsearch.output.annotate import annotated, cropped
from clipsearch.output.html_file import EmbeddedPicture, asset, decoding, render, writing
from clipsearch.output.text import printable

if TYPE_CHECKING:
    from clipsearch.images.box import Box
    from clipsearch.images.sandbox import Decoders
    from clipsearch.indexing.people_changes import NamedFace
    from clipsearch.models.detection import Detection
    from clipsearch.search.copies import Copy, Group
    from clipsearch.search.hit import Hit, Where
    from clipsearch.store.photo import Line, Photo

    WithThumbnails = Callable[[Iterable["Draft"]], Iterator["Card"]]

_WHOLE, _FACE = 1600, 240  # pixels of the long side, of a photo and of the face cut out of it
_STYLE, _SCRIPT = asset("look.css") + asset("sheet.css"), asset("sheet.js")


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
    thumbnail: EmbeddedPicture | None = None


class Draft(NamedTuple):
    """A card without its thumbnail, and what to draw over that."""

    photo: Photo
    card: Card
    marks: Sequence[Where | Detection] = ()
    lines: Sequence[Line] | None = None
    face: Box | None = None  # the part to show


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
    with writing(path, private=private) as file:
        file.writelines(sheet(hits, title, subtitle))


def write_duplicates(path: Path, groups: Sequence[Group], title: str, subtitle: str = "") -> None:
    """Write a page of copies, a section per group. Raises `BadRequest`."""
    with writing(path) as file:
        file.writelines(duplicates_sheet(groups, title, subtitle))


def write_faces(path: Path, groups: Sequence[tuple[str, Sequence[tuple[NamedFace, Photo]]]], title: str) -> None:
    """Write a page of faces, a section per group with its title. Only the owner can read it. Raises `BadRequest`."""
    count = f"{sum(len(faces) for _, faces in groups):,} faces"
    with writing(path, private=True) as file, decoding(_finished) as with_thumbnails:
        sections = (Section(with_thumbnails(starmap(_draft_of_face, faces)), name) for name, faces in groups)
        file.writelines(_page(title, "", count, sections, empty=not groups))


def sheet(hits: Sequence[Hit], title: str, subtitle: str = "") -> Iterator[str]:
    """The page of hits in pieces, so that its thumbnails are never all in memory."""
    with decoding(_finished) as with_thumbnails:
        cards = with_thumbnails(Draft(hit.photo, _card_of_hit(hit), hit.marks, hit.lines) for hit in hits)
        yield from _page(title or "photos", subtitle, text.photos(len(hits)), [Section(cards)], empty=not hits)


def duplicates_sheet(groups: Sequence[Group], title: str, subtitle: str = "") -> Iterator[str]:
    """The page of copies in pieces."""
    count = f"{text.photos(sum(map(len, groups)))} in {len(groups):,} {'group' if len(groups) == 1 else 'groups'}"
    with decoding(_finished) as with_thumbnails:
        sections = (_section_of_group(with_thumbnails, number, group) for number, group in enumerate(groups, 1))
        yield from _page(title, subtitle, count, sections, empty=not groups)


def _page(title: str, subtitle: str, count: str, sections: Iterable[Section], *, empty: bool) -> Iterator[str]:
    return render(
        "sheet.html",
        _STYLE,
        _SCRIPT,
        title=printable(title),
        subtitle=printable(subtitle),
        count=count,
        empty=empty,
        sections=sections,
    )


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


def _draft_of_face(face: NamedFace, photo: Photo) -> Draft:
    facts = [sure] if (sure := text.sureness(face)) else []
    return Draft(photo, _card(photo, f"face {face.id}", f"Face {face.id}", facts, []), face=face.box)


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


def _finished(decoders: Decoders, draft: Draft) -> Card:
    if draft.face is not None:
        image = decoders.thumbnail(draft.photo.file, draft.photo.time, _WHOLE)
        image = None if image is None else cropped(image, draft.face, _FACE)
    else:
        image = decoders.thumbnail(draft.photo.file, draft.photo.time)
    if image is None:
        return draft.card
    return draft.card._replace(thumbnail=EmbeddedPicture.of(annotated(image, draft.marks, draft.lines)))
