"""What scans leave out: files that photo libraries contain but that cannot be read, and skipped folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipsearch.images.kinds import SUFFIXES, extra_for

# Suffixes of files that people may expect to find, unlike texts, archives, sidecars, or the small copies that cameras
# make of their videos (.lrv, .thm).
_MISSED = frozenset(
    (
        b".psb .ai .eps .svg .xcf .kra .clip .afphoto .afdesign .cdr .indd .sketch .procreate .pdn"  # design
        b" .pcx .exr .hdr .dds .jxr .wdp .hdp .djvu .djv .heics .livp .pict .pct .sgi .ras .fits .dcm .dpx"  # images
        b" .pdf .pam .pfm .jls .qoi .bpg .flif .ora .wmf .emf .xpm"
        b" .raw .r3d .braw .ari .cine .eip .lfp .lfr .bay .cap .mdc .ptx .pxn .rwz .cs1 .sti .drf .dcs .qtk"  # RAW
        b" .rm .rmvb .swf .wtv .dvr-ms .trp .mjpg .mjpeg .amv .m1v .mpv .ivf .xvid .mk3d .nsv .m4p"  # videos
        b" .264 .h264 .265 .h265 .hevc .dav"  # without a container
    ).split()
)


# The web appends to names: "a.jpg_large", "a.jpg!d", "a.jpg?w=640". Backups, "a.jpg_original" and "a.jpg~", are not it.
_EXTENDED = re.compile(r"(\.[a-z0-9]+)(?!~$|_original$)[^a-z0-9].*", re.DOTALL)
_ANY_NAME = "add --any-name"


@dataclass(slots=True)
class LeftOut:
    """Counts of files by suffix, and of skipped folders by name."""

    files: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.files or self.folders)

    def add(self, other: LeftOut) -> None:
        """Count what another scan left out too."""
        self.files.update(other.files)
        self.folders.update(other.folders)

    @staticmethod
    def of(counts: Mapping[str, Mapping[str, int]]) -> LeftOut:
        """From what `as_dict` returned."""
        return LeftOut(Counter(counts.get("files")), Counter(counts.get("folders")))

    def as_dict(self) -> dict[str, Any]:
        return {"files": dict(self.files), "folders": dict(self.folders)}


def missed_suffix(name: bytes) -> str | None:
    """The suffix (perhaps empty) of a file that scans leave out, if people may expect to find it."""
    suffix = os.path.splitext(name)[1].lower()
    is_missed = not suffix or suffix in _MISSED or suffix in SUFFIXES or _unextended(os.fsdecode(suffix))
    return os.fsdecode(suffix) if is_missed else None


def _unextended(suffix: str) -> str | None:
    """The suffix of photos that something was appended to."""
    match = _EXTENDED.fullmatch(suffix)
    return match[1] if match and os.fsencode(match[1]) in SUFFIXES else None


def what_to_do(suffix: str) -> str | None:
    """How files with this suffix can be indexed; None if they cannot."""
    if not suffix:
        return _ANY_NAME
    if (shorter := _unextended(suffix)) is not None:
        return f"rename to {shorter}"
    name = b"x" + os.fsencode(suffix)
    if (extra := extra_for(name)) is not None:
        return f"install the extra {extra}"
    return "run: clipsearch index" if os.fsencode(suffix) in SUFFIXES else None  # the extra is installed by now
