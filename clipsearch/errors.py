"""Errors that users can understand: each class names what is wrong, and its message is one sentence.

Messages speak of facts and arguments, not of commands and options. What a user of the command line can do about each
class is in `cli.app.HINTS`.
"""

from __future__ import annotations


class ClipsearchError(Exception):
    """The base class. The program prints the message and exits with `exit_code`."""

    exit_code = 2


class BadRequest(ClipsearchError):
    """The request itself is invalid: an empty query, a folder that does not exist."""


class BadArgument(BadRequest):
    """An argument has an invalid value. `problem` completes the sentence: "k" + "must be at least 1, not 0"."""

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument, self.problem = argument, problem


class NotIndexed(BadRequest):
    """A file or folder is not in the index."""


class FolderOffline(BadRequest):
    """An indexed folder is offline, and continuing would drop its photos from the index."""


class NoIndex(ClipsearchError):
    """There is no index at the given path."""


class NoCollection(NoIndex):
    """No index was published to the given URI."""


class IndexEmpty(NoIndex):
    """The index exists but has no photos."""


class IndexUnusable(ClipsearchError):
    """The index cannot be read or written."""


class IndexDamaged(IndexUnusable):
    """Part of the index is damaged; verification may repair it."""


class CatalogueDamaged(IndexUnusable):
    """The catalogue is damaged beyond repair."""


class ConceptsDamaged(IndexUnusable):
    """The concepts file of an index is damaged."""


class PeopleDamaged(IndexUnusable):
    """The file of people of an index is damaged."""


class SavedDamaged(IndexUnusable):
    """The saved searches of an index are damaged."""


class IndexOutdated(IndexUnusable):
    """An older clipsearch wrote the index. `folders` are the paths of its folders."""

    def __init__(self, message: str, folders: list[bytes]) -> None:
        super().__init__(message)
        self.folders = folders


class CollectionOutdated(IndexUnusable):
    """A collection has the format of an older clipsearch."""


class IndexTooNew(IndexUnusable):
    """A newer clipsearch wrote the index."""


class IndexLocked(ClipsearchError):
    """Another process is writing to the index."""


class ModelUnknown(ClipsearchError):
    """No model has this name."""


class ModelMismatch(ClipsearchError):
    """The index was built with another model."""


class WeightsUnusable(ClipsearchError):
    """The weights are missing, cannot be read, or do not fit the architecture."""


class WeightsChanged(WeightsUnusable):
    """The weights have changed since the index was built."""


class DownloadFailed(WeightsUnusable):
    """The weights are not on this machine and could not be downloaded."""


class EncodingFailed(ClipsearchError):
    """The device failed to run the model, usually because its memory is full."""


class VlmUnusable(ClipsearchError):
    """A vision-language model is unknown, cannot be downloaded or loaded, or cannot do what it is asked for."""


class DetectorUnusable(VlmUnusable):
    """The same of a detector or segmenter, which no server can replace."""


class EndpointFailed(ClipsearchError):
    """The server of a vision-language model cannot be reached, or its answer cannot be used."""


class ImageUnusable(ClipsearchError):
    """A file cannot be read as an image. The message is only the reason, such as "truncated"."""


class DecoderFailed(ImageUnusable):
    """A decoding process was killed, crashed or took too long, so another try may succeed."""


class SidecarUnusable(ClipsearchError):
    """An XMP sidecar cannot be read or changed. The message is only the reason."""


def reason(error: OSError) -> str:
    """The system's error message in lower case, without the errno."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def counted(count: int, word: str, plural: str = "") -> str:
    """A count with its noun: "1 photo", "1,200 photos". Pass an irregular `plural`: "2 copies"."""
    return f"1 {word}" if count == 1 else f"{count:,} {plural or word + 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 200 characters; its class name if it has none."""
    text = str(error).strip()
    return text.splitlines()[0].strip()[:200] if text else type(error).__name__
