"""Concepts: means of example embeddings, stored beside the index, used in queries as @NAME."""

from __future__ import annotations

import base64
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SCENES, Run, save_scenes

from clipsearch.arrays import unit_rows
from clipsearch.errors import BadRequest, IndexUnusable
from clipsearch.search.concepts import Concepts, checked_name
from clipsearch.search.embed import Embedder
from clipsearch.store.catalogue import Store
from clipsearch.store.json_file import checksum

FILE, BACKUP = "concepts.json", "concepts.kept.json"


def stored_in(index: Path) -> dict[str, Any]:
    """The concepts as they lie in the file."""
    return json.loads((index / FILE).read_bytes())["concepts"]


def store_in(index: Path, concepts: dict[str, Any]) -> None:
    (index / FILE).write_text(json.dumps({"checksum": checksum(concepts), "concepts": concepts}))


@pytest.fixture
def index(drawn_index: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn_index, tmp_path / "index")


def test_a_concept_is_the_mean_of_its_examples(index: Path, drawn: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.png"
    SCENES[3].image.rotate(90).save(new)
    photos = [(bytes(path), path.read_bytes()) for path in (drawn / "01.png", drawn / "02.png", new)]
    with Store.open(index) as store:
        embedder = Embedder(store)
        concepts = Concepts(index)
        assert concepts.add("@both", photos[:1], embedder) == 1
        assert concepts.add("both", photos, embedder) == 3  # the first one only once
        rows = np.stack([embedder.image(data, "") for _, data in photos])
        expected = unit_rows(rows.mean(0)[None])[0]
        np.testing.assert_allclose(Concepts(index).row("both", embedder), expected, atol=1e-6)
        assert Concepts(index).names() == ["both"]


def test_a_query_asks_for_it(clipsearch: Run, index: Path, drawn: Path) -> None:
    added = clipsearch("concept", "add", "grandma", drawn / "07.png", drawn / "08.png", index=index)
    assert (added.status, added.out, added.err) == (0, b"", "@grandma has 2 photos\n")
    best = clipsearch("query", "@grandma", "-k", "2", index=index).lines
    assert set(best) == {str(drawn / "07.png"), str(drawn / "08.png")}
    together = clipsearch("query", "0.2:@grandma", SCENES[20].captions[0], "-k", "1", index=index)
    assert together.lines == [str(drawn / "20.png")]
    away = clipsearch("query", SCENES[7].captions[0], "--not", "9:@grandma", "-k", "5", index=index)
    assert str(drawn / "07.png") not in away.lines
    batch = clipsearch("query", "--batch", "-", "-k", "1", index=index, stdin=b"@grandma\n")
    assert json.loads(batch.out)["query"] == "@grandma"
    listed = json.loads(clipsearch("concept", "list", "--json", index=index).out)
    assert listed["concepts"][0]["name"] == "grandma"
    paths = [photo["path"] for photo in listed["concepts"][0]["photos"]]
    assert paths == [str(drawn / "07.png"), str(drawn / "08.png")]
    assert clipsearch("concept", "list", index=index).lines == ["@grandma  2 photos"]
    assert clipsearch("concept", "remove", "@grandma", index=index).status == 0
    gone = clipsearch("query", "@grandma", index=index)
    assert (gone.status, gone.err) == (2, "clipsearch: there is no concept @grandma; existing ones: none\n")


def test_it_outlives_its_examples_and_a_rebuild_of_the_index(clipsearch: Run, mini_index, tmp_path: Path) -> None:
    photos = save_scenes(tmp_path.resolve() / "photos", 10)
    index = mini_index(photos[0].parent)
    example = tmp_path / "example.png"
    example.write_bytes(photos[7].read_bytes())
    assert clipsearch("concept", "add", "it", example, index=index).status == 0
    example.unlink()
    assert clipsearch("index", "--rebuild", "-q", index=index).status == 0
    assert clipsearch("verify", index=index).status == 0
    assert clipsearch("query", "@it", "-k", "1", index=index).lines == [str(photos[7])]


def test_under_another_model_the_examples_are_embedded_again(index: Path, drawn: Path, tmp_path: Path) -> None:
    example = tmp_path / "example.png"
    SCENES[3].image.rotate(90).save(example)
    with Store.open(index) as store:
        embedder = Embedder(store)
        Concepts(index).add("indexed", [(b"/gone.png", (drawn / "07.png").read_bytes())], embedder)
        Concepts(index).add("file", [(bytes(example), example.read_bytes())], embedder)
        before = Concepts(index).row("file", embedder)
        stored = stored_in(index)
        for examples in stored.values():
            examples[0] |= {"model": "another", "row": ""}
        store_in(index, stored)
        np.testing.assert_allclose(Concepts(index).row("file", embedder), before, atol=1e-6)
        example.unlink()
        Concepts(index).row("file", embedder)  # it was kept
        photo = embedder.image((drawn / "07.png").read_bytes(), "")
        np.testing.assert_allclose(Concepts(index).row("indexed", embedder), photo, atol=1e-6)
        stored["file"][0] |= {"model": "another", "row": ""}
        store_in(index, stored)
        with pytest.raises(BadRequest, match=r"@file was created with another model.*example\.png"):
            Concepts(index).row("file", embedder)


def test_several_may_be_made_at_once(clipsearch: Run, index: Path, drawn: Path) -> None:
    names = [f"c{n}" for n in range(6)]
    with ThreadPoolExecutor(3) as pool:
        done = list(
            pool.map(lambda n: clipsearch("concept", "add", names[n], drawn / f"{n:02d}.png", index=index), range(6))
        )
    assert [(one.status, one.err) for one in done] == [(0, f"@{name} has 1 photo\n") for name in names]
    assert Concepts(index).names() == names


def test_where_an_example_came_from_is_kept_as_it_is(clipsearch: Run, index: Path, drawn: Path) -> None:
    data = (drawn / "03.png").read_bytes()
    assert clipsearch("concept", "add", "it", "-", index=index, stdin=data).status == 0
    assert Concepts(index).examples("it")[0].path == b"-"
    SCENES[9].image.rotate(45).save(index / "x.png")
    assert clipsearch("concept", "add", "it", "-", index=index, stdin=(index / "x.png").read_bytes()).status == 0
    stored = stored_in(index)
    stored["it"][1] |= {"model": "another"}
    store_in(index, stored)
    refused = clipsearch("query", "@it", index=index)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, b"", 1)
    assert "@it was created with another model, and its example - cannot be read: " in refused.err


