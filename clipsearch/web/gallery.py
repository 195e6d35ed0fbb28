"""What the page asks of an index, answered as JSON: results in parts, months, labels, and what there is to choose."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipsearch.errors import BadRequest, NoIndex
from clipsearch.output import records, text
from clipsearch.paths import Collection, index_place
from clipsearch.search.concepts import Concepts
from clipsearch.search.confidence import CUT
from clipsearch.search.hit import Hit, Where
from clipsearch.search.label import Classifier
from clipsearch.search.opened import Opened
from clipsearch.search.query import Limits
from clipsearch.search.term import Term
from clipsearch.store.lock import writer
from clipsearch.store.ocr_text import matching
from clipsearch.store.photo import Line, Photo
from clipsearch.web.question import Part, Question, command, index_command, label_command
from clipsearch.web.uploads import Uploads

FIRST_LOOK = 400  # hits that are ranked at first; four times as many each time that somebody has seen them all
MOST_AT_ONCE = 400
_KEPT = 12  # rankings
_BLOCK = 4096


class Ranking(NamedTuple):
    """The best hits of a question, and where they stop being about it; `whole` says that there are no others."""

    hits: list[Hit]
    line: int | None
    whole: bool

    @property
    def about(self) -> list[Hit]:
        """The hits that are about the question; all of them where that is not known, or where none is."""
        return self.hits[: self.line or None]


class Gallery:
    """Answers with an open index, in its thread. What was ranked lately is kept: its other parts are asked for next."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._rankings: OrderedDict[tuple[object, ...], Ranking] = OrderedDict()
        self._months: tuple[object, dict[str, int]] = (None, {})

    # -------------------------------------------------------------------------------- results

    def page(self, index: Opened, question: Question, first: int, count: int) -> dict[str, Any]:
        """So many hits from the `first` on, which counts from 0, and what is to be said of all."""
        if not (first >= 0 and 0 < count <= MOST_AT_ONCE):
            raise BadRequest(f"a part has 1 to {MOST_AT_ONCE} photos")
        ranking = self._ranked(index, question, first + count)
        hits = ranking.hits[first : first + count]
        return {
            "hits": [_as_object(hit) for hit in hits],
            "first": first,
            "ranked": len(ranking.hits),
            "whole": ranking.whole,
            "line": ranking.line,
            "months": dict(sorted(Counter(hit.photo.date[:7] for hit in ranking.about).items())),
            "command": self._command(index, question, max(10, first + count)),
        }

    def _ranked(self, index: Opened, question: Question, wanted: int) -> Ranking:
        key = (index.version(), question._replace(spelt=()))
        ranking = self._rankings.get(key)
        if ranking is None or (len(ranking.hits) < wanted and not ranking.whole):
            depth = FIRST_LOOK
            while depth < wanted:
                depth *= 4
            ranking = self._rank(index, question, depth)
        self._rankings[key] = ranking
        self._rankings.move_to_end(key)
        while len(self._rankings) > _KEPT:
            self._rankings.popitem(last=False)
        return ranking

    def _rank(self, index: Opened, question: Question, depth: int) -> Ranking:
        searcher = index.searcher(question.where)
        terms = self._terms(index, question)
        limits = Limits(depth, None, question.cut, question.unique)
        hits = searcher.with_confidence(searcher.query(terms, limits), terms)
        return Ranking(hits, line_of(hits) if question.cut is None else None, len(hits) < depth)

    def where(self, index: Opened, data: bytes, question: Question) -> Where:
        """Which part of a picture, a file's bytes, a question is about."""
        row = index.searcher().embed(self._terms(index, question))
        return index.finder().where(row, data)[0]

    def lines(self, index: Opened, id: str, question: Question) -> list[Line]:
        """The lines in a photo, by its id, that have words which photos must have."""
        store = index.store()
        image = store.find_image(bytes.fromhex(id))
        known = {} if image is None else store.lines_of([image])
        return matching(known.get(image or 0, ()), question.where.reads)

    def _terms(self, index: Opened, question: Question) -> list[Term]:
        return [term for part in question.parts for term in self._terms_of(index, part)]

    def _terms_of(self, index: Opened, part: Part) -> list[Term]:
        if part.kind in ("text", "not"):
            return index.searcher().terms(part.spelling, -1 if part.kind == "not" else 1)
        weight = part.weight if part.kind == "like" else -part.weight
        upload = self._uploads.get(part.content)
        if upload is not None and upload.fingerprint == index.embedder().model.fingerprint:
            return [Term(upload.row, weight, upload.name)]
        row = index.embedder().indexed(bytes.fromhex(part.content))
        if row is None:
            raise BadRequest("an image of this question is not here any more; drop it again")
        return [Term(row, weight)]

    # -------------------------------------------------------------------------------- commands

    def _command(self, index: Opened, question: Question, count: int) -> str:
        return command(question, _named(index.place), self._namer(index), count)

    def _namer(self, index: Opened) -> Callable[[str], str]:
        def name(id: str) -> str:
            upload = self._uploads.get(id)
            if upload is not None:
                return upload.name
            photos = photos_with(index, id)
            return os.fsdecode(photos[0].path) if photos else id

        return name

    # -------------------------------------------------------------------------------- what else there is

    def months(self, index: Opened, question: Question) -> dict[str, int]:
        """How many photos each month has that pass the filter, whatever it says of dates."""
        where = replace(question.where, after=(), before=())
        key = (index.version(), where)
        if self._months[0] != key:
            store = index.store()
            self._months = (key, store.months(store.select(where)))
        return self._months[1]

    def choices(self, index: Opened) -> dict[str, Any]:
        """What there is to choose: folders, cameras, concepts; the number of photos."""
        store = index.store()
        counts = store.counts()
        return {
            "folders": [records.path_fields(count.root.path)["path"] for count in counts],
            "offline": [
                {**records.path_fields(away.place), "reason": str(away.why)}
                for count in counts
                for away in store.presence(count.root).away
            ],
            "cameras": store.cameras()[:200],
            "concepts": [] if isinstance(index.place, Collection) else Concepts(index.place).names(),
            "photos": sum(count.photos for count in counts),
            "skipped": sum(count.skipped for count in counts),
        }

    def status(self, index: Opened) -> dict[str, Any]:
        """Whether there is something to look at, and whether somebody is adding to it."""
        known = {"writing": _is_written(index.place), "command": index_command(_named(index.place))}
        try:
            store = index.store()
        except NoIndex:
            return known | {"state": "none", "version": "", "photos": 0}
        state = "empty" if store.is_empty() else "ready"
        return known | {"state": state, "version": str(index.version()), "photos": _photos(index)}

    def about(self, index: Opened, id: str) -> dict[str, Any]:
        """What is known of one photo, by its id: all files with these contents."""
        photos = photos_with(index, id)
        if not photos:
            raise BadRequest("this photo is not in the index any more")
        return {"photos": [photo_object(photo) for photo in photos]}

    # -------------------------------------------------------------------------------- labels

    def labels(self, index: Opened, labels: Sequence[str], photo: str | None, question: Question) -> dict[str, Any]:
        """The probability of each label for one photo, or how many of the results have each as their likeliest."""
        classifier = Classifier(index.embedder(), labels)
        if photo is not None:
            row = index.embedder().indexed(bytes.fromhex(photo))
            if row is None:
                raise BadRequest("this photo is not in the index any more")
            shares = classifier.probabilities(row[None])[0].tolist()
            line = label_command(classifier.labels, question, _named(index.place), self._namer(index)(photo))
            return {"probabilities": dict(zip(classifier.labels, shares, strict=True)), "command": line}
        counted: Counter[int] = Counter()
        for ids in self._images(index, question):
            best = classifier.probabilities(index.store().unit_rows_of(ids)).argmax(1)
            counted.update(best.tolist())
        counts = {name: counted[number] for number, name in enumerate(classifier.labels)}
        line = label_command(classifier.labels, question, _named(index.place), None)
        if question.parts:
            line = f"{self._command(index, question, sum(counts.values()))} -0 | {line}"
        return {"counts": counts, "command": line}

    def _images(self, index: Opened, question: Question) -> Iterator[list[int]]:
        """The images of the results: of all that pass the filter, or of those that were ranked for a question."""
        if question.parts:
            ids = iter([hit.photo.image_id for hit in self._ranked(index, question, 1).hits])
        else:
            store = index.store()
            ids = iter(store.images_in(store.select(question.where)).tolist())
        while block := list(islice(ids, _BLOCK)):
            yield block


