"""Answers the page's requests as JSON objects. Rankings are cached: the page fetches results in parts."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from clipsearch.errors import BadRequest, NoIndex
from clipsearch.index import Index
from clipsearch.output import records, text
from clipsearch.paths import Collection, index_place
from clipsearch.search.confidence import dividing_line
from clipsearch.search.find import sort_hits
from clipsearch.search.hit import Hit, Photo, Where
from clipsearch.search.question import BY_SCORE, Filter, Order, Question, filter_arguments, option
from clipsearch.web.uploads import Uploads

FIRST_DEPTH = 400  # hits that are ranked at first; quadrupled each time the user scrolls past them
MAX_COUNT = 400
_MAX_RANKINGS = 12  # in the cache
_MAX_CAMERAS = 200


class Ranking(NamedTuple):
    """The best hits of a question. `confident` of them come first, None without a text; `complete`: no more exist."""

    hits: list[Hit]
    confident: int | None
    complete: bool

    @property
    def matches(self) -> list[Hit]:
        """The confident hits; all of them if there are none or confidence does not apply."""
        return self.hits[: self.confident or None]


class Gallery:
    """One method per request. Call them in the thread of the index; `Gallery` itself holds only caches."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._rankings: OrderedDict[tuple[object, ...], Ranking] = OrderedDict()
        self._months: tuple[object, dict[str, int]] = (None, {})

    # -------------------------------------------------------------------------------- results

    def page(self, index: Index, question: Question, first: int, count: int) -> dict[str, Any]:
        """`count` hits from number `first` on (0 is the best), and what the page shows about all of them."""
        if not (first >= 0 and 0 < count <= MAX_COUNT):
            raise BadRequest(f"count must be 1 to {MAX_COUNT}")
        ranking = self._ranked(index, question, first + count)
        hits = ranking.hits[first : first + count]
        # In another order the command must choose the same photos to give the same answer.
        shown = max(10, first + count) if _order_of_matches(question) is None else max(1, len(ranking.hits))
        return {
            "hits": [_as_object(hit) for hit in hits],
            "first": first,
            "ranked": len(ranking.hits),
            "complete": ranking.complete,
            "confident": ranking.confident,
            "months": dict(sorted(Counter(hit.photo.date[:7] for hit in ranking.matches).items())),
            "command": self._command(index, question, shown),
            "advice": index.advice(question.texts),
        }

    def _ranked(self, index: Index, question: Question, wanted: int) -> Ranking:
        key = (index.version(), question)
        ranking = self._rankings.get(key)
        if ranking is None or (len(ranking.hits) < wanted and not ranking.complete):
            depth = FIRST_DEPTH
            while depth < wanted:
                depth *= 4
            ranking = self._rank(index, question, depth)
        self._rankings[key] = ranking
        self._rankings.move_to_end(key)
        while len(self._rankings) > _MAX_RANKINGS:
            self._rankings.popitem(last=False)
        return ranking

    def _rank(self, index: Index, question: Question, depth: int) -> Ranking:
        resolved = self._uploads.resolve(question, index)
        limits, order = resolved.limits, _order_of_matches(question)
        if order is not None:  # the order of the matches: among all photos they would be scattered
            depth, limits = FIRST_DEPTH, limits._replace(sort=BY_SCORE)
        hits = index.ask(resolved._replace(limits=limits._replace(k=depth)), confidence=True)
        certain = [hit._replace(confidence=1.0) if hit.is_literal else hit for hit in hits]
        confident = dividing_line(certain) if limits.min_confidence is None else None
        ranking = Ranking(hits, confident, len(hits) < depth)
        return ranking if order is None else Ranking(sort_hits(ranking.matches, order), confident, True)

    def where(self, index: Index, data: bytes, question: Question) -> Where:
        """The part of an image file that matches a question."""
        return index.locate(self._uploads.resolve(question, index), data)[0]

    # -------------------------------------------------------------------------------- commands

    def _command(self, index: Index, question: Question, count: int) -> str:
        texts, options = question._replace(limits=question.limits._replace(k=count)).arguments(self._path_of(index))
        return text.command("query", texts, [*options, *_index_option(index)])

    def _path_of(self, index: Index) -> Callable[[str], str]:
        def path(id: str) -> str:
            upload = self._uploads.get(id)
            if upload is not None:
                return upload.name
            photos = index.photos_with(id)
            return os.fsdecode(photos[0].file) if photos else id

        return path

    # -------------------------------------------------------------------------------- about the index

    def months(self, index: Index, filter: Filter) -> dict[str, int]:
        """Photo counts per month under the filter, ignoring its date range."""
        dateless = replace(filter, after=(), before=())
        key = (index.version(), dateless)
        if self._months[0] != key:
            self._months = (key, index.months(dateless))
        return self._months[1]

    def choices(self, index: Index) -> dict[str, Any]:
        """Suggestions for the form, offline folders, and the number of photos."""
        status = index.status()
        offline = [(folder.path, folder.offline) for folder in status.roots if folder.offline]
        offline += [(part.path, part.why) for part in status.offline]
        return {
            "folders": [records.path_fields(folder.path)["path"] for folder in status.roots],
            "offline": [{**records.path_fields(path), "reason": str(why)} for path, why in offline],
            "cameras": index.cameras()[:_MAX_CAMERAS],
            "concepts": [] if isinstance(index.place, Collection) else index.concepts.names(),
            "photos": status.photos,
            "skipped": sum(folder.skipped for folder in status.roots),
        }

    def status(self, index: Index) -> dict[str, Any]:
        """Whether the index exists and has photos, its version, and whether a process is writing to it."""
        command = text.command("index", [], _index_option(index)).replace("index", "index ~/Pictures", 1)
        common = {"writing": index.is_being_written(), "command": command}
        try:
            photos = sum(folder.photos for folder in index.folders())
        except NoIndex:
            return common | {"state": "none", "version": "", "photos": 0}
        return common | {"state": "ready" if photos else "empty", "version": str(index.version()), "photos": photos}

    def about(self, index: Index, id: str) -> dict[str, Any]:
        """The metadata of a photo, by its id: one object per file with these contents."""
        photos = index.photos_with(id)
        if not photos:
            raise BadRequest("this photo is no longer in the index")
        return {"photos": [photo_object(photo) for photo in photos]}

    # -------------------------------------------------------------------------------- labels

    def labels(self, index: Index, labels: Sequence[str], photo: str | None, question: Question) -> dict[str, Any]:
        """The probability of each label for one photo, or how many results have it as their most likely label."""
        if photo is not None:
            probabilities = index.label_photo(labels, photo)
            path = self._path_of(index)(photo)
            options = [*option("--image", path), "--all", *_index_option(index)]
            return {"probabilities": probabilities, "command": text.command("label", list(probabilities), options)}
        if question.terms:
            counts = index.count_labels(labels, hits=self._ranked(index, question, 1).hits)
            options = ["--counts", "--files-from", "-", "--from0"]
        else:
            counts = index.count_labels(labels, filter=question.filter)
            options = ["--counts", *filter_arguments(question.filter)]
        line = text.command("label", list(counts), [*options, *_index_option(index)])
        if question.terms:
            line = f"{self._command(index, question, sum(counts.values()))} -0 | {line}"
        return {"counts": counts, "command": line}


def _order_of_matches(question: Question) -> Order | None:
    """The order other than by score of a question with terms; without terms, all photos are in order."""
    return question.limits.order if question.terms else None


def _as_object(hit: Hit) -> dict[str, Any]:
    return {
        **records.as_object(hit),
        **photo_object(hit.photo),
        "similar": [photo_object(photo) for photo in hit.similar],
    }


def photo_object(photo: Photo) -> dict[str, Any]:
    """A photo as JSON, with what the page needs besides the documented fields: `id`, `name`, `folder`, `date`."""
    fields = records.photo_fields(photo)
    folder, _, name = text.printable(text.from_home(photo.file)).rpartition("/")
    return {**fields, "id": photo.content.hex(), "name": name, "folder": folder, "date": photo.date}


def _index_option(index: Index) -> list[str]:
    """`--index PATH`, or nothing for the default index."""
    return [] if index.place == index_place() else option("--index", str(index.place))
