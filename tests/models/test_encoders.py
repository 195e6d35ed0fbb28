from __future__ import annotations

import functools
import io
import json
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_torch
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_models import TEXTS, assert_they_differ, cosines, save_tiny

from clipsearch.errors import BadArgument, WeightsChanged, WeightsUnusable
from clipsearch.images.decode import decode
from clipsearch.images.preprocess import Preprocess, preprocess
from clipsearch.models.encoders import NumpyEncoder
from clipsearch.models.graph_encoders import GraphEncoder
from clipsearch.models.hub import resolve
from clipsearch.models.model import Model, from_folder, mini
from clipsearch.models.open_clip_encoder import OpenClipEncoder
from clipsearch.models.pretrained import builtin_config
from clipsearch.search.embed import cold_encoder

Tiny = Callable[[str], Model]


def pictures(count: int = 4) -> list[Image.Image]:
    """Large parts of different colours under noise, of odd sizes."""
    rng = np.random.default_rng(3)
    found = []
    for n in range(count):
        size = (300 + 37 * n, 260 - 13 * n)
        coarse = Image.fromarray(rng.integers(0, 200, (3, 4, 3), dtype=np.uint8)).resize(size, Image.NEAREST)
        noise = rng.integers(0, 55, (size[1], size[0], 3), dtype=np.uint8)
        found.append(Image.fromarray(np.asarray(coarse) + noise))
    return found


def theirs(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the pictures and of the texts, in open_clip's own way from end to end."""
    import open_clip
    import torch

    if model.architecture.startswith("local-dir:"):
        net, transform = open_clip.create_model_from_pretrained(model.architecture)
    else:
        net, transform = open_clip.create_model_from_pretrained(model.architecture, str(model.weights))
    net.eval()
    tokens = open_clip.get_tokenizer(model.architecture)(TEXTS)
    with torch.inference_mode():
        images = net.encode_image(torch.stack([transform(picture) for picture in pictures()]), normalize=True)
        texts = net.encode_text(tokens, normalize=True)
    return images.numpy(), texts.numpy()


def assert_agree(encoder: Any, model: Model, expected: tuple[np.ndarray, np.ndarray], least: float) -> None:
    images, texts = expected
    assert_they_differ(images)
    assert_they_differ(texts)
    inputs = np.stack([preprocess(picture, model.preprocess) for picture in pictures()])
    for rows, wanted in ((encoder.encode_images(inputs), images), (encoder.encode_texts(TEXTS), texts)):
        assert rows.dtype == np.float32
        assert rows.shape == wanted.shape
        assert cosines(rows, wanted).min() >= least


# ------------------------------------------------------------------------------------------ agreement with open_clip


@needs_torch
@pytest.mark.parametrize("architecture", ["ViT-B-32", "ViT-B-32-quickgelu"])
def test_vit_b_32_gives_the_embeddings_that_open_clip_gives(architecture: str, vit_b_32: Path) -> None:
    model = resolve(architecture, vit_b_32)
    assert bool(model.config.get("quick_gelu")) == ("quickgelu" in architecture)
    expected = theirs(model)
    assert_agree(NumpyEncoder(model), model, expected, 0.9999)
    assert_agree(GraphEncoder(NumpyEncoder(model)), model, expected, 0.9999)


@needs_torch
@pytest.mark.parametrize("kind", ["gelu", "quick gelu", "custom text", "fp16", "bf16", "oblong"])
def test_every_encoder_gives_the_embeddings_that_open_clip_gives(tiny: Tiny, kind: str) -> None:
    model = tiny(kind)
    expected = theirs(model)
    assert_agree(NumpyEncoder(model), model, expected, 0.999999)
    assert_agree(GraphEncoder(NumpyEncoder(model)), model, expected, 0.999999)
    assert_agree(OpenClipEncoder(model, "cpu", "fp32"), model, expected, 0.999999)
    assert_agree(OpenClipEncoder(model, "cpu", "bf16"), model, expected, 0.99)


@needs_torch
def test_one_thread_gives_the_same_and_leaves_torch_its_threads(tiny: Tiny) -> None:
    import torch

    model, before = tiny("gelu"), torch.get_num_threads()
    inputs = np.stack([preprocess(picture, model.preprocess) for picture in pictures()])
    encoder, seen = OpenClipEncoder(model, "cpu", "fp32", threads=1), []
    images = encoder.net.encode_image
    encoder.net.encode_image = lambda x: seen.append(torch.get_num_threads()) or images(x)
    np.testing.assert_allclose(
        encoder.encode_images(inputs), OpenClipEncoder(model, "cpu", "fp32").encode_images(inputs), atol=1e-5
    )
    assert seen == [1]
    assert torch.get_num_threads() == before


@needs_torch
def test_the_activation_makes_a_difference(tiny: Tiny) -> None:
    quick, exact = theirs(tiny("quick gelu")), theirs(tiny("gelu"))
    for one, other in zip(quick, exact, strict=True):
        assert cosines(one, other).min() < 0.99999


def test_a_batch_gives_what_its_parts_give(tiny: Tiny) -> None:
    model = tiny("gelu")
    inputs = np.stack([preprocess(picture, model.preprocess) for picture in pictures()])
    for encoder in (NumpyEncoder(model), GraphEncoder(NumpyEncoder(model))):
        parts = np.concatenate([encoder.encode_images(inputs[:1]), encoder.encode_images(inputs[1:])])
        np.testing.assert_allclose(encoder.encode_images(inputs), parts, atol=1e-5)
        one_by_one = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), one_by_one, atol=1e-5)


