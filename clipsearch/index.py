"""`Index`: the one object that Python, the command line, the page and MCP use."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from clipsearch.errors import BadArgument, BadRequest, ImageUnusable, NoIndex, NotIndexed, counted
from clipsearch.extras import cluster
from clipsearch.paths import CATALOGUE, Collection, index_place, join, not_a_collection

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.arrays import Array
    from clipsearch.images.metadata import Metadata
    from clipsearch.indexing.people_changes import Changes, FaceGroup, NamedFace
    from clipsearch.indexing.relocate import Relocated
    from clipsearch.indexing.status import RootStatus, Status
    from clipsearch.indexing.update import OnNote, OnProgress, Options, Report
    from clipsearch.indexing.watch import Watch
    from clipsearch.indexing.why import Why
    from clipsearch.models.describe import Vlm
    from clipsearch.models.detection import Detection
    from clipsearch.search.concepts import Concepts
    from clipsearch.search.copies import Group
    from clipsearch.search.embed import Embedder
    from clipsearch.search.evaluate import Evaluation
    from clipsearch.search.find import LeftOut, Searcher
    from clipsearch.search.hit import Hit, Where
    from clipsearch.search.label import Classifier, Labelled
    from clipsearch.search.listing import PhotoList
    from clipsearch.search.map_clusters import Cluster
    from clipsearch.search.question import Question
    from clipsearch.search.saved import SavedSearches
    from clipsearch.search.suggest import Suggester, Suggestion
    from clipsearch.search.vqa import Answered, Captioned
    from clipsearch.search.where import Finder
    from clipsearch.store.catalogue import Store
    from clipsearch.store.conditions import GeoBox
    from clipsearch.store.facets import Facets
    from clipsearch.store.filters import Filter
    from clipsearch.store.photo import Line, Months, Photo, Positions
    from clipsearch.store.places import Town
    from clipsearch.store.searchable import Searchable
    from clipsearch.store.verify import Verified

    Picture = str | os.PathLike[str] | bytes | Image  # a path or URL, a file's bytes, or an image in memory
    OnError = Callable[[str, BadRequest], None] | None  # gets the name of an image that cannot be read, and the error

__all__ = ["Index", "open_index"]


def open_index(place: str | os.PathLike[str] | None = None) -> Index:
    """Open an index: a folder, or a Milvus collection such as "photos.db" or "milvus://HOST:PORT/NAME".

    The default is `$CLIPSEARCH_INDEX`, or else the index in the user's data folder. A folder need not exist before the
    first `update`.

    Example:
        >>> index = open_index("~/photos.index")

    """
    return Index(index_place(place))


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _in_one_snapshot(method: Callable[Concatenate[Index, _P], _T]) -> Callable[Concatenate[Index, _P], _T]:
    """End the read snapshot after a method. While one is open, SQLite cannot truncate its write-ahead log."""

    @functools.wraps(method)
    def call(self: Index, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        finally:
            self.end_snapshot()

    return call  # type: ignore[return-value]  # mypy distinguishes methods by the name of `self`


class Index:
    """An index of photos. The store and the model are opened on first use and stay open until `close`.

    Every call sees the latest commit of other processes. Use an index only in the thread that created it: its SQLite
    connection requires that. Methods raise a `ClipsearchError` with a one-sentence message.
    """

    def __init__(self, place: Path | Collection, *, cache_texts: bool = True) -> None:
        """`cache_texts`: save the embeddings of new query texts on disk; turn it off for texts being typed."""
        self.place, self._cache_texts = place, cache_texts
        self._opened: tuple[object, Searchable] | None = None  # with the identity of its file
        self._embedder: Embedder | None = None
        self._finder: tuple[Embedder, Finder] | None = None
        self._searcher: Searcher | None = None
        self._suggests: tuple[object, Suggester] | None = None  # with the version of the index
        self._vlms: dict[tuple[str, Vlm], Any] = {}  # loaded models, by what they do

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.place)!r})"

    @property
    def folder(self) -> Path:
        """The index folder. Raises `BadArgument` for a collection."""
        return not_a_collection(self.place)

    # -------------------------------------------------------------------------------- lifetime

    def close(self) -> None:
        """Close the files and unload the model. The next call reopens them."""
        self._close_store()
        self._close_finder()
        self._embedder = None
        self._vlms.clear()

    def end_snapshot(self) -> None:
        """End the read snapshot of an iterator that was not exhausted. Everything else ends its own."""
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
            self._embedder = Embedder(store, cache_texts=self._cache_texts)
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

    # -------------------------------------------------------------------------------- maintenance

    def update(
        self,
        directories: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        options: Options | None = None,
        *,
        on_progress: OnProgress | None = None,
        on_note: OnNote = warnings.warn,
    ) -> Report:
        """Index directories, or update all indexed ones. Creates the index if there is none.

        Files that cannot be read are listed in `Report.skipped`. `on_note` gets messages for the user, such as that the
        bundled model is used because the download failed.

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
        """Keep the index up to date: `Watch.reports()` yields a report after each update and never ends.

        An update starts `settle` seconds after the last change. With `poll`, folders are scanned every `poll` seconds
        instead of waiting for the system to report changes.

        Example:
            >>> watch = index.watch(["~/Pictures"], Options(model="mini"))
            >>> next(watch.reports()).unchanged
            25

        """
        from clipsearch.indexing.update import Options
        from clipsearch.indexing.watch import Watch

        return Watch(self.folder, directories, options or Options(), settle=settle, poll=poll)

    def forget(self, directories: Sequence[str | os.PathLike[str]]) -> int:
        """Remove indexed folders, or offline drives inside them, from the index. Returns how many files it dropped."""
        from clipsearch.indexing.relocate import forget

        return forget(self.folder, directories)

    def forget_gone(self, files: Iterable[bytes]) -> None:
        """Remove files, by their absolute paths, that were moved away or deleted. Those that still exist stay."""
        from clipsearch.indexing.relocate import forget_gone

        forget_gone(self.folder, files)

    def relocate(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Relocated:
        """Change the path of an indexed folder that was moved. Nothing is embedded again."""
        from clipsearch.indexing.relocate import relocate

        return relocate(self.folder, old, new)

    def verify(self) -> tuple[Verified, list[str]]:
        """Check the index and repair what can be rebuilt. Also returns which of its files were restored from a backup.

        These are "concepts", "people" and "saved searches".
        """
        from clipsearch.search import concepts, saved
        from clipsearch.store import people
        from clipsearch.store.catalogue import Store
        from clipsearch.store.verify import verify

        with Store.open(self.folder, write=True) as store:
            verified = verify(store)
            files = {"concepts": concepts.restore, "people": people.restore, "saved searches": saved.restore}
            return verified, [name for name, restore in files.items() if restore(self.folder)]

    def publish(
        self, collection: Collection, *, replace: bool = False, on_progress: Callable[[int, int], None] | None = None
    ) -> Any:
        """Copy the index to a Milvus collection, or update the collection.

        `replace` allows overwriting a collection published from another index. `on_progress` gets the number of photos
        done and the total. Returns a named tuple with the numbers `written`, `deleted` and `photos`.
        """
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
        sort: str = "score",
        with_self: bool = False,
        only: str | None = None,
        confidence: bool = False,
        where: bool = False,
        lines: bool = False,
    ) -> list[Hit]:
        """The `k` best matches for the sum of all texts and images, best first; without any, the newest photos first.

        A photo matches a text by its look, by the text in it (after OCR), or by its tags, description and names;
        `Hit.why` says which. `only` restricts that to "look", "text", "tags" or "captions".

        A text can have a weight ("2:golden retriever"), name a concept or person ("@grandma on a beach") and steer away
        from something ("a beach -people"). Images are paths, URLs, files as bytes, or Pillow images. `min_score` is a
        cosine, -1 to 1; `min_confidence` a probability, 0 to 1. `unique` returns the best file of each photo and, with
        `similarity` (a cosine), groups photos that only look alike. `frames` returns several frames per video. `exact`
        scores every embedding of a large index; otherwise 4-bit codes preselect candidates. `sort` orders the `k` best
        matches by `date`, `name`, `path` or `size`, or reversed, such as `-date`; without texts and images, it chooses
        the first `k` photos in that order. An image that is the path of an indexed photo is not found itself, nor are
        its identical copies, unless `with_self` is set. `confidence`, `where` and `lines` add to each hit its
        confidence, the part that matches, and the OCR lines that match `filter.reads`.

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
        limits = Limits(k, min_score, min_confidence, unique, similarity, exact, frames, sort, with_self, only)
        question = Question(tuple(terms), _filter(filter), limits)
        return self.ask(question, confidence=confidence, where=where, lines=lines)

    @_in_one_snapshot
    def ask(
        self, question: Question, *, confidence: bool = False, where: bool = False, lines: bool = False
    ) -> list[Hit]:
        """The hits for a question. Other arguments as in `query`; afterwards `left_out` has what was not searched."""
        question = self._with_people(question)
        searcher = self._search(question.filter)
        return self._hits(searcher, question, confidence=confidence, where=where, lines=lines)

    def ask_each(self, texts: Iterable[str], question: Question, *, ahead: int = 1) -> Iterator[list[Hit] | BadRequest]:
        """For each text, the hits under the question's filter and limits, or the error. All in one snapshot.

        `ahead` texts are read and embedded as one batch. Use 1 for an interactive pipe, whose writer may wait for an
        answer before it sends the next text. Raises `BadArgument` for limits that make no sense with any text.
        """
        from clipsearch.search.question import Term, text_terms

        question.limits.check([Term("any text")])
        searcher, remaining = self._search(question.filter), iter(texts)
        while batch := list(islice(remaining, ahead)):
            if ahead > 1:
                new = []
                for text in batch:
                    with suppress(BadRequest):  # raised again below
                        new += [term.content for term in text_terms(text) if term.asks_for_text]
                searcher.embedder.texts(new)
            for text in batch:
                try:
                    one = self._with_people(question._replace(terms=tuple(text_terms(text))))
                    of_one = searcher if one.filter == question.filter else self._search(one.filter)
                    yield self._hits(of_one, one, confidence=True)
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

    def _with_people(self, question: Question) -> Question:
        """The question with a filter for each person among its concepts."""
        from clipsearch.search.question import CONCEPT, with_people

        if isinstance(self.place, Collection) or not any(term.kind == CONCEPT for term in question.terms):
            return question
        from clipsearch.store.people import People

        return with_people(question, self.concepts.names(), People(self.folder).names())

    @property
    def left_out(self) -> LeftOut:
        """What the last call did not search: offline folders; unreadable, changed and unknown files."""
        from clipsearch.search.find import LeftOut

        return LeftOut() if self._searcher is None else self._searcher.left_out

    def advice(self, texts: str | Sequence[str]) -> list[str]:
        """Why the model cannot read texts well: too long, or not in its language. A sentence each, with what to do.

        Example:
            >>> index.advice("a dog on a beach")
            []

        """
        from clipsearch.search.advice import advice

        words = _several("texts", texts, (str,))
        if self._embedder is None:
            self._model()
            self.end_snapshot()
        assert self._embedder is not None  # the model in use, without a look at the store: `ask_each` may be reading it
        return advice(self._embedder.model, words)

    def photos(self, filter: Filter | None = None) -> Iterator[Photo]:
        """The photos that pass a filter and still exist, ordered by path. Raises `IndexEmpty` and `NotIndexed`."""
        searcher = self._search(filter)
        yield from searcher.files.existing(searcher.store.by_path(searcher.selection))
        self.end_snapshot()

    @_in_one_snapshot
    def photo_list(self, filter: Filter | None = None, *, sort: str = "score", fold: bool = False) -> PhotoList:
        """The photos that pass a filter, in the order that `query` has them, to read in parts with `list_part`.

        With `fold`, identical files are one entry. Raises `IndexEmpty` and `NotIndexed`.
        """
        from clipsearch.search.listing import PhotoList
        from clipsearch.store.order import NEWEST, parse_order

        return PhotoList(self._store(), _filter(filter), parse_order(sort) or NEWEST, fold=fold)

    @_in_one_snapshot
    def list_part(self, photos: PhotoList, first: int, count: int, *, recheck: bool = False) -> list[Hit]:
        """`count` entries of a list from number `first` on; with `recheck`, files that were deleted may be back."""
        store = self._store()
        if recheck:
            photos.recheck(store)
        return photos.part(store, first, count)

    @_in_one_snapshot
    def list_position(self, photos: PhotoList, name: str) -> int | None:
        """The number of the entry of a photo, by its `Photo.url_name`; see `PhotoList.position`."""
        return photos.position(self._store(), name)

    # -------------------------------------------------------------------------------- labels, copies, locating

    @_in_one_snapshot
    def label(
        self,
        labels: str | Sequence[str],
        *,
        images: Picture | Sequence[Picture] = (),
        filter: Filter | None = None,
        templates: str | Sequence[str] = (),
        other: str | None = None,
        top: int = 1,
    ) -> list[Labelled]:
        """The `top` most likely labels of each photo in the index, or of `images`, which need not be indexed.

        The probabilities of a photo add up to 1; a single label gets the confidence of a query.
        `templates` are prompts with `{}` for the label, or the name of a set: "imagenet" or "simple". `other` is the
        label of photos that no label fits.

        Example:
            >>> for photo in index.label(["a circle", "a star"], images=paths[:2]):
            ...     name, probability = photo.labels[0]

        """
        pictures = _pictures("images", images)
        if not pictures:
            return list(self.label_each(labels, filter=filter, templates=templates, other=other, top=top))
        embedder = self._model()
        classifier = self._classifier(embedder, labels, templates, other)
        return list(classifier.classify(list(map(_origin, pictures)), embedder.images(pictures), top))

    def label_each(
        self,
        labels: str | Sequence[str],
        *,
        images: Sequence[Picture] = (),
        filter: Filter | None = None,
        templates: str | Sequence[str] = (),
        other: str | None = None,
        top: int | None = 1,
        on_error: OnError = None,
    ) -> Iterator[Labelled]:
        """As `label`, but yields one photo at a time. `top` None: all labels.

        `on_error` gets the name of an image that cannot be read, and the error. Without it, the error is raised.
        """
        if images:
            from clipsearch.images.sandbox import Decoders

            embedder = self._model()
            classifier = self._classifier(embedder, labels, templates, other)
            count = len(classifier.names) if top is None else top
            with Decoders(1, embedder.model.preprocess) as decoders:
                for path, row in _each(images, lambda image: embedder.image(image, decoders=decoders), on_error):
                    yield from classifier.classify([path], row[None], count)
            return
        searcher = self._search(filter)
        classifier = self._classifier(searcher.embedder, labels, templates, other)
        count = len(classifier.names) if top is None else top
        yield from classifier.classify_indexed(searcher.store, searcher.selection, count, searcher.files)
        self.end_snapshot()

    @_in_one_snapshot
    def label_photo(self, labels: str | Sequence[str], id: str) -> dict[str, float]:
        """The probability of each label for an indexed photo, by its id. Raises `NotIndexed`."""
        embedder = self._model()
        classifier = self._classifier(embedder, labels)
        row = embedder.indexed(bytes.fromhex(id))
        if row is None:
            raise NotIndexed("this photo is no longer in the index")
        return dict(zip(classifier.labels, classifier.probabilities(row[None])[0].tolist(), strict=True))

    @_in_one_snapshot
    def count_labels(
        self, labels: str | Sequence[str], *, filter: Filter | None = None, hits: Sequence[Hit] | None = None
    ) -> dict[str, int]:
        """The number of photos per most likely label, among `hits` or the photos that pass a filter."""
        embedder = self._model()
        classifier, store = self._classifier(embedder, labels), embedder.store
        if hits is not None:
            images = [hit.photo.image_id for hit in hits]
        else:
            images = store.images_in(store.select(_filter(filter)), frames=False).tolist()
        return classifier.count(store, images)

    @staticmethod
    def _classifier(
        embedder: Embedder, labels: str | Sequence[str], templates: str | Sequence[str] = (), other: str | None = None
    ) -> Classifier:
        from clipsearch.search.label import Classifier, templates_of

        prompts = templates_of(_several("templates", templates, (str,)))
        return Classifier(embedder, _several("labels", labels, (str,)), prompts, other)

    @_in_one_snapshot
    def duplicates(self, *, identical: bool = False, filter: Filter | None = None) -> list[Group]:
        """Groups of files that show the same picture, decided on pixels, or with `identical`, have the same bytes.

        The file to keep comes first: not in a trash folder, then with the most pixels, then the largest. Each file is
        listed once; hard and symbolic links to it are in `Copy.same_file`.

        Example:
            >>> for best, *others in index.duplicates(identical=True):
            ...     print(best.photo.path, len(others))

        """
        from clipsearch.search.copies import find_copies

        searcher = self._search(filter)
        return find_copies(searcher.store, searcher.selection, searcher.files, identical=identical)

    @_in_one_snapshot
    def similar(self, similarity: float | None = None, *, filter: Filter | None = None) -> list[Group]:
        """Groups of photos whose embeddings have a cosine of `similarity` (default 0.98) or more: edits, crops, bursts.

        They may show different things, so never delete files because of them.

        Example:
            >>> for first, *others in index.similar(0.95):
            ...     print(first.photo.path, len(others))

        """
        from clipsearch.search.question import DEFAULT_SIMILARITY
        from clipsearch.search.similar import find_similar

        least = DEFAULT_SIMILARITY if similarity is None else similarity
        if not isinstance(least, int | float) or not 0 <= least <= 1:
            raise BadArgument("similarity", f"must be a cosine, 0 to 1, not {similarity!r}")
        searcher = self._search(filter)
        return find_similar(searcher.store, searcher.selection, least, searcher.files)

    @_in_one_snapshot
    def locate(self, about: str | Question, image: Picture, *, name: str = "") -> tuple[Where, Metadata]:
        """The part of an image that matches a text, and the image's metadata. There is always a best box.

        Error messages call the image `name`. Raises `BadRequest` for an image that cannot be read, and for models that
        cannot locate things.

        Example:
            >>> where, metadata = index.locate("a red circle", paths[0])
            >>> left, top, right, bottom = where.pixels(metadata.width, metadata.height)

        """
        from clipsearch.search.embed import image_bytes, image_name
        from clipsearch.search.question import text_terms

        terms = text_terms(about) if isinstance(about, str) else about.terms
        row = self._search(None).embed(terms)
        data = image_bytes(image)
        try:
            return self._locator().where(row, data)
        except ImageUnusable as error:
            raise BadRequest(f"{name or image_name(image)} cannot be used as an image: {error}") from None

    # -------------------------------------------------------------------------------- vision-language models

    def answers(
        self,
        question: str,
        images: Picture | Sequence[Picture],
        vlm: Vlm | None = None,
        *,
        on_error: OnError = None,
    ) -> Iterator[Answered]:
        """The answers of a vision-language model to a question about images, which need not be indexed.

        Without a model, the endpoint that captions this index answers, or else the default model. `on_error` as in
        `label_each`. Raises `BadRequest`, `VlmUnusable` and `EndpointFailed`.
        """
        from clipsearch.search.vqa import Answered, checked_question, pixels_of

        asked, answerer = checked_question(question), self._answerer(vlm)
        for path, pixels in _each(_pictures("images", images), pixels_of, on_error):
            yield Answered(path, answerer.answer(pixels, asked))

    def captions(
        self,
        images: Picture | Sequence[Picture],
        vlm: Vlm | None = None,
        *,
        on_error: OnError = None,
    ) -> Iterator[Captioned]:
        """Captions of images by a vision-language model. Without one, those in the index, or else by its captioner.

        Other arguments and errors as in `answers`.
        """
        from clipsearch.search.vqa import Captioned, pixels_of

        for image in _pictures("images", images):
            if not _names_a_model(vlm) and isinstance(image, str | os.PathLike):
                with suppress(NoIndex, NotIndexed):
                    photo = self.photo_at(image)
                    if photo.generated_caption:
                        yield Captioned(photo.file, photo.generated_caption)
                        continue
            captioner = self._loaded("captioner", self._vlm(vlm))
            for path, pixels in _each([image], pixels_of, on_error):
                yield Captioned(path, captioner.captions([pixels])[0])

    def confirmed(
        self, hits: Sequence[Hit], question: str, k: int, vlm: Vlm | None = None
    ) -> tuple[list[Hit], list[bytes]]:
        """The first `k` hits for which the answer to a yes-or-no question is yes, and the files that cannot be read.

        Asks about 5 k hits at most. Raises as `answers`.
        """
        from clipsearch.search.vqa import checked_question, confirmed

        asked = checked_question(question)
        return confirmed(hits, asked, self._answerer(vlm), k) if hits else ([], [])

    def detect(
        self, text: str, image: Picture, detector: str | None = None, *, segmenter: str | None = None, name: str = ""
    ) -> tuple[list[Detection], Metadata]:
        """Everything in an image that a detector finds for a text, or the mask of a segmenter; and its metadata.

        "owlv2" is a detector, "clipseg" a segmenter; for others, give their names on the Hugging Face Hub. Error
        messages call the image `name`. Raises `BadRequest` and `VlmUnusable`.
        """
        from clipsearch.search.vqa import checked_question, detected

        return detected(image, checked_question(text), self._detector(detector, segmenter), name)

    def with_detections(
        self, hits: Sequence[Hit], question: Question, detector: str | None = None, *, segmenter: str | None = None
    ) -> list[Hit]:
        """The hits with what `detect` finds for the texts of the question; None if a file can no longer be read."""
        from clipsearch.search.vqa import checked_question, with_detections

        texts = [checked_question(str(term.content)) for term in question.terms if term.asks_for_text]
        if not texts:
            raise BadArgument("detector" if segmenter is None else "segmenter", "needs a text to look for")
        return with_detections(hits, texts, self._detector(detector, segmenter)) if hits else []

    def _answerer(self, vlm: Vlm | None) -> Any:
        return self._loaded("answerer", self._vlm(vlm, answers=True))

    def _detector(self, detector: str | None, segmenter: str | None) -> Any:
        from clipsearch.models.describe import Vlm

        if (detector is None) == (segmenter is None):
            raise BadRequest("choose either a detector or a segmenter")
        return self._loaded("detector" if segmenter is None else "segmenter", Vlm(detector or segmenter))

    def _loaded(self, kind: str, vlm: Vlm) -> Any:
        if (kind, vlm) not in self._vlms:
            self._vlms[kind, vlm] = getattr(vlm, kind)()
        return self._vlms[kind, vlm]

    def _vlm(self, vlm: Vlm | None, *, answers: bool = False) -> Vlm:
        """A model, or if none is named, the one that captions this index. Only an endpoint also `answers`."""
        from clipsearch.models.describe import Vlm
        from clipsearch.store.catalogue import Store

        chosen = vlm or Vlm()
        if not _names_a_model(vlm) and not isinstance(self.place, Collection):
            with suppress(NoIndex), Store.open(self.place) as store:
                setting = store.captions.setting()
                if setting is not None and not (answers and setting.endpoint is None):
                    return replace(chosen, model=setting.model, endpoint=setting.endpoint)
        return chosen

    # -------------------------------------------------------------------------------- embeddings

    @_in_one_snapshot
    def embed_texts(self, texts: str | Sequence[str]) -> Array:
        """Unit rows (n, dim), float32.

        Example:
            >>> rows = index.embed_texts(["a dog", "a cat"])
            >>> len(rows)
            2

        """
        return self._model().texts(_several("texts", texts, (str,)))

    @_in_one_snapshot
    def embed_images(self, images: Picture | Sequence[Picture], *, untrusted: bool = False, name: str = "") -> Array:
        """Unit rows (n, dim), float32, of images: paths, URLs, files as bytes, or Pillow images.

        More than a few are decoded in parallel and embedded in batches. A few are decoded in this process, unless they
        are `untrusted`. Error messages call an image without a path `name`.

        Example:
            >>> cosines = index.embed_images(paths[:3]) @ index.embed_texts("a red circle")[0]

        """
        return self._model().images(_pictures("images", images), untrusted=untrusted, name=name)

    @_in_one_snapshot
    def model_fingerprint(self) -> str:
        """A hash that identifies the model and its preprocessing."""
        return self._model().model.fingerprint

    @property
    def concepts(self) -> Concepts:
        """The concepts, which queries use as @NAME. `add_concept` adds one."""
        from clipsearch.search.concepts import Concepts

        self._store()  # raises where there is no index
        return Concepts(self.folder)

    @_in_one_snapshot
    def add_concept(self, name: str, images: Picture | Sequence[Picture]) -> int:
        """Create a concept from example images, or add examples. Returns how many it has. They need not be indexed."""
        from clipsearch.search.concepts import checked_name
        from clipsearch.search.embed import image_bytes

        name = checked_name(name)
        examples = [(_origin(image), image_bytes(image)) for image in _pictures("images", images)]
        return self.concepts.add(name, examples, self._model())

    @_in_one_snapshot
    def name_photos(self, name: str, photos: Sequence[Photo]) -> int:
        """As `add_concept`, of indexed photos: their files are not read again. Returns how many examples it has."""
        return self.concepts.add_indexed(name, photos, self._model())

    @property
    def saved_searches(self) -> SavedSearches:
        """Questions by the names that they were saved under."""
        from clipsearch.search.saved import SavedSearches

        self._store()  # raises where there is no index
        return SavedSearches(self.folder)

    # -------------------------------------------------------------------------------- people

    @_in_one_snapshot
    def people(self) -> list[FaceGroup]:
        """Groups of faces: people with a name first, then unnamed groups, the largest first. Hidden ones are included.

        First applies changes that had to wait for another process's write lock. Raises `BadRequest` before any search
        for faces.
        """
        from clipsearch.indexing.people_changes import Changes, groups

        Changes(self.folder).apply_pending()
        return groups(self._catalogue_with_faces())

    @_in_one_snapshot
    def faces(self, photo: Photo) -> list[NamedFace]:
        """The faces in a photo, from left to right, with their names."""
        from clipsearch.indexing.people_changes import faces_of

        return faces_of(self._catalogue_with_faces(), photo)

    @_in_one_snapshot
    def faces_of(self, person: str) -> list[tuple[NamedFace, Photo]]:
        """The faces of a person, by name or number, each with a photo of it; the least certain first."""
        from clipsearch.indexing.people_changes import faces_in

        store = self._catalogue_with_faces()
        faces = faces_in(store, person)
        photo_of = {photo.image_id: photo for photo in store.photos_of({face.image for face in faces})}
        return [(face, photo_of[face.image]) for face in faces if face.image in photo_of]

    @_in_one_snapshot
    def confirmed_faces(self) -> list[tuple[Photo, list[NamedFace]]]:
        """The photos with faces or face regions, by path, and the faces that somebody confirmed in clipsearch."""
        from clipsearch.indexing.people_changes import confirmed_faces

        return list(confirmed_faces(self._catalogue_with_faces()))

    @property
    def people_changes(self) -> Changes:
        """Name, merge, split, hide and forget people, confirm and reject faces, and undo. Raises `BadRequest`."""
        from clipsearch.indexing.people_changes import Changes

        self._catalogue_with_faces()
        self.end_snapshot()
        return Changes(self.folder)

    @property
    def keeps_people(self) -> bool:
        """Whether names, or changes of people, are recorded. They are kept even when the faces are deleted."""
        from clipsearch.store.people import People

        return bool(People(self.folder).version)

    def _catalogue_with_faces(self) -> Store:
        from clipsearch.store.catalogue import Store

        folder, store = self.folder, self._store()  # raises `BadArgument` for a collection
        assert isinstance(store, Store), folder
        if store.faces.model() is None:
            raise BadRequest("this index has no face data yet. Run: clipsearch index --faces")
        return store

    # -------------------------------------------------------------------------------- contents

    @_in_one_snapshot
    def status(self) -> Status:
        """Indexed folders, counts, skipped files with the reasons, size on disk, model.

        Example:
            >>> index.status().photos
            25

        """
        from clipsearch.indexing.status import status_of

        return status_of(self._store())

    @_in_one_snapshot
    def why(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Why]:
        """Explain why files or folders are or are not indexed."""
        from clipsearch.indexing.why import why_of
        from clipsearch.store.catalogue import Store

        with Store.open(self.folder) as store:
            return [why_of(store, path) for path in _several("paths", paths, (str, os.PathLike))]

    @_in_one_snapshot
    def evaluate(self, pairs: Iterable[tuple[str | os.PathLike[str] | bytes, str]]) -> Evaluation:
        """Recall on your own (path, caption) pairs, both text to image and image to text.

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
        """All photos with these contents. `id` is the content hash in hex."""
        store = self._store()
        image = store.find_image(bytes.fromhex(id))
        return [] if image is None else store.photos_of([image])

    @_in_one_snapshot
    def photos_named(self, names: Iterable[str]) -> list[Photo]:
        """The photos with these `Photo.url_name`s, each once. Raises `NotIndexed` if one is missing."""
        store, wanted = self._store(), dict.fromkeys(names)
        images = (store.find_image(bytes.fromhex(name.partition(".")[0])) for name in wanted)
        known = {photo.url_name: photo for photo in store.photos_of({one for one in images if one is not None})}
        missing = sum(name not in known for name in wanted)
        if missing:
            raise NotIndexed(f"{counted(missing, 'selected photo is', 'selected photos are')} no longer in the index")
        return [known[name] for name in wanted]

    @_in_one_snapshot
    def photo_at(self, path: str | os.PathLike[str]) -> Photo:
        """The indexed photo at a path. Raises `NotIndexed`."""
        return self._photo_at(self._store(), path)

    @staticmethod
    def _photo_at(store: Searchable, path: str | os.PathLike[str]) -> Photo:
        place = store.locate(os.path.abspath(os.path.expanduser(os.fsencode(path))), store.roots())
        image = store.image_of(*place) if place else None
        for photo in store.photos_of([image] if image is not None else []):
            if place and photo.file == join(place[0].path, place[1]):
                return photo
        raise NotIndexed(f"{os.fsdecode(path)} is not in the index")

    @_in_one_snapshot
    def frames(self, id: str) -> list[Photo]:
        """The indexed frames of a video, by time. `id`, as in `photos_with`, is that of one of them."""
        from clipsearch.store.filters import Filter

        store = self._store()
        image = store.find_image(bytes.fromhex(id))
        videos = [] if image is None else [photo for photo in store.photos_of([image]) if photo.is_video]
        if not videos:
            return []
        chosen = store.select(Filter(files=[video.file for video in videos]))
        frames = {frame.content: frame for frame in store.photos_of(store.images_in(chosen).tolist(), chosen)}
        return sorted(frames.values(), key=lambda frame: frame.time or 0.0)

    @_in_one_snapshot
    def lines(self, id: str, texts: Iterable[str] | None = None) -> list[Line]:
        """The OCR lines of a photo, or those that contain a word of one of the texts. `id` as in `photos_with`."""
        from clipsearch.store.ocr_text import matching

        store = self._store()
        image = store.find_image(bytes.fromhex(id))
        lines = [] if image is None else store.lines_of([image]).get(image, [])
        return lines if texts is None else matching(lines, texts)

    @_in_one_snapshot
    def text(self, path: str | os.PathLike[str]) -> tuple[Photo, list[Line]]:
        """The photo at a path, and all lines of text that OCR read in it.

        Raises `NotIndexed`, and `BadRequest` before any OCR.
        """
        store = self._store()
        store.require_ocr()
        photo = self._photo_at(store, path)
        return photo, store.lines_of([photo.image_id]).get(photo.image_id, [])

    @_in_one_snapshot
    def folders(self) -> list[RootStatus]:
        """The indexed folders with their counts: the fast part of `status`."""
        from clipsearch.indexing.status import folders_of

        return folders_of(self._store())

    @_in_one_snapshot
    def months(self, filter: Filter | None = None) -> Months:
        """Counts of the photos that pass a filter, per month ("2023-06"), in chronological order."""
        store = self._store()
        return store.months(store.select(_filter(filter)))

    def offline(self, filter: Filter | None = None) -> dict[bytes, str]:
        """The offline folders that a search with a filter leaves out, and why."""
        store = self._store()
        return {root.path: str(why) for root, why in store.select(_filter(filter)).offline.items()}

    def facets(self) -> Facets:
        """The values that photos have for each filter, and how many photos each passes. Cached until the index changes.

        Example:
            >>> index.facets().values["type"]
            {'png': 25}

        """
        return self._suggester().facets

    def suggestions(self, text: str) -> list[Suggestion]:
        """What a text that is being typed could mean besides itself: dates, people, folders, cameras, places, concepts.

        Example:
            >>> [(one.label, one.rest) for one in index.suggestions("a circle 2023")]
            [('2023', 'a circle')]

        """
        has_concepts = not isinstance(self.place, Collection)
        return self._suggester().suggestions(text, lambda: self.concepts.names() if has_concepts else [])

    @_in_one_snapshot
    def _suggester(self) -> Suggester:
        from clipsearch.search.suggest import Suggester
        from clipsearch.store.facets import facets_of

        version = self.version()
        if self._suggests is None or self._suggests[0] != version:
            self._suggests = version, Suggester(facets_of(self._store()))
        return self._suggests[1]

    @_in_one_snapshot
    def positions(self, filter: Filter | None = None) -> Positions:
        """Where the photos that pass a filter were taken, of those whose place is known."""
        store = self._store()
        return store.positions(store.select(_filter(filter)))

    @_in_one_snapshot
    def map_clusters(self, positions: Positions, box: GeoBox, columns: int) -> list[tuple[Cluster, Photo | None]]:
        """The clusters of photos in a box of a map, as `search.map_clusters`, each with the photo nearest its middle.

        The photo is None if it was removed from the index meanwhile.
        """
        from clipsearch.search.map_clusters import clusters

        found = clusters(positions, box, columns)
        photos = {photo.image_id: photo for photo in self._store().photos_of({cluster.image for cluster in found})}
        return [(cluster, photos.get(cluster.image)) for cluster in found]

    def towns(self, box: GeoBox, most: int) -> list[Town]:
        """The largest towns in a box, largest first; none without the extra `places`."""
        from clipsearch.store.places import towns_in

        return towns_in(box, most)

    def is_being_written(self) -> bool:
        """Whether a process holds the write lock."""
        return self.writing() is not None

    def writing(self) -> tuple[int, int] | None:
        """The progress of the process that holds the write lock: files done, and the total (0, 0 at first)."""
        from clipsearch.store.lock import writer

        found = None if isinstance(self.place, Collection) else writer(self.place)
        return found and (found.done, found.total)


