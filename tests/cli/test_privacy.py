"""Other users cannot read the index, which names every photo, or the cache, which has past queries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import save_scenes
from terminal import posix


@posix
@pytest.mark.parametrize("umask", ["000", "022"])
def test_what_the_program_leaves_behind_is_for_its_owner_alone(tmp_path: Path, umask: str) -> None:
    photos, index, cache = tmp_path / "photos", tmp_path / "index", tmp_path / "cache"
    save_scenes(photos, 2)
    index.mkdir(mode=0o755)
    cache.mkdir(mode=0o755)
    script = f"""
        umask {umask}; export XDG_CACHE_HOME={cache} CLIPSEARCH_INDEX={index} BROWSER=true
        clipsearch() {{ {sys.executable} -m clipsearch "$@"; }}
        clipsearch index {photos} --model mini -q && clipsearch concept add secret {photos}/00.png &&
        clipsearch query "my illness" && clipsearch query "my illness" --open
    """
    subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    for folder in (index, cache / "clipsearch"):
        assert folder.stat().st_mode & 0o777 == 0o700
        below = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert set(below.values()) == {0o600}, below
    assert {"catalogue.sqlite", "concepts.json", "concepts.lock"} < {path.name for path in index.iterdir()}
    assert {path.name for path in (cache / "clipsearch").iterdir()} == {"cache.sqlite", "contact-sheet.html"}
