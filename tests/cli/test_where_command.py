"""`clipsearch where` and `query --where`, run as a program."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run
from PIL import Image
from terminal import in_terminal, posix

NUMBER, SCENE = next((n, scene) for n, scene in enumerate(SCENES) if len(scene.things) == 1)
TEXT = SCENE.things[0].text


def test_formats_tell_the_same(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    photo = drawn / f"{NUMBER:02d}.png"
    arguments = ("where", TEXT, photo, drawn / "00.png")
    lines = clipsearch(*arguments, "--format", "jsonl", index=drawn_index)
    assert lines.status == 0
    assert lines.err == ""
    objects = [json.loads(line) for line in lines.lines]
    assert json.loads(clipsearch(*arguments, "-f", "json", index=drawn_index).out) == objects
    one = objects[0]
    assert list(one) == ["path", "text", "width", "height", "box", "shares", "score"]
    assert one["path"] == str(photo)
    assert one["text"] == TEXT
    assert list(one["box"]) == list(one["shares"]) == ["left", "top", "right", "bottom"]
    for edge, share in one["shares"].items():
        assert one["box"][edge] == pytest.approx(share * 160, abs=0.51)
    rows = [line.split("\t") for line in clipsearch(*arguments, index=drawn_index).lines]
    assert rows == [[f"{o['score']:.4f}", *(str(edge) for edge in o["box"].values()), o["path"]] for o in objects]


@posix
@pytest.mark.parametrize("form", ["table", "tsv", "json", "jsonl"])
def test_a_name_cannot_act_on_a_terminal(tmp_path: Path, drawn_index: Path, form: str) -> None:
    photo = tmp_path / "a\x1b[31m\a\u202eb.png"
    SCENE.image.save(photo)
    shown = in_terminal("where", TEXT, photo, "-f", form, index=drawn_index, columns=200)
    assert "b.png" in shown
    for harm in ("\x1b[31m", "\a", "\u202e"):
        assert harm not in shown


def test_the_box_is_about_the_text(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    (line,) = clipsearch("where", TEXT, drawn / f"{NUMBER:02d}.png", "-f", "jsonl", index=drawn_index).lines
    box = json.loads(line)["shares"]
    left, top, right, bottom = SCENE.things[0].boxes[0]
    assert left < (box["left"] + box["right"]) / 2 < right
    assert top < (box["top"] + box["bottom"]) / 2 < bottom


@posix
def test_a_terminal_shows_a_line_a_photo(drawn: Path, drawn_index: Path) -> None:
    shown = in_terminal("where", TEXT, drawn / "00.png", drawn / "01.png", index=drawn_index, columns=100)
    lines = [re.sub(r"\x1b(\[[\d;]*m|\]8;[^\x1b]*\x1b\\)", "", line) for line in shown.splitlines()]
    assert len(lines) == 2
    assert re.match(r"-?0\.\d{3}  \d+ × \d+ at \d+, \d+ +/.*00\.png", lines[0])


def test_heat_maps_are_written_over_nothing(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    photo = drawn / f"{NUMBER:02d}.png"
    for _ in range(2):
        result = clipsearch("where", TEXT, photo, "--png", tmp_path / "a" / "heat", index=drawn_index)
        assert result.status == 0, result.err
    assert sorted(path.name for path in (tmp_path / "a" / "heat").iterdir()) == [
        f"{NUMBER:02d}-2.png",
        f"{NUMBER:02d}.png",
    ]
    picture = Image.open(tmp_path / "a" / "heat" / f"{NUMBER:02d}.png")
    assert (picture.format, picture.size) == ("PNG", SCENE.image.size)
    changed = np.abs(np.asarray(picture, int) - np.asarray(SCENE.image, int)).sum(2) > 30
    left, top, right, bottom = (round(share * 160) for share in SCENE.things[0].boxes[0])
    assert changed[top:bottom, left:right].mean() > 2 * changed.mean()


@posix
def test_a_heat_map_is_not_written_over_a_broken_link(
    clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path
) -> None:
    (tmp_path / "00.png").symlink_to("nowhere")
    assert clipsearch("where", TEXT, drawn / "00.png", "--png", tmp_path, index=drawn_index).status == 0
    assert (tmp_path / "00.png").is_symlink()
    assert (tmp_path / "00-2.png").is_file()


def test_a_bad_photo_costs_itself(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    arguments = ("where", "a dog", tmp_path / "bad.jpg", tmp_path / "gone.jpg", drawn / "00.png")
    result = clipsearch(*arguments, index=drawn_index)
    assert result.status == 2
    assert len(result.lines) == 1
    bad, gone = result.err.splitlines()
    assert bad == f"clipsearch: {tmp_path / 'bad.jpg'} cannot be used as an image: not an image that can be read"
    assert gone == f"clipsearch: {tmp_path / 'gone.jpg'} cannot be used as an image: no such file or directory"


def test_stdin_is_a_photo(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    result = clipsearch("where", "a dog", "-", index=drawn_index, stdin=(drawn / "00.png").read_bytes())
    assert result.status == 0
    assert result.lines[0].endswith("\t-")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("where", "", "PHOTO"), "the query is empty"),
        (("where", "@nobody", "PHOTO"), "nobody"),
        (("where", "a dog", "PHOTO", "--png", ""), "--png needs the name of a folder"),
        (("where", "a dog", "PHOTO", "-f", "paths"), "unknown format 'paths'"),
        (("where", "a dog", "PHOTO", "--png", "PHOTO"), "cannot be written to"),
        (("query", "a dog", "--where"), "--where needs --html FILE, --open"),
        (("query", "--where", "-f", "json"), "--where needs something to look for"),
        (("query", "--where", "--batch", "-"), "cannot be used with --batch"),
    ],
)
def test_what_makes_no_sense_is_said(
    arguments: tuple[str, ...], said: str, clipsearch: Run, drawn: Path, drawn_index: Path
) -> None:
    words = [str(drawn / "00.png") if word == "PHOTO" else word for word in arguments]
    result = clipsearch(*words, index=drawn_index)
    assert result.status == 2
    assert result.out == b""
    assert said in result.err
    assert result.err.count("\n") == 1


def test_hits_say_where(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    (line,) = clipsearch("query", TEXT, "-k", 1, "--where", "-f", "jsonl", index=drawn_index).lines
    hit = json.loads(line)
    (line,) = clipsearch("where", TEXT, hit["path"], "-f", "jsonl", index=drawn_index).lines
    alone = json.loads(line)
    assert hit["where"] == {key: alone[key] for key in ("box", "shares", "score")}
    (line,) = clipsearch("query", TEXT, "-k", 1, "-f", "jsonl", index=drawn_index).lines
    assert "where" not in json.loads(line)


def test_of_a_file_that_cannot_be_read_any_more_it_is_null(clipsearch: Run, mini_index, tmp_path: Path) -> None:
    SCENE.image.save(tmp_path / "photo.png")
    index = mini_index(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"no picture")
    for form in ("jsonl", "json"):
        hits = json.loads(clipsearch("query", TEXT, "--where", "-f", form, index=index).out)
        hit = hits[0] if form == "json" else hits
        assert hit["where"] is None


def test_the_contact_sheet_shows_where(clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    def pictures(*options: object) -> list[Image.Image]:
        sheet = tmp_path / "sheet.html"
        result = clipsearch("query", TEXT, "-k", 2, "--html", sheet, *options, index=drawn_index)
        assert result.status == 0, result.err
        found = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", sheet.read_text())
        return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]

    plain, hot = pictures(), pictures("--where")
    assert [one.size for one in plain] == [one.size for one in hot]
    for one, other in zip(plain, hot, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() > 60
