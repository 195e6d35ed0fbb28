"""Results for programs: paths, TSV and JSON. `cli/README.md` describes the fields."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from clipsearch.images.left_out import what_to_do
from clipsearch.models.detection import Detection

if TYPE_CHECKING:
    from clipsearch.images.box import Box
    from clipsearch.images.left_out import LeftOut
    from clipsearch.indexing.people_changes import FaceGroup, NamedFace
    from clipsearch.indexing.status import Status
    from clipsearch.indexing.update import Report
    from clipsearch.indexing.why import Why
    from clipsearch.models.encoders import Engine
    from clipsearch.models.engines import Comparison
    from clipsearch.models.generated_text import Answer
    from clipsearch.output.safe_move import Move
    from clipsearch.search.concepts import Concepts
    from clipsearch.search.copies import Group
    from clipsearch.search.evaluate import Evaluation
    from clipsearch.search.hit import Found, Hit, Where
    from clipsearch.search.label import Labelled
    from clipsearch.search.reason import Reason
    from clipsearch.search.vqa import Answered, Captioned
    from clipsearch.store.photo import Line, Photo
    from clipsearch.store.verify import Verified

Item = TypeVar("Item")

FORMATS = ("table", "paths", "tsv", "json", "jsonl")
LABEL_FORMATS = ("table", "tsv", "json", "jsonl")
MOVE_FORMATS = ("table", "json", "jsonl")
TEXT_FORMATS = ("text", "json", "jsonl")


# ------------------------------------------------------------------------------------------ hits


def hits(
    found: Iterable[Hit], form: str, end: bytes = b"\n", *, located: str | None = None, query: str | None = None
) -> Iterator[bytes]:
    r"""Hits as `paths` (raw bytes, followed by `end`), `tsv` (rank, score, path), `json` or `jsonl`.

    TSV escapes backslash, tab and line breaks in paths as `\\`, `\t`, `\n`, `\r`. JSON objects begin with `query`.
    """

    def line(hit: Hit) -> list[bytes]:
        if form == "paths":
            return [hit.photo.file + end]
        score = b"" if hit.score is None else b"%.4f" % hit.score
        return [b"%d\t%s\t%s\n" % (hit.rank, score, _field(hit.photo.file))]

    first = {} if query is None else {"query": query}
    return _written(found, form, lambda hit: first | as_object(hit, located), line)


def as_object(hit: Hit, located: str | None = None) -> dict[str, Any]:
    """A hit. `located` is "where" or "detections" to add that, which is null if the file could not be read."""
    return {
        "rank": hit.rank,
        "score": _rounded(hit.score),
        "confidence": _rounded(hit.confidence),
        "why": [_reason(reason) for reason in hit.why],
        **photo_fields(hit.photo),
        **({"where": _where_of(hit)} if located == "where" else {}),
        **({"detections": _detections_of(hit)} if located == "detections" else {}),
        **({} if hit.answer is None else {"answer": answer_object(hit.answer)}),
        **({} if hit.lines is None else {"lines": [_line(line, *hit.photo.metadata[:2]) for line in hit.lines]}),
        "similar": [path_fields(photo.file) for photo in hit.similar],
        "same_file": [path_fields(path) for path in hit.same_file],
    }


def _where_of(hit: Hit) -> dict[str, Any] | None:
    return _where(hit.where, *hit.photo.metadata[:2]) if hit.where else None


def _detections_of(hit: Hit) -> list[dict[str, Any]] | None:
    if hit.detections is None:
        return None
    return [{"text": one.text, **_where(one.there, one.width, one.height)} for one in hit.detections]


def _reason(reason: Reason) -> dict[str, str]:
    return {"kind": reason.kind, **({"matched": reason.matched} if reason.matched else {})}


def photo_fields(photo: Photo) -> dict[str, Any]:
    """Path, times, size and metadata of a photo."""
    of = photo.metadata
    return {
        **path_fields(photo.file),
        "width": of.width,
        "height": of.height,
        "size": photo.size,
        "mtime": photo.mtime_ns / 1e9,
        "taken": of.taken,
        "taken_from": of.taken_from,
        "camera": of.camera,
        "latitude": of.latitude,
        "longitude": of.longitude,
        "place": None if (place := photo.place) is None else place._asdict(),
        "location": of.location,
        "keywords": list(photo.keywords),
        "people": list(photo.people),
        "rating": of.rating,
        "color_label": of.color_label,
        "title": of.title,
        "caption": of.caption,
        "generated_caption": photo.generated_caption,
        "time": _rounded(photo.time),
        "duration": of.duration,
    }


# ------------------------------------------------------------------------------------------ text in photos


def texts(found: Sequence[tuple[Photo, Sequence[Line]]], form: str) -> Iterator[bytes]:
    """The lines of text in photos, as plain `text`, `json` or `jsonl`. With several photos, text has their paths."""

    def plain(numbered: tuple[int, tuple[Photo, Sequence[Line]]]) -> Iterator[bytes]:
        number, (photo, lines) = numbered
        if len(found) > 1:
            yield b"\n" * (number > 0) + b"==> " + photo.file + b" <==\n"
        yield from (line.text.encode("utf-8", "replace") + b"\n" for line in lines)

    return _written(enumerate(found), form, lambda numbered: _text_object(*numbered[1]), plain)


def _text_object(photo: Photo, lines: Iterable[Line]) -> dict[str, Any]:
    width, height = photo.metadata[:2]
    size = {"width": width, "height": height}
    return {**path_fields(photo.file), **size, "lines": [_line(line, width, height) for line in lines]}


# ------------------------------------------------------------------------------------------ answers and captions


def answers(found: Iterable[Answered], form: str, *, with_paths: bool) -> Iterator[bytes]:
    """Answers to a question about photos as `text` (optionally `with_paths`), `json` or `jsonl`."""
    return _written(found, form, answered_object, lambda one: [_said(one.path, one.answer.text, with_paths)])


def captions(found: Iterable[Captioned], form: str, *, with_paths: bool) -> Iterator[bytes]:
    """Generated captions of photos, as `answers`."""
    return _written(found, form, caption_object, lambda one: [_said(one.path, one.caption, with_paths)])


def answered_object(one: Answered) -> dict[str, Any]:
    """A photo with the answer to a question about it."""
    return {**path_fields(one.path), **answer_object(one.answer)}


def caption_object(one: Captioned) -> dict[str, Any]:
    """A photo with its generated caption."""
    return {**path_fields(one.path), "generated_caption": one.caption}


def _said(path: bytes, text: str, with_paths: bool) -> bytes:
    return (path + b": " if with_paths else b"") + text.encode("utf-8", "replace") + b"\n"


def answer_object(answer: Answer) -> dict[str, Any]:
    """An answer of a vision-language model."""
    return {"question": answer.question, "answer": answer.text, "score": _rounded(answer.score)}


# ------------------------------------------------------------------------------------------ labels


def labels(found: Iterable[Labelled], form: str) -> Iterator[bytes]:
    """Photos with their labels as `tsv` (label, probability, path), `json` or `jsonl`."""
    return _written(found, form, labels_object, _label_lines)


def _label_lines(one: Labelled) -> Iterator[bytes]:
    return (b"%s\t%.4f\t%s\n" % (_field(name.encode()), share, _field(one.file)) for name, share in one.labels)


def labels_object(one: Labelled) -> dict[str, Any]:
    """A photo with its most likely label and the probabilities of the requested ones."""
    best, probability = one.labels[0]
    every = {name: round(share, 6) for name, share in one.labels}
    return {**path_fields(one.file), "label": best, "probability": round(probability, 6), "labels": every}


def label_counts(rows: Iterable[tuple[str, int]], form: str) -> Iterator[bytes]:
    """How many photos have each label, as `tsv` (count, label), `json` or `jsonl`."""
    return _written(
        rows,
        form,
        lambda row: {"label": row[0], "photos": row[1]},
        lambda row: [b"%d\t%s\n" % (row[1], _field(row[0].encode()))],
    )


# ------------------------------------------------------------------------------------------ where


def where(found: Iterable[Found], form: str) -> Iterator[bytes]:
    """Where something is in photos, as `tsv` (score, left, top, right, bottom, path), `json` or `jsonl`."""
    return _written(found, form, where_object, _where_lines)


def _where_lines(one: Found) -> Iterator[bytes]:
    box = b"\t".join(b"%d" % edge for edge in one.there.pixels(one.width, one.height))
    yield b"%.4f\t%s\t%s\n" % (one.there.score, box, _field(one.path))


def counts(found: Iterable[tuple[bytes, str, int]], form: str) -> Iterator[bytes]:
    """How many things a detector found in each photo, as `tsv` (count, path), `json` or `jsonl`."""
    return _written(
        found,
        form,
        lambda one: {**path_fields(one[0]), "text": one[1], "count": one[2]},
        lambda one: [b"%d\t%s\n" % (one[2], _field(one[0]))],
    )


def where_object(one: Found) -> dict[str, Any]:
    """Where something is in a photo: a box in pixels and in fractions of width and height, and a mask's share."""
    size = {"width": one.width, "height": one.height}
    return {**path_fields(one.path), "text": one.text, **size, **_where(one.there, one.width, one.height)}


