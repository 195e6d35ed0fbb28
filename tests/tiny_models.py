"""Small networks that have all the parts of open_clip's, for tests that compare with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import torch

from clipsearch.arrays import unit_rows
from clipsearch.models.model import Model, from_folder

TEXTS = [
    "a photo of a dog",
    "two red circles on a table",
    "sunset",
    "",
    "schöne Grüße 🐕",
    "one two three four five six seven " * 5,
    "an end <end_of_text> and more",
]


def tiny_config(**changes: Any) -> dict[str, Any]:
    """open_clip's `model_cfg` of a network with all the parts and few numbers; patches do not fill the image."""
    vision = {"image_size": 36, "layers": 2, "width": 48, "head_width": 12, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text} | changes


def strengthen(net: torch.nn.Module) -> None:
    """Random weights give nearly the same embedding for all inputs, and zero biases hide a missing one."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "embedding" in name:
                parameter.normal_(std=0.5)
            elif "attn" in name and "weight" in name:
                parameter.mul_(2)
            elif "mlp" in name and "weight" in name:
                parameter.mul_(4)
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def save_tiny(folder: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> Model:
    config = tiny_config(**changes)
    built = {key: value for key, value in config.items() if key != "custom_text"}
    torch.manual_seed(0)
    net = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**built)
    strengthen(net)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in net.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return from_folder(folder, f"local-dir:{folder}")


KINDS: dict[str, dict[str, Any]] = {
    "gelu": {},
    "quick gelu": {"quick_gelu": True},
    "custom text": {"custom_text": True},
    "fp16": {"dtype": torch.float16},
    "bf16": {"dtype": torch.bfloat16},
    "oblong": {"vision_cfg": {"image_size": [24, 40], "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}},
    "open_clip's defaults": {
        "vision_cfg": {"image_size": 32, "layers": 1},
        "text_cfg": {"context_length": 8, "layers": 1},
    },
}


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    return (one * unit_rows(other)).sum(axis=1)


def assert_they_differ(rows: np.ndarray) -> None:
    """A test of equal embeddings says little where all are equal."""
    likeness = unit_rows(rows) @ unit_rows(rows).T
    assert (likeness - np.eye(len(rows))).max() < 0.99