def test_a_row_that_is_damaged_is_computed_again(index: Path, drawn: Path) -> None:
    with Store.open(index) as store:
        embedder = Embedder(store)
        Concepts(index).add("it", [(b"x", (drawn / "07.png").read_bytes())], embedder)
        sound = Concepts(index).row("it", embedder)
        for row in (np.full(embedder.model.dim, np.nan), np.ones(1), np.zeros(embedder.model.dim), np.empty(0)):
            stored = stored_in(index)
            stored["it"][0]["row"] = base64.b64encode(row.astype("<f4").tobytes()).decode()
            store_in(index, stored)
            np.testing.assert_allclose(Concepts(index).row("it", embedder), sound, atol=1e-6)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": [{}]}', '{"a": 3}', '{"a": [{"path": 1}]}', "\0"])
def test_a_damaged_file_is_named_and_left_alone(clipsearch: Run, index: Path, drawn: Path, text: str) -> None:
    (index / FILE).write_text(text)
    with pytest.raises(IndexUnusable, match="is damaged"):
        Concepts(index)
    refused = clipsearch("concept", "add", "a", drawn / "01.png", index=index)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert (index / FILE).read_text() == text
    assert clipsearch("query", "a circle", index=index).status == 0


def test_verify_brings_the_last_good_concepts_back(clipsearch: Run, index: Path, drawn: Path) -> None:
    for name, number in (("one", 1), ("two", 2)):
        assert clipsearch("concept", "add", name, drawn / f"{number:02d}.png", index=index).status == 0
    assert clipsearch("verify", index=index).lines[0].startswith("OK: ")
    whole = (index / FILE).read_bytes()
    for damaged in (whole[:-40], whole.replace(b'"row": "', b'"row": "AAAA'), whole.replace(b'"two"', b'"too"'), b""):
        (index / FILE).write_bytes(damaged)
        refused = clipsearch("query", "@one", index=index)
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert "clipsearch verify" in refused.err
        repaired = clipsearch("verify", index=index)
        assert repaired.status == 0
        assert repaired.lines[0] == "repaired: damaged concepts, restored from the backup"
        assert (index / FILE).read_bytes() == whole
        assert clipsearch("query", "@one", "-k", 1, index=index).lines == [str(drawn / "01.png")]
    for name in (FILE, BACKUP):
        (index / name).write_bytes(whole[:-40])
    lost = clipsearch("verify", index=index)
    assert (lost.status, lost.err.count("\n")) == (2, 1)
    assert "concepts.json and its backup concepts.kept.json are damaged" in lost.err
    assert "sound" not in lost.out.decode()


def test_names() -> None:
    assert checked_name("@grandma") == checked_name("grandma") == "grandma"
    assert checked_name("Oma-2_x.y") == "Oma-2_x.y"
    assert checked_name("été") == "été"
    for wrong in ("", "@", "a b", "../x", "@@x", "-x"):
        with pytest.raises(BadRequest, match="is not a valid concept name"):
            checked_name(wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "x", "/nowhere.png"), "no such file"),
        (("add", "a b", "{drawn}/01.png"), "is not a valid concept name"),
        (("add", "x", "{text}"), "cannot be used"),
        (("remove", "x"), "there is no concept @x"),
        (("add", b"\xff", "{drawn}/01.png"), "is not a valid concept name"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    clipsearch: Run, index: Path, drawn: Path, arguments: tuple[str, ...], words: str
) -> None:
    spelt = [a if isinstance(a, bytes) else a.format(drawn=drawn, text=__file__) for a in arguments]
    refused = clipsearch("concept", *spelt, index=index)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert words in refused.err
    assert not (index / FILE).exists()
