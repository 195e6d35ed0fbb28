"""Failures that can be explained to a person. Each is named for the fact and says in one sentence what happened.

Messages name facts and arguments, not commands and options: what a user of the command line can do about each kind is
in `cli.app`.
"""

from __future__ import annotations


class ClipsearchError(Exception):
    """A failure with a one-sentence message for the user; the program exits with `exit_code`."""

    exit_code = 2


class BadRequest(ClipsearchError):
    """What was asked for makes no sense: an empty query, a folder that does not exist."""


class BadArgument(BadRequest):
    """One argument cannot be what it is. `problem` follows its name: "k" "must be at least 1, not 0"."""

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument, self.problem = argument, problem


class NotIndexed(BadRequest):
    """A folder or a file is none that was indexed."""


class FolderOffline(BadRequest):
    """An indexed folder cannot be looked at now, and what was asked for would lose its photos."""


class NoIndex(ClipsearchError):
    """There is no index at the given place."""


class NoCollection(NoIndex):
    """No index was published to the given place."""


class IndexEmpty(NoIndex):
    """There is an index, and nothing in it that could be found."""


class IndexUnusable(ClipsearchError):
    """The index cannot be read or written."""


class IndexDamaged(IndexUnusable):
    """Some of the index is damaged; a verification may repair it."""


class CatalogueDamaged(IndexUnusable):
    """The catalogue is damaged beyond repair."""


class ConceptsDamaged(IndexUnusable):
    """The file of concepts beside an index is damaged."""


class IndexOutdated(IndexUnusable):
    """The index has the format of an older clipsearch. `folders` are those that it was of, as bytes."""

    def __init__(self, message: str, folders: list[bytes]) -> None:
        super().__init__(message)
        self.folders = folders


class CollectionOutdated(IndexUnusable):
    """A collection has the format of an older clipsearch."""


class IndexTooNew(IndexUnusable):
    """The index has the format of a newer clipsearch."""


class IndexLocked(ClipsearchError):
    """Another process is writing to the index."""


class ModelUnknown(ClipsearchError):
    """No model has this name."""


class ModelMismatch(ClipsearchError):
    """The index holds embeddings of another model."""


class WeightsUnusable(ClipsearchError):
    """The weights are missing, cannot be read, or do not fit the architecture."""


class WeightsChanged(WeightsUnusable):
    """The weights are not those that the index was made with any more."""


class DownloadFailed(WeightsUnusable):
    """The weights are not on this machine and could not be fetched."""


class EncodingFailed(ClipsearchError):
    """The device could not run the model: most often its memory is full."""


class ImageUnusable(ClipsearchError):
    """A file that cannot be read as an image; the message is the reason alone, in a few words."""


class SidecarUnusable(ClipsearchError):
    """XMP that cannot be read or extended; the message is the reason alone, in a few words."""


def reason(error: OSError) -> str:
    """What the system says of a failure, in lower case and without its number."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def counted(count: int, word: str, plural: str = "") -> str:
    """So many of something, as messages have it: 1 photo, 2 photos; 2 copies, if that is the `plural`."""
    return f"1 {word}" if count == 1 else f"{count:,} {plural or word + 's'}"


def first_line(error: BaseException) -> str:
    """The first line of what an exception of another library says, at most 200 characters."""
    text = str(error).strip()
    return text.splitlines()[0].strip()[:200] if text else type(error).__name__
