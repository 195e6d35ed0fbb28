"""Every command in the README, the command reference and `--help` runs, and so does the README's Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import warm
from conftest import SCENES, save_scenes
from endpoints import chat_server, completion
from terminal import every_command, help_examples

from clipsearch.images.box import Box
from clipsearch.images.xmp import with_keywords
from clipsearch.indexing.people import group_faces
from clipsearch.indexing.update import Options, update_index
from clipsearch.models import faces
from clipsearch.store.captions import Captioning
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import NewFace
from clipsearch.store.photo import Line

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the README's examples are for a Unix shell")

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "clipsearch/cli/README.md"]
README, REFERENCE = (page.read_text() for page in PAGES)
# Runs a server until it has said where it is, and ends it as Ctrl-C does.
_UNTIL_IT_LISTENS = (
    "import signal, subprocess, sys;"
    " server = subprocess.Popen([sys.executable, '-m', 'clipsearch', *sys.argv[1:]], stdout=subprocess.PIPE);"
    " server.stdout.readline(); server.send_signal(signal.SIGINT); sys.exit(server.wait())"
)
# Runs a watch until it has nothing more to do, and ends it as systemd does.
_UNTIL_IT_WATCHES = (
    "import subprocess, sys;"
    " watch = subprocess.Popen([sys.executable, '-m', 'clipsearch', *sys.argv[1:]], stderr=subprocess.PIPE, text=True);"
    " any(sys.stderr.write(line) and 'press Ctrl-C' in line for line in watch.stderr) and watch.terminate();"
    " sys.exit(watch.wait())"
)

WRITTEN = ("Boarding pass", "Coffee 3.50", "WiFi password: swordfish")
SETUP = ("./scripts/", "pipx ", "systemctl ")  # they change the machine
NEEDS_A_SERVER = "milvus://"
MAY_FIND_NOTHING = (
    "--saved",
    "--after",
    "--near",
    "--cut",
    "--strict",
    "--camera",
    "--size",
    "--min-score",
    "--person",
)
NEEDS_A_DOWNLOAD = ("--detector owlv2", "--segmenter clipseg", "--model ViT", "--model siglip2", "--weights openai")


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    """Each command of both pages and of every `--help`, once. Indented lines, and the end of a loop, continue one."""
    found: dict[str, None] = {}
    for block in blocks("sh", README + REFERENCE):
        for command in re.split(r"\n(?!  |done\b)", block.strip()):
            found[re.sub(r"\s+# .*", "", command)] = None
    found |= dict.fromkeys(example for _, example in help_examples())
    return [command for command in found if not command.startswith(SETUP)]


def somebody(folder: Path, program: str, endpoint: str) -> dict[str, str]:
    """The environment of a user with `folder` for a home, who has indexed ~/Pictures and has what examples name."""
    for name in ("Pictures/2023", "media/camera", "media/old-drive", "wallpapers", "bin", ".config/systemd/user"):
        (folder / name).mkdir(parents=True)
    save_scenes(folder / "Pictures" / "2023", 20)
    save_scenes(folder / "Pictures", 5, first=20)
    save_scenes(folder / "media/camera", 5)
    save_scenes(folder / "media/old-drive", 3, first=30)
    for name in ("twice.png", "again.png"):
        SCENES[12].image.save(folder / "Pictures/2023" / name)
    for n, name in enumerate(("a", "b", "beach", "hotel", "sea")):
        SCENES[n].image.save(folder / f"{name}.jpg")
    lines = [f"Pictures/2023/{n:02d}.png\t{SCENES[n].captions[0]}\n" for n in range(20)]
    (folder / "captions.tsv").write_text("".join(lines))
    (folder / "queries.txt").write_text("a red circle\nstripes\n")
    (folder / "labels.txt").write_text("cat\ndog\n")
    programs = {"curl": 'cat "$HOME/beach.jpg"', "fzf": "head -n 1"}
    ends = "\n".join(
        f'[ "$1" != {name} ] || exec "{sys.executable}" -c "{code}" "$@"'
        for name, code in (("serve", _UNTIL_IT_LISTENS), ("watch", _UNTIL_IT_WATCHES))
    )
    programs["clipsearch"] = f'{ends}\nexec {program} "$@"'
    for name, body in programs.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "Pictures/2023/00.png.xmp").write_bytes(with_keywords(None, ["grandma", "beach"]))
    index = folder / ".local/share/clipsearch"
    update_index(index, [folder / "Pictures", folder / "media/old-drive"], Options(model="mini"))
    with Store.open(index, write=True) as store:  # as if it was read: reading itself is slow, and tested elsewhere
        store.ocr_text.enable(True)
        for photo in store.ocr_text.unread():
            written = WRITTEN if photo.path.endswith(b"/2023/00.png") else ()
            store.ocr_text.put(photo.image_id, [Line(line, 0, 0.1, 1, 0.2) for line in written])
            store.captions.put(photo.image_id, "a red circle", "llava")
        store.captions.set_setting(Captioning("llava", endpoint))
        store.commit()
        # As if faces were found, those of Anna with the numbers that examples have; looking is tested elsewhere.
        store.faces.enable(faces.record())
        store.database.execute("INSERT INTO sqlite_sequence VALUES ('faces', 811)")
        for number, photo in enumerate(store.faces.unseen()):
            person = np.random.default_rng(max(0, number - 2) % 12).normal(size=128)
            face = NewFace(Box(0.1, 0.1, 0.4, 0.5), ((0.2, 0.2),) * 5, 0.9, person / np.linalg.norm(person))
            store.faces.put(photo.image_id, [face])
        group_faces(store)
    environment = os.environ | {"HOME": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"BROWSER": "true", "ENDPOINT": endpoint}
    for words in (
        ["concept", "add", "grandma", "a.jpg"],
        ["query", "a circle", "--save", "beach dogs"],
        ["people", "name", "1", "Anna"],
    ):
        command = [folder / "bin/clipsearch", *words]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return environment


@pytest.fixture(scope="module")
def user(
    warm_program: str | None, places_table: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    program = f'"{sys.executable}" -m clipsearch'
    if warm_program is not None:
        program = f'"{sys.executable}" -IS "{warm.__file__}" "{warm_program}"'
    folder = tmp_path_factory.mktemp("user").resolve()
    (folder / ".cache/clipsearch").mkdir(parents=True, mode=0o700)
    shutil.copy(places_table, folder / ".cache/clipsearch/places.sqlite")
    with chat_server() as chat:
        chat.reply = lambda _: completion("yes")
        yield somebody(folder, program, chat.url)


def and_back(command: str, media: Path) -> str:
    """A command between others that make what it needs, and that leave everything as it was for the next example."""
    folders = [media / name for name in re.findall(r"/media/([\w-]+)", command)]
    if "clipsearch forget" in command:
        command = f"clipsearch index {folders[0]} -q && {command} && clipsearch index {media}/old-drive -q"
    elif "relocate" in command:
        old, new = folders
        if not old.exists():
            save_scenes(old, 2)
        command = (
            f"clipsearch index {old} -q && mv {old} {new} && {command} && clipsearch forget {new} && mv {new} {old}"
        )
    elif "concept remove" in command:
        command = f"{command} && clipsearch concept add grandma a.jpg"
    elif "people undo" in command:
        command = f"clipsearch people hide 12 && {command}"
    elif "--write-xmp" in command and "people" in command:
        command = f"{command} && clipsearch people --remove && clipsearch index -q"
    elif re.search("people (name|merge|split|hide|forget)", command):
        command = f"{command} && clipsearch people undo"
    elif "--unsave" in command:
        command = f'{command} && clipsearch query "a circle" --save "beach dogs"'
    elif "--index photos.db" in command:
        command = f"clipsearch publish photos.db -q && {command}"
    elif "--undo" in command:
        command = f"clipsearch duplicates --move-to ~/duplicates && {command} && clipsearch index -q"
    elif "--move-to" in command and "--dry-run" not in command:
        command = f"{command} && clipsearch duplicates --undo ~/duplicates && clipsearch index -q"
    return re.sub(r"(?<=\s)/media/", f"{media}/", command)


@pytest.mark.parametrize("command", commands())
def test_a_command_works(user: dict[str, str], command: str) -> None:
    if "jq" in command and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    line = re.sub(r"milvus://[^/]+", "milvus://127.0.0.1:1", and_back(command, Path(user["HOME"], "media")))
    line = line.replace("http://127.0.0.1:11434/v1", user["ENDPOINT"])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=user["HOME"], env=user, capture_output=True, text=True, check=False
    )
    if any(words in command for words in NEEDS_A_DOWNLOAD):
        assert done.returncode == 2
        assert any(words in done.stderr for words in ("HF_HUB_OFFLINE", "--rebuild", "openai.safetensors", "'.[vlm]'"))
    elif NEEDS_A_SERVER in command:
        assert (done.returncode, done.stdout) == (2, "")
        assert "cannot be used" in done.stderr
    else:
        assert done.returncode in ((0, 1) if any(word in command for word in MAY_FIND_NOTHING) else (0,)), done.stderr
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
