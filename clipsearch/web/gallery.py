"""Answers the page's requests as JSON objects.

The page fetches results in parts: rankings, which grow, and lists of photos without terms, of which any part is read
by its numbers. Both are cached.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from clipsearch.errors import BadRequest, NoIndex, NotIndexed
from clipsearch.index import Index
from clipsearch.indexing.people_changes import NamedFace
from clipsearch.output import records, text
from clipsearch.paths import Collection as MilvusCollection
from clipsearch.search.confidence import dividing_line
from clipsearch.search.find import sort_hits
from clipsearch.search.hit import Hit, Photo, Where
from clipsearch.search.listing import PhotoList
from clipsearch.search.map_clusters import Cluster, GeoBox, Positions, bounds
from clipsearch.search.question import (
    BY_SCORE,
    EVERYTHING,
    IMAGE,
    NEWEST,
    PHOTO,
    Filter,
    Order,
    Question,
    filter_arguments,
    option,
)
from clipsearch.web.actions import MAX_SELECTED, index_option
from clipsearch.web.limits import keep_newest
from clipsearch.web.uploads import Uploads

FIRST_DEPTH = 400  # hits that are ranked at first; quadrupled each time the user scrolls past them
MAX_DEPTH = 64 * FIRST_DEPTH  # hits among which matches are counted and a photo is looked up: 1.5 s on one core
MAX_COUNT = 400
MAX_TEXT = 1000  # characters; the search field takes no more
_MAX_THROUGH = 10_000  # hits in one answer that reaches to a certain photo
_MAX_RANKINGS = 12  # in the cache
_MAX_LISTS = 4  # in the cache; 4 MB each with 100,000 photos
_MAX_MONTHS = 8
_MAX_POSITIONS = 4  # arrays of all photos
_MAX_TOWNS = 60
_INSTANT = timedelta(microseconds=1)


class Ranking(NamedTuple):
    """The best hits of a question.

    The first `confident` of them match; None if they have no confidence. `has_all_matches`: a longer ranking would only
    add photos that do not match. `complete`: it has all photos. `offline` are the folders that were not searched, and
    why.
    """

    hits: list[Hit]
    confident: int | None
    has_all_matches: bool
    complete: bool
    offline: Mapping[bytes, str]

    @property
    def matches(self) -> list[Hit]:
        """The hits that match; all of them if they have no confidence."""
        return self.hits[: self.confident]

    def count_through(self, files: Collection[str]) -> int:
        """How many hits it takes to include files, by their `Photo.file_id`s; 0 if one is not among them."""
        missing = set(files)
        for count, hit in enumerate(self.hits, 1):
            missing.difference_update(photo.file_id for photo in (hit.photo, *hit.similar))
            if not missing:
                return count
        return 0


@dataclass(frozen=True, slots=True)
class Part:
    """Which results a request asks for: `count` from number `first` on (0 is the best).

    `through` are photos by their `Photo.url_name`s: a ranking has more hits if need be, up to them; a list says their
    `positions`. With `layout`, a list also has the dates and the shapes of all its photos. `list` is the number that
    the answer to that had: places in it stay the same while the index changes.
    """

    first: int
    count: int
    through: Collection[str] = ()
    layout: bool = False
    list: int = 0


class Gallery:
    """One method per request. Call them in the thread of the index; `Gallery` itself has only caches."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._rankings: OrderedDict[tuple[object, ...], Ranking] = OrderedDict()
        self._lists: OrderedDict[tuple[object, Question], tuple[int, PhotoList]] = OrderedDict()
        self._numbers = itertools.count(1)  # of lists
        self._months: OrderedDict[tuple[object, Filter], Any] = OrderedDict()
        self._positions: OrderedDict[tuple[object, Filter], Positions] = OrderedDict()

    # -------------------------------------------------------------------------------- results

    def page(self, index: Index, question: Question, part: Part) -> dict[str, Any]:
        """Some of the hits, and what the page shows about all of them."""
        if not (part.first >= 0 and 0 < part.count <= MAX_COUNT):
            raise BadRequest(f"count must be 1 to {MAX_COUNT}")
        return (self._part_of_list if _is_list(question) else self._part_of_ranking)(index, question, part)

    def _part_of_ranking(self, index: Index, question: Question, part: Part) -> dict[str, Any]:
        first, count = part.first, part.count
        least = count  # scrolling does not change the command
        through = [name.rpartition(".")[2] for name in part.through]
        ranking = self._ranked(index, question, first + count)
        if through:
            ranking = self._deepened(index, question, lambda ranking: ranking.count_through(through) > 0)
            reached = ranking.count_through(through)
            count = max(count, reached - first + count if reached < _MAX_THROUGH else 0)
            ranking = self._ranked(index, question, first + count)
        # In another order the command must choose the same photos to give the same answer.
        shown = max(10, least) if _order_of_matches(question) is None else max(1, len(ranking.hits))
        return {
            "hits": [_as_object(hit) for hit in ranking.hits[first : first + count]],
            "first": first,
            "ranked": len(ranking.hits),
            "complete": ranking.complete,
            "confident": ranking.confident,
            "asks_for_text": question.asks_for_text,
            **_about_matches(ranking, question),
            "photos": self._months_of(index, EVERYTHING).total,
            "passing": self._months_of(index, question.filter).total,
            "range": _range_of(question.filter),
            "command": self._command(index, question, shown),
            "advice": [*index.advice(question.texts), *text.not_searched(ranking.offline)],
        }

    def _part_of_list(self, index: Index, question: Question, part: Part) -> dict[str, Any]:
        number, photos = self._list(index, question, part.list)
        hits = index.list_part(photos, part.first, part.count, recheck=part.layout)
        positions = _positions(index, photos, part.through)
        if part.layout and positions:  # the page scrolls there: leave out now what was deleted
            for position in positions.values():
                index.list_part(photos, max(0, position - part.count), 2 * part.count)
            positions = _positions(index, photos, part.through)
        found = {
            "hits": [_as_object(hit) for hit in hits],
            "first": part.first,
            "ranked": len(photos),
            "list": number,
            "positions": positions,
        }
        if part.list:
            return found
        files = len(photos) + photos.copies
        everything = files if question.filter == EVERYTHING else self._months_of(index, EVERYTHING).total
        return {
            **found,
            "complete": True,
            "confident": None,
            "asks_for_text": False,
            "matches": {"count": files, "exact": True},
            "months": _months_of(()),
            "photos": everything,
            "passing": files,
            "copies": photos.copies,
            "range": _range_of(question.filter),
            "command": self._command(index, question, max(10, files)),
            "advice": text.not_searched(index.offline(question.filter)),
            "layout": {"days": list(photos.days()), "shapes": photos.shapes} if part.layout else None,
        }

    def _list(self, index: Index, question: Question, number: int) -> tuple[int, PhotoList]:
        """The list of a question with its number: the one with `number` if it is kept, or else a current one."""
        key = (index.version(), question)
        known = next((key for key, (other, _) in self._lists.items() if other == number and key[1] == question), key)
        found = self._lists.get(known)
        if found is None:
            is_timeline = (question.limits.order or NEWEST).field == "date"
            photos = index.photo_list(question.filter, sort=question.limits.sort, fold=is_timeline)
            found = next(self._numbers), photos
        keep_newest(self._lists, known, found, _MAX_LISTS)
        return found

    def count(self, index: Index, question: Question, is_wanted: Callable[[], bool]) -> dict[str, Any]:
        """What `page` says about matches, once all are known. `is_wanted` is asked now and then whether to go on."""
        ranking = self._deepened(index, question, lambda ranking: ranking.has_all_matches or not is_wanted())
        return _about_matches(ranking, question)

    def matches(self, index: Index, question: Question, is_wanted: Callable[[], bool]) -> dict[str, Any]:
        """All matches, with what an action needs to know of each, and the command that finds them.

        Raises `BadRequest` if the question does not tell matches from other photos, or has too many.
        """
        if question.terms and not question.asks_for_text:
            raise BadRequest("photos are only more or less like an image: select a range, or add a text")
        ranking = self._deepened(index, question, lambda ranking: ranking.has_all_matches or not is_wanted())
        if len(ranking.matches) > MAX_SELECTED or not ranking.has_all_matches:
            raise BadRequest(f"more than {MAX_SELECTED:,} photos match; add a filter, or use the command line")
        if not ranking.matches:
            raise BadRequest("nothing is a confident match")
        return {
            "photos": [selected_object(hit.photo) for hit in ranking.matches],
            "command": self._command(index, question, len(ranking.matches)),
        }

    def _deepened(self, index: Index, question: Question, is_enough: Callable[[Ranking], bool]) -> Ranking:
        """A ranking that is deep enough, or the deepest."""
        ranking = self._ranked(index, question, 1)
        while not (ranking.complete or len(ranking.hits) >= MAX_DEPTH or is_enough(ranking)):
            ranking = self._ranked(index, question, len(ranking.hits) + 1)
        return ranking

    def _with_all_matches(self, index: Index, question: Question) -> Ranking:
        """A ranking with all matches, up to `MAX_DEPTH`. Of an image, which has none, the closest."""
        if not question.asks_for_text:
            return self._ranked(index, question, 1)
        return self._deepened(index, question, lambda ranking: ranking.has_all_matches)

    def _ranked(self, index: Index, question: Question, wanted: int) -> Ranking:
        key = (index.version(), question)
        known = self._rankings.get(key)
        if known is None or (len(known.hits) < wanted and not known.complete):
            depth = FIRST_DEPTH
            while depth < wanted:
                depth *= 4
            ranking = self._rank(index, question, depth)
            if known is not None and known.has_all_matches:  # what was said about them stays true
                ranking = ranking._replace(confident=known.confident, has_all_matches=True)
        else:
            ranking = known
        keep_newest(self._rankings, key, ranking, _MAX_RANKINGS)
        return ranking

    def _rank(self, index: Index, question: Question, depth: int) -> Ranking:
        order = _order_of_matches(question)
        if order is None:
            return self._best(index, question, depth)
        # The order of the matches, or without any, of the closest: among all photos they would be scattered.
        by_score = question._replace(limits=question.limits._replace(sort=BY_SCORE))
        ranking = self._best(index, by_score, FIRST_DEPTH)
        while question.asks_for_text and not ranking.has_all_matches and len(ranking.hits) < MAX_DEPTH:
            ranking = self._best(index, by_score, 4 * len(ranking.hits))
        hits = sort_hits(ranking.matches or ranking.hits, order)
        return ranking._replace(hits=hits, complete=True)

    def _best(self, index: Index, question: Question, depth: int) -> Ranking:
        resolved = self._uploads.resolve(question, index)
        hits = index.ask(resolved._replace(limits=resolved.limits._replace(k=depth)), confidence=True)
        complete, offline = len(hits) < depth, index.left_out.offline
        if question.limits.min_confidence is not None:
            return Ranking(hits, None, complete, complete, offline)
        confident = dividing_line([hit._replace(confidence=1.0) if hit.is_literal else hit for hit in hits])
        has_all_matches = complete or (confident is not None and confident < len(hits))
        return Ranking(hits, confident, has_all_matches, complete, offline)

    def where(self, index: Index, data: bytes, question: Question) -> Where:
        """The part of an image file that matches a question."""
        return index.locate(self._uploads.resolve(question, index), data)[0]

    # -------------------------------------------------------------------------------- commands

    def _command(self, index: Index, question: Question, count: int) -> str:
        texts, options = question._replace(limits=question.limits._replace(k=count)).arguments(self._path_of(index))
        return text.command("query", texts, [*options, *index_option(index)])

    def _path_of(self, index: Index) -> Callable[[str], str]:
        def path(id: str) -> str:
            upload = self._uploads.get(id)
            if upload is not None:
                return upload.name
            photos = index.photos_with(id)
            return os.fsdecode(photos[0].file) if photos else id

        return path

    # -------------------------------------------------------------------------------- saved searches

    def saved(self, index: Index) -> dict[str, Any]:
        """The saved searches, with their parameters of a URL: null if an image of theirs is not indexed."""
        if isinstance(index.place, MilvusCollection):
            return {"saved": []}
        searches = index.saved_searches.all()
        return {"saved": [{"name": name, "pairs": _pairs(index, question)} for name, question in searches.items()]}

    def save(self, index: Index, name: str, question: Question) -> None:
        """Save a question. Raises `BadRequest` for one with an uploaded image, which is gone when the server ends."""
        for term in question.terms:
            if term.kind == PHOTO and self._uploads.get(term.content) is not None:
                raise BadRequest("a search by an uploaded image cannot be saved; use an indexed photo")
        index.saved_searches.save(name, question)

    # -------------------------------------------------------------------------------- the map

    def places(self, index: Index, question: Question, box: GeoBox, columns: int) -> dict[str, Any]:
        """The matches with a place as clusters on a map, and the largest towns, in a box.

        Without terms, all photos that pass the filter match; without confident matches, those that are closest.
        `columns` as in `Index.map_clusters`. `photos` counts all matches, `located` those with a place; `bounds` is the
        box around them.
        """
        if question.terms:
            ranking = self._with_all_matches(index, question)
            hits = ranking.matches or ranking.hits
            photos, positions = len(hits), Positions.of_photos(hit.photo for hit in hits)
        else:
            photos = self._months_of(index, question.filter).total
            positions = self._positions_of(index, question.filter)
        return {
            "photos": photos,
            "located": len(positions.images),
            "bounds": bounds(positions),
            "clusters": [_cluster_object(*found) for found in index.map_clusters(positions, box, columns)],
            "towns": [(town.name, town.latitude, town.longitude) for town in index.towns(box, _MAX_TOWNS)],
        }

    def _positions_of(self, index: Index, filter: Filter) -> Positions:
        key = (index.version(), filter)
        found = self._positions.get(key) or index.positions(filter)
        keep_newest(self._positions, key, found, _MAX_POSITIONS)
        return found

    # -------------------------------------------------------------------------------- about the index

    def months(self, index: Index, filter: Filter) -> dict[str, Any]:
        """Photo counts per month under the filter, ignoring its date range."""
        months: dict[str, Any] = self._months_of(index, replace(filter, after=(), before=()))._asdict()
        return months

    def _months_of(self, index: Index, filter: Filter) -> Any:
        key = (index.version(), filter)
        found = self._months.get(key) or index.months(filter)
        keep_newest(self._months, key, found, _MAX_MONTHS)
        return found

    def choices(self, index: Index) -> dict[str, Any]:
        """The values of each filter that photos have, the months, and the indexed folders, all with counts of photos.

        Values are lists of [value, count], most first, but for months.
        """
        facets = index.facets()
        values = {option: list(counts.items()) for option, counts in facets.values.items()}
        return {
            "values": values,
            "months": list(facets.months.items()),
            "folders": [_folder_object(*folder) for folder in facets.folders_in()],
        }

    def folders(self, index: Index, parent: str) -> dict[str, Any]:
        """The folders in a folder, with their counts of photos."""
        return {"folders": [_folder_object(*folder) for folder in index.facets().folders_in(os.fsencode(parent))]}

    def suggestions(self, index: Index, text: str) -> dict[str, Any]:
        """What a text that is being typed could mean, as `Index.suggestions`."""
        if len(text) > MAX_TEXT:
            raise BadRequest(f"a text to complete can have at most {MAX_TEXT:,} characters")
        return {"suggestions": [one._asdict() for one in index.suggestions(text)]}

    def status(self, index: Index) -> dict[str, Any]:
        """Whether the index exists and has photos, its version, and whether a process is writing to it."""
        command = text.command("index", [], index_option(index)).replace("index", "index ~/Pictures", 1)
        writing = index.writing()
        done, total = writing or (0, 0)
        common = {"writing": writing is not None, "done": done, "total": total, "command": command}
        try:
            photos = sum(folder.photos for folder in index.folders())
        except NoIndex:
            return common | {"state": "none", "version": "", "photos": 0}
        return common | {"state": "ready" if photos else "empty", "version": str(index.version()), "photos": photos}

    def about(self, index: Index, id: str, file: str) -> dict[str, Any]:
        """The metadata of a photo, by its id: one object per file with these contents, `file` first."""
        photos = index.photos_with(id)
        if not photos:
            raise BadRequest("this photo is no longer in the index")
        return {"photos": [photo_object(photo) for photo in sorted(photos, key=lambda photo: photo.file_id != file)]}

    def contents(self, index: Index, id: str) -> dict[str, Any]:
        """What is in a photo or video: the text that OCR read, the indexed frames, the faces, and who is in it."""
        frames = [{"id": frame.content.hex(), "time": frame.time} for frame in index.frames(id)]
        lines = [line.text for line in index.lines(id)]
        photos = index.photos_with(id)
        try:
            faces = [face_object(face, photo) for photo in photos[:1] for face in index.faces(photo)]
        except BadRequest:  # no faces were sought
            faces = []
        people = list(dict.fromkeys(name for photo in photos for name in photo.people))
        return {"lines": lines, "frames": frames, "faces": faces, "people": people}

    # -------------------------------------------------------------------------------- labels

    def labels(self, index: Index, labels: Sequence[str], photo: str | None, question: Question) -> dict[str, Any]:
        """The probability of each label for one photo, or how many photos have it as their most likely label.

        `among` says which photos: "all" that pass the filter, the "matches", or without matches the "closest".
        """
        if photo is not None:
            probabilities = index.label_photo(labels, photo)
            path = self._path_of(index)(photo)
            options = [*option("--image", path), "--all", *index_option(index)]
            return {"probabilities": probabilities, "command": text.command("label", list(probabilities), options)}
        if not question.terms:
            counts = index.count_labels(labels, filter=question.filter)
            options = ["--counts", *filter_arguments(question.filter), *index_option(index)]
            return {"counts": counts, "among": "all", "command": text.command("label", list(counts), options)}
        ranking = self._with_all_matches(index, question)
        hits = ranking.matches or ranking.hits
        counts = index.count_labels(labels, hits=hits)
        options = ["--counts", "--files-from", "-", "--from0", *index_option(index)]
        query, label = self._command(index, question, max(1, len(hits))), text.command("label", list(counts), options)
        among = "matches" if question.asks_for_text and ranking.matches else "closest"
        return {"counts": counts, "among": among, "command": f"{query} -0 | {label}"}


