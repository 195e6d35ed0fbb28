"""Find photos in local folders by what is in them.

    import clipsearch

    with clipsearch.open_index() as index:
        index.update(["~/Pictures"])
        for hit in index.query("a dog on a beach", k=10):
            print(hit.score, hit.path)

An index that is open keeps its model loaded from one call to the next, and sees what others write to it meanwhile.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from clipsearch.errors import BadArgument, ClipsearchError
from clipsearch.paths import index_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.arrays import Array
    from clipsearch.indexing.status import Status
    from clipsearch.indexing.update import OnNote, OnProgress, Options, Progress, Report
    from clipsearch.search.copies import Copy, Group
    from clipsearch.search.embed import Embedder
    from clipsearch.search.hit import Hit
    from clipsearch.search.label import Labelled
    from clipsearch.search.query import Searcher
    from clipsearch.search.term import Term
    from clipsearch.store.catalogue import Photo
    from clipsearch.store.conditions import Circle
    from clipsearch.store.filters import Filter

    Picture = str | os.PathLike[str] | bytes | Image  # a path, a file's bytes, or an image in memory

_HOMES = {
    "Circle": "store.conditions",
    "Copy": "search.copies",
    "Filter": "store.filters",
    "Hit": "search.hit",
    "Labelled": "search.label",
    "Options": "indexing.update",
    "Photo": "store.catalogue",
    "Progress": "indexing.update",
    "Report": "indexing.update",
    "Status": "indexing.status",
}

__all__ = [
    "Circle",
    "ClipsearchError",
    "Copy",
    "Filter",
    "Hit",
    "Index",
    "Labelled",
    "Options",
    "Photo",
    "Progress",
    "Report",
    "Status",
    "__version__",
    "open_index",
]


def __getattr__(name: str) -> Any:
    """The types of questions and answers, imported when they are asked for, as NumPy comes with them; the version."""
    if name == "__version__":
        from importlib.metadata import version

        return version("clipsearch")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"clipsearch.{_HOMES[name]}"), name)


def open_index(folder: str | os.PathLike[str] | None = None) -> Index:
    """The index in a folder; without one, the user's own: `CLIPSEARCH_INDEX` or the data folder.

    The folder need not exist before the first `update`.

    Example:
        >>> index = open_index("~/photos.index")

    """
    return Index(index_folder(folder))


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _in_one_moment(method: Callable[Concatenate[Index, _P], _T]) -> Callable[Concatenate[Index, _P], _T]:
    """Let go of the moment of the catalogue that a method has seen: a reader's keeps the log of changes growing."""

    @functools.wraps(method)
    def call(self: Index, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        finally:
            self._opened.end_snapshot()

    return call  # type: ignore[return-value]  # mypy names the first argument of the one and not of the other


class Index:
    """An index in a folder. It is a context manager; what it has loaded it keeps until it is closed.

    All methods raise a `ClipsearchError` that says in one sentence what is wrong.
    """

    def __init__(self, folder: Path) -> None:
        from clipsearch.search.opened import Opened

        self.folder = folder
        self._opened = Opened(folder)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def close(self) -> None:
        """Let go of the files and of the model. A later call opens them again."""
        self._opened.close()

    def update(
        self,
        directories: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        options: Options | None = None,
        *,
        on_progress: OnProgress | None = None,
        on_note: OnNote = warnings.warn,
    ) -> Report:
        """Index directories, or bring all that were indexed up to date; makes the index if there is none.

        `on_note` is told what a user should know, such as that another model than the default is used. Photos that
        cannot be read are in `Report.skipped`.

        Example:
            >>> report = index.update("~/Pictures", Options(model="mini"))
            >>> report.skipped
            []

        """
        from clipsearch.indexing.update import update_index

        places = _several("directories", directories, (str, os.PathLike))
        return update_index(self.folder, places, options, on_progress, on_note)

    @_in_one_moment
    def query(
        self,
        texts: str | Sequence[str] = (),
        *more: str,
        images: Picture | Sequence[Picture] = (),
        without: str | Sequence[str] = (),
        unlike: Picture | Sequence[Picture] = (),
        k: int = 10,
        where: Filter | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        unique: bool = False,
        similarity: float | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The `k` photos nearest to the sum of the texts and images, less `without` and `unlike`; best first.

        A text may begin with a weight, as in "2:golden retriever", or name a concept, as in "@grandma on a beach".
        Images are paths, files as bytes, or images of Pillow. `where` says what photos must be besides; without
        texts and images, the newest of these are listed. `min_score` is a cosine, -1 to 1; `min_confidence` a
        probability, 0 to 1, which each hit then has. `unique` shows copies of a photo once, as the best file, and with
        `similarity`, a cosine, also photos that are only similar to a better one.
        With `exact` every embedding of a large index is looked at, not only the best by a scan of small codes.

        Example:
            >>> hits = index.query("a red circle", without="stripes", k=3)
            >>> [hit.rank for hit in hits]
            [1, 2, 3]
            >>> hits[0].path.name, hits[0].metadata.width
            ('06.png', 160)

        """
        from clipsearch.search.query import Limits

        searcher = self._searcher(where)
        words = [*_several("texts", texts, (str,)), *_several("texts", more, (str,))]
        terms = [term for text in words for term in searcher.terms(text)]
        embedder = searcher.embedder
        terms += [_term(embedder, "images", image, 1) for image in _pictures("images", images)]
        terms += [term for text in _several("without", without, (str,)) for term in searcher.terms(text, -1)]
        terms += [_term(embedder, "unlike", image, -1) for image in _pictures("unlike", unlike)]
        return searcher.query(terms, Limits(k, min_score, min_confidence, unique, similarity, exact))

    @_in_one_moment
    def label(
        self,
        labels: str | Sequence[str],
        *,
        images: Picture | Sequence[Picture] = (),
        where: Filter | None = None,
        templates: str | Sequence[str] = (),
        most: int = 1,
    ) -> list[Labelled]:
        """The `most` likely of some labels for each photo of the index, or for `images`, which need not be indexed.

        Probabilities are over the labels and add up to 1; one label alone is compared with a background of common
        subjects. `templates` are prompts with `{}` for the label, or the name of a set: "imagenet" or "simple".

        Example:
            >>> for photo in index.label(["a circle", "a star"], images=paths[:2]):
            ...     name, probability = photo.labels[0]

        """
        from clipsearch.search.label import Classifier, templates_of

        searcher = self._searcher(where)
        prompts = templates_of(_several("templates", templates, (str,)))
        classifier = Classifier(searcher.embedder, _several("labels", labels, (str,)), prompts)
        pictures = _pictures("images", images)
        if not pictures:
            return list(
                classifier.classify_indexed(searcher.embedder.store, searcher.selection, most, searcher.present)
            )
        names = [os.fsencode(picture) if isinstance(picture, str | os.PathLike) else b"" for picture in pictures]
        return list(classifier.classify(names, self.embed_images(images), most))

    @_in_one_moment
    def duplicates(self, *, identical: bool = False, where: Filter | None = None) -> list[Group]:
        """Groups of files that show the same picture, decided on their pixels; `identical`: with the same bytes.

        The file to keep comes first: the most pixels, then the least compressed, not in a trash or backup folder. A
        file is in one group at most; other paths of it are in `Copy.same_file`.

        Example:
            >>> for best, *others in index.duplicates(identical=True):
            ...     print(best.photo.path, len(others))

        """
        from clipsearch.search.copies import find_copies

        searcher = self._searcher(where)
        return find_copies(searcher.embedder.store, searcher.selection, searcher.present, identical=identical)

    @_in_one_moment
    def similar(self, similarity: float = 0.98, *, where: Filter | None = None) -> list[Group]:
        """Groups of photos whose embeddings have at least this cosine with the first: edits, crops, bursts.

        They may show different things; never delete by them.

        Example:
            >>> for first, *others in index.similar(0.95):
            ...     print(first.photo.path, len(others))

        """
        from clipsearch.search.similar import find_similar

        if not isinstance(similarity, int | float) or not 0 <= similarity <= 1:
            raise BadArgument("similarity", f"must be a cosine, 0 to 1, not {similarity!r}")
        searcher = self._searcher(where)
        return find_similar(searcher.embedder.store, searcher.selection, similarity, searcher.present)

    @_in_one_moment
    def status(self) -> Status:
        """What is indexed: folders, counts, skipped files with their reasons, size on the disk, model.

        Example:
            >>> index.status().photos
            25

        """
        from clipsearch.indexing.status import status_of

        return status_of(self._opened.store())

    @_in_one_moment
    def embed_texts(self, texts: str | Sequence[str]) -> Array:
        """Unit rows (n, dim) float32 of n texts, by the model of the index.

        Example:
            >>> rows = index.embed_texts(["a dog", "a cat"])
            >>> len(rows)
            2

        """
        return self._opened.embedder().texts(_several("texts", texts, (str,)))

    @_in_one_moment
    def embed_images(self, images: Picture | Sequence[Picture]) -> Array:
        """Unit rows (n, dim) float32 of n images: paths, files as bytes, or images of Pillow.

        Example:
            >>> cosines = index.embed_images(paths[:3]) @ index.embed_texts("a red circle")[0]

        """
        import numpy as np

        embedder = self._opened.embedder()
        rows = [embedder.row(_term(embedder, "images", image, 1)) for image in _pictures("images", images)]
        return np.stack(rows) if rows else np.empty((0, embedder.model.dim), np.float32)

    def _searcher(self, where: Filter | None) -> Searcher:
        return self._opened.searcher() if where is None else self._opened.searcher(where)


def _term(embedder: Embedder, argument: str, picture: Picture, weight: float) -> Term:
    from clipsearch.search.query import image_term
    from clipsearch.search.term import Term

    if isinstance(picture, str | os.PathLike):
        return image_term(Path(picture).expanduser(), weight)
    if isinstance(picture, bytes):
        return Term(picture, weight, f"the bytes in {argument}")
    return Term(embedder.picture(picture), weight)


def _several(argument: str, value: Any, kinds: tuple[type, ...]) -> list[Any]:
    """One value or several of them as a list. Raises `BadArgument` that names what is of another type."""
    values = [value] if isinstance(value, (*kinds, bytes)) or not _is_sequence(value) else list(value)
    for one in values:
        if not isinstance(one, kinds):
            wanted = "text" if kinds == (str,) else "a path"
            raise BadArgument(argument, f"must be {wanted} or several of them, not {type(one).__name__}")
    return values


def _pictures(argument: str, value: Any) -> list[Any]:
    """One image or several as a list. Raises `BadArgument`."""
    one = isinstance(value, str | bytes | os.PathLike) or not _is_sequence(value)
    values = [value] if one else list(value)
    for picture in values:
        if not isinstance(picture, str | bytes | os.PathLike) and not hasattr(picture, "convert"):
            problem = "must be paths, bytes or images of Pillow"
            raise BadArgument(argument, f"{problem}, not {type(picture).__name__}")
    return values


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__iter__") and not hasattr(value, "convert")
