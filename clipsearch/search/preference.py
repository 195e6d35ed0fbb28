"""Which of several copies is the best. Everything that chooses one file for others uses this order."""

from __future__ import annotations

import os
import re
import unicodedata

from clipsearch.images.discarded import is_discarded
from clipsearch.store.photo import Photo

_BACKUP = re.compile(r"(.*[ ._-])?(backups?|bak|old|archives?|copy|copies|sicherung(en)?)([ ._-].*|\d*)?")
_COPY_WORD = r"(copy|kopie|kopia|kopio|copie|copia|cópia|копия|コピー|副本|사본)"
_COPY_NAME = re.compile(
    rf"{_COPY_WORD} ?((of|von|van|av|de|di|\(\d+\)) .*)"  # Copy of IMG_1
    rf"|.*[ _-]{_COPY_WORD}([ _-]?\(?\d+\)?)?"  # IMG_1 copy, IMG_1-copy-2, IMG_1 - Copy (3)
    r"|.* ?\(\d{1,3}\)"  # IMG_1 (1)
    r"|.*[-~]\d"  # IMG_1-2, IMG_1~2
    r"|.*[ _-](edited|conflict|conflicted copy.*)"
)

# What the best has to have, too, and what it has to have with the same value.
_KNOWN = ("taken", "camera", "latitude")
_CHOSEN = ("rating", "color_label", "title", "caption", "location")
_WEAK_DATES = ("name", "modified")  # those that copying and editing make
_PLACES = 3  # decimals of a degree: programs round
_LOSSLESS = (b".png", b".tif", b".tiff", b".bmp", b".psd")

Preference = tuple[bool, int, bool, int, int, bool, bool, int, int, bytes]


def _names(path: bytes) -> list[str]:
    """The folders and the name of a path, in lower case and NFC."""
    spelt = unicodedata.normalize("NFC", path.decode("utf-8", "surrogateescape")).lower()
    return (spelt.replace("\\", "/") if os.name == "nt" else spelt).split("/")


def preference(photo: Photo) -> Preference:
    """A sort key, smallest for the best file.

    In order: not discarded; most pixels; lossless, then the larger file; most metadata; not in a backup folder; not
    named like a copy; the oldest; the shortest path; the path.
    """
    *folders, name = _names(photo.file)
    return (
        is_discarded(photo.file),
        -photo.metadata.width * photo.metadata.height,
        os.path.splitext(photo.file)[1].lower() not in _LOSSLESS,
        -photo.size,
        -len(_facts(photo)),
        any(_BACKUP.fullmatch(folder) for folder in folders),
        _COPY_NAME.fullmatch(os.path.splitext(name)[0]) is not None,
        photo.mtime_ns,
        len(photo.file),
        photo.file,
    )


def has_all_of(best: Photo, other: Photo) -> bool:
    """Whether `best` has the pixels, the quality and the metadata of a copy, so that the copy can be deleted."""
    return preference(best)[1:4] <= preference(other)[1:4] and _facts(best) >= _facts(other)


def _facts(photo: Photo) -> set[str | tuple[str, object]]:
    """Which metadata a photo has, and the values of what a camera measured or a person chose."""
    of = photo.metadata
    found: set[str | tuple[str, object]] = {name for name in _KNOWN if getattr(of, name) is not None}
    found |= {(name, value) for name in _CHOSEN if (value := getattr(of, name)) is not None}
    found |= {(kind, item) for kind, every in (("keyword", photo.keywords), ("person", photo.people)) for item in every}
    if of.taken is not None and of.taken_from not in _WEAK_DATES:
        found.add(("taken", of.taken))
    if of.latitude is not None and of.longitude is not None:
        found.add(("position", (round(of.latitude, _PLACES), round(of.longitude, _PLACES))))
    return found
