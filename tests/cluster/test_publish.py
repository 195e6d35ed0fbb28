"""Publishing an index to a collection, and updating the collection."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_photos import DIM, fill, new_collection, put

from clipsearch.cluster import milvus
from clipsearch.cluster.collection import open_collection
from clipsearch.cluster.collection_rows import escaped, unescaped
from clipsearch.cluster.publish import publish
from clipsearch.errors import (
    BadArgument,
    BadRequest,
    CollectionOutdated,
    IndexEmpty,
    IndexTooNew,
    IndexUnusable,
    ModelMismatch,
    NoIndex,
)
from clipsearch.images.rules import Rules
from clipsearch.models.model import mini
from clipsearch.paths import Collection
from clipsearch.store.catalogue import Store
from clipsearch.store.filters import Filter
from clipsearch.store.photo import Line
from clipsearch.store.schema import OF_PHOTO

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.fixture(autouse=True)
def _ask_often_for_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """pymilvus sleeps for 0.5 s before it checks whether an index is ready."""
    from pymilvus.client import grpc_handler

    often = SimpleNamespace(**vars(time) | {"sleep": lambda _: time.sleep(0.01)})
    monkeypatch.setattr(grpc_handler, "time", often)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    fill(tmp_path / "index", tmp_path / "photos", 120)
    return tmp_path / "index"


@pytest.fixture
def place(tmp_path: Path) -> Collection:
    return new_collection(tmp_path)


def rows_of(place: Collection) -> dict[int, Any]:
    """All that a collection has."""
    address = milvus.parse(place)
    client = milvus.connect(address)
    milvus.load(client, address)
    found = client.query(address.name, "id >= 0", output_fields=["*"], limit=16_000)
    client.close()
    return {row.pop("id"): row for row in found}


@pytest.mark.skipif(os.name == "nt", reason="modes")
def test_only_its_owner_can_read_a_folder_of_milvus_lite(index: Path, place: Collection) -> None:
    folder = Path(place)
    before = os.umask(0)
    try:
        publish(index, place)
        assert not [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
        for path in (folder, *folder.rglob("*")):  # as an older version left them
            path.chmod(0o755)
        with open_collection(place):
            pass
        assert not [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
    finally:
        os.umask(before)


def test_what_is_no_collection_is_left_as_it_is(index: Path, tmp_path: Path) -> None:
    (tmp_path / "file.db").write_text("of another program")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "folder.db/notes").write_text("the user's own")
    for name in ("file", "folder"):
        with pytest.raises(IndexUnusable, match=f"is a {name}"):
            publish(index, Collection(tmp_path / f"{name}.db"))
    assert (tmp_path / "file.db").read_text() == "of another program"
    assert os.listdir(tmp_path / "folder.db") == ["notes"]


# What a collection must have: a row for each photo, for each frame of a video, and for each part of a panorama.
EXPECTED = (
    "SELECT photos.id, photos.root, photos.path, images.id, CASE WHEN time IS NULL THEN main.content ELSE"
    " images.content END, images.id = photos.image, frames.time,"
    " photos.keywords, size, lines, vector"
    " FROM photos LEFT JOIN frames ON frames.whole = photos.image"
    " JOIN images ON images.id = coalesce(frames.image, photos.image) JOIN embeddings ON embeddings.image = images.id"
    " JOIN images AS main ON main.id = photos.image LEFT JOIN texts ON texts.image = main.id"
    " ORDER BY photos.id, images.id"
)


def assert_in_step(index: Path, place: Collection) -> None:
    found = [
        (
            row["photo"], row["root"], unescaped(row["path"]), row["image"], bytes.fromhex(row["content"]),
            row["stands"], row["time"], row["keywords"], row["size"],
            None if row["lines"] is None else [json.loads(line) for line in row["lines"]],
            np.array(row["row"], "<f2").tobytes(),
        )
        for _, row in sorted(rows_of(place).items())
    ]  # fmt: skip
    with Store.open(index) as store:
        rows = store.database.execute(EXPECTED).fetchall()
    assert found == [(*row[:9], None if row[9] is None else json.loads(row[9] or "[]"), row[10]) for row in rows]


def change(index: Path, count: int) -> None:
    """Take some photos away, change some, and add some: `count` of each."""
    with Store.open(index, write=True) as store:
        (root,) = store.roots()
        known = [known.path for known in store.photos.known(root)]
        store.photos.remove(root, known[:count])
        for number in range(count):
            row = np.random.default_rng(number).normal(size=DIM).astype(np.float32)
            put(store, root, 1000 + number, row / np.linalg.norm(row))
        store.database.execute("UPDATE photos SET size = 77 WHERE path IN (SELECT path FROM photos LIMIT ?)", (count,))
        store.database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) WHERE mark != mark({OF_PHOTO})")
        store.prune()
        store.commit()


def test_all_is_there_once_and_then_what_changed(index: Path, place: Collection) -> None:
    assert publish(index, place) == (120, 0, 120)
    assert_in_step(index, place)
    assert publish(index, place) == (0, 0, 120)
    change(index, 4)
    written, deleted, photos = publish(index, place)
    assert (written, deleted, photos) == (8, 4, 120)
    assert_in_step(index, place)


def test_text_that_was_read_later(index: Path, place: Collection) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        image = store.ocr_text.unread()[0].image_id
        store.ocr_text.put(image, [Line("EXIT", 0.125, 0, 1, 1)])
        store.commit()
        photos = len(store.photos_of([image]))
    assert publish(index, place) == (photos, 0, 120)
    assert_in_step(index, place)
    with open_collection(place) as collection:
        assert collection.lines_of([image]) == {image: [Line("EXIT", 0.125, 0, 1, 1)]}
        assert len(collection.images_in(collection.select(Filter(reads="exit")))) == 1


def test_a_video_that_became_a_photo(index: Path, place: Collection) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        video = next(row for row in store.database.execute(EXPECTED) if not row[5])  # a frame of it
        still = next(store.by_path(store.select(Filter(types="png"))))
        change = (still.image_id, b"now.png", video[0])
        store.database.execute("UPDATE photos SET image = ?, path = ? WHERE id = ?", change)
        store.database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) WHERE mark != mark({OF_PHOTO})")
        store.prune()
        store.commit()
    publish(index, place)
    assert_in_step(index, place)


def set_record(place: Collection, **values: Any) -> None:
    address = milvus.parse(place)
    client = milvus.connect(address)
    record = milvus.load(client, address)
    assert record is not None
    properties = {milvus._PROPERTY: json.dumps(record._asdict() | values)}
    client.alter_collection_properties(address.name, properties=properties)
    client.close()


def test_a_collection_of_an_older_format_is_replaced_if_that_is_asked_for(index: Path, place: Collection) -> None:
    publish(index, place)
    set_record(place, format=2, counts=None)
    for ask in (lambda: open_collection(place), lambda: publish(index, place)):
        with pytest.raises(CollectionOutdated, match="format 2 of an older clipsearch, and must be published again"):
            ask()
    assert publish(index, place, replace=True) == (120, 0, 120)
    assert_in_step(index, place)
    set_record(place, format=99)
    with pytest.raises(IndexTooNew, match="format 99 of a newer clipsearch"):
        publish(index, place, replace=True)


def test_a_change_log_of_an_older_version_is_started_anew(index: Path, place: Collection) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        before = store.change_log.identity()
        store.database.execute("DROP TRIGGER text_logged")
        store.database.seal_schema()
        store.commit()
    change(index, 2)
    publish(index, place)
    assert_in_step(index, place)
    with Store.open(index) as store:
        assert store.change_log.identity() not in (None, before)


def test_a_folder_that_moved(index: Path, place: Collection, tmp_path: Path) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        store.folders.move(store.roots()[0], os.fsencode(tmp_path / "elsewhere"))
        store.commit()
    assert publish(index, place).written == 0
    with open_collection(place) as collection:
        assert [root.path for root in collection.roots()] == [os.fsencode(tmp_path / "elsewhere")]


def test_a_folder_that_became_part_of_another(index: Path, place: Collection, tmp_path: Path) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        store.folders.add(os.fsencode(tmp_path), Rules())
        store.commit()
    publish(index, place)
    assert_in_step(index, place)


def test_all_photos_are_gone(index: Path, place: Collection) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        store.folders.remove(store.roots()[0])
        store.prune()
        store.commit()
    assert publish(index, place) == (0, 120, 0)
    with open_collection(place) as collection, pytest.raises(IndexEmpty):
        collection.require_photos()


def test_an_index_that_was_made_anew_takes_its_own_place(index: Path, place: Collection) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        with store.rebuilding(mini().to_json(), DIM) as rebuilt:
            put(rebuilt, rebuilt.roots()[0], 5, np.eye(1, DIM, 3, dtype=np.float32)[0])
        store.commit()
    assert publish(index, place) == (1, 119, 1)
    assert_in_step(index, place)


def test_another_index_needs_to_be_told(index: Path, place: Collection, tmp_path: Path) -> None:
    publish(index, place)
    fill(tmp_path / "other", tmp_path / "others", 30)
    with pytest.raises(BadRequest, match=r"was published from another index, .*/index"):
        publish(tmp_path / "other", place)
    assert_in_step(index, place)
    assert publish(tmp_path / "other", place, replace=True) == (30, 90, 30)
    assert_in_step(tmp_path / "other", place)


def test_a_collection_of_another_model_is_refused_by_name(index: Path, place: Collection) -> None:
    publish(index, place)
    with Store.open(index, write=True) as store:
        other = replace(mini(), name="ViT-B-32/openai", sha256="0" * 64).to_json()
        store.database.set_meta("model", other)
        store.commit()
    with pytest.raises(ModelMismatch, match=r"the collection .*photos.* has embeddings of mini, the index of ViT"):
        publish(index, place, replace=True)


def test_a_collection_of_another_program_is_left_alone(index: Path, place: Collection) -> None:
    from pymilvus import DataType

    address = milvus.parse(place)
    client = milvus.connect(address)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(address.name, schema=schema)
    client.close()
    with pytest.raises(IndexUnusable, match="was not made by clipsearch"):
        publish(index, place, replace=True)


def test_there_is_no_collection(place: Collection, tmp_path: Path) -> None:
    with pytest.raises(NoIndex):
        open_collection(place)
    (tmp_path / "file.db").write_text("nothing")
    with pytest.raises(IndexUnusable):
        open_collection(Collection(tmp_path / "file.db"))
    assert not (tmp_path / "photos.db").exists()


def test_a_server_that_does_not_answer(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "_SECONDS", 0.5)
    with pytest.raises(IndexUnusable, match=r"milvus://127\.0\.0\.1:9/photos cannot be used"):
        publish(index, Collection("milvus://127.0.0.1:9/photos"))


KILLED = """
import sys
from pathlib import Path
from clipsearch.cluster import publish as p
from clipsearch.paths import Collection
p._AT_ONCE, p._SECONDS = 10, 0.0
print("begun", flush=True)
p.publish(Path(sys.argv[1]), Collection(sys.argv[2]))
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_as_a_clean_one(
    index: Path, place: Collection, tmp_path: Path, kills: int
) -> None:
    moment = random.Random(kills)
    for number in range(kills):
        if number % 3 == 2:
            change(index, 3)
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(index), place], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moment.uniform(0.6, 1.6))
            process.kill()
    publish(index, place)
    assert_in_step(index, place)
    (tmp_path / "clean").mkdir()
    clean = new_collection(tmp_path / "clean")
    publish(index, clean)
    assert rows_of(place) == rows_of(clean)


