"""The models that people should try first, with what is published of them."""

from __future__ import annotations

from typing import NamedTuple


class Recommended(NamedTuple):
    """A model under a short name, which stands for it wherever a model is named.

    `coco` and `flickr30k`: how many captions of 100 find their own photo first among those of the test set (R@1, text
    to image); None where nobody has published it. `megabytes` is what is downloaded.
    """

    short: str
    name: str
    megabytes: int
    licence: str
    languages: str
    coco: float | None = None
    flickr30k: float | None = None


# The figures of the first and the last are those of open_clip (docs/openclip_retrieval_results.csv, "image retr. R@1"),
# that of SigLIP 2 is from its paper (arXiv 2502.14786, table 1). The licences are those of the cards on the hub.
RECOMMENDED = (
    Recommended("default", "ViT-B-32/laion2b_s34b_b79k", 605, "MIT", "English", 39.3, 66.8),
    Recommended("siglip2", "ViT-B-32-SigLIP2-256/webli", 1540, "Apache-2.0", "many languages", 47.2),
    Recommended(
        "multilingual", "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", 1470, "MIT", "many languages", 37.8, 64.5
    ),
)


def spelt_out(name: str) -> str:
    """The name that a short one stands for; any other as it is."""
    return {model.short: model.name for model in RECOMMENDED}.get(name, name)