def _line(line: Line, width: int, height: int) -> dict[str, Any]:
    return {"text": line.text, **_box(line.box, width, height)}


def _where(there: Where | Detection, width: int, height: int) -> dict[str, Any]:
    area = there.area if isinstance(there, Detection) else None
    return {
        **_box(there.box, width, height),
        "score": _rounded(there.score),
        **({} if area is None else {"area": round(area, 4)}),
    }


def _box(box: Box, width: int, height: int) -> dict[str, Any]:
    edges = box._asdict()
    return {
        "box": dict(zip(edges, box.pixels(width, height), strict=True)),
        "shares": {edge: round(share, 4) for edge, share in edges.items()},
    }


# ------------------------------------------------------------------------------------------ duplicates


def duplicates(groups: Sequence[Group], form: str, end: bytes) -> Iterator[bytes]:
    """Groups as `tsv` (group, kind, similarity, path), `json` or `jsonl`, or as `paths`, each with an `end`.

    Scripts delete files by these lists: paths leave out the best file of each group, and like TSV, have each file once,
    without its other paths. Photos that are merely similar are marked in every row, and have another key than copies in
    JSON.
    """

    def lines(numbered: tuple[int, Group]) -> Iterator[bytes]:
        number, group = numbered
        if form == "tsv":
            return (
                b"%d\t%s\t%.4f\t%s\n" % (number, copy.kind.encode(), copy.similarity, _field(copy.photo.file))
                for copy in group
            )
        return (copy.photo.file + end for copy in group[1:])

    return _written(enumerate(groups, 1), form, lambda numbered: _group_object(*numbered), lines)


