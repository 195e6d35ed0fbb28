"""Previews, contact sheets, copying and linking results, and `--help`, run as a program."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SCENES, Run
from PIL import ExifTags, Image
from terminal import every_command, help_examples, posix

from clipsearch.search.question import CUT, STRICT


def commands() -> dict[str, str]:
    """Every command, with the help of its function."""
    return {name: command.help or "" for name, command in every_command().items()}


# ------------------------------------------------------------------------------------------ places


def test_results_have_the_town_where_they_were_taken(
    clipsearch: Run, mini_index: Callable[..., Path], places_table: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    SCENES[0].image.save(tmp_path / "photos/paris.jpg", exif=exif)
    SCENES[1].image.save(tmp_path / "photos/anywhere.jpg")
    index = mini_index(tmp_path / "photos")

    [here] = map(json.loads, clipsearch("query", "--near", "Paris", "-f", "jsonl", index=index).lines)
    assert (here["path"], here["place"]["name"]) == (str(tmp_path / "photos/paris.jpg"), "Paris")
    assert clipsearch("query", "--near", "Paris, Texas", index=index).status == 1
    every = [json.loads(line) for line in clipsearch("query", "-f", "jsonl", index=index).lines]
    assert sorted((hit["place"] or {}).get("title", "") for hit in every) == ["", "Paris, France"]
    table = clipsearch("query", "-f", "table", index=index, COLUMNS="120")
    assert sum(line.endswith("Paris, France") for line in table.lines) == 1
    assert b"Paris" not in clipsearch("query", "-f", "tsv", index=index).out

    refused = clipsearch("query", "--near", "Springfield", index=index)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "'Springfield, Illinois'" in refused.err


def test_a_cache_that_cannot_be_written_costs_only_the_names_of_places(
    clipsearch: Run, mini_index: Callable[..., Path], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    (tmp_path / "photos").mkdir()
    SCENES[0].image.save(tmp_path / "photos/paris.jpg", exif=exif)
    index = mini_index(tmp_path / "photos")
    (tmp_path / "file").touch()
    found = clipsearch("query", "-f", "json", index=index, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert found.status == 0
    assert json.loads(found.out)[0]["place"] is None
    note, warning = found.err.splitlines()
    assert note.startswith("building the table of places")
    assert warning.startswith(f"no names of places: the table of places cannot be built in {tmp_path / 'file'}")


# ------------------------------------------------------------------------------------------ likes


def test_more_like_these_less_like_those(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    def first(*options: object) -> list[str]:
        return clipsearch("query", *options, "-k", "1", "--with-self", index=drawn_index).lines

    a, b = drawn / "07.png", drawn / "08.png"
    assert first("--like", a) == first("--image", a) == [str(a)]
    both = ("query", "--like", a, "--like", b)
    assert set(clipsearch(*both, "-k", "9", "-k", "2", "--with-self", index=drawn_index).lines) == {str(a), str(b)}
    assert first("--like", a, "--like", f"0.5:{b}", "--unlike", f"0.6:{b}") == [str(a)]
    ranked = clipsearch("query", SCENES[7].captions[0], "--unlike", f"3:{a}", "-k", "40", index=drawn_index).lines
    assert ranked.index(str(a)) > 30
    alone = clipsearch("query", "--unlike", a, index=drawn_index)
    assert (alone.status, alone.err.count("\n")) == (2, 1)


def test_a_batch_is_read_ahead_from_a_file_and_not_from_a_pipe(
    clipsearch: Run, drawn_index: Path, tmp_path: Path
) -> None:
    lines = [scene.captions[0] for scene in SCENES] * 2
    (tmp_path / "queries").write_text("\n".join(lines))
    ahead = clipsearch("query", "--batch", tmp_path / "queries", "-k", "1", index=drawn_index)
    cache = str(tmp_path / "another cache")
    one_by_one = clipsearch(
        *("query", "--batch", "-", "-k", "1"), index=drawn_index, stdin="\n".join(lines).encode(), XDG_CACHE_HOME=cache
    )
    found, expected = ([json.loads(line) for line in run.lines] for run in (ahead, one_by_one))
    assert [hit["path"] for hit in found] == [hit["path"] for hit in expected]
    assert len(found) == 2 * len(SCENES)
    for a, b in zip(found, expected, strict=True):
        assert (a["score"], a["confidence"]) == pytest.approx((b["score"], b["confidence"]), abs=2e-6)
    assert ahead.err == one_by_one.err == ""


# ------------------------------------------------------------------------------------------ orders


def test_results_in_another_order(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    def query(*options: object) -> list[str]:
        done = clipsearch("query", *options, index=drawn_index)
        assert (done.status, done.err) == (0, ""), options
        return done.lines

    best = query("a red circle", "-k", "7")
    backwards = sorted(best, reverse=True)
    assert query("a red circle", "-k", "7", "--sort", "score") == best
    for sort in (("--sort", "-name"), ("--sort=-name",)):
        assert query(*sort, "-k", "7", "a red circle") == backwards
        assert query("a red circle", "-k", "7", *sort, "-stripes") == sorted(
            query("a red circle", "-k", "7", "--not", "stripes"), reverse=True
        )
    assert query("--sort", "-name", "-k", "2") == [str(drawn / name) for name in ("39.png", "38.png")]
    sizes = sorted((path.stat().st_size, str(path)) for path in drawn.iterdir())
    assert query("--sort", "size", "-k", "3") == [path for _, path in sizes[:3]]

    for form in ("json", "jsonl"):
        out = "\n".join(query("a red circle", "-k", "7", "--sort", "-name", "-f", form))
        hits = json.loads(out) if form == "json" else [json.loads(line) for line in out.splitlines()]
        assert [hit["path"] for hit in hits] == backwards
        assert [best[hit["rank"] - 1] for hit in hits] == backwards
    rows = [row.split("\t") for row in query("a red circle", "-k", "7", "--sort", "-name", "-f", "tsv")]
    assert [(best[int(rank) - 1], path) for rank, _, path in rows] == [(path, path) for path in backwards]
    table = query("a red circle", "-k", "7", "--sort", "-name", "-f", "table")
    assert [row.split()[-1].rpartition("/")[2] for row in table[1:]] == [Path(path).name for path in backwards]

    (tmp_path / "queries").write_text("a red circle\na star\n")
    batch = [json.loads(row) for row in query("--batch", tmp_path / "queries", "--sort", "-name", "-k", "7")]
    assert [hit["path"] for hit in batch[:7]] == backwards
    refused = clipsearch("query", "--batch", tmp_path / "queries", "--sort", "colour", index=drawn_index)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, b"", 1)

    options = (
        "--html",
        tmp_path / "page.html",
        "--copy-to",
        tmp_path / "to",
        "--numbered",
        "-k",
        "3",
        "--sort",
        "name",
    )
    clipsearch("query", "a red circle", *options, index=drawn_index)
    names = [Path(path).name for path in sorted(best[:3])]
    assert sorted(os.listdir(tmp_path / "to")) == [f"00{n}-{name}" for n, name in enumerate(names, 1)]
    page = (tmp_path / "page.html").read_text()
    assert sorted(names, key=page.index) == names
    assert "by name" in page


# ------------------------------------------------------------------------------------------ looking


def test_a_contact_sheet(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    page = tmp_path / "a page.html"
    found = clipsearch("query", "a red circle", "-k", "5", "--html", page, index=drawn_index)
    assert found.status == 0
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert text.count('<li class="card">') == 5 == text.count("data:image/jpeg;base64,")
    places = [text.index(Path(line).name) for line in found.lines]
    assert places == sorted(places)
    assert text.count("confidence ") == 5
    assert "<title>a red circle</title>" in text
    again = clipsearch("query", "a blue circle", "-k", "3", "--html", page, index=drawn_index)
    assert again.status == 0
    assert page.read_text().count('<li class="card">') == 3
    photo = tmp_path / "photo.png"
    SCENES[0].image.save(photo)
    before = photo.read_bytes()
    refused = clipsearch("query", "a red circle", "--html", photo, index=drawn_index)
    assert refused.err == f"clipsearch: {photo} exists and is not a contact sheet of clipsearch; choose another name\n"
    assert photo.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a page.html", "photo.png"]
    refused = clipsearch("query", "a red circle", "--html", "/nowhere/x.html", index=drawn_index)
    assert refused.err == "clipsearch: /nowhere/x.html cannot be written: no such file or directory\n"


@posix
def test_the_contact_sheet_is_opened(clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(tmp_path / "opened"))}\n')
    browser.chmod(0o755)
    page = tmp_path / "page.html"
    shown = clipsearch("query", "a circle", "--html", page, "--open", index=drawn_index, BROWSER=f"{browser} %s")
    assert shown.status == 0
    assert (tmp_path / "opened").read_text().strip() == page.as_uri()
    environment = {"BROWSER": f"{browser} %s", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "cache/clipsearch").mkdir(parents=True)
    (tmp_path / "cache/clipsearch/contact-sheet.html").write_text("<!DOCTYPE html>\n<html>of an older version</html>")
    for _ in range(2):  # the second takes the place of the first
        temporary = clipsearch("query", "a circle", "--open", index=drawn_index, **environment)
    assert temporary.status == 0
    opened = (tmp_path / "opened").read_text().strip()
    assert opened == (tmp_path / "cache/clipsearch/contact-sheet.html").as_uri()
    assert (tmp_path / "cache/clipsearch/contact-sheet.html").stat().st_mode & 0o777 == 0o600
    assert temporary.err == f"contact sheet: {opened.removeprefix('file://')}\n"


def on_a_terminal_that_answers(
    query: bytes, answer: bytes, *arguments: object, index: Path, stdin: object = None
) -> str:
    """What a run shows on a terminal of 80 by 24 that has one thing to say."""
    import fcntl
    import pty
    import struct
    import termios

    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 800, 480))
    environment = os.environ | {"CLIPSEARCH_INDEX": str(index), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "clipsearch", *map(str, arguments)]
    streams = {"stdin": terminal if stdin is None else stdin, "stdout": terminal, "stderr": terminal}
    process = subprocess.Popen(command, env=environment, **streams)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        shown += part
        if query and query in part:
            os.write(master, answer)
    os.close(master)
    assert process.wait() == 0, shown
    return shown.decode()


@posix
def test_a_preview_in_the_terminals_own_way(drawn: Path, drawn_index: Path) -> None:
    preview = ("query", "--image", drawn / "07.png", "--with-self", "-k", "2", "--preview")
    sixel = on_a_terminal_that_answers(b"\x1b[c", b"\x1b[?62;4;6c", *preview, index=drawn_index)
    assert sixel.count("\x1bP") == 2  # how a picture in Sixel begins
    assert "07.png" in sixel
    blocks = on_a_terminal_that_answers(b"\x1b[c", b"\x1b[?62;6c", *preview, index=drawn_index)
    assert "\x1bP" not in blocks
    assert blocks.count("▀") == 2 * 24 * 12  # square photos
    assert re.search(r"\x1b\[38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m▀", blocks)
    assert blocks.index("07.png") < blocks.index("▀")
    piped = on_a_terminal_that_answers(b"", b"", *preview, index=drawn_index, stdin=subprocess.DEVNULL)
    assert piped.count("▀") == blocks.count("▀")  # nobody is there to answer


@posix
def test_the_colours_of_a_preview_are_those_of_the_photo(tmp_path: Path, mini_index, clipsearch: Run) -> None:
    (tmp_path / "photos").mkdir()
    picture = Image.new("RGB", (400, 200), (10, 20, 30))
    picture.paste((200, 100, 50), (0, 100, 400, 200))
    picture.save(tmp_path / "photos" / "two.png")
    index = mini_index(tmp_path / "photos")
    shown = clipsearch("query", "--type", "png", "--preview", index=index).out.decode().splitlines()
    assert len(shown) == 2 + 12
    assert shown[2].startswith("\x1b[38;2;10;20;30;48;2;10;20;30m▀")
    assert shown[-1].endswith("\x1b[38;2;200;100;50;48;2;200;100;50m▀\x1b[0m")


def test_a_preview_into_a_pipe(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    shown = clipsearch("query", "--image", drawn / "07.png", "-k", "1", "--preview", index=drawn_index)
    assert shown.status == 0
    assert "▀" in shown.out.decode()
    assert shown.err == ""


def test_what_excludes_each_other_is_refused(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    photo = (drawn / "07.png").read_bytes()
    for arguments, words in (
        (("query", "a circle", "--preview", "-f", "json"), "leave out --format"),
        (("query", "a circle", "--preview", "-0"), "leave out --format"),
        (("query", "--image", "-", "--files-from", "-"), "only one option can read stdin"),
        (("query", "--image", "-", "--like", "-"), "only one option can read stdin"),
        (("query", "--batch", "-", "--files-from", "-"), "only one option can read stdin"),
        (("query", "--batch", "-", "--html", "x"), "leave out other queries and outputs"),
        (("label", "--labels-from", "-", "--image", "-"), "only one option can read stdin"),
        (("label", "a", "--counts", "--all"), "leave out --all"),
        (("duplicates", "--identical", "--similar"), "not both"),
        (("duplicates", "--similarity", "0.9"), "--similarity needs --similar"),
        (("duplicates", "--similar", "-0"), "are not printed as bare paths"),
        (("duplicates", "--similar", "--format", "paths"), "are not printed as bare paths"),
        (("query", "a", "--cut", "--min-confidence", "0.1"), "use one of them"),
        (("query", "a", "--cut", "--strict"), "use one of them"),
        (("query", "a", "--min-score", "nan"), "--min-score must be a cosine"),
        (("query", "a", "--copy-to", ""), "--copy-to needs a name"),
        (("query", "a", "--html", "-"), "--html needs a name"),
        (("query", "a", "--camera", ""), "--camera must not be empty"),
        (("query", "a", "--under", ""), "--under must not be empty"),
        (("query", "a", "--under", "/", "--under", ""), "--under must not be empty"),
        (("query", "a", "--html", "a.html", "--html", "b.html"), "--html can be given only once"),
        (("query", "a", "--copy-to", "a", "--copy-to", "b"), "--copy-to can be given only once"),
        (("query", "a", "--link-to", "a", "--link-to", "a"), "--link-to can be given only once"),
        (("duplicates", "--html", "a.html", "--html", "b.html"), "--html can be given only once"),
        (("where", "a", "b.jpg", "--png", "a", "--png", "b"), "--png can be given only once"),
        (("query", "a", "--save", "a", "--save", "b"), "--save can be given only once"),
        (("query", "a", "--min-score", "0.1", "--min-score", "0.2"), "--min-score can be given only once"),
        (("duplicates", "--undo", "a", "--undo", "b"), "--undo can be given only once"),
        (("index", "--faces", "--no-faces"), "--faces can be given only once"),
        (("people", "--html", "a", "--html", "b"), "--html can be given only once"),
        (("people", "show", "1", "--html", "a", "--html", "b"), "--html can be given only once"),
        (("people", "--html", ""), "--html needs a name, not ''"),
        (("query", "--unique", "--similarity", "95", "a"), "--similarity must be a cosine, 0 to 1, not 95.0"),
        (("query", "--similarity", "0.9", "a"), "no effect without unique"),
        (("query", "@none", "a dog", "--cut"), "there is no concept @none"),
    ):
        refused = clipsearch(*arguments, index=drawn_index, stdin=b"a\n" if "label" in arguments else photo)
        assert (refused.status, refused.out) == (2, b""), arguments
        assert words in refused.err.splitlines()[-1]


# ------------------------------------------------------------------------------------------ collecting


def test_results_are_copied_and_linked(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    query = ("query", "a red circle", "-k", "3")
    for _ in range(2):  # again adds nothing
        copied = clipsearch(*query, "--copy-to", tmp_path / "copies", "--numbered", index=drawn_index)
        assert copied.err == f"copied 3 photos to {tmp_path / 'copies'}\n"
    names = [f"{rank:03d}-{Path(line).name}" for rank, line in enumerate(copied.lines, 1)]
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == names
    assert (tmp_path / "copies" / names[0]).read_bytes() == Path(copied.lines[0]).read_bytes()
    linked = clipsearch(*query, "--link-to", tmp_path / "links", index=drawn_index)
    assert {str(path.readlink()) for path in (tmp_path / "links").iterdir()} == set(linked.lines)
    for options, words in (
        (("--copy-to", tmp_path, "--link-to", tmp_path), "not both"),
        (("--numbered",), "--numbered needs"),
        (("--copy-to", drawn / "00.png"), "it or a parent is a file"),
        (("--batch", "-", "--copy-to", tmp_path), "--batch"),
    ):
        refused = clipsearch(*(query[:1] if "--batch" in options else query), *options, index=drawn_index)
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert words in refused.err


# ------------------------------------------------------------------------------------------ help


def test_every_command_has_help_and_an_example() -> None:
    named = {name for name, _ in help_examples()}
    assert named == set(commands()), set(commands()) - named
    for name, command in every_command().items():
        assert all(getattr(parameter, "help", None) for parameter in command.params), name


@pytest.mark.parametrize("name", every_command())
def test_help_fits_a_terminal_of_80_columns(clipsearch: Run, name: str) -> None:
    shown = clipsearch(*name.split(), "--help", COLUMNS="80")
    assert (shown.status, shown.err) == (0, "")
    lines = shown.out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    stripped = [line.strip() for line in lines]
    assert [
        example for of, example in help_examples() if of == name and example not in stripped
    ] == []  # none is wrapped
    written = re.findall(r"\[[a-z]+\]", inspect.unwrap(every_command()[name].callback).__doc__)
    assert all(bracket in shown.out.decode() for bracket in written)  # not taken for markup
    prose = shown.out.decode().partition("Example")[0].strip().split("\n")
    paragraphs = "\n".join(line.strip() for line in prose).split("\n\n")
    for paragraph in paragraphs:  # no line is broken before the terminal ends but the last
        assert all(len(line) > 55 for line in paragraph.splitlines()[:-1]), paragraph


@pytest.mark.parametrize("name", every_command())
def test_short_help_is_a_line_for_each_option(clipsearch: Run, name: str) -> None:
    shown = clipsearch(*name.split(), "-h", COLUMNS="80")
    assert (shown.status, shown.err) == (0, "")
    lines = shown.out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert not re.search("Examples?:", shown.out.decode())
    wrapped = [line for line in lines if re.match(r"\u2502 {15,}(?!\[required\])\S", line)]
    assert wrapped == []
    options = [parameter for parameter in every_command()[name].params if parameter.opts[0].startswith("-")]
    assert len([line for line in lines if line.startswith("\u2502 -")]) == len(options) + 1  # and --help


@pytest.mark.parametrize(("name", "least"), [("cut", CUT), ("strict", STRICT)])
def test_help_names_the_threshold(name: str, least: float) -> None:
    (option,) = (option for option in every_command()["query"].params if option.name == name)
    assert f"--min-confidence {least}" in option.help
