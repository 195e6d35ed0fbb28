"""The convolutional image tower in NumPy, compared with timm."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from tiny_models import cosines, tiny_config

from clipsearch.arrays import unit_rows
from clipsearch.errors import WeightsUnusable
from clipsearch.models.convnet import ConvTower
from clipsearch.models.encoders import TorchEncoder
from clipsearch.models.layers import normalise
from clipsearch.models.model import Model, from_folder, mini
from clipsearch.models.weights import load_safetensors

NETWORKS = {
    "tf_efficientnet_lite0": "linear",
    "tf_efficientnet_lite1": "",
    "tf_efficientnet_lite2": "mlp",
}


def vision(name: str) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_pool": "avg", "timm_proj": NETWORKS[name], "image_size": 64}


def random_net(name: str) -> open_clip.CLIP:
    """A network whose batch norms all do something, and whose embeddings differ from image to image."""
    torch.manual_seed(3)
    net = open_clip.CLIP(**tiny_config(vision_cfg=vision(name))).eval()
    with torch.no_grad():
        for module in net.visual.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
    return net


@pytest.fixture(scope="module", params=NETWORKS)
def net(request: pytest.FixtureRequest) -> tuple[str, open_clip.CLIP]:
    return request.param, random_net(request.param)


def saved(name: str, net: open_clip.CLIP, folder: Path) -> Model:
    safetensors.torch.save_file(net.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": tiny_config(vision_cfg=vision(name)), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return from_folder(folder, f"local-dir:{folder}")


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (63, 97), (33, 32)])
def test_images_are_embedded_as_timm_does_it(
    size: tuple[int, int], net: tuple[str, open_clip.CLIP], tmp_path: Path
) -> None:
    name, their = net
    model = saved(name, their, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    pixels[1] //= 8  # a dark one
    inputs = torch.from_numpy(normalise(pixels, model.preprocess)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = their.encode_image(inputs).numpy()
    rows = ConvTower(model, load_safetensors(model.weights))(pixels)
    np.testing.assert_allclose(rows, unit_rows(expected), atol=1e-5)
    assert cosines(rows, expected).min() > 0.999999
    for precision, least in (("fp32", 0.999999), ("bf16", 0.998)):
        assert cosines(TorchEncoder(model, "cpu", precision).encode_images(pixels), expected).min() > least
    assert (rows @ rows.T)[np.triu_indices(3, 1)].max() < 0.9999  # else any tower would agree


@pytest.mark.parametrize("size", [(64, 64), (63, 97)])
def test_a_part_says_how_the_embedding_changes_with_its_place_of_the_map(
    size: tuple[int, int], net: tuple[str, open_clip.CLIP], tmp_path: Path
) -> None:
    name, their = net
    model = saved(name, their, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    tower = ConvTower(model, load_safetensors(model.weights))
    inputs = torch.from_numpy(normalise(pixels[None], model.preprocess)).permute(0, 3, 1, 2)
    text = torch.nn.functional.normalize(torch.randn(model.dim), dim=0)
    visual: Any = their.visual
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


@pytest.mark.parametrize("width", [480, 512, 481])
def test_a_part_is_where_its_place_of_the_map_looks(width: int, tmp_path: Path) -> None:
    name = "tf_efficientnet_lite0"
    their = random_net(name)
    model = saved(name, their, tmp_path)
    xs = ConvTower(model, load_safetensors(model.weights)).parts(np.zeros((64, width, 3), np.uint8)).xs
    inputs = torch.randn(8, 3, 64, width, requires_grad=True)
    visual: Any = their.visual
    number = len(xs) // 2 - 1
    visual.trunk.forward_features(inputs)[..., number].square().sum().backward()
    assert inputs.grad is not None
    seen = inputs.grad.square().sum((0, 1, 2)).numpy()
    middle = (seen * (np.arange(width) + 0.5)).sum() / seen.sum()
    assert middle == pytest.approx(xs[number] * width, abs=6)  # of 32 from one place to the next
    assert np.diff(xs) * width == pytest.approx(32, abs=1e-3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    name = "tf_efficientnet_lite0"
    return saved(name, random_net(name), tmp_path_factory.mktemp("conv"))


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
    tensors = safetensors.torch.load_file(model.weights)
    if change == "missing":
        del tensors[name]
    else:
        tensors[name] = torch.zeros(1)
    shutil.copytree(model.weights.parent, tmp_path / "copy")
    other = replace(model, weights=tmp_path / "copy" / model.weights.name)
    safetensors.torch.save_file(tensors, other.weights)
    with pytest.raises(WeightsUnusable, match=name.replace(".", r"\.")):
        ConvTower(other, load_safetensors(other.weights))
