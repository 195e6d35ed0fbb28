"""Reading open_clip's model configurations without importing it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import needs_torch

from clipsearch.errors import ModelUnknown
from clipsearch.models.pretrained import _TABLE, _table, all_weights, builtin_config, weights_of


@needs_torch
def test_the_table_of_weights_is_open_clips() -> None:
    import open_clip

    table = json.loads(_TABLE.read_text())
    if open_clip.__version__ == table["open_clip"]:
        assert all_weights() == open_clip.list_pretrained()
    for architecture, tag in all_weights():
        ours = weights_of(architecture, tag)
        assert ours == json.loads(json.dumps(open_clip.get_pretrained_cfg(architecture, tag))), (architecture, tag)


def test_a_tag_is_found_however_it_is_spelt() -> None:
    assert weights_of("ViT-B-32", "LAION2b-s34b-b79k") == weights_of("ViT-B-32", "laion2b_s34b_b79k")
    with pytest.raises(ModelUnknown, match="choose from "):
        weights_of("ViT-B-32", "nothing")


@needs_torch
def test_a_builtin_architecture_has_open_clips_configuration() -> None:
    import open_clip

    assert builtin_config("ViT-B-32") == open_clip.get_model_config("ViT-B-32")
    assert sorted(_table()["configs"]) == sorted(open_clip.list_models())


@pytest.mark.parametrize(
    "name",
    [
        "ViT-Z-99",
        "",
        ".",
        "..",
        "../x",
        "../model_configs/ViT-B-32",
        "/etc/passwd",
        "x/../ViT-B-32",
        "ViT-B-32\0",
        pytest.param("x" * 5000, id="too long for a file"),
    ],
)
def test_a_name_that_is_no_architecture_is_unknown(name: str) -> None:
    with pytest.raises(ModelUnknown, match="unknown model "):
        builtin_config(name)


def test_the_tables_are_read_without_torch() -> None:
    code = (
        "import sys; from clipsearch.models.pretrained import all_weights; all_weights();"
        "print(*sorted({'torch', 'open_clip'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
