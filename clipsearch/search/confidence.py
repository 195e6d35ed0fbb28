"""How sure a model is that a photo shows what was asked for, rather than something else.

A cosine has no fixed scale. The probability that zero-shot classification gives a text against a background of other
texts has one: it is 0 to 1, and depends on the photo and the text, not on what else is in the index. The background is
what photos commonly show, in broad words: against the breeds of dogs, "a dog" would never win. Texts that mean nearly
what was asked for do not compete with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipsearch.arrays import Array, softmax
from clipsearch.search.embed import Embedder
from clipsearch.search.hit import Hit
from clipsearch.search.question import CUT

# Of the model's own scale. With the whole of it, half of what is kept at any threshold is wrong, and the best shares of
# right and kept lie between 0.9 and 1; with this part they lie in the middle.
_SOFTENED = 0.7

_NEAR = 2.0  # standard deviations above the mean of the background's own cosines: texts as near mean nearly the same

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
    """The texts that a query competes with, embedded by a model."""

    def __init__(self, embedder: Embedder) -> None:
        self._scale = _SOFTENED * embedder.logit_scale
        self._rows = embedder.texts(prompts(), always_cache=True)
        cosines = (self._rows @ self._rows.T)[np.triu_indices(len(self._rows), 1)]
        self._near = float(cosines.mean() + _NEAR * cosines.std())

    def confidence(self, text: Array, photos: Array) -> Array:
        """The probability (n,) of the unit row `text` (dim,) for each of the unit rows `photos` (n, dim)."""
        others = self._rows[self._rows @ text < self._near]
        return softmax(self._scale * (photos @ np.concatenate([text[None], others]).T))[:, 0]


def prompts() -> list[str]:
    """The texts of the background."""
    return [" ".join(text.split()) for text in BACKGROUND.split(",")]


def dividing_line(hits: Sequence[Hit]) -> int | None:
    """How many of the first hits match the query: the split with the most confident ones before and others after it.

    None if the hits have no confidence.
    """
    if not hits or hits[0].confidence is None:
        return None
    confident = np.array([(hit.confidence or 0) >= CUT for hit in hits])
    return int(np.concatenate([[0], np.cumsum(np.where(confident, 1, -1))]).argmax())
