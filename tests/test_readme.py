"""Every command and every piece of Python that the README shows is run, in a home that has what they name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import may_find_nothing, somebody, with_undo
from terminal import every_command

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the README's examples are for a Unix shell")

README = (Path(__file__).parent.parent / "README.md").read_text()
SETUP = ("./scripts/", "pipx ", "clipsearch --install-completion")  # they change the machine
NEEDS_A_SERVER = "milvus://"
NEEDS_A_DOWNLOAD = ("--model ViT", "--model siglip2", "--weights openai")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(SETUP)]


@pytest.fixture(scope="module")
def user(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return somebody(tmp_path_factory.mktemp("user").resolve())


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_works(user: dict[str, str], command: str) -> None:
    if "jq" in command and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    media = f"{user['HOME']}/media"
    here = re.sub(r"(?<=\s)/media/", f"{media}/", command)
    if "forget" in command:
        here = f"clipsearch index {media}/camera -q && {here}"
    if "relocate" in command:
        moved = f"mv {media}/camera {media}/usb && {here} && mv {media}/usb {media}/camera"
        here = f"clipsearch index {media}/camera -q && {moved}"
    if "--index photos.db" in command:
        here = f"clipsearch publish photos.db -q && {here}"
    here = with_undo(here)
    if "concept remove" in command:
        here = f"clipsearch concept add grandma a.jpg && {here} && clipsearch concept add grandma a.jpg"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", here], cwd=user["HOME"], env=user, capture_output=True, text=True, check=False
    )
    if any(words in command for words in NEEDS_A_DOWNLOAD):
        assert done.returncode == 2
        assert any(words in done.stderr for words in ("HF_HUB_OFFLINE", "--rebuild", "openai.safetensors"))
        return
    if NEEDS_A_SERVER in command:
        assert (done.returncode, done.stdout) == (2, "")
        assert "cannot be used" in done.stderr
        return
    assert done.returncode in ((0, 1) if may_find_nothing(command) else (0,)), done.stderr
    assert "Traceback" not in done.stderr


def test_the_python_of_the_readme_works(user: dict[str, str]) -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], env=user, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 20


def test_every_option_and_command_is_in_the_readme() -> None:
    checked = 0
    for name, command in every_command().items():
        assert f"clipsearch {name}" in README
        for parameter in command.params:
            long = [option for option in parameter.opts if option.startswith("--")]
            if long and long[0] not in ("--help", "--count", "--batch-size", "--workers", "--quiet", "--print0"):
                assert long[0] in README, f"{name} {long[0]}"
                checked += 1
    assert checked > 60


def test_what_the_readme_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).is_file(), link
