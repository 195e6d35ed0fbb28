"""End-to-end tests of the program: output, pipes, exit statuses, and what a command does not import."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SCENES, Result, Run, damage, save_scenes
from terminal import cold, in_terminal, posix
from tiny_models import clip_tensors, save_tensors

from clipsearch.models.pretrained import builtin_config

STRANGE = [
    b"with space.png",
    b"new\nline.png",
    b"[red]bold[bold].png",
    "\U0001f436 dog.png".encode(),
    b"\xff\xfe latin.png",
]


@pytest.fixture
def strange(tmp_path: Path, mini_index) -> tuple[Path, Path]:
    """A folder of photos with strange names, and its index."""
    folder = tmp_path.resolve() / "strange"
    folder.mkdir()
    for n, name in enumerate(STRANGE):
        SCENES[n].image.save(tmp_path / "x.png")
        os.rename(os.fsencode(tmp_path / "x.png"), os.path.join(os.fsencode(folder), name))
    return folder, mini_index(folder)


def one_sentence(result: Result) -> None:
    """An error is one line on stderr, without a traceback, and nothing on stdout."""
    assert result.out == b""
    assert result.err.startswith("clipsearch: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err


# ------------------------------------------------------------------------------------------ query


def test_text_finds_what_was_drawn(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    found = 0
    result = clipsearch(
        "query", "--batch", "-", "-k", 1, index=drawn_index, stdin="\n".join(s.captions[0] for s in SCENES).encode()
    )
    assert result.status == 0
    for line in result.lines:
        hit = json.loads(line)
        found += SCENES[int(Path(hit["path"]).stem)].captions[0] == hit["query"]
    assert found >= 0.8 * len(SCENES)


def test_piped_results_are_absolute_paths_one_a_line(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    result = clipsearch("query", SCENES[0].captions[0], index=drawn_index)
    assert result.status == 0
    assert result.err == ""
    assert len(result.lines) == 10
    assert all(Path(line).parent == drawn and Path(line).is_file() for line in result.lines)


def test_formats_tell_the_same(clipsearch: Run, drawn_index: Path) -> None:
    words = SCENES[1].captions[0]

    def ask(*options: str) -> Result:
        return clipsearch("query", words, "-k", 3, *options, index=drawn_index)

    objects = json.loads(ask("--format", "json").out)
    assert [json.loads(line) for line in ask("--format", "jsonl").lines] == objects
    rows = [line.split("\t") for line in ask("--format", "tsv").lines]
    assert [(int(rank), float(score), path) for rank, score, path in rows] == [
        (o["rank"], round(o["score"], 4), o["path"]) for o in objects
    ]
    assert ask("--format", "paths").lines == [o["path"] for o in objects]
    assert ask("-0").out == b"".join(o["path"].encode() + b"\0" for o in objects)
    table = ask("--format", "table").out.decode()
    header, *lines = table.splitlines()
    assert header.split() == ["#", "score", "confidence", "photo"]
    assert [line.split()[:3] for line in lines] == [
        [str(o["rank"]), f"{o['score']:.3f}", f"{100 * o['confidence']:.0f}%"] for o in objects
    ]


def test_json_has_the_fields_of_the_reference(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    (hit,) = json.loads(clipsearch("query", "a circle", "-k", 1, "--format", "json", index=drawn_index).out)
    reference = (Path(__file__).parents[2] / "clipsearch/cli/README.md").read_text()
    fields = ["rank", "score", "confidence", "why", "path", "width", "height", "size", "mtime", "taken", "taken_from"]
    fields += ["camera", "latitude", "longitude", "place", "location", "keywords", "people", "rating", "color_label"]
    fields += ["title", "caption", "generated_caption", "time", "duration", "similar", "same_file"]
    assert list(hit) == fields
    assert all(f"`{name}`" in reference for name in [*fields, "path_b64", "query", "lines"])
    status = Path(hit["path"]).stat()
    assert (hit["width"], hit["height"], hit["size"]) == (160, 160, status.st_size)
    assert hit["mtime"] == pytest.approx(status.st_mtime)


def test_an_indexed_photo_finds_itself_first(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    result = clipsearch("query", "--image", drawn / "07.png", "--with-self", "-k", 2, "-f", "tsv", index=drawn_index)
    assert result.lines[0] == f"1\t1.0000\t{drawn / '07.png'}"


def test_an_image_on_stdin_is_a_query(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    result = clipsearch("query", "--image", "-", "-k", 1, index=drawn_index, stdin=(drawn / "03.png").read_bytes())
    assert result.lines == [str(drawn / "03.png")]


def test_terms_and_weights_combine(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    other = SCENES[6].captions[0]
    heavy = clipsearch("query", other, "--image", f"9:{drawn / '05.png'}", "-k", 1, "--with-self", index=drawn_index)
    assert heavy.lines == [str(drawn / "05.png")]
    light = clipsearch(
        "query", f"9:{other}", "--image", f"0.1:{drawn / '05.png'}", "-k", 1, "--with-self", index=drawn_index
    )
    assert light.lines == clipsearch("query", other, "-k", 1, index=drawn_index).lines
    without = clipsearch(
        "query",
        other,
        "--not",
        f"0.9:{other}",
        "--image",
        f"{drawn / '05.png'}",
        "-k",
        1,
        "--with-self",
        index=drawn_index,
    )
    assert without.lines == [str(drawn / "05.png")]


def test_min_score_and_under_can_leave_nothing(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    result = clipsearch("query", "a circle", "--min-score", 0.9999, index=drawn_index)
    assert (result.status, result.out, result.err) == (1, b"", "")
    result = clipsearch("query", "a circle", "--under", drawn, "-k", 100, index=drawn_index)
    assert len(result.lines) == len(SCENES)


@posix
def test_strange_names_survive_every_format(clipsearch: Run, strange: tuple[Path, Path]) -> None:
    folder, index = strange
    everything = {os.path.join(os.fsencode(folder), name) for name in STRANGE}
    assert set(clipsearch("query", "a circle", "-0", index=index).out.split(b"\0")) == everything | {b""}
    piped = clipsearch("query", "a circle", index=index).out
    assert sorted(piped) == sorted(b"".join(path + b"\n" for path in everything))
    objects = json.loads(clipsearch("query", "a circle", "--format", "json", index=index).out)
    assert {base64.b64decode(o["path_b64"]) if "path_b64" in o else o["path"].encode() for o in objects} == everything
    assert sum("path_b64" in o for o in objects) == 1
    rows = clipsearch("query", "a circle", "--format", "tsv", index=index).out.splitlines()
    assert len(rows) == len(everything)
    assert {row.split(b"\t")[2].replace(b"\\n", b"\n") for row in rows} == everything


@posix
def test_a_terminal_gets_a_table_that_fits_it(strange: tuple[Path, Path]) -> None:
    _, index = strange
    shown = in_terminal("query", "a circle", index=index, columns=200)
    for text in (
        "with space.png",
        "new\\nline.png",
        "[red]bold[bold].png",
        "\U0001f436 dog.png",
        "\\xff\\xfe latin.png",
    ):
        assert text in shown
    narrow = re.sub(
        r"\x1b\][^\x1b]*\x1b\\|\x1b\[[0-9;]*m", "", in_terminal("query", "a circle", index=index, columns=40)
    )
    lines = narrow.splitlines()[1:]
    assert len(lines) == len(STRANGE)
    assert all(len(line) <= 40 and "…" in line for line in lines)


@posix
def test_only_the_first_run_on_a_terminal_suggests_a_query(tmp_path: Path, clipsearch: Run) -> None:
    folder, run = tmp_path / "photos", ("index", tmp_path / "photos", "--model", "mini")
    folder.mkdir()
    assert "Next:" not in in_terminal(*run, index=tmp_path / "empty")
    save_scenes(folder, 1)
    shown = in_terminal(*run, index=tmp_path / "index", columns=200)
    assert shown.endswith("Next: clipsearch query 'a dog on a beach', or: clipsearch serve --open\r\n")
    save_scenes(folder, 1, first=1)
    assert "Next:" not in in_terminal("index", index=tmp_path / "index", columns=200)
    chosen = in_terminal(*run, "--index", tmp_path / "my index", index=tmp_path, columns=300)
    assert f"query 'a dog on a beach' --index '{tmp_path}/my index', or: clipsearch serve --open --index" in chosen
    assert "Next:" not in in_terminal(*run, "--quiet", index=tmp_path / "quiet", columns=200)
    assert "Next:" not in clipsearch(*run, index=tmp_path / "piped").err


@posix
def test_a_file_name_cannot_act_on_the_terminal(tmp_path: Path, mini_index) -> None:
    folder = tmp_path / "photos"
    (path,) = save_scenes(folder, 1)
    path.rename(folder / "\x1b]0;owned\x07\u202egpj.png")
    shown = in_terminal("query", "a circle", index=mini_index(folder))
    assert "\x1b]0;" not in shown
    assert "\u202e" not in shown
    assert "\\x1b]0;owned\\x07\\u202egpj.png" in shown


@posix
def test_a_closed_pipe_ends_quietly(drawn_index: Path) -> None:
    command = f"{sys.executable} -m clipsearch query circle -k 40 | head -n 1; echo ${{PIPESTATUS[0]}}"
    environment = os.environ | {"CLIPSEARCH_INDEX": str(drawn_index)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


@posix
def test_pipelines_of_the_shell_work(tmp_path: Path, drawn: Path, drawn_index: Path) -> None:
    target = tmp_path / "out put"
    target.mkdir()
    command = f"{sys.executable} -m clipsearch query 'a red circle' -0 -k 5 | xargs -0 cp -t '{target}'"
    environment = os.environ | {"CLIPSEARCH_INDEX": str(drawn_index)}
    subprocess.run(["bash", "-o", "pipefail", "-c", command], env=environment, check=True)
    assert len(list(target.iterdir())) == 5


@posix
@pytest.mark.parametrize("form", ["table", "paths", "tsv", "json", "jsonl"])
def test_a_name_cannot_act_on_a_terminal(clipsearch: Run, tmp_path: Path, mini_index, form: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    SCENES[0].image.save(folder / "a\x1b[31m\a\u202eb.png")
    index = mini_index(folder)
    shown = in_terminal("query", "a circle", "-f", form, index=index, columns=200)
    for harm in ("\x1b[31m", "\a", "\u202e"):
        assert harm not in shown
    raw = clipsearch("query", "a circle", "-f", "paths", index=index).out
    assert raw == os.fsencode(folder / "a\x1b[31m\a\u202eb.png") + b"\n"


@posix
def test_no_command_lets_a_name_act_on_a_terminal(mini_index: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "a folder\x1b[31m"
    folder.mkdir()
    for name in ("a\x1b]0;owned\x07\u202e\nb.png", "plain.png"):
        SCENES[0].image.save(folder / name)
    (folder / "bad\x1b[31m.png").touch()
    index = mini_index(folder)
    for command in (
        ("query", "a circle", "-0"),
        ("duplicates", "-0"),
        ("duplicates",),
        ("status",),
        ("why", folder / "bad\x1b[31m.png"),
        ("label", "a\x1b[31m", "b", "--all"),
        ("watch", "--service", folder),
    ):
        shown = in_terminal(*command, index=index, columns=200)
        for harm in ("\x1b[31m", "\x1b]0;", "\x07", "\u202e"):
            assert harm not in shown, command
        assert "\\x1b" in shown, command
    shown = in_terminal("query", "a circle", "-0", index=index)
    assert shown.count("\0") == 2
    assert "\\nb.png\0" in shown
    raw = cli_output("query", "a circle", "-0", index=index)
    assert b"a\x1b]0;owned\x07\xe2\x80\xae\nb.png\0" in raw


def cli_output(*arguments: object, index: Path) -> bytes:
    command = [sys.executable, "-m", "clipsearch", *map(str, arguments), "--index", index]
    return subprocess.run(command, capture_output=True, check=True).stdout


@posix
def test_results_that_nobody_can_take_are_an_error(drawn_index: Path) -> None:
    for ending, message in ((">&-", "bad file descriptor"), (">/dev/full", "no space left on device")):
        command = f"{sys.executable} -m clipsearch query circle {ending}"
        environment = os.environ | {"CLIPSEARCH_INDEX": str(drawn_index)}
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, f"clipsearch: {message}\n")


def test_batch_tags_each_line_with_its_query(clipsearch: Run, tmp_path: Path, drawn_index: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text(f"{SCENES[0].captions[0]}\n\n2:{SCENES[1].captions[0]}\n")
    result = clipsearch("query", "--batch", queries, "-k", 2, index=drawn_index)
    hits = [json.loads(line) for line in result.lines]
    assert [hit["query"] for hit in hits] == [SCENES[0].captions[0]] * 2 + [f"2:{SCENES[1].captions[0]}"] * 2
    alone = clipsearch("query", SCENES[1].captions[0], "-k", 2, index=drawn_index).lines
    assert [hit["path"] for hit in hits[2:]] == alone
    both = clipsearch("query", "--batch", queries, "--batch", "-", "-k", 2, index=drawn_index, stdin=b"a circle\n")
    assert both.lines[:4] == result.lines
    assert {json.loads(line)["query"] for line in both.lines[4:]} == {"a circle"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"2:", "the query is empty"),
        (b"caf\xe9", "the query is not UTF-8"),
        (b"@nobody", "there is no concept @nobody"),
    ],
)
def test_a_bad_line_of_a_batch_does_not_end_it(clipsearch: Run, drawn_index: Path, line: bytes, sentence: str) -> None:
    lines = b"a circle\n" + line + b"\na star\n"
    result = clipsearch("query", "--batch", "-", "-k", 1, index=drawn_index, stdin=lines)
    assert result.status == 2
    first, bad, last = (json.loads(one) for one in result.lines)
    assert (first["query"], last["query"]) == ("a circle", "a star")
    assert list(bad) == ["query", "error"]
    assert bad["query"] == line.decode("utf-8", "replace")
    assert sentence in bad["error"]
    assert result.err.startswith(f"-, line 2: {sentence}")


def test_a_query_of_a_batch_that_finds_nothing_says_so(clipsearch: Run, drawn_index: Path) -> None:
    result = clipsearch("query", "--batch", "-", "--min-score", 0.9999, index=drawn_index, stdin=b"a circle\na star\n")
    assert result.status == 1
    assert [json.loads(line) for line in result.lines] == [
        {"query": "a circle", "hits": 0},
        {"query": "a star", "hits": 0},
    ]


def test_without_anything_the_newest_photos_are_listed(clipsearch: Run, tmp_path: Path, mini_index) -> None:
    paths = save_scenes(tmp_path.resolve() / "photos", 5)
    for day, path in zip((3, 1, 5, 2, 4), paths, strict=True):
        os.utime(path, (0, 86_400 * day))
    listed = clipsearch("query", "-k", 4, index=mini_index(paths[0].parent)).lines
    assert listed == [str(paths[n]) for n in (2, 4, 0, 3)]


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "--image", "/dev/zero"],
        ["query", "a circle", "--files-from", "/dev/zero"],
        ["query", "a circle", "--files-from", "/dev/zero", "--from0"],
        ["label", "--labels-from", "/dev/zero"],
        ["label", "a", "--image", "/dev/zero"],
        ["query", "--batch", "/dev/zero"],
        ["concept", "add", "x", "/dev/zero"],
        ["eval", "/dev/zero"],
    ],
    ids=" ".join,
)
def test_what_has_no_end_is_refused_in_little_memory(drawn_index: Path, arguments: list[str]) -> None:
    limited = f"ulimit -v 6000000; exec {sys.executable} -m clipsearch {' '.join(map(repr, arguments))}"
    environment = os.environ | {"CLIPSEARCH_INDEX": str(drawn_index)}
    done = subprocess.run(["bash", "-c", limited], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "/dev/zero" in done.stderr


def test_a_byte_order_mark_is_no_part_of_a_query(clipsearch: Run, drawn_index: Path) -> None:
    result = clipsearch("query", "--batch", "-", "-k", 1, index=drawn_index, stdin=b"\xef\xbb\xbfa circle\n")
    assert json.loads(result.out)["query"] == "a circle"
    lines = b"\xef\xbb\xbf\n\xc2\xa0\na circle\n"  # nothing but the mark, and a space that is not ASCII
    assert clipsearch("query", "--batch", "-", "-k", 1, index=drawn_index, stdin=lines).out == result.out


@posix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_are_no_reason_for_a_traceback(drawn_index: Path, closed: str) -> None:
    command = f"{sys.executable} -m clipsearch query circle --image - {closed} </dev/null"
    environment = os.environ | {"CLIPSEARCH_INDEX": str(drawn_index)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2  # an empty picture
    assert "Traceback" not in done.stderr


def test_output_is_utf8_whatever_the_locale_says(clipsearch: Run, tmp_path: Path, drawn_index: Path) -> None:
    shutil.copytree(drawn_index, tmp_path / "日本")
    result = clipsearch("status", index=tmp_path / "日本", fork=False, PYTHONIOENCODING="cp1252")
    assert result.status == 0
    assert "日本" in result.out.decode("utf-8")


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["query", ""], "empty"),
        (["query", "   "], "empty"),
        (["query", "--not", "a dog"], "only says what to avoid"),
        (["query", "9" * 400 + ":dog"], "weight"),
        pytest.param(["query", b"caf\xe9"], "UTF-8", marks=posix),
        (["query", "dog", "-k", "0"], "-k must be a whole number of at least 1"),
        (["query", "--image", "missing.jpg"], "missing.jpg"),
        (["query", "--image", __file__], "cannot be used as an image"),
        (["query", "--image", "/"], "directory"),
        (["query", "dog", "--under", "/nowhere"], "/nowhere"),
        (["query", "dog", "--under", "{drawn}/typo"], "nothing in"),
        (["query", "dog", "--index", ""], "--index must name a folder"),
        (["query", "dog", "--min-score", "inf"], "--min-score must be a cosine, -1 to 1, not inf"),
        (["query", "--min-score", "0.1"], "--min-score needs something to look for"),
        (["query", "dog", "--unique", "--similarity", "3"], "--similarity must be a cosine, 0 to 1, not 3.0"),
        (["duplicates", "--similar", "--similarity", "-1"], "--similarity must be a cosine, 0 to 1, not -1.0"),
        (["index", __file__], "is a file, not a folder"),
        (["query", "dog", "--format", "xml"], "xml"),
        (["index", "--device", "abacus"], "abacus"),
        (["index", "--precision", "fp7"], "fp7"),
        (["query", "dog", "--format", "json", "-0"], "-0"),
        (["query", "--batch", "nowhere.txt"], "nowhere.txt"),
        (["query", "dog", "--batch", "-"], "--batch"),
        (["query", "a dog", "--not", "a dog"], "cancel"),
        (["index", "/nowhere"], "there is no folder /nowhere"),
        (["index", "--model", "ViT-B-32"], "--rebuild"),
        (["index", "--rebuild", "--model", "ViT-Z-99/x"], "ViT-Z-99"),
        (["index", "--rebuild", "--model", "ViT-B-32/nobody"], "nobody"),
        (["index", "--rebuild", "--model", "ViT-B-32"], "HF_HUB_OFFLINE"),
        (["index", "--rebuild", "--weights", "nothing.pt"], "nothing.pt"),
        (["forget", "/nowhere"], "/nowhere"),
    ],
    ids=lambda value: " ".join(map(str, value))[:40] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_sentence_and_status_2(
    clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path, arguments: list[str | bytes], sentence: str
) -> None:
    index = tmp_path / "index"
    shutil.copytree(drawn_index, index)
    arguments = [a.replace("{drawn}", str(drawn)) if isinstance(a, str) else a for a in arguments]
    result = clipsearch(*arguments, index=index)
    assert result.status == 2
    one_sentence(result)
    assert sentence in result.err
    assert clipsearch("query", "a circle", index=index).status == 0


@pytest.mark.parametrize("arguments", [["query", "dog"], ["status"], ["verify"], ["forget", "/tmp"], ["index"]])
def test_no_index_yet(clipsearch: Run, tmp_path: Path, arguments: list[str]) -> None:
    result = clipsearch(*arguments, index=tmp_path / "none")
    assert result.status == 2
    one_sentence(result)
    assert "clipsearch index DIR" in result.err
    assert not (tmp_path / "none").exists()


def test_an_empty_index(clipsearch: Run, tmp_path: Path, mini_index) -> None:
    (tmp_path / "empty").mkdir()
    result = clipsearch("query", "dog", index=mini_index(tmp_path / "empty"))
    assert result.status == 2
    one_sentence(result)
    assert "the index is empty; fill it with: clipsearch index DIR" in result.err


def test_an_index_of_a_newer_format(clipsearch: Run, tmp_path: Path, drawn_index: Path) -> None:
    shutil.copytree(drawn_index, tmp_path / "index")
    damage(tmp_path / "index", "UPDATE meta SET value = 999, mark = mark('format', 999) WHERE key = 'format'")
    result = clipsearch("query", "dog", index=tmp_path / "index")
    assert result.status == 2
    one_sentence(result)
    assert "format 999" in result.err


def test_a_download_that_fails_falls_back_to_mini(clipsearch: Run, tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 3)
    result = clipsearch("index", tmp_path / "photos", index=tmp_path / "index")
    assert result.status == 0
    note, summary = result.err.splitlines()
    assert "using the bundled model mini (it finds " in note
    assert note.endswith(". To switch later: clipsearch index --rebuild --model ViT-B-32")
    assert summary.startswith("3 added")
    assert json.loads(clipsearch("status", "--json", index=tmp_path / "index").out)["model"] == "mini"


def test_wrong_options_are_errors_of_usage(clipsearch: Run, drawn_index: Path) -> None:
    for arguments, words in (
        (["query", "--nonsense"], "clipsearch: no such option: --nonsense"),
        (["query", "dog", "-k", "many"], "-k"),
        (["nonsense"], "clipsearch: no such command 'nonsense'; see clipsearch --help\n"),
        (["querry"], "clipsearch: no such command 'querry'; did you mean 'query'?\n"),
        (["concept", "lst"], "clipsearch: no such command 'lst'; did you mean 'list'?\n"),
        (["forget"], "DIR"),
        (["concept", "add"], "NAME"),
    ):
        result = clipsearch(*arguments, index=drawn_index)
        assert result.status == 2
        one_sentence(result)
        assert words in result.err


@posix
@pytest.mark.parametrize("arguments", ["nonsense", "query --nonsense", "query circle -k 40", "status", "--help"])
def test_nobody_reads_what_is_said(drawn_index: Path, arguments: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m clipsearch {arguments} 2>&1 | true; echo ${{PIPESTATUS[0]}}"
    environment = os.environ | {"CLIPSEARCH_INDEX": str(drawn_index)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    assert done.stdout.split() in (["0"], ["2"])


# ------------------------------------------------------------------------------------------ index, status, ...


def test_index_says_on_stderr_what_it_did(clipsearch: Run, tmp_path: Path, drawn_index: Path) -> None:
    shutil.copytree(drawn_index, tmp_path / "index")
    photos = tmp_path / "more"
    save_scenes(photos, 3)
    (photos / "broken.jpg").write_bytes(b"nothing")
    result = clipsearch("index", photos, "--strict", index=tmp_path / "index")
    assert result.status == 3
    assert result.out == b""
    first, second = result.err.splitlines()
    assert first.startswith("3 added (3 duplicates), 0 unchanged, 1 skipped in ")
    assert second == f"skipped: {photos.resolve() / 'broken.jpg'}: not an image that can be read"
    again = clipsearch("index", "--json", index=tmp_path / "index")
    report = json.loads(again.out)
    assert (again.status, again.err) == (0, "")
    assert (report["added"], report["unchanged"], report["skipped"]) == (0, 3 + len(SCENES), [])
    assert [one["reason"] for one in report["skipped_before"]] == ["not an image that can be read"]
    assert clipsearch("index", "--quiet", index=tmp_path / "index").err == ""


def test_index_names_photos_that_are_cut_short_once(clipsearch: Run, tmp_path: Path) -> None:
    photos = tmp_path.resolve() / "photos"
    save_scenes(photos, 2)
    SCENES[2].image.convert("RGB").save(photos / "cut.jpg", quality=95)
    (photos / "cut.jpg").write_bytes((photos / "cut.jpg").read_bytes()[:-500])
    shutil.copyfile(photos / "cut.jpg", photos / "copy.jpg")
    done = clipsearch("index", photos, "--model", "mini", "--json", index=tmp_path / "index")
    report = json.loads(done.out)
    assert (report["added"], report["skipped"]) == (4, [])
    assert report["partial"] == [{"path": str(photos / name)} for name in ("copy.jpg", "cut.jpg")]
    assert clipsearch("index", index=tmp_path / "index").err.count("\n") == 1
    (photos / "copy.jpg").unlink()
    again = clipsearch("index", "--rebuild", index=tmp_path / "index")
    line = f"indexed in part: {photos / 'cut.jpg'}: cut short or damaged"
    assert again.err.splitlines()[1:] == [line]


@posix
def test_status_counts(clipsearch: Run, strange: tuple[Path, Path]) -> None:
    folder, index = strange
    report = json.loads(clipsearch("status", "--json", index=index).out)
    assert (report["model"], report["photos"], report["embeddings"]) == ("mini", 5, 5)
    assert report["roots"][0]["path"] == str(folder)
    assert report["roots"][0]["online"] is True
    assert report["bytes"] == sum(path.stat().st_size for path in index.iterdir())
    text = clipsearch("status", index=index).out.decode()
    assert "5 (5 distinct)" in text
    shutil.rmtree(folder)
    assert "(offline: is not there)" in clipsearch("status", index=index).out.decode()
    assert clipsearch("query", "a circle", index=index).status == 1
    report = json.loads(clipsearch("index", "--json", index=index).out)
    assert report["offline"] == [{"path": str(folder), "reason": "is not there"}]
    assert report["removed"] == 0


@posix
def test_forget_and_verify(clipsearch: Run, strange: tuple[Path, Path]) -> None:
    folder, index = strange
    assert clipsearch("verify", index=index).out == b"OK: 5 photos, 5 embeddings\n"
    vectors = next(index.glob("vectors-*.faiss"))
    vectors.write_bytes(vectors.read_bytes()[:-1])
    repaired = json.loads(clipsearch("verify", "--json", index=index).out)
    assert len(repaired["repaired"]) == 1
    assert clipsearch("verify", index=index).out == b"OK: 5 photos, 5 embeddings\n"
    assert clipsearch("forget", folder, index=index).status == 0
    assert clipsearch("status", index=index).out.count(b"strange") == 0
    assert len(list(folder.iterdir())) == 5


def test_libraries_say_nothing_on_stderr(clipsearch: Run, tmp_path: Path, drawn_index: Path) -> None:
    shutil.copytree(drawn_index, tmp_path / "index")
    (tmp_path / "photos").mkdir()
    SCENES[0].image.save(tmp_path / "whole.tiff", compression="tiff_lzw")
    data = bytearray((tmp_path / "whole.tiff").read_bytes())
    data[2000:2400] = os.urandom(400)
    (tmp_path / "photos" / "damaged.tiff").write_bytes(data)
    result = clipsearch("index", tmp_path / "photos", index=tmp_path / "index")
    assert result.status == 0
    assert all(line.startswith(("0 added", "1 added", "skipped: ")) for line in result.err.splitlines())


def test_models_lists_what_can_be_used(clipsearch: Run) -> None:
    short, every = clipsearch("models"), clipsearch("models", "--all")
    lines = [line.split() for line in short.lines]
    assert [line[:3] for line in lines] == [
        ["mini", "bundled"],
        ["ViT-B-32/laion2b_s34b_b79k", "download", "(default)"],
        ["ViT-B-32-SigLIP2-256/webli", "download", "(siglip2)"],
        ["ViT-B-16-SigLIP2-256/webli", "download", "(accurate)"],
        ["xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "download", "(multilingual)"],
    ]
    assert " ".join(lines[1][3:]) == "605 MB, MIT, English, COCO 39.3, Flickr30k 66.8"
    assert " ".join(lines[2][3:]) == "1.5 GB, Apache-2.0, many languages, COCO 47.2"
    assert [line.split() for line in every.lines[: len(lines)]] == lines
    assert [line.split() for line in every.lines].count(["ViT-L-14/openai", "download"]) == 1


def test_models_are_described_in_json(clipsearch: Run) -> None:
    mini, default, siglip2, *_ = json.loads(clipsearch("models", "--json").out)["models"]
    assert list(mini) == list(default)
    assert (mini["name"], mini["state"], mini["short"], mini["coco"]) == ("mini", "bundled", None, None)
    assert (default["default"], default["flickr30k"], siglip2["default"]) == (True, 66.8, False)
    assert (siglip2["short"], siglip2["coco"], siglip2["flickr30k"]) == ("siglip2", 47.2, None)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("siglip2", "timm/ViT-B-32-SigLIP2-256"),
        ("accurate", "timm/ViT-B-16-SigLIP2-256"),
        ("multilingual", "xlm-roberta-base"),
    ],
)
def test_a_recommended_model_that_cannot_be_downloaded_is_one_sentence(
    name: str, repository: str, tmp_path: Path, clipsearch: Run
) -> None:
    (tmp_path / "photos").mkdir()
    result = clipsearch("index", tmp_path / "photos", "--model", name, index=tmp_path / "index")
    assert result.status == 2
    (line,) = result.err.splitlines()
    assert f"of {repository} on the Hugging Face Hub is not cached, and HF_HUB_OFFLINE is set" in line


@posix
def test_an_interrupt_ends_with_130_and_keeps_the_index(tmp_path: Path, drawn_index: Path, clipsearch: Run) -> None:
    index = tmp_path / "index"
    shutil.copytree(drawn_index, index)
    fifo = tmp_path / "queries"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "clipsearch", "query", "--batch", str(fifo), "--index", str(index)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with fifo.open("w") as file:
        file.write("a circle\n")
        file.flush()
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == b"clipsearch: interrupted\n"
    assert clipsearch("verify", index=index).status == 0


def test_one_writer_at_a_time(clipsearch: Run, tmp_path: Path, drawn_index: Path) -> None:
    from clipsearch.store.catalogue import Store

    index = tmp_path / "index"
    shutil.copytree(drawn_index, index)
    with Store.open(index, write=True):
        result = clipsearch("index", index=index)
        assert result.status == 2
        one_sentence(result)
        assert f"process {os.getpid()} is writing" in result.err
        assert clipsearch("query", "a circle", index=index).status == 0
    assert clipsearch("index", index=index).status == 0


# ------------------------------------------------------------------------------------------ the cold path


@pytest.fixture(scope="module")
def vit_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Some drawn scenes, in `photos` beside it, with a small ViT of random weights, indexed by the real program."""
    index = tmp_path_factory.mktemp("vit").resolve() / "index"
    photos, weights = index.with_name("photos"), index.with_name("weights.safetensors")
    save_scenes(photos, 6)
    save_tensors(clip_tensors(builtin_config("ViT-S-32-alt")), weights)
    command = [sys.executable, "-m", "clipsearch", "index", photos, "--index", index]
    command += ["--model", "ViT-S-32-alt", "--weights", weights, "--precision", "fp32", "--json"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    assert json.loads(done.stdout)["embedded"] == 6
    yield index
    weights.unlink()  # pytest keeps temporary folders


@pytest.mark.parametrize("arguments", [["--help"], ["query", "--help"], ["status"], ["index"], ["query", "a new text"]])
def test_what_needs_no_torch_imports_none(drawn_index: Path, arguments: list[str]) -> None:
    status, modules = cold(*arguments, index=drawn_index)
    assert status == 0
    assert not {"torch", "open_clip", "jinja2", "pathspec", "transformers"} & modules
    assert "rich" not in modules or "--help" in arguments
    assert "clipsearch.cli.main" in modules
    assert "PIL.Image" not in modules
    assert not {"clipsearch.search.vqa", "clipsearch.models.endpoint", "http.server"} & modules


def test_models_are_listed_without_torch(drawn_index: Path) -> None:
    status, modules = cold("models", "--all", index=drawn_index)
    assert status == 0
    assert not {"torch", "open_clip"} & modules


def test_many_new_photos_are_indexed_without_torch(tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 20)
    status, modules = cold("index", tmp_path / "photos", "--model", "mini", index=tmp_path / "index")
    assert status == 0
    assert "onnxruntime" in modules
    assert not {"torch", "open_clip"} & modules


def test_a_vit_answers_without_torch(clipsearch: Run, vit_index: Path, tmp_path: Path) -> None:
    changed = SCENES[4].image.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    changed.save(tmp_path / "new.png")
    for arguments in (["query", "a new text"], ["query", "--image", tmp_path / "new.png"]):
        status, modules = cold(*arguments, index=vit_index)
        assert status == 0
        assert "torch" not in modules
    best = clipsearch("query", "--image", tmp_path / "new.png", "-k", 1, index=vit_index)
    assert best.lines == [str(vit_index.with_name("photos") / "04.png")]


def test_mini_answers_an_image_without_torch(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    SCENES[4].image.crop((2, 2, 158, 158)).save(tmp_path / "new.png")
    status, modules = cold("query", "--image", tmp_path / "new.png", index=drawn_index)
    assert status == 0
    assert not {"torch", "open_clip", "timm"} & modules
    best = clipsearch("query", "--image", tmp_path / "new.png", "-k", 1, index=drawn_index)
    assert best.lines == [str(drawn / "04.png")]


def test_a_few_new_photos_are_indexed_without_torch(drawn: Path, tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 3)
    status, modules = cold("index", tmp_path / "photos", "--model", "mini", index=tmp_path / "index")
    assert status == 0
    assert not {"torch", "open_clip", "timm"} & modules


def test_a_run_with_nothing_new_rewrites_nothing(clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(drawn_index, index)
    before = {path.name: path.read_bytes() for path in index.glob("vectors-*")}
    assert clipsearch("index", index=index).status == 0
    assert {path.name: path.read_bytes() for path in index.glob("vectors-*")} == before


def test_garbage_is_collected_again_once_the_command_is_imported(drawn_index: Path) -> None:
    asked = (
        "import atexit, gc, sys; sys.argv = ['clipsearch', 'status']; from clipsearch.cli.main import main;"
        " atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 10_000)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        env=os.environ | {"CLIPSEARCH_INDEX": str(drawn_index)},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "True True"