@pytest.mark.weights
def test_real_weights_give_the_probabilities_that_clip_publishes() -> None:
    # https://github.com/openai/CLIP#usage
    with urllib.request.urlopen("https://raw.githubusercontent.com/openai/CLIP/main/CLIP.png") as answer:
        picture = Image.open(io.BytesIO(answer.read())).convert("RGB")  # as CLIP's own example does
    model = resolve("ViT-B-32-quickgelu/openai")
    for encoder in (NumpyEncoder(model), GraphEncoder(NumpyEncoder(model))):
        image = encoder.encode_images(preprocess(picture, model.preprocess)[None])
        logits = 100 * (encoder.encode_texts(["a diagram", "a dog", "a cat"]) @ image[0])
        shares = np.exp(logits - logits.max())
        np.testing.assert_allclose(shares / shares.sum(), [0.9927937, 0.00421068, 0.00299572], atol=5e-4)


# ------------------------------------------------------------------------------------------ preprocessing


@functools.cache
def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def their_pixels(image: Image.Image, how: Preprocess) -> np.ndarray:
    import open_clip

    transform = open_clip.image_transform(
        how.size,
        is_train=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize_mode=how.resize_mode,
        interpolation=how.interpolation,
        fill_color=how.fill_color,
    )
    return (transform(image).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


SIDES = st.integers(4, 160) | st.sampled_from([31, 32, 33, 48, 63, 64, 65, 127])


@needs_torch
@given(
    width=SIDES,
    height=SIDES,
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    size=st.sampled_from([(32, 32), (33, 33), (64, 64), (32, 48), (50, 31)]),
    fill_color=st.sampled_from([0, 7, 255]),
)
@examples(400)
def test_preprocessing_is_that_of_open_clip_pixel_by_pixel(width: int, height: int, **settings: Any) -> None:
    if max(width, height) > 16 * min(width, height):
        return  # deliberately not
    how = Preprocess(**settings)
    np.testing.assert_array_equal(preprocess(noise(width, height), how), their_pixels(noise(width, height), how))


@needs_torch
@pytest.mark.parametrize("size", [(640, 480), (481, 641), (224, 224), (225, 3000), (1023, 767), (200, 150), (447, 448)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_at_full_size_is_that_of_open_clip(size: tuple[int, int], interpolation: str) -> None:
    how = Preprocess(size=(224, 224), interpolation=interpolation)
    np.testing.assert_array_equal(preprocess(noise(*size), how), their_pixels(noise(*size), how))


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("side", [(20_000, 1), (1, 20_000), (30_000, 3), (2, 65_000), (1, 1)])
def test_a_very_long_image_takes_no_more_memory_than_others(
    resize_mode: str, side: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    resized = []
    resize = Image.Image.resize

    def watch(self: Image.Image, size: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        resized.append(size)
        return resize(self, size, *rest, **more)

    image = Image.new("RGB", side, (10, 200, 30))
    monkeypatch.setattr(Image.Image, "resize", watch)
    pixels = preprocess(image, Preprocess(size=(64, 64), resize_mode=resize_mode))
    assert pixels.shape == (64, 64, 3)
    assert (pixels.reshape(-1, 3) == (10, 200, 30)).all(axis=1).any()
    assert all(width * height <= 64 * 64 * 18 for width, height in resized)


def test_of_a_very_long_image_the_middle_counts() -> None:
    image = Image.new("RGB", (10_001, 10), "red")
    image.paste((0, 0, 255), (4_900, 0, 5_101, 10))
    assert (preprocess(image, Preprocess(size=(32, 32))) == (0, 0, 255)).all()


# ------------------------------------------------------------------------------------------ which encoder


def test_a_standard_model_is_encoded_without_torch(tiny: Tiny) -> None:
    for texts, images in ((True, False), (False, True), (True, True)):
        assert isinstance(cold_encoder(tiny("gelu"), texts=texts, images=images), NumpyEncoder)


def test_the_bundled_model_is_encoded_without_torch() -> None:
    for texts, images in ((True, False), (False, True), (True, True)):
        assert isinstance(cold_encoder(mini(), texts=texts, images=images), NumpyEncoder)


@needs_torch
def test_a_tower_that_is_not_served_is_encoded_by_open_clip(tmp_path: Path) -> None:
    vision = {"timm_model_name": "mobilenetv3_small_050", "timm_pool": "avg", "timm_proj": "", "image_size": 64}
    model = save_tiny(tmp_path, vision_cfg=vision)
    assert isinstance(cold_encoder(model, texts=True, images=False), NumpyEncoder)
    encoder = cold_encoder(model, texts=False, images=True)
    assert isinstance(encoder, OpenClipEncoder)
    inputs = np.stack([preprocess(picture, model.preprocess) for picture in pictures()])
    rows = encoder.encode_images(inputs)
    assert rows.shape == (4, model.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("architecture", ["ViT-B-16-SigLIP", "coca_ViT-B-32", "roberta-ViT-B-32", "ViT-H-14-CLIPA"])
def test_other_texts_are_encoded_by_open_clip(architecture: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenClipEncoder, "__init__", lambda self, model: None)
    model = replace(tiny("gelu"), architecture=architecture, config=builtin_config(architecture))
    assert isinstance(cold_encoder(model, texts=True, images=False), OpenClipEncoder)


def test_only_clips_own_tokens_are_made_here() -> None:
    def plain(architecture: str) -> bool:
        return replace(mini(), architecture=architecture, config=builtin_config(architecture)).reads_clip_tokens

    assert all(plain(name) for name in ("ViT-B-32", "RN50", "convnext_base", "ViT-L-14-336-quickgelu"))
    assert not any(plain(name) for name in ("ViT-B-16-SigLIP", "roberta-ViT-B-32", "ViT-H-14-CLIPA"))


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("encoder", [NumpyEncoder, pytest.param(OpenClipEncoder, marks=needs_torch)])
def test_weights_that_have_changed_are_refused(encoder: Callable[[Model], Any], tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    encoder(model)
    data = bytearray(model.weights.read_bytes())
    data[-1] ^= 1
    model.weights.write_bytes(data + b"\0")
    with pytest.raises(WeightsChanged, match="has changed since the index was built"):
        encoder(model)


@pytest.mark.parametrize("encoder", [NumpyEncoder, pytest.param(OpenClipEncoder, marks=needs_torch)])
def test_weights_that_are_gone_are_refused(encoder: Callable[[Model], Any], tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    model.weights.unlink()
    with pytest.raises(WeightsChanged, match=r"files of the model .* are missing: "):
        encoder(model)


@pytest.mark.parametrize("encoder", [NumpyEncoder, pytest.param(OpenClipEncoder, marks=needs_torch)])
def test_a_file_that_holds_no_weights_is_refused(encoder: Callable[[Model], Any], tmp_path: Path) -> None:
    save_tiny(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"these are not weights, whatever the name says")
    model = from_folder(tmp_path, f"local-dir:{tmp_path}")
    with pytest.raises(WeightsUnusable, match=r"cannot be read as safetensors|do not fit"):
        encoder(model)


@needs_torch
@pytest.mark.parametrize("change", [{"embed_dim": 32}, {"quick_gelu": True, "layers": 2}, {"layers": 4}])
def test_weights_that_do_not_fit_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    save_tiny(tmp_path)
    described = json.loads((tmp_path / "open_clip_config.json").read_text())
    if "layers" in change:
        described["model_cfg"]["text_cfg"]["layers"] = change.pop("layers")
    described["model_cfg"] |= change
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    model = from_folder(tmp_path, f"local-dir:{tmp_path}")
    with pytest.raises(WeightsUnusable, match="not fit"):
        NumpyEncoder(model).encode_texts(["a dog"])
    with pytest.raises(WeightsUnusable, match="not fit"):
        OpenClipEncoder(model, "cpu", "fp32")


@needs_torch
def test_a_named_architecture_refuses_weights_of_another(tiny: Tiny) -> None:
    with pytest.raises(WeightsUnusable, match="do not fit ViT-S-32"):
        OpenClipEncoder(resolve("ViT-S-32", tiny("gelu").weights), "cpu", "fp32")


@needs_torch
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_this_machine_has_not_is_refused(device: str, tiny: Tiny) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(BadArgument, match=f"device {device} is not available on this machine"):
        OpenClipEncoder(tiny("gelu"), device)


@needs_torch
def test_a_picture_comes_the_same_way_from_a_file(tiny: Tiny) -> None:
    out = BytesIO()
    pictures()[0].save(out, "PNG")
    how = tiny("gelu").preprocess
    np.testing.assert_array_equal(preprocess(decode(out.getvalue()).image, how), their_pixels(pictures()[0], how))