def _group_object(number: int, group: Group) -> dict[str, Any]:
    photos = [
        {
            "kind": str(copy.kind),
            "similarity": round(copy.similarity, 6),
            **photo_fields(copy.photo),
            "same_file": [path_fields(path) for path in copy.same_file],
        }
        for copy in group
    ]
    are_copies = all(copy.kind != "similar" for copy in group)
    return {"group": number, "kind": "copies", "photos": photos} if are_copies else {
        "group": number, "kind": "similar", "similar": photos
    }  # fmt: skip


def moves(done: Iterable[Move], form: str) -> Iterator[bytes]:
    """Files that were moved or not, as `json` or `jsonl`."""
    return _written(done, form, _move_object, lambda _: ())


def _move_object(one: Move) -> dict[str, Any]:
    return {
        **path_fields(one.source, "from"),
        **({"to": None} if one.target is None else path_fields(one.target, "to")),
        **({"best": None} if one.best is None else path_fields(one.best, "best")),
        "size": one.size,
        "moved": one.moved,
        "reason": one.reason or None,
    }


# ------------------------------------------------------------------------------------------ what commands report


def report(done: Report) -> dict[str, Any]:
    """The result of an index run."""
    files = ("added", "duplicates", "updated", "moved", "removed", "unchanged")
    images = ("embedded", "read", "with_text", "face_scans", "faces", "captioned", "uncaptioned")
    return {
        "model": done.model,
        **{name: getattr(done, name) for name in (*files, *images)},
        "captioning_seconds": round(done.captioning_seconds, 3),
        "captions_stopped": done.captions_stopped or None,
        "skipped": _reasons(done.skipped),
        "skipped_before": _reasons(done.skipped_before),
        "unreadable": _reasons(done.unreadable),
        "partial": [path_fields(path) for path in done.partial],
        "sidecars_ignored": _reasons(done.sidecars_ignored),
        "offline": [{**path_fields(path), "reason": str(offline)} for path, offline in done.offline],
        **_left_out(done.left_out),
        "empty": [path_fields(path) for path in done.empty],
        "unmatched": list(done.unmatched),
        "engine": done.engine and done.engine.library,
        "precision": done.engine and done.engine.precision,
        "engines": _engines(done.comparison),
        "disagreed": [{**_engine(engine), "cosine": round(cosine, 6)} for engine, cosine in done.disagreed],
        "seconds": round(done.seconds, 3),
        "stages": {stage: round(spent, 3) for stage, spent in done.stages.items()},
        "images_per_second": round(done.images_per_second, 1),
    }