def test_without_the_packages_a_sentence_says_so(
    index: Path, place: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("pymilvus", "milvus_lite"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(BadRequest, match=r"pip install '\.\[milvus\]'"):
                publish(index, place)


# ------------------------------------------------------------------------------------------ addresses and texts


@pytest.mark.parametrize(
    ("text", "uri", "database", "name"),
    [
        ("milvus://host/photos", "http://host:19530", "", "photos"),
        ("milvus://host:1234/photos/", "http://host:1234", "", "photos"),
        ("milvus://host/archive/photos", "http://host:19530", "archive", "photos"),
        ("milvus://[::1]:7/photos", "http://[::1]:7", "", "photos"),
        ("/some/where/photos_2.db", "/some/where/photos_2.db", "", "photos_2"),
    ],
)
def test_addresses(text: str, uri: str, database: str, name: str) -> None:
    assert milvus.parse(Collection(text))[:3] == (uri, database, name)


@pytest.mark.parametrize(
    "text",
    ["milvus://", "milvus://host", "milvus://host:x/photos", "milvus://host/a/b/c", "milvus://host/a?b=c", "a b.db"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadArgument):
        milvus.parse(Collection(text))


def test_a_password_does_not_belong_into_an_address() -> None:
    with pytest.raises(BadArgument, match="CLIPSEARCH_MILVUS_TOKEN"):
        milvus.parse(Collection("milvus://me:secret@host/photos"))


def test_token_and_tls_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: dict[str, Any] = {}

    class Client:
        def __init__(self, uri: str, **options: Any) -> None:
            given_to.update(options, uri=uri)

    monkeypatch.setattr("pymilvus.MilvusClient", Client)
    monkeypatch.setenv(milvus.TLS, "/certificates/ours.pem")
    monkeypatch.setenv(milvus.TOKEN_FILE, str(tmp_path / "token"))
    (tmp_path / "token").write_text("me:secret\n")
    milvus.connect(milvus.parse(Collection("milvus://host/archive/photos")))
    assert given_to["uri"] == "https://host:19530"
    assert given_to["token"] == "me:secret"
    assert given_to["db_name"] == "archive"
    assert (given_to["secure"], given_to["server_pem_path"]) == (True, "/certificates/ours.pem")
    (tmp_path / "token").unlink()
    with pytest.raises(BadRequest, match="CLIPSEARCH_MILVUS_TOKEN_FILE"):
        milvus.connect(milvus.parse(Collection("milvus://host/photos")))


@given(st.binary(max_size=40), st.binary(max_size=10))
def test_a_path_as_text_and_back(path: bytes, below: bytes) -> None:
    assert unescaped(escaped(path)) == path
    assert escaped(path + b"/" + below).startswith(escaped(path) + "/")
