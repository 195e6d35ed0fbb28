from __future__ import annotations

import dataclasses
import re
import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from rich.cells import cell_len

from clipsearch.images.left_out import LeftOut
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.indexing.status import OfflinePart, RootStatus, Status
from clipsearch.indexing.update import Report
from clipsearch.models.encoders import Engine
from clipsearch.output import terminal, text
from clipsearch.search.copies import Copy, Kind
from clipsearch.search.hit import Hit
from clipsearch.search.question import Question, image_term, text_terms
from clipsearch.store.catalogue import Offline, Photo
from clipsearch.store.conditions import Circle
from clipsearch.store.filters import EVERYTHING, Filter, Size
from clipsearch.store.verify import Damage, Repair, Verified


@pytest.mark.parametrize(
    "path", ["~/Pictures/2023/summer/IMG_0001.jpg", "/a/" + "x" * 80 + ".jpg", "/\U0001f436/" * 20]
)
def test_a_shortened_path_fits_and_keeps_both_ends(path: str) -> None:
    for width in range(1, 60):
        short = terminal._shorten(path, width)
        assert cell_len(short) <= width
        if cell_len(path) <= width:
            assert short == path
        else:
            head, tail = short.split("…")
            assert path.startswith(head)
            assert path.endswith(tail)


def test_the_name_of_a_file_is_kept_whole_where_it_fits() -> None:
    path = "/some/very/long/folder/with/more/folders/in/it/the name.jpg"
    assert terminal._shorten(path, 20).endswith("/the name.jpg")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain \u00e4 \U0001f436", "plain \u00e4 \U0001f436"),
        ("a\x1b[31mb\n\t", "a\\x1b[31mb\\n\\t"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        (b"\xff\xfe.jpg", "\\xff\\xfe.jpg"),
    ],
)
def test_printable_text_has_nothing_that_acts(raw: str | bytes, shown: str) -> None:
    assert text.printable(raw) == shown


def test_amounts_are_for_people() -> None:
    assert [text.amount(n) for n in (0, 999, 1500, 37_500_000, 2.5e12)] == [
        "0 B",
        "999 B",
        "1.5 KB",
        "38 MB",
        "2500 GB",
    ]


# ------------------------------------------------------------------------------------------ tables


def copies() -> tuple[Copy, ...]:
    best = Photo(1, b"/a/best.jpg", 2_000_000, 1, b"", Metadata(4000, 3000))
    same = best._replace(file=b"/a/same.jpg")
    near = Photo(2, b"/a/near.jpg", 900, 1, b"", Metadata(40, 30))
    nearly = near._replace(image_id=3, file=b"/a/nearly.jpg")
    return (
        Copy(best, Kind.BEST, 1.0),
        Copy(same, Kind.IDENTICAL, 1.0, (b"/a/link.jpg",)),
        Copy(near, Kind.COPY, 0.9931),
        Copy(nearly, Kind.SIMILAR, 0.99999),
    )


def test_a_table_of_copies_says_how_each_is_one() -> None:
    [shown] = terminal.duplicates([copies()], 80, colour=False)
    lines = shown.decode().splitlines()
    assert lines[-1] == ""  # ends the group
    assert [line.split("  ")[0].strip() for line in lines if line[:1].strip()] == [
        "best",
        "identical",
        "copy",
        "similar 0.999",  # and not 1.000, which would look like the same contents
    ]
    [link] = [line for line in lines if "link.jpg" in line]
    assert link.startswith("  same file")  # indented below its file, whose line it must not be taken for
    assert len({line.index("/a/") for line in lines if line}) == 1  # one column of paths


