"""Failures that can be explained to a person. Each says what happened and what to do, and has an exit status."""

from __future__ import annotations


class ClipsearchError(Exception):
    """A failure with a one-sentence message for the user; the program exits with `exit_code`."""

    exit_code = 2


class BadRequest(ClipsearchError):
    """What was asked for makes no sense: an empty query, k = 0, a folder that does not exist."""


class NoIndex(ClipsearchError):
    """There is no index at the given place, or nothing in it."""


class IndexUnusable(ClipsearchError):
    """The index cannot be read: a newer format, damage, or no permission."""


class IndexLocked(ClipsearchError):
    """Another process is writing to the index."""


class ModelUnknown(ClipsearchError):
    """No model has this name."""


class ModelMismatch(ClipsearchError):
    """The index holds embeddings of another model."""


class WeightsUnusable(ClipsearchError):
    """The weights are missing, cannot be read, or do not fit the architecture."""


class DownloadFailed(WeightsUnusable):
    """The weights are not on this machine and could not be fetched."""


class EncodingFailed(ClipsearchError):
    """The device could not run the model: most often its memory is full."""


class ImageUnusable(ClipsearchError):
    """A file that cannot be read as an image; the message is the reason alone, in a few words."""


def reason(error: OSError) -> str:
    """What the system says of a failure, in lower case and without its number."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def first_line(error: BaseException) -> str:
    """The first line of what an exception of another library says, at most 200 characters."""
    text = str(error).strip()
    return text.splitlines()[0].strip()[:200] if text else type(error).__name__
