"""How sure the model is that a photo shows a text, as a calibrated probability.

The logit is linear in three z-scores, so that one function serves every model: the photo's cosine with the text; the
mean cosine of the index's photos with it, as everyday subjects are likelier than a saxophone; and its mean cosine with
a background of common subjects, which tells short general words from long or odd texts. Their units are measured
without labels, with the background texts and a sample of the index's photos. For one text, confidence rises with the
score, and a photo shows many things at once: texts do not compete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array
from clipsearch.search.embed import Embedder
from clipsearch.search.hit import Hit
from clipsearch.search.question import CUT
from clipsearch.store.searchable import Searchable

SAMPLE = 256  # photos: 2 ms of 1M, 50 ms if nothing is in memory; a mean cosine is known to 0.06 of its unit
_MOST_TYPICAL = 1.0  # in a folder of dogs alone, "a wolf" gains no more than this


class Weights(NamedTuple):
    """The weights of the three z-scores, and the bias of the logit."""

    score: float
    typical: float
    general: float
    bias: float

    def confidence(self, score: Array, typical: float, general: float) -> Array:
        """The probabilities (n,) for the z-scores (n,) of photos, and those of their text."""
        logit = self.score * score + self.typical * typical + self.general * general + self.bias
        out: Array = 1 / (1 + np.exp(-logit.clip(-50, 50)))  # no overflow
        return out


# Printed by `scripts/measure_confidence.py --fit` for the weights of mini. No other model was available to fit: CLIP
# and SigLIP use the same numbers, in units measured with their own embeddings.
FITTED = Weights(score=1.3, typical=1.31, general=0.48, bias=-3.09)

BACKGROUND = """
a person, a man, a woman, a child, a baby, a group of people, a crowd, a portrait, a face, a hand, a family,
people at a party, people at a table, a wedding, people doing sports, people playing a game, a person walking,
a person sitting, a person at work, a concert, a selfie,
an animal, a dog, a cat, a bird, a horse, a wild animal, a farm animal, an insect, a fish, a reptile, a sea creature,
a landscape, a mountain, a forest, a tree, a field, a beach, the sea, a lake, a river, a waterfall, the sky, clouds,
a sunset, snow, rain, fog, the night, a desert, a garden, a flower, a plant, grass, rocks,
a city, a street, a building, a house, a bridge, a tower, a church, a monument, a shop, a restaurant, a road, a park,
a station, a stadium, a playground, a swimming pool, an airport, a harbour, a farm, a factory,
a room, a kitchen, a bedroom, a bathroom, a living room, an office, a classroom, a corridor, furniture, a chair,
a table, a lamp, a window, a door, a car, a bicycle, a motorcycle, a truck, a bus, a train, a boat, an airplane,
food, a meal, a plate of food, fruit, vegetables, bread, a cake, a drink, a bottle, a cup, meat,
a tool, a machine, a computer, a phone, a screen, a camera, a musical instrument, a toy, a ball, a book, a bag, a box,
clothes, shoes, a hat, jewellery, a clock, a piece of paper, a document, a receipt, a screenshot, text, a sign, a map,
a drawing, a painting, a sculpture, a pattern, a texture, a logo, a cartoon, a dark picture, a white background
"""


class Calibration:
    """The z-scores of a model's cosines on the photos of an index."""

    def __init__(self, embedder: Embedder) -> None:
        background, photos = embedder.texts(prompts(), always_cache=True), _sample(embedder.store)
        cosines = photos @ background.T
        self._mean, self._spread = float(cosines.mean()), float(cosines.std())
        self._photo, self._text = photos.mean(0), background.mean(0)
        general = background @ self._text
        self._text_mean, self._text_spread = float(general.mean()), float(general.std())

    def z_scores(self, text: Array, cosines: Array) -> tuple[Array, float, float]:
        """The arguments of `Weights.confidence` for cosines (n,) of photos with the unit row `text` (dim,)."""
        typical = min((float(self._photo @ text) - self._mean) / self._spread, _MOST_TYPICAL)
        general = (float(self._text @ text) - self._text_mean) / self._text_spread
        return (cosines - self._mean) / self._spread, typical, general

    def confidence(self, text: Array, cosines: Array) -> Array:
        """The probability (n,) that each photo shows a text, from its cosines (n,) with the unit row `text` (dim,)."""
        return FITTED.confidence(*self.z_scores(text, cosines))


def _sample(store: Searchable) -> Array:
    return store.unit_rows_of(store.sample(SAMPLE))


def prompts() -> list[str]:
    """The background texts."""
    return [" ".join(text.split()) for text in BACKGROUND.split(",")]


def dividing_line(hits: Sequence[Hit]) -> int | None:
    """How many of the first hits match: the split with the most confident hits before it and unconfident ones after.

    None if the hits have no confidence.
    """
    if not hits or hits[0].confidence is None:
        return None
    confident = np.array([(hit.confidence or 0) >= CUT for hit in hits])
    return int(np.concatenate([[0], np.cumsum(np.where(confident, 1, -1))]).argmax())