def test_no_line_of_a_table_is_wider_than_the_terminal(places_table: Path) -> None:
    long = b"/home/" + b"folder/" * 30 + b"photo.jpg"
    of = Photo(1, long, 1, 1, b"", Metadata(1, 1, latitude=44.6, longitude=-0.95))
    hits = [Hit(1, 0.5, of, 0.25, (of,), (long,)), Hit(10, 0.25, of)]
    groups = [(Copy(of, Kind.BEST, 1.0), Copy(of, Kind.IDENTICAL, 1.0, (long,)))]
    shown = (
        terminal.hits(hits, 60, colour=False).decode()
        + b"".join(terminal.duplicates(groups, 60, colour=False)).decode()
    )
    assert all(cell_len(line) <= 60 for line in shown.splitlines())
    assert shown.splitlines()[1].endswith("photo.jpg  +2")  # one similar, one other name
    wide = terminal.hits(hits, 100, colour=False).decode().splitlines()
    assert all(cell_len(line) <= 100 for line in wide)
    assert wide[1].endswith("photo.jpg  +2  Mios, France")


# ------------------------------------------------------------------------------------------ sentences


def test_the_summary_of_a_run() -> None:
    done = Report(model="mini", added=1200, duplicates=3, moved=2, unchanged=4, embedded=1197, seconds=10.0)
    assert list(text.summary(done)) == [
        "1,200 added (3 duplicates), 2 moved, 4 unchanged in 10.0 s; embedded 1,197 images with mini, 120 images/s"
    ]


def test_a_summary_says_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.images.kinds._can_read", lambda extra: extra != "video")
    done = Report(empty=[b"/none"])
    done.left_out.add(
        LeftOut(Counter({".mov": 40, ".mts": 812, ".psb": 3, ".jxl": 2}), Counter({"#recycle": 1, "@eaDir": 1200}))
    )
    assert list(text.summary(done))[1:] == [
        "left out: 812 .mts, 40 .mov (install the extra video), 3 .psb, 2 .jxl (run: clipsearch index)",
        "skipped folders: 1,200 @eaDir, 1 #recycle; to include them, add --hidden",
        "no photos found in /none",
    ]


def test_a_summary_tells_new_skips_from_old_ones_and_says_what_was_not_seen() -> None:
    done = Report(skipped=[(b"/%d.jpg" % n, "it is cut short") for n in range(12)])
    done.skipped_before += [(b"/old.jpg", "empty")]
    done.unreadable.append((b"/locked", "permission denied"))
    done.offline += [(b"/usb", Offline.MISSING), (b"/mnt", Offline.EMPTY)]
    done.unmatched.append("sub/")
    done.disagreed = [(Engine("onnxruntime", "int8"), 0.9971)]
    first, *rest = text.summary(done)
    assert first.startswith("0 added, 0 unchanged, 12 skipped in ")
    assert rest[:10] == [f"skipped: /{n}.jpg: it is cut short" for n in range(10)]
    assert rest[10:] == [
        "... and 2 more; to list them, run: clipsearch status --json",
        "1 file still skipped; to list them, run: clipsearch status",
        "unreadable, photos kept in the index: /locked: permission denied",
        "offline: /usb is not there; photos kept in the index",
        "offline: /mnt has none of its photos any more; photos kept in the index;"
        " if its photos are gone for good, add --prune",
        "onnxruntime int8 was rejected: its embeddings are too far from fp32's (cosine 0.9971)",
        "--exclude 'sub/' matched nothing",
    ]


def test_every_damage_has_a_sentence_that_is_english() -> None:
    def sentences(count: int) -> list[str]:
        return text.repairs(Verified(1, 1, tuple(Repair(damage, count) for damage in Damage)))

    assert len(sentences(1)) == len(Damage)
    assert "2 files had a damaged name" in sentences(2)
    assert "1 file had a damaged name" in sentences(1)
    assert not any(re.search(r"\b1 (unsound )?(files|images|embeddings)\b|\bthem\b", one) for one in sentences(1))


