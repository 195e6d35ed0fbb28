"""An index, the one object that Python, the command line, the page and MCP use."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from clipsearch.errors import BadArgument, BadRequest, NoIndex
from clipsearch.extras import cluster
from clipsearch.paths import CATALOGUE, Collection, index_place

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.arrays import Array
    from clipsearch.images.metadata import Metadata
    from clipsearch.indexing.relocate import Relocated
    from clipsearch.indexing.status import RootStatus, Status
    from clipsearch.indexing.update import OnNote, OnProgress, Options, Report
    from clipsearch.indexing.watch import Watch
    from clipsearch.indexing.why import Why
    from clipsearch.search.concepts import Concepts
    from clipsearch.search.copies import Group
    from clipsearch.search.embed import Embedder
    from clipsearch.search.evaluate import Evaluation
    from clipsearch.search.find import LeftOut, Searcher
    from clipsearch.search.hit import Hit, Where
    from clipsearch.search.label import Classifier, Labelled
    from clipsearch.search.question import Question
    from clipsearch.search.where import Finder
    from clipsearch.store.filters import Filter
    from clipsearch.store.photo import Line, Photo
    from clipsearch.store.searchable import Searchable
    from clipsearch.store.verify import Verified

    Picture = str | os.PathLike[str] | bytes | Image  # a path or URL, a file's bytes, or an image in memory

__all__ = ["Index", "open_index"]


def open_index(place: str | os.PathLike[str] | None = None) -> Index:
    """Open the index in a folder or in a Milvus collection; by default `$CLIPSEARCH_INDEX`, else the user's own.

    The folder need not exist before the first `update`.

    Example:
        >>> index = open_index("~/photos.index")

    """
    return Index(index_place(place))


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _in_one_snapshot(method: Callable[Concatenate[Index, _P], _T]) -> Callable[Concatenate[Index, _P], _T]:
    """End the read snapshot after a method: one that stays open keeps SQLite's write-ahead log growing."""

    @functools.wraps(method)
    def call(self: Index, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        finally:
            self.end_snapshot()

    return call  # type: ignore[return-value]  # mypy names the first argument of the one and not of the other


class Index:
    """An index of photos. Its store and its model are opened on first use and kept until `close`.

    Every call sees what other processes have written by then. Use an index in the thread that opened it, as its SQLite
    connection requires. Methods raise a `ClipsearchError` whose message is one sentence.
    """

    def __init__(self, place: Path | Collection, *, cache_texts: bool = True) -> None:
        """`cache_texts`: keep the embeddings of new texts; turn it off for texts that somebody is still typing."""
        self.place, self._cache_texts = place, cache_texts
        self._opened: tuple[object, Searchable] | None = None  # with the identity of its file
        self._embedder: Embedder | None = None
        self._finder: tuple[Embedder, Finder] | None = None
        self._searcher: Searcher | None = None

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.place)!r})"

    @property
    def folder(self) -> Path:
        """The index's folder. Raises `BadArgument` for a collection."""
        if isinstance(self.place, Collection):
            raise BadArgument("index", f"must be a folder here, and {self.place} is a collection")
        return self.place

    # -------------------------------------------------------------------------------- lifetime

    def close(self) -> None:
        """Release the files and the model. A later call opens them again."""
        self._close_store()
        self._close_finder()
        self._embedder = None

    def end_snapshot(self) -> None:
        """Let writers truncate their log. Methods do it by themselves; so do iterators, when they are exhausted.

        Example:
            >>> index.end_snapshot()

        """
        if self._opened is not None:
            self._opened[1].end_snapshot()

    def version(self) -> tuple[object, ...]:
        """A token that changes with every commit to the index."""
        store = self._store()
        return self._opened and self._opened[0], store.version()

    def _store(self) -> Searchable:
        """The store, at its newest commit. Raises `NoIndex` and `IndexUnusable`."""
        file = None if isinstance(self.place, Collection) else _file_identity(self.place)
        if self._opened is None or file != self._opened[0]:
            self._close_store()
            self._opened = file, _open_store(self.place)
        else:
            self._opened[1].refresh()
        return self._opened[1]

    def _model(self) -> Embedder:
        from clipsearch.search.embed import Embedder

        store = self._store()
        if self._embedder is None or not self._embedder.serves(store):
            self._embedder = Embedder(store, keep_texts=self._cache_texts)
        return self._embedder

    def _search(self, filter: Filter | None) -> Searcher:
        from clipsearch.search.find import Searcher

        embedder = self._model()
        self._searcher = Searcher(embedder.store, _filter(filter), embedder)
        return self._searcher

    def _locator(self) -> Finder:
        from clipsearch.search.where import Finder

        embedder = self._model()
        if self._finder is None or self._finder[0] is not embedder:
            self._close_finder()
            self._finder = embedder, Finder(embedder)
        return self._finder[1]

    def _close_finder(self) -> None:
        if self._finder is not None:
            self._finder[1].__exit__()
        self._finder = None

    def _close_store(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
        self._opened = None

    # -------------------------------------------------------------------------------- keeping it up to date

    def update(
        self,
        directories: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        options: Options | None = None,
        *,
        on_progress: OnProgress | None = None,
        on_note: OnNote = warnings.warn,
    ) -> Report:
        """Index directories, or update all that are indexed; creates the index if there is none.

        `on_note` gets what a user should know, such as that the bundled model is used. Files that cannot be read are in
        `Report.skipped`.

        Example:
            >>> report = index.update("~/Pictures", Options(model="mini"))
            >>> report.skipped
            []

        """
        from clipsearch.indexing.update import update_index

        places = _several("directories", directories, (str, os.PathLike))
        return update_index(self.folder, places, options, on_progress, on_note)

    def watch(
        self,
        directories: Sequence[str | os.PathLike[str]] = (),
        options: Options | None = None,
        *,
        settle: float = 2.0,
        poll: float | None = None,
    ) -> Watch:
        """Keep the index up to date: `Watch.reports()` yields a report for each update, for ever.

        `settle` is the number of seconds without a change before an update; with `poll`, folders are scanned every so
        many seconds instead of waiting for the system to report changes.

        Example:
            >>> watch = index.watch(["~/Pictures"], Options(model="mini"))
            >>> next(watch.reports()).unchanged
            25

        """
        from clipsearch.indexing.update import Options
        from clipsearch.indexing.watch import Watch

        return Watch(self.folder, directories, options or Options(), settle=settle, poll=poll)

    def forget(self, directories: Sequence[str | os.PathLike[str]]) -> int:
        """Remove folders, or an offline drive in one of them; returns the number of files removed from the index.

        Example:
            >>> index.forget(["~/Pictures"])
            25

        """
        from clipsearch.indexing.relocate import forget

        return forget(self.folder, directories)

    def relocate(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Relocated:
        """Record that an indexed folder is at another path now. Nothing is embedded again.

        Example:
            >>> os.rename(old, new)
            >>> index.relocate(old, new).there
            25
            >>> os.rename(new, old)

        """
        from clipsearch.indexing.relocate import relocate

        return relocate(self.folder, old, new)

    def verify(self) -> tuple[Verified, bool]:
        """Repair what can be rebuilt; says what was wrong, and whether concepts were restored from their backup.

        Example:
            >>> verified, restored = index.verify()
            >>> restored
            False

        """
        from clipsearch.search import concepts
        from clipsearch.store.catalogue import Store
        from clipsearch.store.verify import verify

        with Store.open(self.folder, write=True) as store:
            return verify(store), concepts.restore(self.folder)

    def publish(
        self, collection: Collection, *, replace: bool = False, on_progress: Callable[[int, int], None] | None = None
    ) -> Any:
        """Copy the index to a Milvus collection, or bring the collection up to date.

        `replace` overwrites a collection that was published from another index; `on_progress` gets the number of photos
        done and their total. Returns what was written and deleted, and the number of photos, as a named tuple.

        Example:
            >>> index.publish(index_place("photos.db")).photos  # doctest: +SKIP
            25

        """
        from clipsearch.extras import cluster

        return cluster("publish")(self.folder, collection, replace=replace, progress=on_progress)

    # -------------------------------------------------------------------------------- searching

    @_in_one_snapshot
    def query(
        self,
        texts: str | Sequence[str] = (),
        *more: str,
        images: Picture | Sequence[Picture] = (),
        without: str | Sequence[str] = (),
        unlike: Picture | Sequence[Picture] = (),
        filter: Filter | None = None,
        k: int = 10,
        min_score: float | None = None,
        min_confidence: float | None = None,
        unique: bool = False,
        similarity: float | None = None,
        exact: bool = False,
        frames: bool = False,
        confidence: bool = False,
        where: bool = False,
        lines: bool = False,
    ) -> list[Hit]:
        """The `k` best matches for the sum of the texts and images, best first; without any, the newest photos.

        A text may be weighted ("2:golden retriever"), name a concept ("@grandma on a beach"), and steer away from
        something ("a beach -people"). Images are paths, URLs, files as bytes, or Pillow images. `min_score` is a
        cosine, -1 to 1; `min_confidence` a probability, 0 to 1. `unique` shows each photo once, as its best file, and
        with `similarity`, a cosine, folds photos that merely look alike. `frames` lists several frames of a video.
        `exact` scores every embedding of a large index, not only the best by their 4-bit codes. `confidence`, `where`
        and `lines` add to each hit how sure the model is, which part matches, and the OCR lines that match.

        Example:
            >>> hits = index.query("a red circle -stripes", k=3)
            >>> [hit.rank for hit in hits]
            [1, 2, 3]
            >>> hits[0].path.name, hits[0].metadata.width
            ('06.png', 160)

        """
        from clipsearch.search.question import Limits, Question, image_term, text_terms

        words = [*_several("texts", texts, (str,)), *_several("texts", more, (str,))]
        avoided = _several("without", without, (str,))
        terms = [term for text in words for term in text_terms(text)]
        terms += [image_term(image) for image in _pictures("images", images)]
        terms += [term for text in avoided for term in text_terms(text, negative=True)]
        terms += [image_term(image, negative=True) for image in _pictures("unlike", unlike)]
        limits = Limits(k, min_score, min_confidence, unique, similarity, exact, frames)
        question = Question(tuple(terms), _filter(filter), limits)
        return self.ask(question, confidence=confidence, where=where, lines=lines)

    @_in_one_snapshot
    def ask(
        self, question: Question, *, confidence: bool = False, where: bool = False, lines: bool = False
    ) -> list[Hit]:
        """The hits of a question; the other arguments as in `query`. `left_out` says what was not searched.

        Example:
            >>> question = Question(tuple(text_terms("a red circle -stripes")))
            >>> index.ask(question)[0].rank
            1

        """
        searcher = self._search(question.filter)
        return self._hits(searcher, question, confidence=confidence, where=where, lines=lines)

    def ask_each(self, texts: Iterable[str], question: Question, *, ahead: int = 1) -> Iterator[list[Hit] | BadRequest]:
        """The hits of each text with the question's filter and limits, or why there are none; in one snapshot.

        `ahead` texts are embedded in one batch. Use 1 for a pipe whose other end may wait for an answer before it
        writes the next text.

        Example:
            >>> [len(hits) for hits in index.ask_each(["a red circle", "stripes"], Question())]
            [10, 10]

        """
        from clipsearch.search.question import text_terms

        searcher, waiting = self._search(question.filter), iter(texts)
        while part := list(islice(waiting, ahead)):
            if ahead > 1:
                new = []
                for text in part:
                    with suppress(BadRequest):  # reported when it is this text's turn
                        new += [term.content for term in text_terms(text) if term.asks_for_text]
                searcher.embedder.texts(new)
            for text in part:
                try:
                    asked = question._replace(terms=tuple(text_terms(text)))
                    yield self._hits(searcher, asked, confidence=True)
                except BadRequest as error:
                    yield error
        self.end_snapshot()

    @staticmethod
    def _hits(
        searcher: Searcher, question: Question, *, confidence: bool = False, where: bool = False, lines: bool = False
    ) -> list[Hit]:
        hits = searcher.query(question.terms, question.limits)
        if where:
            hits = searcher.with_where(hits, question.terms)
        if confidence:
            hits = searcher.with_confidence(hits, question.terms)
        return searcher.with_lines(hits, question.filter.reads) if lines and question.filter.reads else hits

    @property
    def left_out(self) -> LeftOut:
        """What the last question did not search: offline folders, unreadable, changed and unknown files.

        Example:
            >>> len(index.left_out.offline)
            0

        """
        from clipsearch.search.find import LeftOut

        return LeftOut() if self._searcher is None else self._searcher.left_out

    def photos(self, filter: Filter | None = None) -> Iterator[Photo]:
        """The photos that pass a filter and still exist, by path. Raises `IndexEmpty` and `NotIndexed`.

        Example:
            >>> len(list(index.photos()))
            25

        """
        searcher = self._search(filter)
        yield from searcher.present(searcher.store.by_path(searcher.selection))
        self.end_snapshot()

    # -------------------------------------------------------------------------------- labels, copies, places

    @_in_one_snapshot
    def label(
        self,
        labels: str | Sequence[str],
        *,
        images: Picture | Sequence[Picture] = (),
        filter: Filter | None = None,
        templates: str | Sequence[str] = (),
        most: int = 1,
    ) -> list[Labelled]:
        """The `most` likely labels of each photo of the index, or of `images`, which need not be indexed.

        Probabilities add up to 1 over the labels; a single label is compared with a background of common subjects.
        `templates` are prompts with `{}` for the label, or the name of a set: "imagenet" or "simple".

        Example:
            >>> for photo in index.label(["a circle", "a star"], images=paths[:2]):
            ...     name, probability = photo.labels[0]

        """
        pictures = _pictures("images", images)
        if not pictures:
            return list(self.label_each(labels, filter=filter, templates=templates, most=most))
        embedder = self._model()
        classifier = self._classifier(embedder, labels, templates)
        return list(classifier.classify(list(map(_origin, pictures)), embedder.images(pictures), most))

    def label_each(
        self,
        labels: str | Sequence[str],
        *,
        images: Sequence[Picture] = (),
        filter: Filter | None = None,
        templates: str | Sequence[str] = (),
        most: int | None = 1,
        on_error: Callable[[str, BadRequest], None] | None = None,
    ) -> Iterator[Labelled]:
        """As `label`, one photo at a time; with `most` None, all labels of each.

        `on_error` gets the name of an image that cannot be read, and why; without it, the error is raised.

        Example:
            >>> next(index.label_each(["a circle", "a star"])).labels[0][0] in ("a circle", "a star")
            True

        """
        if images:
            yield from self._label_images(images, labels, templates, most, on_error)
            return
        searcher = self._search(filter)
        classifier = self._classifier(searcher.embedder, labels, templates)
        count = len(classifier.labels) if most is None else most
        yield from classifier.classify_indexed(searcher.store, searcher.selection, count, searcher.present)
        self.end_snapshot()

    @_in_one_snapshot
    def label_photo(self, labels: str | Sequence[str], id: str) -> dict[str, float]:
        """The probability of each label for an indexed photo, by its id. Raises `NotIndexed`.

        Example:
            >>> index.label_photo(["a circle"], "0" * 32)
            Traceback (most recent call last):
            clipsearch.errors.NotIndexed: this photo is not in the index any more

        """
        from clipsearch.errors import NotIndexed

        embedder = self._model()
        classifier = self._classifier(embedder, labels)
        row = embedder.indexed(bytes.fromhex(id))
        if row is None:
            raise NotIndexed("this photo is not in the index any more")
        return dict(zip(classifier.labels, classifier.probabilities(row[None])[0].tolist(), strict=True))

    @_in_one_snapshot
    def count_labels(
        self, labels: str | Sequence[str], *, filter: Filter | None = None, hits: Sequence[Hit] | None = None
    ) -> dict[str, int]:
        """For how many photos each label is the likeliest: of those that pass a filter, or of hits.

        Example:
            >>> sum(index.count_labels(["a circle", "a star"]).values())
            25

        """
        embedder = self._model()
        classifier, store = self._classifier(embedder, labels), embedder.store
        if hits is not None:
            images = [hit.photo.image_id for hit in hits]
        else:
            images = store.images_in(store.select(_filter(filter))).tolist()
        return classifier.count(store, images)

    def _label_images(
        self,
        images: Sequence[Picture],
        labels: str | Sequence[str],
        templates: str | Sequence[str],
        most: int | None,
        on_error: Callable[[str, BadRequest], None] | None,
    ) -> Iterator[Labelled]:
        from clipsearch.images.sandbox import Decoders
        from clipsearch.search.embed import image_name

        embedder = self._model()
        classifier = self._classifier(embedder, labels, templates)
        count = len(classifier.labels) if most is None else most
        with Decoders(1, embedder.model.preprocess) as decoders:
            for image in images:
                try:
                    row = embedder.image(image, decoders=decoders)
                except BadRequest as error:
                    if on_error is None:
                        raise
                    on_error(image_name(image), error)
                else:
                    yield from classifier.classify([_origin(image)], row[None], count)

    @staticmethod
    def _classifier(embedder: Embedder, labels: str | Sequence[str], templates: str | Sequence[str] = ()) -> Classifier:
        from clipsearch.search.label import Classifier, templates_of

        prompts = templates_of(_several("templates", templates, (str,)))
        return Classifier(embedder, _several("labels", labels, (str,)), prompts)

    @_in_one_snapshot
    def duplicates(self, *, identical: bool = False, filter: Filter | None = None) -> list[Group]:
        """Groups of files that show the same picture, decided on pixels; with `identical`, that have the same bytes.

        The file to keep comes first: the most pixels, then the least compressed, not in a trash or backup folder. A
        file is in one group at most; other paths of it are in `Copy.same_file`.

        Example:
            >>> for best, *others in index.duplicates(identical=True):
            ...     print(best.photo.path, len(others))

        """
        from clipsearch.search.copies import find_copies

        searcher = self._search(filter)
        return find_copies(searcher.store, searcher.selection, searcher.present, identical=identical)

    @_in_one_snapshot
    def similar(self, similarity: float | None = None, *, filter: Filter | None = None) -> list[Group]:
        """Groups of photos whose embeddings have at least this cosine (default 0.98): edits, crops, bursts.

        They may show different things: never delete by them.

        Example:
            >>> for first, *others in index.similar(0.95):
            ...     print(first.photo.path, len(others))

        """
        from clipsearch.search.similar import NEAR, find_similar

        least = NEAR if similarity is None else similarity
        if not isinstance(least, int | float) or not 0 <= least <= 1:
            raise BadArgument("similarity", f"must be a cosine, 0 to 1, not {similarity!r}")
        searcher = self._search(filter)
        return find_similar(searcher.store, searcher.selection, least, searcher.present)

    @_in_one_snapshot
    def locate(self, about: str | Question, image: Picture, *, name: str = "") -> tuple[Where, Metadata]:
        """The part of an image that matches a text, and the image's metadata. It always finds a best box.

        `name` is what messages call the image. Raises `BadRequest` for an image that cannot be read, or a model that
        cannot locate things.

        Example:
            >>> there, of = index.locate("a red circle", paths[0])
            >>> len(there.pixels(of.width, of.height))
            4

        """
        from clipsearch.errors import ImageUnusable
        from clipsearch.search.embed import image_bytes, image_name
        from clipsearch.search.question import text_terms

        terms = text_terms(about) if isinstance(about, str) else about.terms
        row = self._search(None).embed(terms)
        data = image_bytes(image)
        try:
            return self._locator().where(row, data)
        except ImageUnusable as error:
            raise BadRequest(f"{name or image_name(image)} cannot be used as an image: {error}") from None

    # -------------------------------------------------------------------------------- embeddings

    @_in_one_snapshot
    def embed_texts(self, texts: str | Sequence[str]) -> Array:
        """Unit rows (n, dim) float32 of n texts.

        Example:
            >>> rows = index.embed_texts(["a dog", "a cat"])
            >>> len(rows)
            2

        """
        return self._model().texts(_several("texts", texts, (str,)))

    @_in_one_snapshot
    def embed_images(self, images: Picture | Sequence[Picture], *, untrusted: bool = False, name: str = "") -> Array:
        """Unit rows (n, dim) float32 of n images: paths, URLs, files as bytes, or Pillow images.

        More than a few are decoded in parallel and embedded in batches. A single image is decoded in this process
        unless it is `untrusted`. `name` is what messages call an image in memory.

        Example:
            >>> cosines = index.embed_images(paths[:3]) @ index.embed_texts("a red circle")[0]

        """
        return self._model().images(_pictures("images", images), untrusted=untrusted, name=name)

    @_in_one_snapshot
    def model_fingerprint(self) -> str:
        """A hash that identifies the model and its preprocessing.

        Example:
            >>> index.model_fingerprint() == index.status().fingerprint
            True

        """
        return self._model().model.fingerprint

    @property
    def concepts(self) -> Concepts:
        """The named examples that queries use as @NAME; `add_concept` adds to them.

        Example:
            >>> index.concepts.names()
            []

        """
        from clipsearch.search.concepts import Concepts

        self._store()  # raises where there is no index
        return Concepts(self.folder)

    @_in_one_snapshot
    def add_concept(self, name: str, images: Picture | Sequence[Picture]) -> int:
        """Create a concept from example photos, or add examples; returns how many it has. They need not be indexed.

        Example:
            >>> index.add_concept("circle", paths[0])
            1

        """
        from clipsearch.search.concepts import checked_name
        from clipsearch.search.embed import image_bytes

        name = checked_name(name)
        examples = [(_origin(image), image_bytes(image)) for image in _pictures("images", images)]
        return self.concepts.add(name, examples, self._model())

    # -------------------------------------------------------------------------------- what is indexed

    @_in_one_snapshot
    def status(self) -> Status:
        """Folders, counts, skipped files with their reasons, size on disk, model.

        Example:
            >>> index.status().photos
            25

        """
        from clipsearch.indexing.status import status_of

        return status_of(self._store())

    @_in_one_snapshot
    def why(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Why]:
        """Why files or folders are or are not indexed.

        Example:
            >>> index.why("/nowhere")[0].state
            <State.MISSING: 'not there'>

        """
        from clipsearch.indexing.why import why_of
        from clipsearch.store.catalogue import Store

        with Store.open(self.folder) as store:
            return [why_of(store, path) for path in _several("paths", paths, (str, os.PathLike))]

    @_in_one_snapshot
    def evaluate(self, pairs: Iterable[tuple[str | os.PathLike[str] | bytes, str]]) -> Evaluation:
        """Recall of the model on your own photos: (path, caption) pairs, both text to image and image to text.

        Example:
            >>> index.evaluate([(index.query()[0].path, "a red circle")]).photos
            1

        """
        from clipsearch.search.evaluate import evaluate
        from clipsearch.store.catalogue import Store

        with Store.open(self.folder) as store:
            return evaluate(store, ((os.fsencode(path), caption) for path, caption in pairs))

    @_in_one_snapshot
    def photos_with(self, id: str) -> list[Photo]:
        """All photos with the same contents, by their id: the content hash in hex.

        Example:
            >>> index.photos_with("0" * 32)
            []

        """
        store = self._store()
        image = store.find_image(bytes.fromhex(id))
        return [] if image is None else store.photos_of([image])

    @_in_one_snapshot
    def photo_at(self, path: str | os.PathLike[str]) -> Photo:
        """The indexed photo at a path, spelled as a search printed it. Raises `NotIndexed`.

        Example:
            >>> index.photo_at(index.query()[0].path).time is None
            True

        """
        from clipsearch.errors import NotIndexed

        store, wanted = self._store(), os.fsencode(path)
        place = store.locate(wanted, store.roots())
        image = store.image_of(*place) if place else None
        for photo in store.photos_of([image] if image is not None else []):
            if photo.path == wanted:
                return photo
        raise NotIndexed(f"{os.fsdecode(path)} is not in the index")

    @_in_one_snapshot
    def lines(self, id: str, texts: Iterable[str]) -> list[Line]:
        """The OCR lines of a photo, by its id, that contain a word of one of the texts.

        Example:
            >>> index.lines("0" * 32, ["total"])
            []

        """
        from clipsearch.store.ocr_text import matching

        store = self._store()
        image = store.find_image(bytes.fromhex(id))
        return [] if image is None else matching(store.lines_of([image]).get(image, ()), texts)

    @_in_one_snapshot
    def folders(self) -> list[RootStatus]:
        """The indexed folders with their counts: the part of `status` that is cheap.

        Example:
            >>> [folder.photos for folder in index.folders()]
            [25]

        """
        from clipsearch.indexing.status import folders_of

        return folders_of(self._store())

    @_in_one_snapshot
    def months(self, filter: Filter | None = None) -> dict[str, int]:
        """How many photos that pass a filter are from each month, such as "2023-06", in order.

        Example:
            >>> sum(index.months().values())
            25

        """
        store = self._store()
        return store.months(store.select(_filter(filter)))

    @_in_one_snapshot
    def cameras(self) -> list[str]:
        """The names of all cameras, the one with the most photos first.

        Example:
            >>> index.cameras()
            []

        """
        return self._store().cameras()

    def is_being_written(self) -> bool:
        """Whether a process holds the writer's lock.

        Example:
            >>> index.is_being_written()
            False

        """
        from clipsearch.store.lock import writer

        return not isinstance(self.place, Collection) and writer(self.place) is not None


def _filter(filter: Filter | None) -> Filter:
    from clipsearch.store.filters import EVERYTHING

    return EVERYTHING if filter is None else filter


def available_models(*, every: bool = False) -> list[dict[str, Any]]:
    """The bundled, the recommended and the cached models, or `every` model that can be downloaded.

    Each has its `name`, `state` (bundled, cached or download), whether it is the `default`, and the fields of
    `Recommended`, which are None for the others.
    """
    from clipsearch.models.hub import available
    from clipsearch.models.model import DEFAULT, MINI, RECOMMENDED, Recommended

    recommended = {model.name: model for model in RECOMMENDED}
    found = available()
    names = [*recommended, *(name for name, path in found.items() if (every or path) and name not in recommended)]
    states = {MINI: "bundled"} | {name: "cached" if found[name] else "download" for name in names}
    return [
        {"name": name, "state": state, "default": name == DEFAULT}
        | (recommended[name]._asdict() if name in recommended else dict.fromkeys(Recommended._fields))
        | {"name": name}
        for name, state in states.items()
    ]


def _open_store(place: Path | Collection) -> Searchable:
    if isinstance(place, Collection):
        opened: Searchable = cluster("open_collection")(place)
        return opened
    from clipsearch.store.catalogue import Store

    return Store.open(place)


def _file_identity(folder: Path) -> tuple[int, int]:
    """Device and inode of the catalogue: one that was deleted and created again has the same name."""
    try:
        status = os.stat(folder / CATALOGUE)
    except OSError:
        raise NoIndex(f"there is no index at {folder} yet") from None
    return status.st_dev, status.st_ino


def _origin(image: Picture) -> bytes:
    """Where an image came from: an absolute path, a URL, - for stdin, or nothing for an image in memory."""
    if not isinstance(image, str | os.PathLike):
        return b"-" if hasattr(image, "read") else b""
    return os.fsencode(os.path.abspath(image) if os.path.exists(image) else image)


def _several(argument: str, value: Any, kinds: tuple[type, ...]) -> list[Any]:
    """One value or several as a list. Raises `BadArgument` for a value of another type."""
    values = [value] if isinstance(value, (*kinds, bytes)) or not hasattr(value, "__iter__") else list(value)
    for one in values:
        if not isinstance(one, kinds):
            wanted = "text" if kinds == (str,) else "a path"
            raise BadArgument(argument, f"must be {wanted} or several of them, not {type(one).__name__}")
    return values


def _pictures(argument: str, value: Any) -> list[Any]:
    """One image or several as a list. Raises `BadArgument`."""
    one = isinstance(value, str | bytes | os.PathLike) or hasattr(value, "convert") or hasattr(value, "read")
    values = [value] if one or not hasattr(value, "__iter__") else list(value)
    for picture in values:
        if not isinstance(picture, str | bytes | os.PathLike) and not (
            hasattr(picture, "convert") or hasattr(picture, "read")
        ):
            raise BadArgument(argument, f"must be paths, bytes or Pillow images, not {type(picture).__name__}")
    return values
