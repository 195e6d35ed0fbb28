"""Captions by CoCa (Yu et al. 2022), the models of open_clip that also write: `coca_ViT-B-32`, `coca_ViT-L-14`.

open_clip's own `generate` needs parts of the transformers library that its newer versions no longer have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.errors import ModelUnknown
from clipsearch.images.preprocess import preprocess
from clipsearch.models.generated_text import MAX_CAPTION, clean
from clipsearch.models.hub import resolve
from clipsearch.models.open_clip_encoder import OpenClipEncoder, torch_errors

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels

_START, _END = 49406, 49407  # of a text, in CLIP's tokens
_LEAST, _MOST = 5, 30  # tokens of a caption, as in open_clip's `generate`


def is_coca(name: str) -> bool:
    """Whether the name of a model is that of a CoCa, or of a folder with one of open_clip's models."""
    return name.startswith(("coca_", "local-dir:"))


class CocaCaptioner:
    """Writes the most likely token each time. Raises what loading a model raises, and `EncodingFailed`."""

    def __init__(self, name: str, device: str = "auto") -> None:
        model = resolve(name)
        if "multimodal_cfg" not in model.config:
            raise ModelUnknown(f"{name} cannot caption photos: it is not a CoCa model")
        self._settings = model.preprocess
        self._encoder = OpenClipEncoder(model, device)

    def captions(self, images: Sequence[Pixels]) -> list[str]:
        import torch
        from open_clip import decode
        from PIL import Image

        pixels = np.stack([preprocess(Image.fromarray(image), self._settings) for image in images])
        net = self._encoder.net
        with torch.inference_mode(), torch_errors():
            batch = self._encoder.normalised(pixels)
            seen = net(batch)
            tokens = torch.full((len(images), 1), _START, device=batch.device)
            while tokens.shape[1] < _MOST and not (tokens == _END).any(1).all():
                known = {"image_latent": seen["image_features"], "image_embs": seen["image_embs"]}
                scores = net(batch, tokens, **known, output_labels=False)["logits"][:, -1]
                scores[:, _START] = -torch.inf
                if tokens.shape[1] < _LEAST:
                    scores[:, _END] = -torch.inf
                tokens = torch.cat([tokens, scores.argmax(-1, keepdim=True)], 1)
        texts = (decode(row[1:]).partition("<end_of_text>")[0] for row in tokens.cpu())
        return [clean(text, MAX_CAPTION) for text in texts]
