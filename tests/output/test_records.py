"""JSON, TSV and paths for other programs, as documented in clipsearch/cli/README.md."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter

import pytest

from clipsearch.images.left_out import LeftOut
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.indexing.status import OfflinePart, RootStatus, Status
from clipsearch.indexing.update import Report
from clipsearch.models.encoders import Engine
from clipsearch.models.engines import Comparison
from clipsearch.output import records
from clipsearch.search.copies import Copy, Kind
from clipsearch.search.evaluate import Evaluation, Recall
from clipsearch.search.hit import Hit, Reason
from clipsearch.search.label import Labelled
from clipsearch.store.catalogue import Offline, Photo

RAW = b"/a/\xff\t\n\\.jpg"
_FACTS = {"taken_from": "exif", "people": "Anna\nBen", "rating": 4, "color_label": "Red", "title": "Fête"}
_OF = Metadata(4, 3, "2023-07-14T18:03:21", "Canon", 48.95, 2.15, "beach\ndog", None, **_FACTS, location="Paris")
KNOWN = Photo(1, b"/a/b.jpg", 20, 1_500_000_000, b"", _OF, 0, 12.5)
PLACE = {
    "title": "Maisons-Laffitte, France",
    "name": "Maisons-Laffitte",
    "region": None,
    "country": "France",
    "km": 0.5,
}
UNKNOWN = Photo(2, RAW, 10, 0, b"", Metadata(2, 1))
FACTS = {"width", "height", "size", "mtime", "taken", "camera", "latitude", "longitude", "place"}
FACTS |= {
    "keywords",
    "time",
    "duration",
    "taken_from",
    "location",
    "people",
    "rating",
    "color_label",
    "title",
    "caption",
    "generated_caption",
}

pytestmark = pytest.mark.usefixtures("places_table")


WHY = (Reason("keyword", "dog"), Reason("look"))


def objects(chunks: object) -> list[dict[str, object]]:
    return [json.loads(chunk) for chunk in chunks]


def test_a_hit_has_the_fields_that_the_readme_names() -> None:
    [found] = objects(
        records.hits([Hit(1, 0.12345678, KNOWN, 0.5, (UNKNOWN,), (b"/a/link.jpg",), why=WHY)], "jsonl", query="a dog")
    )
    assert found == {
        "query": "a dog",
        "rank": 1,
        "score": 0.123457,
        "confidence": 0.5,
        "why": [{"kind": "keyword", "matched": "dog"}, {"kind": "look"}],
        "path": "/a/b.jpg",
        "width": 4,
        "height": 3,
        "size": 20,
        "mtime": 1.5,
        "taken": "2023-07-14T18:03:21",
        "taken_from": "exif",
        "camera": "Canon",
        "latitude": 48.95,
        "longitude": 2.15,
        "place": PLACE,
        "location": "Paris",
        "keywords": ["beach", "dog"],
        "people": ["Anna", "Ben"],
        "rating": 4,
        "color_label": "Red",
        "title": "Fête",
        "caption": None,
        "generated_caption": None,
        "time": 12.5,
        "duration": None,
        "similar": [{"path": "/a/\ufffd\t\n\\.jpg", "path_b64": base64.b64encode(RAW).decode()}],
        "same_file": [{"path": "/a/link.jpg"}],
    }
    assert next(iter(found)) == "query"
    [plain] = json.loads(b"".join(records.hits([Hit(1, None, UNKNOWN)], "json")))
    assert [plain[name] for name in ("score", "confidence", "taken", "camera", "latitude", "place")] == [None] * 6
    assert base64.b64decode(plain["path_b64"]) == RAW


@pytest.mark.skipif(sys.platform != "linux", reason="names here are not any bytes")
def test_paths_are_raw_and_tsv_keeps_a_line_a_line() -> None:
    hits = [Hit(1, 0.5, KNOWN), Hit(2, None, UNKNOWN)]
    assert b"".join(records.hits(hits, "paths", b"\0")) == KNOWN.file + b"\0" + RAW + b"\0"
    assert list(records.hits(hits, "tsv")) == [b"1\t0.5000\t/a/b.jpg\n", b"2\t\t/a/\xff\\t\\n\\\\.jpg\n"]


def test_what_is_not_unicode_is_replaced() -> None:
    damaged = KNOWN._replace(metadata=KNOWN.metadata._replace(camera="a\udcff"))
    assert json.loads(next(records.hits([Hit(1, 0.5, damaged)], "jsonl")))["camera"] == "a?"


def test_other_names_of_a_file_are_in_no_list_that_a_script_would_delete() -> None:
    group = (Copy(KNOWN, Kind.BEST, 1.0), Copy(UNKNOWN, Kind.COPY, 0.9931, (b"/a/link.jpg",)))
    [found] = objects(records.duplicates([group], "jsonl", b"\n"))
    assert (found["group"], found["kind"]) == (1, "copies")
    best, other = found["photos"]
    assert set(best) == {"kind", "similarity", "path", "same_file"} | FACTS
    assert (best["kind"], other["kind"]) == ("best", "copy")
    assert (best["same_file"], other["same_file"]) == ([], [{"path": "/a/link.jpg"}])
    assert other["similarity"] == 0.9931
    assert json.loads(b"".join(records.duplicates([group], "json", b"\n"))) == [found]
    assert b"".join(records.duplicates([group], "paths", b"\0")) == RAW + b"\0"
    tsv = b"".join(records.duplicates([group], "tsv", b"\n"))
    assert tsv == b"1\tbest\t1.0000\t/a/b.jpg\n1\tcopy\t0.9931\t/a/\xff\\t\\n\\\\.jpg\n"


def test_similar_photos_are_under_another_key_than_copies() -> None:
    """So a script that deletes `.photos[1:]` finds nothing in them."""
    group = (Copy(KNOWN, Kind.SIMILAR, 1.0), Copy(UNKNOWN, Kind.SIMILAR, 0.98))
    [found] = objects(records.duplicates([group], "jsonl", b"\n"))
    assert (found["kind"], "photos" in found, len(found["similar"])) == ("similar", False, 2)
    assert b"".join(records.duplicates([group], "tsv", b"\n")).startswith(b"1\tsimilar\t1.0000\t/a/b.jpg\n")


def test_labels_and_their_counts() -> None:
    one = Labelled(b"/a\tb.jpg", (("cat\n", 0.75), ("dog", 0.25)))
    assert list(records.labels([one], "tsv")) == [b"cat\\n\t0.7500\t/a\\tb.jpg\n", b"dog\t0.2500\t/a\\tb.jpg\n"]
    [found] = objects(records.labels([one], "jsonl"))
    assert found == {"path": "/a\tb.jpg", "label": "cat\n", "probability": 0.75, "labels": {"cat\n": 0.75, "dog": 0.25}}
    assert json.loads(b"".join(records.labels([one], "json"))) == [found]
    rows = [("cat", 3), ("dog", 0)]
    assert list(records.label_counts(rows, "tsv")) == [b"3\tcat\n", b"0\tdog\n"]
    expected = [{"label": "cat", "photos": 3}, {"label": "dog", "photos": 0}]
    assert objects(records.label_counts(rows, "jsonl")) == expected
    assert json.loads(b"".join(records.label_counts(rows, "json"))) == expected


def test_a_run_of_the_indexer() -> None:
    done = Report(model="mini", added=2, skipped=[(RAW, "empty")], skipped_before=[(b"/old", "cut")], seconds=2.0)
    done.unreadable.append((b"/locked", "permission denied"))
    done.offline.append((b"/gone", Offline.MISSING))
    done.unmatched.append("sub/")
    done.left_out.add(LeftOut(Counter({".psb": 1, ".ai": 3}), Counter({"#recycle": 2, "\udcff.lrdata": 1})))
    done.empty.append(b"/none")
    done.engine = Engine("openvino", "bf16")
    done.disagreed.append((Engine("onnxruntime", "int8"), 0.9971))
    found = json.loads(records.as_json(records.report(done)))
    counts = {"added": 2} | dict.fromkeys(("duplicates", "updated", "moved", "removed", "unchanged", "embedded"), 0)
    assert counts.items() <= found.items()
    assert found["skipped"] == [records.path_fields(RAW) | {"reason": "empty"}]
    assert found["skipped_before"] == [{"path": "/old", "reason": "cut"}]
    assert found["unreadable"] == [{"path": "/locked", "reason": "permission denied"}]
    assert found["offline"] == [{"path": "/gone", "reason": "is not there"}]
    assert found["left_out"] == [
        {"suffix": ".ai", "files": 3, "remedy": None},
        {"suffix": ".psb", "files": 1, "remedy": None},
    ]
    assert found["skipped_folders"] == [
        {"name": "#recycle", "folders": 2},
        {"name": "\ufffd.lrdata", "name_b64": "/y5scmRhdGE=", "folders": 1},
    ]
    assert found["empty"] == [{"path": "/none"}]
    assert found["unmatched"] == ["sub/"]
    assert (found["engine"], found["precision"]) == ("openvino", "bf16")
    assert found["disagreed"] == [{"engine": "onnxruntime", "precision": "int8", "cosine": 0.9971}]
    assert {"seconds", "stages", "images_per_second", "model"} <= set(found)


def test_the_status_of_an_index() -> None:
    roots = [
        RootStatus(b"/a", Rules(exclude=("*.gif",)), 3, 1, None),
        RootStatus(b"/b", Rules(hidden=True, raw=False), 2, 0, Offline.EMPTY),
    ]
    paths = [(b"/a/x", "cut")], [OfflinePart(b"/a/l", 2, Offline.UNREADABLE)]
    fp32, int8 = Engine("onnxruntime", "fp32"), Engine("onnxruntime", "int8")
    compared = Comparison(int8, {fp32: 8.5, int8: 14.25}, {int8: 0.9998}, 0.0)
    found = records.status(
        Status("/index", "mini", "f", 256, 5, 4, 99, "exact", roots, *paths, compared, 4, 1, 6, 2, 1, 5, 3, 4)
    )
    here, away = found.pop("roots")
    assert found == {
        "index": "/index",
        "model": "mini",
        "fingerprint": "f",
        "dim": 256,
        "photos": 5,
        "embeddings": 4,
        "bytes": 99,
        "search": "exact",
        "offline": [{"path": "/a/l", "reason": "cannot be read", "photos": 2}],
        "skipped": [{"path": "/a/x", "reason": "cut"}],
        "left_out": [],
        "skipped_folders": [],
        "engines": [
            {"engine": "onnxruntime", "precision": "fp32", "images_per_second": 8.5, "cosine": None, "chosen": False},
            {"engine": "onnxruntime", "precision": "int8", "images_per_second": 14.2, "cosine": 0.9998, "chosen": True},
        ],
        "read": 4,
        "with_text": 1,
        "face_scans": 6,
        "faces": 2,
        "people": 1,
        "unnamed_groups": 5,
        "captioned": 3,
    }
    assert (here["online"], here["offline"], here["exclude"], here["photos"]) == (True, None, ["*.gif"], 3)
    assert (away["online"], away["offline"], away["hidden"]) == (False, "has none of its photos any more", True)
    assert [(one["raw"], one["video"]) for one in (here, away)] == [(True, True), (False, True)]


def test_an_evaluation() -> None:
    found = records.evaluation(
        Evaluation("mini", 4, 3, 9, [b"/gone"], Recall(0.25, 0.5, 1.0, 2.0), Recall(0.1, 0.2, 0.3, 4.0))
    )
    assert found["text_to_image"] == {"recall_at_1": 0.25, "recall_at_5": 0.5, "recall_at_10": 1.0, "median_rank": 2.0}
    assert found["image_to_text"]["median_rank"] == 4.0
    assert (found["captions"], found["photos"], found["among"]) == (4, 3, 9)
    assert found["missing"] == [{"path": "/gone"}]