def _names_a_model(vlm: Vlm | None) -> bool:
    return vlm is not None and (vlm.model is not None or vlm.endpoint is not None)


def _filter(filter: Filter | None) -> Filter:
    from clipsearch.store.filters import EVERYTHING

    return EVERYTHING if filter is None else filter


def available_models(*, every: bool = False) -> list[dict[str, Any]]:
    """The bundled, recommended and cached models; with `every`, also all that can be downloaded.

    Each has a `name`, a `state` (bundled, cached or download), whether it is the `default`, and the fields of
    `Recommended`, which are None for other models.
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
    """Device and inode of the catalogue; they show whether an index was deleted and created again."""
    try:
        status = os.stat(folder / CATALOGUE)
    except OSError:
        raise NoIndex(f"there is no index at {folder} yet") from None
    return status.st_dev, status.st_ino


def _origin(image: Picture) -> bytes:
    """The source of an image: an absolute path, a URL, "-" for stdin, or nothing for an image in memory."""
    if not isinstance(image, str | os.PathLike):
        return b"-" if hasattr(image, "read") else b""
    return os.fsencode(os.path.abspath(image) if os.path.exists(image) else image)


def _each(images: Iterable[Picture], read: Callable[[Picture], _T], on_error: OnError) -> Iterator[tuple[bytes, _T]]:
    """What `read` makes of each image, after its origin. Without `on_error`, raises for one that cannot be read."""
    from clipsearch.search.embed import image_name

    for image in images:
        try:
            found = read(image)
        except BadRequest as error:
            if on_error is None:
                raise
            on_error(image_name(image), error)
        else:
            yield _origin(image), found


def _several(argument: str, value: Any, kinds: tuple[type, ...]) -> list[Any]:
    """One or more values as a list. Raises `BadArgument` if one is not of one of these types."""
    values = [value] if isinstance(value, (*kinds, bytes)) or not hasattr(value, "__iter__") else list(value)
    for one in values:
        if not isinstance(one, kinds):
            wanted = "text or a list of texts" if kinds == (str,) else "a path or a list of paths"
            raise BadArgument(argument, f"must be {wanted}, not {type(one).__name__}")
    return values


def _pictures(argument: str, value: Any) -> list[Any]:
    """One or more images as a list. Raises `BadArgument`."""
    one = isinstance(value, str | bytes | os.PathLike) or hasattr(value, "convert") or hasattr(value, "read")
    values = [value] if one or not hasattr(value, "__iter__") else list(value)
    for picture in values:
        if not isinstance(picture, str | bytes | os.PathLike) and not (
            hasattr(picture, "convert") or hasattr(picture, "read")
        ):
            raise BadArgument(argument, f"must be paths, bytes or Pillow images, not {type(picture).__name__}")
    return values
