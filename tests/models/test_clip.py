from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_torch
from tiny_models import KINDS, TEXTS, assert_they_differ, cosines, some_pixels

from clipsearch.arrays import unit_rows
from clipsearch.errors import WeightsUnusable
from clipsearch.models.clip import ImageTower, TextTower
from clipsearch.models.layers import normalise
from clipsearch.models.model import Model
from clipsearch.models.pretrained import builtin_config
from clipsearch.models.weights import load_safetensors


def supports(model: Model) -> tuple[bool, bool]:
    return TextTower.serves(model), ImageTower.serves(model)


def theirs(model: Model) -> Any:
    import open_clip

    return open_clip.create_model(model.architecture).eval()


@needs_torch
@pytest.mark.parametrize("kind", KINDS)
def test_the_text_tower_gives_the_embeddings_that_open_clip_gives(tiny: Callable[[str], Model], kind: str) -> None:
    import open_clip
    import torch

    model = tiny(kind)
    with torch.inference_mode():
        expected = theirs(model).encode_text(open_clip.get_tokenizer(model.architecture)(TEXTS)).numpy()
    assert_they_differ(expected)
    assert cosines(TextTower(model, load_safetensors(model.weights))(TEXTS), expected).min() > 0.999999


@needs_torch
@pytest.mark.parametrize("kind", KINDS)
def test_the_image_tower_gives_the_embeddings_that_open_clip_gives(tiny: Callable[[str], Model], kind: str) -> None:
    import torch

    model = tiny(kind)
    inputs = torch.from_numpy(normalise(some_pixels(model), model.preprocess)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = theirs(model).encode_image(inputs).numpy()
    assert_they_differ(expected)
    assert cosines(ImageTower(model, load_safetensors(model.weights))(some_pixels(model)), expected).min() > 0.999999


@needs_torch
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_what_its_patch_gives_when_each_attends_to_itself_alone(
    tiny: Callable[[str], Model], kind: str
) -> None:
    import torch

    model = tiny(kind)
    (image,) = some_pixels(model, 1)
    visual = theirs(model).visual
    with torch.inference_mode():
        x = visual._embeds(torch.from_numpy(normalise(image[None], model.preprocess)).permute(0, 3, 1, 2))
        *before, last = visual.transformer.resblocks
        for block in before:
            x = block(x)
        alone = torch.full((x.shape[1], x.shape[1]), -torch.inf).fill_diagonal_(0)
        values = last.attention(last.ln_1(x), attn_mask=alone)[0, 1:]
        expected = (visual.ln_post(values) @ visual.proj).numpy()
    parts = ImageTower(model, load_safetensors(model.weights)).parts(image)
    patch = model.config["vision_cfg"].get("patch_size", 16)
    rows, columns = (side // patch for side in image.shape[:2])
    assert parts.embeddings.shape == (rows, columns, model.dim)
    assert_they_differ(expected)
    assert cosines(parts.embeddings.reshape(rows * columns, -1), expected).min() > 0.99999
    np.testing.assert_allclose(parts.ys * image.shape[0], (np.arange(rows) + 0.5) * patch, rtol=1e-5)
    np.testing.assert_allclose(parts.xs * image.shape[1], (np.arange(columns) + 0.5) * patch, rtol=1e-5)


def test_a_text_is_read_up_to_its_first_end(tiny: Callable[[str], Model]) -> None:
    tower = TextTower(tiny(), load_safetensors(tiny().weights))
    one, other, longer = tower(["a dog", "a dog <end_of_text> in the snow", "a dog in the snow"])
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, longer, atol=0.01)


def test_pixels_are_normalised_as_open_clip_does_it(tiny: Callable[[str], Model]) -> None:
    how = replace(tiny().preprocess, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    values = normalise(np.array([[[0, 51, 255]]], np.uint8), how)
    np.testing.assert_allclose(values, [[[-0.2, 0, 0.35]]], atol=1e-6)
    assert values.dtype == np.float32


def test_a_row_of_nothing_stays_finite() -> None:
    np.testing.assert_allclose(unit_rows(np.array([[3.0, 4.0], [0, 0]])), [[0.6, 0.8], [0, 0]], atol=1e-6)


# ------------------------------------------------------------------------------------------ which models


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("ViT-B-32", (True, True)),
        ("ViT-B-32-quickgelu", (True, True)),
        ("ViT-L-14-336", (True, True)),
        ("RN50", (True, False)),
        ("convnext_base", (True, False)),
        ("ViT-B-16-SigLIP", (False, False)),
        ("coca_ViT-B-32", (False, False)),
        ("roberta-ViT-B-32", (False, True)),
        ("EVA02-B-16", (True, False)),
        ("ViT-H-14-CLIPA", (False, False)),
    ],
)
def test_only_standard_towers_are_served(
    architecture: str, expected: tuple[bool, bool], tiny: Callable[[str], Model]
) -> None:
    assert supports(replace(tiny(), config=builtin_config(architecture))) == expected


def test_weights_that_are_not_safetensors_are_not_served(tiny: Callable[[str], Model]) -> None:
    assert supports(tiny()) == (True, True)
    assert supports(replace(tiny(), weights=Path("weights.pt"))) == (False, False)


@pytest.mark.parametrize("key", ["ls_init_value", "no_causal_mask", "pool_type", "a_key_of_tomorrow"])
def test_a_key_that_is_not_known_means_another_network(key: str, tiny: Callable[[str], Model]) -> None:
    config = tiny().config
    assert supports(replace(tiny(), config=config | {"text_cfg": config["text_cfg"] | {key: 1}})) == (False, True)
    assert supports(replace(tiny(), config=config | {"vision_cfg": config["vision_cfg"] | {key: 1}})) == (True, False)
    assert supports(replace(tiny(), config=config | {key: 1})) == (False, False)


# ------------------------------------------------------------------------------------------ weights


def changed(model: Model, part: str, **changes: int) -> Model:
    return replace(model, config=model.config | {part: model.config[part] | changes})


@pytest.mark.parametrize("changes", [{"layers": 2}, {"layers": 4}, {"width": 64}, {"context_length": 32}])
def test_texts_are_refused_when_the_weights_do_not_fit(changes: dict[str, int], tiny: Callable[[str], Model]) -> None:
    model = changed(tiny(), "text_cfg", **changes)
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        TextTower(model, load_safetensors(model.weights))(["a dog"])


@pytest.mark.parametrize("changes", [{"layers": 1}, {"layers": 4}, {"width": 96}, {"patch_size": 12}])
def test_images_are_refused_when_the_weights_do_not_fit(changes: dict[str, int], tiny: Callable[[str], Model]) -> None:
    model = changed(tiny(), "vision_cfg", **changes)
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        ImageTower(model, load_safetensors(model.weights))(some_pixels(model))


def test_another_length_of_embeddings_does_not_fit(tiny: Callable[[str], Model]) -> None:
    model = replace(tiny(), config=tiny().config | {"embed_dim": 25})
    for tower in (TextTower, ImageTower):
        with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
            tower(model, load_safetensors(model.weights))


def test_what_is_mapped_stays_readable_when_the_file_is_replaced(tmp_path: Path, tiny: Callable[[str], Model]) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copy(tiny().weights, copy)
    tensors = load_safetensors(copy)
    copy.unlink()
    np.testing.assert_array_equal(
        TextTower(tiny(), tensors)(["a dog"]),
        TextTower(tiny(), load_safetensors(tiny().weights))(["a dog"]),
    )
