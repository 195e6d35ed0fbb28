"""How sure the model is that a photo shows the query, as a probability.

Cosines have no fixed scale. So the query competes with a background of other texts in zero-shot classification: the
result is 0 to 1, and depends on the photo and the query, not on the rest of the index. The background is what photos
commonly show, in broad terms: against a list of breeds, "a dog" would never win. Near synonyms of the query do
not compete with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipsearch.arrays import Array, softmax
from clipsearch.search.embed import Embedder
from clipsearch.search.hit import Hit
from clipsearch.search.question import CUT

# Temperature: a factor for the model's logit scale. Without it, precision is at most 0.5 at any threshold, and all
# useful thresholds lie between 0.9 and 1.
_SOFTENING = 0.7

_SYNONYM = 2.0  # standard deviations above the mean cosine of background texts; those nearer to a query are synonyms

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


class Background:
    """The embedded background texts of a model."""

    def __init__(self, embedder: Embedder) -> None:
        self._scale = _SOFTENING * embedder.logit_scale
        self._rows = embedder.texts(prompts(), always_cache=True)
        cosines = (self._rows @ self._rows.T)[np.triu_indices(len(self._rows), 1)]
        self._synonym = float(cosines.mean() + _SYNONYM * cosines.std())

    def confidence(self, text: Array, photos: Array) -> Array:
        """The probability (n,) that each of the unit rows `photos` (n, dim) shows the unit row `text` (dim,)."""
        others = self._rows[self._rows @ text < self._synonym]
        return softmax(self._scale * (photos @ np.concatenate([text[None], others]).T))[:, 0]


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
