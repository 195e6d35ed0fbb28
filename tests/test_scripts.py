"""The demo and its photos, and the installation that all scripts share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from conftest import save_scenes
from PIL import Image
from terminal import posix, shown_by

SCRIPTS = Path(__file__).parent.parent / "scripts"
PHOTOS = SCRIPTS / "photos"
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in (PHOTOS / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| IMG_")
]
SHOWS = {name: shows for name, shows, *_ in ROWS}

pytestmark = posix

# ------------------------------------------------------------------------------------------ photos


def test_every_photo_of_the_demo_is_free_and_small() -> None:
    files = sorted(PHOTOS.glob("*.jpg"))
    assert [path.name for path in files] == list(SHOWS)
    assert len(files) >= 12
    for name, _, author, licence, source in ROWS:
        assert licence in ("CC0 1.0", "public domain"), name
        assert author, name
        assert source, name
    for path in files:
        with Image.open(path) as image:
            assert max(image.size) <= 400, path.name
    assert sum(path.stat().st_size for path in files) < 600_000


# ------------------------------------------------------------------------------------------ demo


@pytest.fixture
def checkout(warm_program: str | None, tmp_path: Path) -> Path:
    """A folder with the demo, in which clipsearch counts as installed."""
    program = f'-IS "{warm.__file__}" "{warm_program}"' if warm_program else "-m clipsearch"
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPTS / "demo", tmp_path / "scripts")
    shutil.copytree(PHOTOS, tmp_path / "scripts/photos")
    (tmp_path / "scripts/setup.sh").write_text("setup() { :; }\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/clipsearch").write_text(f'#!/bin/sh\nexec "{sys.executable}" {program} "$@"\n')
    (tmp_path / "bin/clipsearch").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def environment(checkout: Path, **variables: str) -> dict[str, str]:
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TMPDIR": str(checkout / "tmp"), "COLORTERM": ""} | variables


def demo(checkout: Path, *arguments: str) -> dict[str, list[str]]:
    """The commands that the demo runs, and the lines that each prints."""
    command = [checkout / "scripts/demo", *arguments]
    done = subprocess.run(
        command, env=environment(checkout), cwd=checkout, capture_output=True, text=True, timeout=300, check=True
    )
    first, *blocks = done.stdout.split("\n$ ")
    assert first == ""
    return {block.splitlines()[0]: block.splitlines()[1:] for block in blocks}


def names(lines: list[str]) -> list[str]:
    return [Path(line.split()[-1]).name for line in lines if line and line[0].isdigit()]


def test_the_questions_of_the_demo_are_answered_well(checkout: Path) -> None:
    runs = demo(checkout)
    answers = {
        text[1]: [SHOWS[name] for name in names(lines)]
        for command, lines in runs.items()
        if (text := re.match(r"clipsearch query '(.*)' .* --format=table", command))
    }
    assert set(answers["animals on a farm"]) == {"cows in a meadow", "a herd of horses", "a sheep"}
    assert set(answers["a bird"]) == {"a scarlet macaw", "four hens in a garden", "an owl on a branch"}
    assert answers["a cup of coffee"][0] == "a cup of coffee"
    assert len(answers) == 3
    (similar,) = (lines for command, lines in runs.items() if "--image" in command)
    assert [SHOWS[name] for name in names(similar)][:2] == ["a herd of horses", "a sheep"]
    *_, last = runs.values()
    assert last[-1].strip() == "clipsearch serve --open"


def test_the_demo_searches_a_folder_of_your_own(checkout: Path) -> None:
    save_scenes(checkout / "my pictures", 2)
    runs = demo(checkout, "my pictures", "a circle")
    assert len(names(runs["clipsearch query 'a circle' --under 'my pictures' -k 3 --format=table"])) == 2
    assert any(line.endswith("2  " + str(checkout / "my pictures")) for line in runs["clipsearch status"])


def test_the_demo_shows_thumbnails_on_a_terminal_with_colours(checkout: Path) -> None:
    save_scenes(checkout / "pictures", 1)
    command = [str(checkout / "scripts/demo"), "pictures", "a circle"]
    assert "▀" in shown_by(command, environment(checkout, COLORTERM="truecolor"), 80, checkout)


# ------------------------------------------------------------------------------------------ installation

# Notes its arguments, says something, and makes the environment that the real one would make.
UV = """#!/bin/sh
echo "$@" >>calls
echo "Resolved 48 packages"
[ "$1" != venv ] || mkdir -p .venv/bin
[ ! -e broken ] || exit 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that installs with a `uv` of ours."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "bin/uv").write_text(UV)
    (tmp_path / "bin/uv").chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def setup_command(*arguments: str) -> list[str]:
    script = f'set -euo pipefail; source "{SCRIPTS / "setup.sh"}"; setup {" ".join(arguments)}; echo "$PATH"'
    return ["bash", "-c", script]


def setup(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = environment(project, PYTHON="python-of-ours")
    return subprocess.run(
        setup_command(*arguments), env=variables, cwd=project, capture_output=True, text=True, check=False
    )


def calls(project: Path) -> list[str]:
    """The calls of `uv` since the last look."""
    made = (project / "calls").read_text().splitlines() if (project / "calls").exists() else []
    (project / "calls").write_text("")
    return made


def test_setup_installs_with_uv_when_the_project_changes(project: Path) -> None:
    first = setup(project)
    assert first.stdout.startswith(f"{project}/.venv/bin:")
    assert first.stderr.splitlines() == ["Installing clipsearch and its dependencies into .venv (about 400 MB)"]
    base = "pip install --python .venv -e ."
    assert calls(project) == ["venv --seed --python python-of-ours .venv", base]
    assert setup(project).stderr == ""
    assert calls(project) == []
    setup(project, "dev")
    assert calls(project) == [f"{base} --group dev"]
    setup(project)  # `dev` includes the base
    assert calls(project) == []
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    setup(project)
    assert calls(project) == [base]


def test_setup_shows_the_log_when_the_installation_fails(project: Path) -> None:
    (project / "broken").touch()
    failed = setup(project)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.splitlines()[1:] == ["Resolved 48 packages"]
    (project / "broken").unlink()
    assert setup(project).returncode == 0


def test_setup_shows_its_progress_on_a_terminal(project: Path) -> None:
    shown = shown_by(setup_command(), environment(project, PYTHON="python-of-ours"), 80, project)
    assert "\r\x1b[KResolved 48 packages\r\x1b[K" in shown
