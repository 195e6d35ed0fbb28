"""The NumPy towers, and which models they can run without torch or open_clip."""

from __future__ import annotations

from clipsearch.models.bert import BertTower
from clipsearch.models.clip import ImageTower, TextTower
from clipsearch.models.convnet import ConvTower
from clipsearch.models.model import Model
from clipsearch.models.siglip import SiglipImageTower, SiglipTextTower

TEXT_TOWERS = (TextTower, BertTower, SiglipTextTower)
IMAGE_TOWERS = (ImageTower, ConvTower, SiglipImageTower)


def serves(model: Model, *, texts: bool, images: bool) -> bool:
    """Whether NumPy towers exist for the texts of a model, its images, or both."""
    return (not texts or any(tower.serves(model) for tower in TEXT_TOWERS)) and (
        not images or any(tower.serves(model) for tower in IMAGE_TOWERS)
    )