def _positions(index: Index, photos: PhotoList, names: Collection[str]) -> dict[str, int]:
    """The numbers of those of the named photos that are listed."""
    found = {name: index.list_position(photos, name) for name in names}
    return {name: position for name, position in found.items() if position is not None}


def _is_list(question: Question) -> bool:
    """Whether the results are all photos that pass the filter, in an order: nothing is ranked or compared."""
    return not question.terms and not question.limits.unique


def _order_of_matches(question: Question) -> Order | None:
    """The order other than by score of a question with terms; without terms, all photos are in order."""
    return question.limits.order if question.terms else None


def _as_object(hit: Hit) -> dict[str, Any]:
    return {
        **records.as_object(hit),
        **photo_object(hit.photo),
        "similar": [photo_object(photo) for photo in hit.similar],
    }


def _cluster_object(cluster: Cluster, photo: Photo | None) -> dict[str, Any]:
    return {
        "count": cluster.photos,
        "latitude": cluster.latitude,
        "longitude": cluster.longitude,
        "box": cluster.box,
        "photo": photo and photo.content.hex(),
        "place": photo and photo.place and photo.place.town,
    }


def photo_object(photo: Photo) -> dict[str, Any]:
    """A photo as JSON, with what the page needs besides the documented fields.

    `id` names the contents, `file` the file: identical files share an id. `shell` is the path as a shell takes it.
    """
    fields = records.photo_fields(photo)
    folder, _, name = text.printable(text.from_home(photo.file)).rpartition("/")
    about = {"id": photo.content.hex(), "file": photo.file_id, "name": name, "folder": folder, "date": photo.date}
    return {**fields, **about, "is_video": photo.is_video, "shell": text.quoted(photo.file)}


