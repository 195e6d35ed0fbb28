"""Zero-shot labels: probabilities compared with a direct computation, templates, and output."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from conftest import SCENES, Run, save_scenes
from rich.cells import cell_len
from terminal import cold, in_terminal

from clipsearch.arrays import unit_rows
from clipsearch.errors import BadRequest
from clipsearch.images import decode
from clipsearch.index import Index
from clipsearch.search.embed import Embedder
from clipsearch.search.label import TEMPLATE, Classifier, _prompt, templates_of
from clipsearch.store.catalogue import Store

LABELS = ["red circle", "blue house", "dog"]


def test_probabilities_are_the_softmax_of_scaled_cosines(drawn_index: Path) -> None:
    templates = ["a photo of a {}.", "a drawing of a {}"]
    with Store.open(drawn_index) as store:
        embedder = Embedder(store)
        photos = store.unit_rows_of(range(1, 6))
        found = Classifier(embedder, LABELS, templates).probabilities(photos)
        rows = [
            np.mean([embedder.texts([template.format(label)])[0] for template in templates], axis=0) for label in LABELS
        ]
        logits = embedder.logit_scale * (photos.astype(np.float64) @ unit_rows(np.array(rows)).T)
    odds = np.exp(logits)
    np.testing.assert_allclose(found, odds / odds.sum(1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_files_are_decoded_in_another_process(
    drawn_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoding_processes: None
) -> None:
    SCENES[3].image.save(tmp_path / "new.tif")
    (tmp_path / "notes.png").write_text("no image")
    with Index(drawn_index) as index:
        expected = index.embed_images(tmp_path / "new.tif")
        monkeypatch.setattr(decode, "_decode", lambda *_: pytest.fail("decoded in this process"))
        failed: list[str] = []
        pictures = [tmp_path / "notes.png", tmp_path / "new.tif"]
        (found,) = index.label_each(LABELS, images=pictures, on_error=lambda name, error: failed.append(name))
        with pytest.raises(BadRequest, match=r"notes\.png cannot be used as an image"):
            list(index.label_each(LABELS, images=pictures))
    with Store.open(drawn_index) as store:
        (wanted,) = Classifier(Embedder(store), LABELS, [TEMPLATE]).classify([found.file], expected, 1)
    assert (found, failed) == (wanted, [str(tmp_path / "notes.png")])


def test_templates() -> None:
    assert templates_of([]) == [TEMPLATE]
    assert templates_of(["{}", "{}", "a {}"]) == ["{}", "a {}"]
    assert len(templates_of(["imagenet"])) == 80
    assert len(templates_of(["simple"])) == 7
    assert set(templates_of(["imagenet", "my {}!"])) > {"my {}!", "a bad photo of a {}."}
    for wrong in ("a photo", "imagenet21k", ""):
        with pytest.raises(BadRequest, match="is not a template"):
            templates_of([wrong])


def test_a_label_may_bring_its_article() -> None:
    assert _prompt("a photo of a {}", "cat") == "a photo of a cat"
    assert _prompt("a photo of a {}", "a person") == "a photo of a person"
    assert _prompt("art of the {}.", "an owl") == "art of an owl."
    assert _prompt("{} and {}", "the sea") == "the sea and the sea"
    assert _prompt("a photo of a {}", "anvil") == "a photo of a anvil"  # as in CLIP's own prompts


def test_a_path_of_labels_asks_for_its_last() -> None:
    assert _prompt("a photo of a {}", "animal|dog") == "a photo of a dog"
    assert _prompt("a photo of a {}", "people | a child") == "a photo of a child"
    assert _prompt("a photo of a {}", "animal|") == "a photo of a animal|"


def test_the_scale_is_the_one_that_the_model_has_learnt(drawn_index: Path) -> None:
    with Store.open(drawn_index) as store:
        embedder = Embedder(store)
        learnt = safetensors.numpy.load_file(embedder.model.weights)["logit_scale"]
        assert embedder.logit_scale == pytest.approx(np.exp(np.float64(learnt)), rel=1e-6)


def shapes() -> dict[str, str]:
    """What the drawn photos show, by file name."""
    return {f"{n:02d}.png": scene.captions[0] for n, scene in enumerate(SCENES)}


def test_a_photo_gets_the_label_that_it_shows(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    """The captions of all photos as labels: mini finds nearly every photo's own among forty."""
    (tmp_path / "labels.txt").write_text("\n".join(shapes().values()) + "\n")
    arguments = ("label", "--labels-from", tmp_path / "labels.txt", "--template", "{}")
    found = clipsearch(*arguments, index=drawn_index)
    assert found.status == 0
    rows = [line.split("\t") for line in found.lines]
    assert sorted(row[2] for row in rows) == [str(drawn / name) for name in sorted(shapes())]
    place = list(shapes().values())
    assert rows == sorted(rows, key=lambda row: (place.index(row[0]), -float(row[1])))
    right = [shapes()[Path(path).name] == label for label, _, path in rows]
    assert sum(right) >= 36
    assert all(0 < float(probability) <= 1 for _, probability, _ in rows)
    words = (tmp_path / "labels.txt").read_bytes()
    (tmp_path / "one").write_bytes(words[: words.index(b"\n") + 1])
    (tmp_path / "rest").write_bytes(words[words.index(b"\n") + 1 :])
    parts = ("--labels-from", tmp_path / "one", "--labels-from", tmp_path / "rest", "--template", "{}")
    assert clipsearch("label", *parts, index=drawn_index).out == found.out
    from_stdin = clipsearch("label", "--labels-from", "-", "--template", "{}", index=drawn_index, stdin=words)
    assert from_stdin.out == found.out


