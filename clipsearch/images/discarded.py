"""Folders that are not the photo library: trash, snapshots, thumbnails and previews."""

from __future__ import annotations

import os
import re
import unicodedata
from enum import StrEnum

from clipsearch.paths import join, upward


class Discarded(StrEnum):
    """What a folder contains instead of the user's photos."""

    TRASH = "trash"
    SNAPSHOT = "snapshots"
    PREVIEWS = "thumbnails and previews"
    INTERNAL = "the files of a program"


# Names that only programs give. Scans skip these folders.
_BY_PROGRAMS = {
    Discarded.TRASH: re.compile(
        r"(?i:[$#@._]+(recycl(e|ed|er)([ ._-]*bin)?|trash(es|ed|bin|box|can)?(-\d+)?)|recycler|trashbox|files_trashbin"
        r"|network (trash folder|recycle bin)|\.[a-z]*trash|\.trashed.*|.*gallery[ _-]?recycler?)"
        r"|RECYCLED"  # Windows on FAT; in lower case, it may be what the photos show
    ),
    Discarded.SNAPSHOT: re.compile(
        r"(?i:[#@.~]+(recently-)?snapshots?|@gmt-[\d.-]+|\.zfs|\.mobilebackups|backups\.backupdb|\.stversions"
        r"|files_versions)"
    ),
    Discarded.PREVIEWS: re.compile(
        r"(?i:@eadir|\.?@__thumb|.*\.trickplay|\.thumb(nail)?s?|.*\.lrdata|appdata_oc[a-z0-9]+)"
    ),
    Discarded.INTERNAL: re.compile(r"(?i:node_modules|system volume information)"),
}
# Apple's libraries are folders. They keep the photos in one of two folders, and copies of them in all others.
_LIBRARY = re.compile(r"(?i:.*\.(migrated)?(photos?|ap)library)")
_ORIGINALS = frozenset({"originals", "masters"})

# Names for the same that people may also give to folders with photos. Scans do not skip them, but a copy elsewhere is
# the better one. In lower case and NFC.
_BY_ANYONE = re.compile(
    r"[$#@._ ]*(recycl(e|ed|er)([ ._-]*bin)?|trash(es|ed|bin|box|can)?(-\d+)?)"
    r"|.*photo[ _-]?recycler?|.*(recycle|trash)[ ._-]*bin|.*[ _.-]trash"
    r"|[._ ]*((recently|zuletzt) )?(deleted|gelöscht)( items| files| photos)?|wastebasket"
    r"|(netz(werk)?)?papierkorb|corbeille|papelera( de reciclaje)?|cestino|prullenbak|lixeira|reciclagem|kosz|koš"
    r"|papperskorg(en)?|papirkurv|roskakori|geri dönüşüm kutusu|корзина|ごみ箱|ゴミ箱|回收站|資源回收筒|휴지통"
    r"|[#@.~]*(recently-)?snapshots?|timeshift|\.?versions|\.sync|lost\+found|found\.\d+"
    r"|\.?caches?|\.dropbox\.cache|thumb(nail)?s?|previews?|\.picasaoriginals"
)
MOVED_COPIES = b"clipsearch-moved.jsonl"  # the journal in a folder of copies that were moved away
_TRASHED_NAME = re.compile(r"\.trashed-\d+-.*")  # Android renames what it deletes


def contents_of(folder: bytes, parent: bytes) -> Discarded | None:
    """What a folder with this name contains, if only programs use the name; `parent` is the name of its parent."""
    name = _text(folder)
    found = next((kind for kind, names in _BY_PROGRAMS.items() if names.fullmatch(name)), None)
    if found is None and _LIBRARY.fullmatch(_text(parent)) and name.lower() not in _ORIGINALS:
        return Discarded.PREVIEWS
    return found


def is_discarded(path: bytes) -> bool:
    """Whether a file lies in a trash folder, a snapshot or a cache, or was moved away as a copy.

    It may vanish any day, so it is the last choice.
    """
    *folders, name = (path.replace(b"\\", b"/") if os.name == "nt" else path).split(b"/")
    return (
        bool(_TRASHED_NAME.fullmatch(_text(name)))
        or any(
            contents_of(folder, parent) or _BY_ANYONE.fullmatch(_text(folder).lower())
            for parent, folder in zip([b"", *folders], folders, strict=False)
        )
        or any(os.path.lexists(join(folder, MOVED_COPIES)) for folder in upward(os.path.dirname(path)))
    )


def _text(name: bytes) -> str:
    return unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape"))
