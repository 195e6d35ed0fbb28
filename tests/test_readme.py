"""Every command and all Python in the README and the command reference runs, in a home that has what they name."""

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

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "clipsearch/cli/README.md"]
README, REFERENCE = (page.read_text() for page in PAGES)
SETUP = ("./scripts/", "pipx ", "systemctl ")  # they change the machine
NEEDS_A_SERVER = "milvus://"
NEEDS_A_DOWNLOAD = ("--model ViT", "--model siglip2", "--weights openai")


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    """Each command of both pages once; of some lines, the second and later ones are indented or end a loop."""
    found: dict[str, None] = {}
    for block in blocks("sh", README + REFERENCE):
        for command in re.split(r"\n(?!  |done\b)", block.strip()):
            found[re.sub(r"\s+# .*", "", command)] = None
    return [command for command in found if not command.startswith(SETUP)]


@pytest.fixture(scope="module")
def user(own_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return somebody(tmp_path_factory.mktemp("user").resolve())


@pytest.mark.parametrize("command", commands())
def test_a_command_works(user: dict[str, str], command: str) -> None:
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
    (code,) = blocks("python", README)
    done = subprocess.run([sys.executable, "-c", code], env=user, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_every_option_and_command_is_in_the_reference() -> None:
    checked = 0
    for name, command in every_command().items():
        assert f"clipsearch {name}" in REFERENCE
        for parameter in command.params:
            long = [option for option in parameter.opts if option.startswith("--")]
            if long and long[0] not in ("--help", "--count", "--quiet", "--print0"):
                assert long[0] in REFERENCE, f"{name} {long[0]}"
                checked += 1
    assert checked > 60


def test_the_readme_fits_a_few_screens() -> None:
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize("page", [*PAGES, ROOT / "scripts/README.md", ROOT / ".github/CONTRIBUTING.md"], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not heading or heading in headings(target.read_text()), link


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of headings."""
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}