def face_object(face: NamedFace, photo: Photo) -> dict[str, Any]:
    """A face in a photo as JSON: whose it is and how sure that is, and what its picture is cut out of."""
    return {
        "id": face.id,
        "name": face.name,
        "confirmed": face.confirmed,
        "confidence": face.confidence,
        "photo": photo.content.hex(),
        "box": face.box,
    }


def selected_object(photo: Photo) -> dict[str, Any]:
    """What the page keeps of a selected photo: some of `photo_object`."""
    about = {"id": photo.content.hex(), "file": photo.file_id, "size": photo.size, "shell": text.quoted(photo.file)}
    return records.path_fields(photo.file) | about


def _folder_object(path: bytes, photos: int, folders: Sequence[bytes]) -> dict[str, Any]:
    """A folder for the page. One whose path is not UTF-8 has no `value`: no URL can have it."""
    fields = records.path_fields(path)
    return {
        "name": text.printable(os.path.basename(path) or path),
        "value": fields["path"] if len(fields) == 1 else None,
        "photos": photos,
        "has_folders": bool(folders),
    }


def _pairs(index: Index, question: Question) -> list[tuple[str, str]] | None:
    """The parameters of a URL for a question, with ids in place of paths."""
    try:
        terms = [
            term._replace(content=index.photo_at(term.content).content.hex(), kind=PHOTO)
            if term.kind == IMAGE
            else term
            for term in question.terms
        ]
    except NotIndexed:
        return None
    return question._replace(terms=tuple(terms)).all_parameters()


def _about_matches(ranking: Ranking, question: Question) -> dict[str, Any]:
    return {
        "matches": {"count": len(ranking.matches), "exact": ranking.has_all_matches},
        "months": _months_of(ranking.matches if question.terms else ()),
    }


def _months_of(hits: Iterable[Hit]) -> dict[str, dict[str, int]]:
    """Hits per month, as `Index.months` counts photos."""
    found: dict[str, Counter[str]] = {"taken": Counter(), "changed": Counter()}
    for hit in hits:
        found["taken" if hit.metadata.taken else "changed"][hit.photo.date[:7]] += 1
    return {kind: dict(sorted(months.items())) for kind, months in found.items()}


def _range_of(filter: Filter) -> list[str | None]:
    """The first and the last month that pass the date filters; None for no limit."""
    first, end = max(filter.after, default=None), min(filter.before, default=None)
    last = end and max(end, datetime.min + _INSTANT) - _INSTANT
    return [moment and moment.isoformat()[:7] for moment in (first, last)]