def line_of(hits: Sequence[Hit]) -> int | None:
    """How many of the first hits are about the query: the split that has the most sure ones before it, and the most
    others after it. None where there is no confidence.
    """
    if not hits or hits[0].confidence is None:
        return None
    sure = np.array([(hit.confidence or 0) >= CUT for hit in hits])
    return int(np.concatenate([[0], np.cumsum(np.where(sure, 1, -1))]).argmax())


def photos_with(index: Opened, id: str) -> list[Photo]:
    """The photos of an id, which are all those with the same contents."""
    store = index.store()
    image = store.find_image(bytes.fromhex(id))
    return [] if image is None else store.photos_of([image])


def photo_object(photo: Photo) -> dict[str, Any]:
    """What the page knows of a photo."""
    fields = records.photo_fields(photo)
    folder, _, name = text.printable(text.from_home(photo.path)).rpartition("/")
    return {**fields, "id": photo.content.hex(), "name": name, "folder": folder, "date": photo.date}


def _as_object(hit: Hit) -> dict[str, Any]:
    return {
        **records.as_object(hit),
        **photo_object(hit.photo),
        "similar": [photo_object(photo) for photo in hit.similar],
    }


def _named(place: Path | Collection) -> str | None:
    """The index in a command; None where it is the usual one."""
    return None if place == index_place() else str(place)


def _is_written(place: Path | Collection) -> bool:
    return not isinstance(place, Collection) and writer(place) is not None


def _photos(index: Opened) -> int:
    return sum(count.photos for count in index.store().counts())
