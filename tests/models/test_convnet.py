"""The convolutional image tower in NumPy, compared with timm."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from conftest import needs_torch
from tiny_models import cosines, save_tiny

from clipsearch.arrays import unit_rows
from clipsearch.errors import WeightsUnusable
from clipsearch.models.convnet import ConvTower
from clipsearch.models.encoders import NumpyEncoder
from clipsearch.models.graph_encoders import GraphEncoder
from clipsearch.models.layers import normalise
from clipsearch.models.model import Model, mini
from clipsearch.models.weights import load_safetensors

NETWORKS = {
    "tf_efficientnet_lite0": "linear",
    "tf_efficientnet_lite1": "",
    "tf_efficientnet_lite2": "mlp",
}


def vision(name: str) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_pool": "avg", "timm_proj": NETWORKS[name], "image_size": 64}


@pytest.fixture(scope="module")
def tiny_conv(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    made: dict[str, Model] = {}

    def make(name: str) -> Model:
        if name not in made:
            made[name] = save_tiny(tmp_path_factory.mktemp("conv"), vision_cfg=vision(name))
        return made[name]

    return make


@pytest.fixture
def model(tiny_conv: Callable[[str], Model]) -> Model:
    return tiny_conv("tf_efficientnet_lite0")


def theirs(model: Model) -> Any:
    import open_clip

    return open_clip.create_model(model.architecture).eval()


@needs_torch
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(64, 64), (128, 128), (63, 97), (33, 32)])
def test_images_are_embedded_as_timm_does_it(
    size: tuple[int, int], name: str, tiny_conv: Callable[[str], Model]
) -> None:
    import torch

    model = tiny_conv(name)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    pixels[1] //= 8  # a dark one
    inputs = torch.from_numpy(normalise(pixels, model.preprocess)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = theirs(model).encode_image(inputs).numpy()
    rows = ConvTower(model, load_safetensors(model.weights))(pixels)
    np.testing.assert_allclose(rows, unit_rows(expected), atol=1e-5)
    assert cosines(rows, expected).min() > 0.999999
    sized = replace(model, preprocess=replace(model.preprocess, size=size))
    np.testing.assert_allclose(GraphEncoder(NumpyEncoder(sized)).encode_images(pixels), rows, atol=1e-5)
    assert (rows @ rows.T)[np.triu_indices(3, 1)].max() < 0.9999  # else any tower would agree


@needs_torch
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(64, 64), (63, 97)])
def test_a_part_says_how_the_embedding_changes_with_its_place_of_the_map(
    size: tuple[int, int], name: str, tiny_conv: Callable[[str], Model]
) -> None:
    import torch

    model = tiny_conv(name)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    tower = ConvTower(model, load_safetensors(model.weights))
    inputs = torch.from_numpy(normalise(pixels[None], model.preprocess)).permute(0, 3, 1, 2)
    text = torch.nn.functional.normalize(torch.randn(model.dim), dim=0)
    visual = theirs(model).visual
    with torch.no_grad():
        features = visual.trunk.forward_features(inputs)[0]
    mean = features.mean((1, 2)).requires_grad_()
    embedded = visual.head(visual.trunk.classifier(mean))
    np.testing.assert_allclose(unit_rows(embedded.detach().numpy()), tower(pixels[None])[0], atol=1e-5)
    (gradient,) = torch.autograd.grad(torch.nn.functional.normalize(embedded, dim=0) @ text, mean)
    expected = torch.einsum("cyx,c->yx", features - mean.detach()[:, None, None], gradient).numpy()
    said = tower.parts(pixels).embeddings @ text.numpy()
    assert said.shape == expected.shape
    assert np.corrcoef(said.ravel(), expected.ravel())[0, 1] > 0.99


@needs_torch
@pytest.mark.parametrize("width", [480, 512, 481])
def test_a_part_is_where_its_place_of_the_map_looks(width: int, model: Model) -> None:
    import torch

    xs = ConvTower(model, load_safetensors(model.weights)).parts(np.zeros((64, width, 3), np.uint8)).xs
    inputs = torch.randn(8, 3, 64, width, requires_grad=True)
    visual = theirs(model).visual
    number = len(xs) // 2 - 1
    visual.trunk.forward_features(inputs)[..., number].square().sum().backward()
    assert inputs.grad is not None
    seen = inputs.grad.square().sum((0, 1, 2)).numpy()
    middle = (seen * (np.arange(width) + 0.5)).sum() / seen.sum()
    assert middle == pytest.approx(xs[number] * width, abs=6)  # of 32 from one place to the next
    assert np.diff(xs) * width == pytest.approx(32, abs=1e-3)


def test_only_these_networks_are_served(model: Model) -> None:
    def served(**changes: Any) -> bool:
        return ConvTower.serves(replace(model, config=model.config | {"vision_cfg": known | changes}))

    known = vision("tf_efficientnet_lite0")
    assert served()
    assert served(timm_proj="mlp")
    assert ConvTower.serves(mini())
    assert not served(timm_model_name="mobilenetv4_conv_medium")
    assert not served(timm_pool="max")
    assert not served(timm_proj="none")
    assert not served(timm_proj_bias=True)
    assert not served(a_key_of_tomorrow=1)
    assert not ConvTower.serves(replace(model, weights=Path("weights.pt")))
    assert not ConvTower.serves(replace(model, config=model.config | {"multimodal_cfg": {}}))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("visual.trunk.conv_stem.weight", "missing"),
        ("visual.trunk.blocks.3.2.bn3.running_var", "missing"),
        ("visual.trunk.blocks.2.0.conv_dw.weight", "other shape"),
        ("visual.trunk.bn1.weight", "other shape"),
        ("visual.trunk.blocks.2.0.bn2.running_var", "other shape"),
        ("visual.head.proj.weight", "other shape"),
        ("visual.head.proj.weight", "missing"),
        ("visual.trunk.blocks.7.0.conv_pw.weight", "too many"),
        ("visual.trunk.blocks.1.2.conv_pw.weight", "too many"),
    ],
)
def test_weights_that_do_not_fit_are_named(name: str, change: str, model: Model, tmp_path: Path) -> None:
    tensors = safetensors.numpy.load_file(model.weights)
    if change == "missing":
        del tensors[name]
    else:
        tensors[name] = np.zeros(1, np.float32)
    shutil.copytree(model.weights.parent, tmp_path / "copy")
    other = replace(model, weights=tmp_path / "copy" / model.weights.name)
    safetensors.numpy.save_file(tensors, other.weights)
    with pytest.raises(WeightsUnusable, match=name.replace(".", r"\.")):
        ConvTower(other, load_safetensors(other.weights))