def _engines(comparison: Comparison | None) -> list[dict[str, Any]]:
    """The engines that were compared; `images_per_second` is the rate of one thread."""
    if comparison is None:
        return []
    return [
        {
            **_engine(engine),
            "images_per_second": round(rate, 1),
            "cosine": round(comparison.cosines[engine], 6) if engine in comparison.cosines else None,
            "chosen": engine == comparison.chosen,
        }
        for engine, rate in comparison.rates.items()
    ]


def _engine(engine: Engine) -> dict[str, str]:
    return {"engine": engine.library, "precision": engine.precision}


def status(found: Status) -> dict[str, Any]:
    """The contents of an index."""
    roots = [
        {
            **path_fields(root.path),
            "online": root.offline is None,
            "offline": None if root.offline is None else str(root.offline),
            "photos": root.photos,
            "skipped": root.skipped,
            **root.rules._asdict(),
            "exclude": list(root.rules.exclude),
        }
        for root in found.roots
    ]
    names = ("model", "fingerprint", "dim", "photos", "embeddings")
    return {
        "index": found.place,
        **{name: getattr(found, name) for name in names},
        "bytes": found.size,
        "search": found.method,
        "roots": roots,
        "offline": [
            {**path_fields(part.path), "reason": str(part.why), "photos": part.photos} for part in found.offline
        ],
        "skipped": _reasons(found.skipped),
        **_left_out(found.left_out),
        "engines": _engines(found.comparison),
        "read": found.read,
        "with_text": found.with_text,
        "face_scans": found.face_scans,
        "faces": found.faces,
        "people": found.people,
        "unnamed_groups": found.unnamed_groups,
        "captioned": found.captioned,
    }


def _left_out(of: LeftOut) -> dict[str, Any]:
    return {
        "left_out": [
            {"suffix": suffix, "files": count, "remedy": what_to_do(suffix)} for suffix, count in of.files.most_common()
        ],
        "skipped_folders": [
            {**path_fields(os.fsencode(name), "name"), "folders": count} for name, count in of.folders.most_common()
        ],
    }


def verified(sound: Verified, repaired: Sequence[str]) -> dict[str, Any]:
    """The result of a verification, with a sentence per kind of repair."""
    return {"photos": sound.photos, "embeddings": sound.embeddings, "repaired": list(repaired)}


def whys(found: Iterable[Why]) -> dict[str, Any]:
    """Why paths are or are not in an index."""
    rows = [
        {
            **path_fields(one.path),
            "state": one.state.name.lower(),
            "reason": one.detail or None,
            "root": None if one.root is None else path_fields(one.root)["path"],
        }
        for one in found
    ]
    return {"paths": rows}


def concepts(known: Concepts) -> dict[str, Any]:
    """All concepts, with their example photos."""
    rows = [
        {"name": name, "photos": [path_fields(example.path) for example in known.examples(name)]}
        for name in known.names()
    ]
    return {"concepts": rows}


def people(found: Iterable[FaceGroup], form: str) -> Iterator[bytes]:
    """Groups of faces, as `tsv` (number, name, photos, faces), `json` or `jsonl`."""
    return _written(found, form, _face_group, _face_group_lines)