def test_the_status_says_what_is_offline_and_why() -> None:
    rules = Rules(hidden=True, exclude=("*.gif", "a\x1b"), raw=False)
    roots = [RootStatus(b"/a\x1b", rules, 3, 1, None), RootStatus(b"/b", Rules(), 2000, 0, Offline.EMPTY)]
    skipped = [(b"/a/%d" % n, "cut") for n in range(25)]
    parts = [OfflinePart(b"/a/locked", 2, Offline.UNREADABLE), OfflinePart(b"/a/usb", 1, Offline.UNMOUNTED)]
    found = Status("/index", "mini", "f", 256, 2003, 4, 99, "exact", roots, skipped[:1], parts, None, *[0] * 7, 4)
    assert list(text.status(found)) == [
        "index   /index, 99 B",
        "model   mini, 256 dimensions",
        "photos  2,003 (4 distinct), 1 file skipped",
        "          3  /a\\x1b",
        "             with --hidden --exclude '*.gif' --exclude $'a\\x1b' --no-raw",
        "      2,000  /b  (offline: has none of its photos any more)",
        "          2  of these in /a/locked  (offline: cannot be read)",
        "          1  of these in /a/usb  (offline: is not mounted)",
        "  skipped  /a/0: cut",
    ]
    left_out = LeftOut(Counter({".psb": 3}))
    assert list(text.status(dataclasses.replace(found, left_out=left_out)))[-2] == "  left out: 3 .psb"
    assert next(text.status(dataclasses.replace(found, size=None, method="HNSW, not exact"))) == (
        "index   /index, search HNSW, not exact"
    )
    *_, last = text.status(dataclasses.replace(found, skipped=skipped))
    assert last == "  ... and 5 more; to list them, run: clipsearch status --json"


# ------------------------------------------------------------------------------------------ titles


def test_a_query_in_words() -> None:
    terms = [*text_terms("a dog -people"), image_term("/a/beach.jpg"), image_term("b.jpg", negative=True)]
    assert text.question_title(Question(tuple(terms))) == "a dog, not people, like beach.jpg, unlike b.jpg"
    assert text.question_title(Question()) == ""


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (EVERYTHING, ""),
        (Filter(after=datetime(2023, 6, 1)), "since 2023-06"),
        (Filter(after=datetime(2023, 6, 1, 18, 3)), "since 2023-06-01 18:03"),
        (Filter(before=datetime(2023, 6, 1, 0, 0, 5, 99)), "before 2023-06-01 00:00:05"),
        (Filter(near=Circle(48.85, 2.35, 5)), "within 5 km of 48.85, 2.35"),
        (Filter(within=(48.8, 2.2, 48.9, 2.5)), "inside 48.8, 2.2 to 48.9, 2.5"),
        (Filter(camera="Canon", size=("+2M", Size(most=10_000_000))), "Canon, at least 2.0 MB and at most 10 MB"),
        (Filter(types=("jpg", ".png", "TIFF")), "jpeg or png or tiff"),
        (Filter(camera=("Canon", "Nikon"), orientation=("square", "portrait")), "Canon or Nikon, square or portrait"),
        (
            Filter(name=("a b", "c"), reads=("d", "e"), keywords=("f", "g")),
            "named a b or c, with the text d or e, tagged f and g",
        ),
        (Filter(near=(Circle(1, 2, 3), Circle(4, 5))), "within 3 km of 1, 2 or within 10 km of 4, 5"),
        (Filter(orientation="portrait", files=(b"/a", b"/b")), "portrait, among 2 files"),
    ],
)
def test_a_filter_in_words(where: Filter, words: str) -> None:
    assert text.filter_title(where) == words


def test_a_folder_of_the_home_is_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert text.filter_title(Filter(under=str(tmp_path / "Pictures"))) == "in ~/Pictures"
    assert text.filter_title(Filter(under=("/a", str(tmp_path / "b")))) == "in /a or ~/b"


@pytest.mark.parametrize(
    "path", [b"plain.png", b"it's \\ a b.png", b"a\nb'\\.png", b"latin-\xe9.png", b"\xe2\x80\xae1", b"\x01\x7f0"]
)
def test_a_quoted_path_is_that_path_in_a_shell_and_one_line(path: bytes) -> None:
    word = text.quoted(path)
    assert word.isprintable()
    assert subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout == path
