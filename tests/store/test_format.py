"""FORMAT.md agrees with what the program writes."""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run
from stores import DIM, METADATA, put, row

import clipsearch
from clipsearch.cluster import milvus
from clipsearch.cluster.collection_rows import add_fields
from clipsearch.images.read import content_hash
from clipsearch.images.rules import Rules
from clipsearch.store import schema
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.store.photo import Segment

DOCUMENT = (Path(clipsearch.__file__).parent / "store/FORMAT.md").read_text(encoding="utf-8")


_TABLES, _KEYS = "SELECT name FROM sqlite_master WHERE type = 'table'", "SELECT key FROM meta"


def names_in(table_after: str) -> list[str]:
    """What the first column of the table after some words names."""
    lines = DOCUMENT[DOCUMENT.index(table_after) :].split("\n\n")[1].splitlines()[2:]
    return [name for line in lines for name in re.findall(r"`([^`]+)`", line.split("|")[1])]


def bytes_of(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


def test_its_schema_is_the_schema() -> None:
    (documented,) = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)
    assert "".join(documented.split()) == "".join((schema.SCHEMA + schema.TRIGGERS).split())
    assert f"**Format {schema.FORMAT}.**" in DOCUMENT


@pytest.mark.parametrize("table", ["roots", "drives", "photos", "images"])
def test_it_explains_every_column(table: str) -> None:
    with sqlite3.connect(":memory:") as database:
        database.executescript(schema.SCHEMA)
        columns = {name for (name,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,))}
    database.close()
    facts = set(names_in("The other columns are")) if table == "photos" else set()
    assert set(names_in(f"**{table}** are")) | facts == columns - {"id", "error"}


def test_it_explains_what_the_catalogue_says_of_itself(tmp_path: Path) -> None:
    Store.create(tmp_path / "index", "a model", DIM).close()
    with sqlite3.connect(tmp_path / "index" / CATALOGUE) as database:
        keys = {key for (key,) in database.execute("SELECT key FROM meta")}
    database.close()
    assert set(names_in("**meta** has")) == keys
    assert all(f"`{name}`" in DOCUMENT for name in Segment._fields)


def test_it_explains_what_publishing_adds(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        tables, keys = ({row[0] for row in store.database.execute(query)} for query in (_TABLES, _KEYS))
        store.change_log.start()
        more_tables, more_keys = ({row[0] for row in store.database.execute(query)} for query in (_TABLES, _KEYS))
    section = DOCUMENT[DOCUMENT.index("## Collections") :]
    assert (more_tables - tables, more_keys - keys) == ({"changes"}, {"identity"})
    assert "`changes`" in section
    assert "`identity`" in section
    with Store.open(tmp_path / "index") as store:  # the mark of the tables is right again
        assert store.change_log.last() == 0


def test_it_explains_every_field_of_a_collection() -> None:
    pytest.importorskip("pymilvus")
    fields: list[str] = []

    class Schema:
        def add_field(self, name: str, *_: object, **__: object) -> None:
            fields.append(name)

    add_fields(Schema(), DIM)
    assert sorted(names_in("A collection (format")) == sorted(fields)
    assert f"(format {milvus.FORMAT})" in DOCUMENT
    section = DOCUMENT[DOCUMENT.index("Its property") :]
    assert [name for name in milvus.Record._fields if f"`{name}`" not in section] == []


def test_every_file_of_an_index_is_in_it(clipsearch: Run, tmp_path: Path, mini_index) -> None:
    (tmp_path / "photos").mkdir()
    SCENES[0].image.save(tmp_path / "photos/a.png")
    index = mini_index(tmp_path / "photos")
    assert clipsearch("concept", "add", "grandma", tmp_path / "photos/a.png", index=index).status == 0
    assert clipsearch("query", "a star", "--type", "png", "--cut", "--save", "stars", index=index).status in (0, 1)
    with Store.open(index, write=True):
        files = {re.sub(r"\d+", "N", path.name) for path in index.iterdir()}
    assert {"catalogue.sqlite", "vectors-N.faiss", "writer.lock", "writer.pid", "concepts.json"} <= files
    listed = [name if not name.startswith("-") else f"{CATALOGUE}{name}" for name in names_in("An index is one")]
    assert files <= set(listed)
    (example,) = json.loads((index / "concepts.json").read_text())["concepts"]["grandma"]
    (documented,) = json.loads(re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)[0])["concepts"]["grandma"]
    assert example.keys() == documented.keys()
    saved = json.loads((index / "saved.json").read_text())["saved"]["stars"]
    documented = json.loads(re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)[2])["saved"]["beach dogs"]
    assert saved.keys() == documented.keys()
    assert saved["terms"][0].keys() == documented["terms"][0].keys()


def test_a_mark_can_be_computed_from_what_it_says(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        put(store, store.folders.add(b"/photos", Rules()), b"a.jpg")
        store.vectors.update()
        embedding = row(sum(b"a.jpg")).astype("<f2").tobytes()
        facts = json.dumps(METADATA.facts)
        values = [content_hash(b"a.jpg"), 30, 20, "A camera", None, None, facts, None, embedding]
        listed = list(map(bytes_of, values))
        [(mark, blob)] = store.database.execute("SELECT mark, vector FROM images JOIN embeddings ON image = id")
        assert (mark, blob) == (zlib.crc32(repr(listed).encode("ascii")), embedding)
        assert np.frombuffer(blob, "<f2").shape == (DIM,)
        [(mark,)] = store.database.execute("SELECT mark FROM photos")
        assert mark == zlib.crc32(
            repr([1, b"a.jpg", 5, 1, 0, 1, None, None, 0, *(bytes_of(fact) for fact in METADATA.facts)]).encode("ascii")
        )
