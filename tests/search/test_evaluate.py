"""`clipsearch eval`: ranks compared with brute force, and the program on photos with known captions."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run, damage, save_scenes
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.arrays import unit_rows
from clipsearch.errors import IndexDamaged
from clipsearch.models.encoders import NumpyEncoder
from clipsearch.models.model import mini
from clipsearch.search import evaluate as evaluation
from clipsearch.search.evaluate import Recall, evaluate, ranks
from clipsearch.search.find import Searcher
from clipsearch.search.question import image_term
from clipsearch.store.catalogue import Store

CAPTIONS = b"".join(b"%02d.png\t%s\n" % (n, scene.captions[0].encode()) for n, scene in enumerate(SCENES))


def test_recall_counts_ranks() -> None:
    assert Recall.of(np.array([1, 2, 5, 6, 10, 11])) == Recall(1 / 6, 3 / 6, 5 / 6, 5.5)
    assert Recall.of(np.array([1])) == Recall(1, 1, 1, 1)


@examples(100)
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 30), st.integers(1, 30))
def test_ranks_are_those_of_sorting(seed: int, queries: int, rows: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    asked = unit_rows(rng.normal(size=(queries, 6)))
    gallery = unit_rows(rng.normal(size=(rows, 6)))
    ids = np.sort(rng.choice(1000, rows, replace=False))
    pairs = sorted({(q, int(rng.integers(rows))) for q in range(queries) for _ in range(rng.integers(1, 4))})
    query, answer = np.array(pairs).T
    blocks = ((ids[n : n + block], gallery[n : n + block]) for n in range(0, rows, block))
    right = np.einsum("nd,nd->n", asked[query], gallery[answer])
    got = ranks(asked, blocks, query, ids[answer], right)
    for q in range(queries):
        mine = {row for other, row in pairs if other == q}
        order = np.argsort(-(asked[q] @ gallery.T))
        first = next(place for place, row in enumerate(order) if row in mine)
        assert got[q] == 1 + first  # what is ahead of the first right answer is wrong


def test_a_model_that_tells_nothing_apart_finds_nothing() -> None:
    same = np.tile(unit_rows(np.ones((1, 4))), (20, 1))
    each = np.arange(20)
    right = np.einsum("nd,nd->n", same, same) + np.float32(5e-7)  # as if it had been summed in another order
    assert (ranks(same, [(each, same)], each, each, right) == 20).all()


def test_every_photo_of_a_caption_is_right() -> None:
    texts, images = unit_rows(np.array([[1, 0]])), unit_rows(np.array([[1, 0.1], [1, 0.2], [0, 1]]))
    said, shown = np.array([0, 0]), np.array([2, 1])  # the worst and the second best
    assert ranks(texts, [(np.arange(3), images)], said, shown, np.array([0.0, images[1, 0]], np.float32)) == [2]


def test_the_program_measures_what_a_query_finds(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    """Recall over drawn scenes, against the places that `query` gives them one by one."""
    listed = [(n, scene.captions[0]) for n, scene in enumerate(SCENES)]
    queries = "".join(f"{caption}\n" for _, caption in listed).encode()
    answers = [
        json.loads(line)
        for line in clipsearch("query", "--batch", "-", "-k", 40, index=drawn_index, stdin=queries).lines
    ]
    place = {(a["query"], a["path"]): a["rank"] for a in answers}
    expected = np.array([place[caption, str(drawn / f"{n:02d}.png")] for n, caption in listed])
    lines = "".join(f"{drawn}/{n:02d}.png\t{caption}\n" for n, caption in listed).encode()
    done = clipsearch("eval", "-", "--json", index=drawn_index, stdin=lines)
    assert done.status == 0
    assert done.err == ""
    measured = json.loads(done.out)
    assert {key: measured[key] for key in ("model", "captions", "photos", "among", "missing")} == {
        "model": "mini",
        "captions": 40,
        "photos": 40,
        "among": 40,
        "missing": [],
    }
    recall = measured["text_to_image"]
    for k in (1, 5, 10):
        assert recall[f"recall_at_{k}"] == pytest.approx((expected <= k).mean())
    assert recall["median_rank"] == np.median(expected)
    assert measured["image_to_text"]["recall_at_1"] > 0.8


def test_a_table_for_people(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.tsv").write_bytes(CAPTIONS.replace(b"\n", b"\r\n") + b"\n  \n")
    file = os.path.relpath(tmp_path / "captions.tsv", drawn)
    before = os.getcwd()
    try:
        os.chdir(drawn)  # the paths of the list are relative to where the program is called
        done = clipsearch("eval", file, index=drawn_index)
    finally:
        os.chdir(before)
    head, text, image, last = done.lines
    assert head.split() == ["R@1", "R@5", "R@10", "median", "rank"]
    assert text.startswith("text to image")
    assert image.startswith("image to text")
    assert 80 <= float(text.split()[3]) <= 100
    assert last == "in percent; distinct captions: 40, their photos: 40 of 40; model: mini"


def test_photos_that_are_not_indexed_are_left_out_aloud(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    lines = b"%s/00.png\ta thing\n/gone/1.jpg\tanother\n/gone/1.jpg\tit again\n/gone/2.jpg\ta third\n" % os.fsencode(
        drawn
    )
    done = clipsearch("eval", "-", "--json", index=drawn_index, stdin=lines)
    assert done.status == 0
    assert done.err == "not in the index, ignored: /gone/1.jpg and 1 more\n"
    measured = json.loads(done.out)
    assert [row["path"] for row in measured["missing"]] == ["/gone/1.jpg", "/gone/2.jpg"]
    assert (measured["captions"], measured["photos"], measured["among"]) == (1, 1, 40)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (b"00.png\tfine\nno tab here\n", "-, line 2: expected a path, a tab and a caption"),
        (b"\tno path\n", "-, line 1: expected a path, a tab and a caption"),
        (b"00.png\t \n", "-, line 1: expected a path, a tab and a caption"),
        (b"00.png\t\xff\xfe\n", "-, line 1: the caption is not UTF-8"),
        ("00.png\t\u00a0\n".encode(), "-, line 1: expected a path, a tab and a caption"),
        ("00.png\ta dog\n".encode("utf-16-le"), "-, line 1: expected a path, a tab and a caption"),
        (b"/gone/1.jpg\ta dog\n", "none of the listed photos is indexed, such as /gone/1.jpg"),
        (b"", "the list is empty; write one path, a tab and a caption per line"),
        (b"\xef\xbb\xbf\n\n", "the list is empty; write one path, a tab and a caption per line"),
    ],
)
def test_a_list_that_cannot_be_used_gets_one_sentence(
    lines: bytes, sentence: str, clipsearch: Run, drawn_index: Path
) -> None:
    done = clipsearch("eval", "-", index=drawn_index, stdin=lines)
    assert (done.status, done.out, done.err) == (2, b"", f"clipsearch: {sentence}\n")


def test_a_list_that_is_not_there(clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    done = clipsearch("eval", tmp_path / "none.tsv", index=drawn_index)
    assert done.status == 2
    assert done.err == f"clipsearch: {tmp_path}/none.tsv cannot be read: no such file or directory\n"


def test_copies_links_and_strange_names(mini_index, tmp_path: Path) -> None:
    real = tmp_path / "real"
    save_scenes(real, 3)
    shutil.copy(real / "00.png", real / "copy of 00.png")
    strange = os.fsencode(real) + b"/caf\xe9.png"
    shutil.copy(real / "02.png", strange)
    (tmp_path / "elsewhere.png").write_bytes((real / "01.png").read_bytes())
    (real / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "link").symlink_to(real)
    link = os.fsencode(tmp_path / "link")
    paths = [link + b"/00.png", os.fsencode(real / "copy of 00.png"), strange, link + b"/link.png"]
    with Store.open(mini_index(real)) as store:
        measured = evaluate(store, [(path, SCENES[n].captions[0]) for path, n in zip(paths, (0, 0, 2, 1), strict=True)])
    assert (measured.captions, measured.photos, measured.among, measured.missing) == (3, 3, 3, [])
    assert measured.text_to_image.at_1 == 1


def test_both_directions_are_those_of_brute_force(drawn: Path, drawn_index: Path) -> None:
    """With photos of several captions, and captions of several photos."""
    said = [(n, caption) for n, scene in enumerate(SCENES) for caption in scene.captions]
    said += [(1, "a shape"), (2, "a shape"), (30, "a shape")]
    with Store.open(drawn_index) as store:
        measured = evaluate(store, [(os.fsencode(drawn / f"{n:02d}.png"), caption) for n, caption in said])
        image_ids = [store.image_of(store.roots()[0], b"%02d.png" % n) for n in range(40)]
        images = unit_rows(np.stack([store.images.embeddings_of([image_id])[1][0] for image_id in image_ids]))
    captions = sorted({caption for _, caption in said})
    texts = NumpyEncoder(mini()).encode_texts(captions)
    scores = images @ texts.T
    right = np.zeros(scores.shape, bool)
    for n, caption in said:
        right[n, captions.index(caption)] = True
    for matrix, truth, recall in (
        (scores, right, measured.image_to_text),
        (scores.T, right.T, measured.text_to_image),
    ):
        best = np.where(truth, matrix, -2).max(1, keepdims=True)
        expected = 1 + ((matrix > best) & ~truth).sum(1)
        assert len(expected) > 1
        assert recall == Recall.of(expected)


def test_an_index_that_has_lost_an_embedding_says_so(drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn_index, tmp_path / "index")
    damage(
        tmp_path / "index",
        "DELETE FROM embeddings WHERE image = (SELECT image FROM photos WHERE path = CAST('00.png' AS BLOB))",
    )
    with Store.open(tmp_path / "index") as store, pytest.raises(IndexDamaged, match="is damaged"):
        evaluate(store, [(os.fsencode(drawn / "00.png"), "a shape"), (os.fsencode(drawn / "01.png"), "another")])
    with Store.open(tmp_path / "index") as store, pytest.raises(IndexDamaged, match="is damaged"):
        Searcher(store).query([image_term(drawn / "00.png")])


def test_it_does_not_matter_how_many_scores_are_in_memory(
    drawn: Path, drawn_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(os.fsencode(drawn / f"{n:02d}.png"), text) for n, scene in enumerate(SCENES) for text in scene.captions]
    with Store.open(drawn_index) as store:
        at_once = evaluate(store, pairs)
        monkeypatch.setattr(evaluation, "_BLOCK", 7)
        assert evaluate(store, pairs) == at_once
    assert at_once.captions > 80