def _face_group_lines(one: FaceGroup) -> Iterator[bytes]:
    yield b"%d\t%s\t%d\t%d\n" % (one.number, _field((one.name or "").encode()), one.photos, one.faces)


def _face_group(one: FaceGroup) -> dict[str, Any]:
    best = None
    if one.best is not None and one.photo is not None:
        of = one.photo.metadata
        best = {"face": one.best.id, **path_fields(one.photo.file), **_box(one.best.box, of.width, of.height)}
    counts = {"photos": one.photos, "faces": one.faces, "confirmed": one.confirmed}
    return {"number": one.number, "name": one.name, "hidden": one.hidden, **counts, "best": best}


def faces(found: Iterable[tuple[NamedFace, Photo]], form: str) -> Iterator[bytes]:
    """Faces with their photos, as `tsv` (face, confidence, left, top, right, bottom, path), `json` or `jsonl`."""
    return _written(found, form, _face, _face_lines)


def _face_lines(of: tuple[NamedFace, Photo]) -> Iterator[bytes]:
    face, photo = of
    confidence = b"" if face.confidence is None else b"%.4f" % face.confidence
    box = b"\t".join(b"%d" % edge for edge in face.box.pixels(photo.metadata.width, photo.metadata.height))
    yield b"%d\t%s\t%s\t%s\n" % (face.id, confidence, box, _field(photo.file))


def _face(of: tuple[NamedFace, Photo]) -> dict[str, Any]:
    face, photo = of
    return {
        "face": face.id,
        "number": face.number,
        "name": face.name,
        "confirmed": face.confirmed,
        "confidence": _rounded(face.confidence),
        "quality": _rounded(face.quality),
        **path_fields(photo.file),
        "time": _rounded(photo.time),
        **_box(face.box, photo.metadata.width, photo.metadata.height),
    }


def evaluation(measured: Evaluation) -> dict[str, Any]:
    """Recall in both directions, and what was measured."""
    names = ("model", "captions", "photos", "among")
    directions = {
        name: {
            "recall_at_1": recall.at_1,
            "recall_at_5": recall.at_5,
            "recall_at_10": recall.at_10,
            "median_rank": recall.median_rank,
        }
        for name, recall in (("text_to_image", measured.text_to_image), ("image_to_text", measured.image_to_text))
    }
    missing = [path_fields(path) for path in measured.missing]
    return {**{name: getattr(measured, name) for name in names}, **directions, "missing": missing}


# ------------------------------------------------------------------------------------------ parts


def _written(
    found: Iterable[Item], form: str, as_object: Callable[[Item], Any], lines: Callable[[Item], Iterable[bytes]]
) -> Iterator[bytes]:
    """One array (`json`), an object per line (`jsonl`), or `lines`."""
    if form == "json":
        yield as_json([as_object(one) for one in found], indent=2)
        return
    for one in found:
        if form == "jsonl":
            yield as_json(as_object(one))
        else:
            yield from lines(one)


def as_json(value: Any, indent: int | None = None) -> bytes:
    """One value and a newline. Text that is not Unicode, as in damaged metadata, becomes U+FFFD or "?"."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "replace") + b"\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _field(path: bytes) -> bytes:
    for plain, escaped in ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r")):
        path = path.replace(plain, escaped)
    return path


def path_fields(path: bytes, name: str = "path") -> dict[str, str]:
    """A path as `name`, plus the exact bytes as `name`_b64 if they are not UTF-8."""
    try:
        return {name: path.decode("utf-8")}
    except UnicodeDecodeError:
        return {name: path.decode("utf-8", "replace"), f"{name}_b64": base64.b64encode(path).decode("ascii")}


def path_of(fields: Mapping[str, Any], name: str = "path") -> bytes:
    """The reverse of `path_fields`. Raises `KeyError`, `ValueError`, `TypeError` or `AttributeError`."""
    exact = fields.get(f"{name}_b64")
    if exact is not None:
        return base64.b64decode(exact, validate=True)
    path: bytes = fields[name].encode("utf-8")
    return path


def _reasons(rows: Iterable[tuple[bytes, str]]) -> list[dict[str, str]]:
    return [{**path_fields(path), "reason": reason} for path, reason in rows]