def test_all_labels_of_given_files(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.png"
    SCENES[3].image.rotate(3).save(new)
    result = clipsearch(
        *("label", *LABELS, "--all", "--image", new, "--image", drawn / "07.png", "-f", "jsonl"), index=drawn_index
    )
    objects = [json.loads(line) for line in result.lines]
    assert {one["path"] for one in objects} == {str(new), str(drawn / "07.png")}
    here = clipsearch("label", *LABELS, "--image", os.path.relpath(new), index=drawn_index)
    assert here.lines[0].split("\t")[2] == str(new)
    for one in objects:
        assert set(one["labels"]) == set(LABELS)
        assert sum(one["labels"].values()) == pytest.approx(1, abs=1e-4)
        assert one["probability"] == max(one["labels"].values()) == one["labels"][one["label"]]
    everything = json.loads(clipsearch("label", *LABELS, "-f", "json", index=drawn_index).out)
    assert len(everything) == len(SCENES)
    assert list(everything[0]) == ["path", "label", "probability", "labels"]


def test_counts(clipsearch: Run, drawn_index: Path) -> None:
    best = [line.split("\t")[0] for line in clipsearch("label", *LABELS, index=drawn_index).lines]
    counted = clipsearch("label", *LABELS, "--counts", index=drawn_index).lines
    expected = sorted(((best.count(label), label) for label in LABELS), key=lambda row: -row[0])
    assert counted == [f"{count}\t{label}" for count, label in expected]
    objects = json.loads(clipsearch("label", *LABELS, "--counts", "-f", "json", index=drawn_index).out)
    assert objects == [{"label": label, "photos": count} for count, label in expected]
    table = clipsearch("label", *LABELS, "--counts", "-f", "table", index=drawn_index).out.decode()
    assert "█" in table


def test_a_filter_chooses_what_is_labelled(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    chosen = b"%s\n" % str(drawn / "03.png").encode()
    found = clipsearch("label", *LABELS, "--files-from", "-", index=drawn_index, stdin=chosen)
    assert [line.split("\t")[2] for line in found.lines] == [str(drawn / "03.png")]
    assert clipsearch("label", *LABELS, "--type", "gif", index=drawn_index).status == 1
    assert clipsearch("label", *LABELS, "--type", "gif", "--counts", index=drawn_index).status == 1


def test_a_terminal_gets_bars(drawn: Path, drawn_index: Path) -> None:
    shown = in_terminal("label", *LABELS, "--all", "--image", drawn / "07.png", index=drawn_index, columns=120)
    lines = shown.splitlines()
    assert len(lines) == 3
    assert all("%" in line for line in lines)
    assert "█" in shown
    assert "07.png" in lines[0]
    assert "07.png" not in lines[1]


def test_labels_with_tabs_and_escapes_cannot_break_the_output(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    found = clipsearch("label", "a\tb", "\x1b[31mred", "--image", drawn / "07.png", "--all", index=drawn_index)
    assert sorted(line.split("\t")[0] for line in found.lines) == sorted(["a\\tb", "\x1b[31mred"])
    table = clipsearch("label", "\x1b[31mred", "--image", drawn / "07.png", "-f", "table", index=drawn_index)
    assert b"\x1b[31m" not in table.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no labels; give at least one"),
        (("cat", " "), "a label is empty"),
        (("cat", "--template", "photo"), "is not a template"),
        (("cat", "--labels-from", "/nowhere"), "cannot be read"),
        (("cat", "--image", "/nowhere"), "no such file"),
        (("cat", "--image", "x", "--after", "2020"), "--image cannot be combined with filters"),
        (("cat", "-f", "paths"), "unknown format 'paths'"),
        (("cat", b"\xff"), "is not UTF-8"),
        (("cat", "--template", b"{} \xff"), "is not UTF-8"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    clipsearch: Run, drawn_index: Path, arguments: tuple[str, ...], words: str
) -> None:
    refused = clipsearch("label", *arguments, index=drawn_index)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, b"", 1)
    assert words in refused.err


def test_a_file_that_is_gone_is_not_labelled(clipsearch: Run, mini_index, tmp_path: Path) -> None:
    paths = save_scenes(tmp_path.resolve() / "photos", 3)
    index = mini_index(tmp_path / "photos")
    paths[1].unlink()
    found = clipsearch("label", *LABELS, index=index)
    assert sorted(line.split("\t")[2] for line in found.lines) == [str(paths[0]), str(paths[2])]


def test_wide_letters_do_not_move_the_columns(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    for options in (("--counts",), ("--all", "--image", drawn / "07.png")):
        table = clipsearch("label", "日本日本", "cat", *options, "-f", "table", index=drawn_index).lines
        assert len({cell_len(line.partition("%")[0]) for line in table}) == 1


def test_labels_need_no_torch(drawn_index: Path) -> None:
    status, modules = cold("label", "cat", "dog", "--template", "simple", index=drawn_index)
    assert status == 0
    assert not {"torch", "open_clip"} & modules


def test_photos_that_no_label_fits(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    objects = [
        json.loads(line)
        for line in clipsearch(
            *("label", "a circle", "an accordion", "--other", "--all", "-f", "jsonl"), index=drawn_index
        ).lines
    ]
    assert len(objects) == len(SCENES)
    for one in objects:
        rest = one["labels"]["other"]
        assert sum(one["labels"].values()) == pytest.approx(1, abs=1e-4)
        assert (one["label"] == "other") == (rest > 0.5)  # not because the labels share the rest
    other = sum(one["label"] == "other" for one in objects)
    assert other > 0
    counted = clipsearch("label", "a circle", "an accordion", "--other=none of them", "--counts", index=drawn_index)
    assert f"{other}\tnone of them" in counted.lines
    single = clipsearch("label", "a circle", "--other", "-f", "jsonl", index=drawn_index)
    alone = {one["path"]: one["probability"] for one in map(json.loads, single.lines) if one["label"] == "a circle"}
    plain = clipsearch("label", "a circle", "--min-probability", 0.5, "-f", "jsonl", index=drawn_index)
    assert {one["path"]: one["probability"] for one in map(json.loads, plain.lines)} == alone
    same = clipsearch("label", "cat", "dog", "--other=dog", index=drawn_index)
    assert (same.status, same.err) == (
        2,
        "clipsearch: 'dog' is one of the labels; choose another name for the rest\n",
    )


def test_the_least_probability_holds_for_every_output(clipsearch: Run, drawn_index: Path) -> None:
    rows = [line.split("\t") for line in clipsearch("label", *LABELS, index=drawn_index).lines]
    least = ("--min-probability", 0.6)
    likely = [row for row in rows if float(row[1]) >= 0.6]
    assert 0 < len(likely) < len(rows)
    assert [line.split("\t") for line in clipsearch("label", *LABELS, *least, index=drawn_index).lines] == likely
    counted = clipsearch("label", *LABELS, *least, "--counts", index=drawn_index).lines
    assert sum(int(line.split("\t")[0]) for line in counted) == len(likely)
    every = clipsearch("label", *LABELS, *least, "--all", "-f", "json", index=drawn_index)
    assert all(min(one["labels"].values()) >= 0.6 for one in json.loads(every.out))
    assert clipsearch("label", *LABELS, "--min-probability", 1, index=drawn_index).status == 1


def test_a_file_of_labels_may_have_comments(clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("# shapes\n\na circle\n  # and\na star\n\n")
    given = clipsearch("label", "--labels-from", tmp_path / "labels", index=drawn_index)
    assert given.out == clipsearch("label", "a circle", "a star", index=drawn_index).out


def test_a_table_has_a_part_for_each_label(clipsearch: Run, drawn_index: Path) -> None:
    rows = [line.split("\t") for line in clipsearch("label", *LABELS, index=drawn_index).lines]
    parts = clipsearch("label", *LABELS, "-f", "table", index=drawn_index).out.decode().split("\n\n")
    counts = {label: sum(row[0] == label for row in rows) for label in LABELS}
    heads = [f"{label}  {count} photo{'s' * (count > 1)}" for label, count in counts.items() if count]
    assert [part.splitlines()[0] for part in parts] == heads
    assert [line.rpartition("/")[2] for part in parts for line in part.splitlines()[1:]] == [
        row[2].rpartition("/")[2] for row in rows
    ]


def test_copies_in_a_folder_per_label(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    labels = ("shape|a circle", "../a star")
    rows = [line.split("\t") for line in clipsearch("label", *labels, index=drawn_index).lines]
    folders = dict(zip(labels, ("shape/a circle", "_a star"), strict=True))
    expected = {f"{folders[label]}/{Path(path).name}": Path(path).read_bytes() for label, _, path in rows}
    for _ in range(2):
        done = clipsearch("label", *labels, "--copy-to", tmp_path / "to", index=drawn_index)
        assert (done.status, len(done.lines)) == (0, len(SCENES))
        assert done.err == f"copied {len(SCENES)} photos to 2 folders in {tmp_path}/to\n"
        found = {path.relative_to(tmp_path / "to").as_posix(): path for path in (tmp_path / "to").rglob("*.png")}
        assert {name: path.read_bytes() for name, path in found.items()} == expected
    few = clipsearch(*("label", "a dinosaur", "--other", "--copy-to", tmp_path / "few"), index=drawn_index)
    assert not list((tmp_path / "few").glob("other"))
    assert few.status == 0
    clipsearch(*("label", "a dinosaur", "--other=rest", "--copy-to", tmp_path / "all"), index=drawn_index)
    assert len(list((tmp_path / "all").rglob("*.png"))) == len(SCENES)
    assert clipsearch("label", *labels, "--all", "--copy-to", tmp_path / "x", index=drawn_index).status == 2
