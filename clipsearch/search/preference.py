"""Which of several copies to keep. Used wherever one file stands for others: duplicates, `--unique`, `--copy-to`."""

from __future__ import annotations

import os
import re

from clipsearch.store.photo import Photo

# Folders of deleted files, snapshots and caches, as systems, NAS boxes and photo programs name them, in lower case.
_DISCARDED = re.compile(
    rb"\$recycle\.bin|recycler|recycled?|#recycle|@recycle|@recently-snapshot|recycle bin|recently deleted"
    rb"|\.?trash(es)?(-\d+)?|\.trashed.*|\.dtrash|\.deleted|deleted|trashbox|network trash folder|papierkorb|corbeille"
    rb"|[#@.]?snapshots?|\.zfs|\.stversions|\.?versions|lost\+found|\.sync"
    rb"|\.?caches?|@eadir|\.@__thumb|\.?thumb(nail)?s?|\.thumbs|previews?(\.lrdata)?|.*\.lrdata|\.picasaoriginals"
)
_TRASHED_NAME = re.compile(rb"\.trashed-\d+-.*")  # Android moves nothing and renames
_BACKUP = re.compile(rb"(.*[ ._-])?(backups?|bak|old|archives?|copy|copies|sicherung)([ ._-].*|\d*)?")
_COPY_NAME = re.compile(
    rb"(copy|kopie|copie|copia|c\xc3\xb3pia) (of|von|de|di|\(\d+\)).*"  # Copy of IMG_1
    rb"|.*[ _-](copy|kopie|copie|copia)([ _-]?\(?\d+\)?)?"  # IMG_1 copy, IMG_1-copy-2, IMG_1 - Copy (3)
    rb"|.* ?\(\d{1,3}\)"  # IMG_1 (1)
    rb"|.*[-~]\d"  # IMG_1-2, IMG_1~2
    rb"|.*[ _-](edited|conflict|conflicted copy.*)",
    re.IGNORECASE,
)

Preference = tuple[bool, int, int, bool, bool, int, int, bytes]


def is_discarded(path: bytes) -> bool:
    """Whether a file lies in a trash folder, a snapshot or a cache: it may be gone tomorrow and is never the best."""
    *folders, name = path.replace(b"\\", b"/").lower().split(b"/")
    return any(_DISCARDED.fullmatch(folder) for folder in folders) or bool(_TRASHED_NAME.fullmatch(name))


def preference(photo: Photo) -> Preference:
    """A sort key, smaller for the better file.

    In order: not discarded; most pixels; least compressed, so the larger file; not in a backup folder; a name that is
    not that of a copy; the oldest; the shortest path; the path itself.
    """
    *folders, name = photo.path.split(b"/")
    stem = os.path.splitext(name)[0]
    return (
        is_discarded(photo.path),
        -photo.metadata.width * photo.metadata.height,
        -photo.size,
        any(_BACKUP.fullmatch(folder.lower()) for folder in folders),
        _COPY_NAME.fullmatch(stem) is not None,
        photo.mtime_ns,
        len(photo.path),
        photo.path,
    )


def is_as_good(best: Photo, other: Photo) -> bool:
    """Whether the best has all that another copy has: as many pixels in as large a file."""
    return preference(best)[1:3] <= preference(other)[1:3]
