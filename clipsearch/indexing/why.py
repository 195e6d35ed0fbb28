"""Why a file or a folder is in an index, or is not."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import StrEnum

from clipsearch.errors import counted, reason
from clipsearch.extras import missing
from clipsearch.images.discarded import Discarded
from clipsearch.images.found_file import is_modified
from clipsearch.images.kinds import HEAD, SUFFIXES, begins_right, extra_for, needs_a_look
from clipsearch.images.left_out import missed_suffix, what_to_do
from clipsearch.images.read import read_head
from clipsearch.images.scan import Exclusions, Links, Rule, Setting
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store.catalogue import Root, Store
from clipsearch.store.drives import Offline, why_unreachable

_SETTINGS = {
    Setting.HIDDEN: "the file or a folder above it is hidden",
    Setting.RAW: "RAW files are turned off for this folder",
    Setting.VIDEO: "videos are turned off for this folder",
}
_DENIED = "permission denied"


class State(StrEnum):
    """How a path relates to an index."""

    INDEXED = "indexed"
    CHANGED = "changed since it was indexed"
    GONE = "deleted since it was indexed"
    SKIPPED = "skipped"
    NEW = "not indexed yet"
    EXCLUDED = "excluded"
    EMPTY = "in an indexed folder, but has no indexed photos"
    NO_PHOTO = "not a photo, judging by its name and first bytes"
    OFFLINE = "offline"
    UNREADABLE = "cannot be read"
    MISSING = "does not exist"
    OUTSIDE = "not in an indexed folder"


@dataclass(frozen=True, slots=True)
class Why:
    """The state of an absolute path, a reason if there is more to say, and the indexed folder around it."""

    path: bytes
    state: State
    detail: str = ""
    root: bytes | None = None


def why_of(store: Store, path: str | os.PathLike[str]) -> Why:
    """Why a file or folder is in the index, or is not."""
    spelt = os.path.abspath(os.fsencode(os.path.expanduser(path)))
    places = [
        (root, below, name)
        for name in dict.fromkeys((spelt, absolute(path)))
        for root in store.roots()
        if (below := relative_to(name, root.path)) is not None
    ]
    if not places:
        return Why(spelt, State.OUTSIDE if os.path.lexists(spelt) else State.MISSING)
    # A folder behind a link may be indexed under either name; prefer the one that the index has.
    root, below, name = next((place for place in places if store.photos.known_file(*place[:2])), places[0])
    state, detail = _state(store, root, below)
    return Why(name, state, detail, root.path)


def _state(store: Store, root: Root, below: bytes) -> tuple[State, str]:
    presence = store.presence(root)
    if presence.whole:
        return State.OFFLINE, f"{os.fsdecode(root.path)} {presence.whole}"
    known = store.photos.known_file(root, below)
    path = join(root.path, below) if below else root.path
    drives = {known.drive} if known else store.drives.below(root, below) if presence.away else set()
    away = next((one for one in presence.away if one.drives & drives), None)
    offline = (State.OFFLINE, f"{os.fsdecode(away.place)} {away.why}") if away is not None else None
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return offline or (State.GONE if known else State.MISSING, "")
    except OSError as error:
        return State.UNREADABLE, reason(error)
    if offline and away is not None and away.drives >= drives:
        return offline
    if stat.S_ISDIR(status.st_mode):
        return _state_of_folder(store, root, below, path)
    if known is None:
        return _state_of_new(root, below, path)
    if not os.access(path, os.R_OK):
        return State.UNREADABLE, _DENIED
    if is_modified(status, known):
        return State.CHANGED, ""
    return (State.SKIPPED, known.error) if known.error else (State.INDEXED, "")


def _state_of_folder(store: Store, root: Root, below: bytes, path: bytes) -> tuple[State, str]:
    by = Exclusions(root.rules, root.path).rule_for(below + b"/") if below else None
    if by is not None:
        return State.EXCLUDED, _because(by)
    if why_unreachable(path) is Offline.UNREADABLE:
        return State.UNREADABLE, _DENIED
    files = list(store.photos.known(root, below))
    if not files:
        return State.EMPTY, ""
    skipped = sum(file.error is not None for file in files)
    return State.INDEXED, f"{counted(len(files) - skipped, 'photo')}, {counted(skipped, 'file')} skipped"


def _state_of_new(root: Root, below: bytes, path: bytes) -> tuple[State, str]:
    by = Exclusions(root.rules, root.path).rule_for(below)
    if by is not None:
        return State.EXCLUDED, _because(by)
    missed = missed_suffix(below)
    if missed is None:
        return State.NO_PHOTO, ""
    if extra := extra_for(below):
        return State.EXCLUDED, str(missing(extra))
    if needs_a_look(below):
        try:
            if not begins_right(below, read_head(path, HEAD)):
                return State.NO_PHOTO, ""
        except OSError as error:
            return State.UNREADABLE, reason(error)
    if os.fsencode(missed) not in SUFFIXES and not (root.rules.any_name and not missed):
        remedy = what_to_do(missed)
        return (
            State.EXCLUDED,
            f"without the suffix of a photo; {remedy}" if remedy else f"{missed} files cannot be read",
        )
    parts = below.split(b"/")[:-1]
    folders = [join(root.path, b"/".join(parts[: n + 1])) for n in range(len(parts))]
    link = next((folder for folder in folders if os.path.islink(folder)), None)
    if link is not None and not root.rules.follow_links:
        return State.EXCLUDED, f"{os.fsdecode(link)} is a link, and links to folders are not followed"
    if (other := Links(root.path, root.rules).elsewhere(below)) is not None:
        return State.EXCLUDED, f"its folder is scanned under another path, as {os.fsdecode(join(root.path, other))}"
    return State.NEW, ""


def _because(by: Rule) -> str:
    if isinstance(by, Discarded):
        return f"in a folder for {by}, which is left out like hidden folders"
    return _SETTINGS[by] if isinstance(by, Setting) else f"by the pattern {by!r}"
