"""Draw captioned pictures from a seed: shapes, patterns and small landscapes.

`train_mini.py` teaches colour, shape, position and count with them, and the tests index them and search for their
captions.

    python scripts/scenes.py FOLDER [COUNT] [SEED]
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 39, 40),
    "orange": (247, 138, 28),
    "yellow": (246, 214, 40),
    "green": (44, 150, 60),
    "blue": (38, 84, 204),
    "purple": (128, 52, 168),
    "pink": (244, 132, 180),
    "brown": (122, 76, 40),
    "black": (18, 18, 18),
    "white": (246, 246, 246),
    "gray": (136, 136, 136),
}
BACKGROUNDS = ("white", "black", "gray", "yellow", "blue", "green", "pink")
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
SIZES = {"small": 0.10, "large": 0.22}  # radius as a share of the picture's side
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
ROWS = {"top": 0.25, "middle": 0.5, "bottom": 0.75}
COLUMNS = {"left": 0.25, "center": 0.5, "right": 0.75}
UNSEEN = 10_000_000  # the first held-out seed: training uses lower ones, benchmarks and tests higher ones
SCALE = 2  # supersampling, for smooth edges

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the picture's side


@dataclass(frozen=True, slots=True)
class Thing:
    """A captioned part of a picture, with its box, or one box per shape."""

    text: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn picture. `captions[0]` describes it completely; the others describe a part, or use other words.

    `things` are the parts that have a position; a pattern has none.
    """

    image: Image.Image
    captions: tuple[str, ...]
    things: tuple[Thing, ...] = ()


class _Canvas:
    """A square picture with coordinates and lengths in fractions of its side."""

    def __init__(self, rng: random.Random, size: int, background: Colour) -> None:
        self.rng = rng
        self.side = size * SCALE
        self.size = size
        self.image = Image.new("RGB", (self.side, self.side), background)
        self.draw = ImageDraw.Draw(self.image)
        self._corners: list[tuple[float, float]] = []

    def taken(self) -> Box:
        """The bounding box of everything drawn since the last call, clipped to the picture."""
        xs, ys = zip(*self._corners, strict=True)
        self._corners = []
        return max(0.0, min(xs)), max(0.0, min(ys)), min(1.0, max(xs)), min(1.0, max(ys))

    def polygon(self, points: list[tuple[float, float]], fill: Colour) -> None:
        self._corners += points
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        s = self.side
        self._corners += [(x - rx, y - ry), (x + rx, y + ry)]
        self.draw.ellipse([(x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s], fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        s = self.side
        self._corners += [(x0, y0), (x1, y1)]
        self.draw.rectangle([x0 * s, y0 * s, x1 * s, y1 * s], fill=fill)

    def shape(self, name: str, x: float, y: float, r: float, fill: Colour, background: Colour) -> None:
        if name == "circle":
            self.ellipse(x, y, r, r, fill)
        elif name == "ring":
            self.ellipse(x, y, r, r, fill)
            self.ellipse(x, y, r * 0.55, r * 0.55, background)
        elif name == "square":
            self.box(x - r * 0.88, y - r * 0.88, x + r * 0.88, y + r * 0.88, fill)
        elif name == "diamond":
            self.polygon([(x, y - r * 1.15), (x + r * 0.8, y), (x, y + r * 1.15), (x - r * 0.8, y)], fill)
        elif name == "triangle":
            self.polygon([(x, y - r), (x + r, y + r * 0.8), (x - r, y + r * 0.8)], fill)
        elif name == "cross":
            self.box(x - r, y - r * 0.3, x + r, y + r * 0.3, fill)
            self.box(x - r * 0.3, y - r, x + r * 0.3, y + r, fill)
        elif name == "star":
            angles = [math.pi * k / 5 - math.pi / 2 for k in range(10)]
            radii = [r * 1.1 if k % 2 == 0 else r * 0.45 for k in range(10)]
            self.polygon([(x + q * math.cos(a), y + q * math.sin(a)) for a, q in zip(angles, radii, strict=True)], fill)
        elif name == "heart":
            self.ellipse(x - r * 0.48, y - r * 0.35, r * 0.52, r * 0.52, fill)
            self.ellipse(x + r * 0.48, y - r * 0.35, r * 0.52, r * 0.52, fill)
            self.polygon([(x - r * 0.96, y - r * 0.12), (x + r * 0.96, y - r * 0.12), (x, y + r)], fill)
        else:
            raise ValueError(f"no shape is called {name!r}")

    def finish(self) -> Image.Image:
        return self.image.resize((self.size, self.size), Image.Resampling.BOX)


def _colour(rng: random.Random, name: str) -> Colour:
    r, g, b = (max(0, min(255, c + rng.randint(-14, 14))) for c in COLOURS[name])
    return r, g, b


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _place(row: str, column: str) -> str:
    if row == "middle" and column == "center":
        return "in the center"
    if row == "middle":
        return f"on the {column}"
    if column == "center":
        return f"at the {row}"
    return f"at the {row} {column}"


def _one_shape(rng: random.Random, size: int) -> Scene:
    bg_name = rng.choice(BACKGROUNDS)
    colour = rng.choice([c for c in COLOURS if c != bg_name])
    shape, size_name = rng.choice(SHAPES), rng.choice(list(SIZES))
    row, column = rng.choice(list(ROWS)), rng.choice(list(COLUMNS))
    background = _colour(rng, bg_name)
    canvas = _Canvas(rng, size, background)
    x, y = (v + rng.uniform(-0.03, 0.03) for v in (COLUMNS[column], ROWS[row]))
    canvas.shape(shape, x, y, SIZES[size_name] * rng.uniform(0.9, 1.1), _colour(rng, colour), background)
    where, on = _place(row, column), f"on {_article(bg_name)} background"
    return Scene(
        canvas.finish(),
        (
            f"{_article(f'{size_name} {colour} {shape}')} {where} {on}",
            f"{_article(f'{colour} {shape}')} {where} {on}",
            f"{_article(f'{size_name} {colour} {shape}')} {where}",
            f"{_article(f'{colour} {shape}')} {on}",
            _article(f"{colour} {shape}"),
        ),
        (Thing(_article(f"{colour} {shape}"), (canvas.taken(),)),),
    )


def _two_shapes(rng: random.Random, size: int) -> Scene:
    bg_name = rng.choice(BACKGROUNDS[:3])
    first, second = rng.sample([c for c in COLOURS if c != bg_name], 2)
    shape_a, shape_b = rng.choice(SHAPES), rng.choice(SHAPES)
    background = _colour(rng, bg_name)
    canvas = _Canvas(rng, size, background)
    horizontal = rng.random() < 0.5
    across, along = rng.uniform(0.4, 0.6), (rng.uniform(0.22, 0.28), rng.uniform(0.72, 0.78))
    points = [(v, across) if horizontal else (across, v) for v in along]
    boxes = []
    for (x, y), shape, colour in zip(points, (shape_a, shape_b), (first, second), strict=True):
        canvas.shape(shape, x, y, rng.uniform(0.13, 0.18), _colour(rng, colour), background)
        boxes.append(canvas.taken())
    a, b = _article(f"{first} {shape_a}"), _article(f"{second} {shape_b}")
    there, back = ("to the left of", "to the right of") if horizontal else ("above", "below")
    on = f"on {_article(bg_name)} background"
    return Scene(
        canvas.finish(),
        (f"{a} {there} {b} {on}", f"{b} {back} {a} {on}", f"{a} {there} {b}", f"{b} {back} {a}", f"{a} and {b}"),
        (Thing(a, (boxes[0],)), Thing(b, (boxes[1],))),
    )


def _several_shapes(rng: random.Random, size: int) -> Scene:
    bg_name = rng.choice(BACKGROUNDS[:3])
    colour = rng.choice([c for c in COLOURS if c != bg_name])
    shape, count = rng.choice(SHAPES), rng.choice(list(COUNTS))
    background = _colour(rng, bg_name)
    canvas = _Canvas(rng, size, background)
    cells = rng.sample([(x, y) for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)], count)
    boxes = []
    for x, y in cells:
        jitter = (rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04))
        canvas.shape(shape, x + jitter[0], y + jitter[1], 0.1, _colour(rng, colour), background)
        boxes.append(canvas.taken())
    plural = shape + ("es" if shape.endswith("s") else "s")
    on = f"on {_article(bg_name)} background"
    return Scene(
        canvas.finish(),
        (f"{COUNTS[count]} {colour} {plural} {on}", f"{COUNTS[count]} {colour} {plural}", f"{colour} {plural}"),
        (Thing(f"{colour} {plural}", tuple(boxes)),),
    )


def _pattern(rng: random.Random, size: int) -> Scene:
    name_a, name_b = rng.sample(list(COLOURS), 2)
    a, b = _colour(rng, name_a), _colour(rng, name_b)
    canvas = _Canvas(rng, size, a)
    kind = rng.choice(("stripes", "gradient", "checkerboard", "dots"))
    cells = rng.randint(4, 7)
    step = 1 / cells
    if kind == "stripes":
        direction = rng.choice(("horizontal", "vertical", "diagonal"))
        for k in range(-cells, 2 * cells):
            lo, hi = k * step, (k + 0.5) * step
            if direction == "horizontal":
                canvas.box(0, lo, 1, hi, b)
            elif direction == "vertical":
                canvas.box(lo, 0, hi, 1, b)
            else:
                canvas.polygon([(lo, 0), (hi, 0), (hi - 1, 1), (lo - 1, 1)], b)
        captions = (f"{direction} {name_a} and {name_b} stripes", f"{name_b} and {name_a} stripes")
    elif kind == "gradient":
        horizontal = rng.random() < 0.5
        steps = 64
        for k in range(steps):
            mix = k / (steps - 1)
            colour = (
                round(a[0] + (b[0] - a[0]) * mix),
                round(a[1] + (b[1] - a[1]) * mix),
                round(a[2] + (b[2] - a[2]) * mix),
            )
            lo, hi = k / steps, (k + 1) / steps
            x0, y0, x1, y1 = (lo, 0.0, hi, 1.0) if horizontal else (0.0, lo, 1.0, hi)
            canvas.box(x0, y0, x1, y1, colour)
        start, end = ("left", "right") if horizontal else ("top", "bottom")
        captions = (
            f"a gradient from {name_a} at the {start} to {name_b} at the {end}",
            f"a gradient of {name_a} and {name_b}",
        )
    elif kind == "checkerboard":
        for i in range(cells):
            for j in range(i % 2, cells, 2):
                canvas.box(i * step, j * step, (i + 1) * step, (j + 1) * step, b)
        captions = (f"{_article(f'{name_a} and {name_b}')} checkerboard", "a checkerboard pattern")
    else:
        for i in range(cells):
            for j in range(cells):
                canvas.ellipse((i + 0.5) * step, (j + 0.5) * step, step * 0.3, step * 0.3, b)
        captions = (f"{name_b} dots on {_article(name_a)} background", f"a pattern of {name_b} dots")
    return Scene(canvas.finish(), captions)


def _house(canvas: _Canvas, x: float, y: float, fill: Colour) -> None:
    canvas.box(x - 0.12, y - 0.18, x + 0.12, y, fill)
    canvas.polygon([(x - 0.16, y - 0.18), (x + 0.16, y - 0.18), (x, y - 0.33)], (94, 54, 38))
    canvas.box(x - 0.03, y - 0.10, x + 0.03, y, (60, 40, 30))
    canvas.box(x + 0.05, y - 0.14, x + 0.09, y - 0.10, (180, 220, 240))


def _tree(canvas: _Canvas, x: float, y: float, fill: Colour) -> None:
    canvas.box(x - 0.025, y - 0.14, x + 0.025, y, COLOURS["brown"])
    canvas.ellipse(x, y - 0.24, 0.11, 0.13, fill)


def _boat(canvas: _Canvas, x: float, y: float, fill: Colour) -> None:
    canvas.polygon([(x - 0.17, y - 0.07), (x + 0.17, y - 0.07), (x + 0.10, y + 0.02), (x - 0.10, y + 0.02)], fill)
    canvas.box(x - 0.01, y - 0.30, x + 0.01, y - 0.07, (60, 40, 30))
    canvas.polygon([(x + 0.02, y - 0.30), (x + 0.02, y - 0.10), (x + 0.15, y - 0.10)], (250, 250, 250))


def _car(canvas: _Canvas, x: float, y: float, fill: Colour) -> None:
    canvas.box(x - 0.16, y - 0.11, x + 0.16, y - 0.03, fill)
    canvas.polygon([(x - 0.10, y - 0.11), (x - 0.06, y - 0.18), (x + 0.06, y - 0.18), (x + 0.10, y - 0.11)], fill)
    for wheel in (x - 0.09, x + 0.09):
        canvas.ellipse(wheel, y - 0.03, 0.035, 0.035, (20, 20, 20))


def _flower(canvas: _Canvas, x: float, y: float, fill: Colour) -> None:
    canvas.box(x - 0.01, y - 0.14, x + 0.01, y, (40, 120, 50))
    for k in range(6):
        angle = k * math.pi / 3
        canvas.ellipse(x + 0.055 * math.cos(angle), y - 0.18 + 0.055 * math.sin(angle), 0.035, 0.035, fill)
    canvas.ellipse(x, y - 0.18, 0.03, 0.03, (250, 210, 60))


_Icon = Callable[[_Canvas, float, float, Colour], None]
_ICONS: dict[str, tuple[_Icon, tuple[str, ...]]] = {
    "house": (_house, ("red", "yellow", "white", "blue", "pink", "orange")),
    "tree": (_tree, ("green", "orange")),
    "boat": (_boat, ("red", "brown", "blue", "black", "yellow")),
    "car": (_car, ("red", "blue", "black", "white", "yellow")),
    "flower": (_flower, ("red", "pink", "purple", "white", "orange")),
}
_SKIES = {"day": (142, 202, 240), "night": (20, 24, 60), "sunset": (248, 150, 96)}
_GROUNDS = {
    "on grass": (86, 160, 70),
    "on sand": (226, 200, 140),
    "on snow": (238, 242, 248),
    "on the sea": (30, 96, 156),
}


def _landscape(rng: random.Random, size: int) -> Scene:
    sky = rng.choice(list(_SKIES))
    boats = rng.random() < 0.3
    ground = "on the sea" if boats else rng.choice([g for g in _GROUNDS if g != "on the sea"])
    canvas = _Canvas(rng, size, _SKIES[sky])
    horizon = rng.uniform(0.58, 0.68)
    canvas.box(0, horizon, 1, 1, _GROUNDS[ground])
    light = "moon" if sky == "night" else "sun"
    side = rng.choice(("left", "right"))
    x = 0.2 if side == "left" else 0.8
    canvas.taken()
    canvas.ellipse(x, 0.18, 0.09, 0.09, (244, 240, 214) if light == "moon" else (252, 216, 50))
    shines = Thing(f"the {light}", (canvas.taken(),))
    if light == "moon":
        canvas.ellipse(x + 0.04, 0.16, 0.075, 0.075, _SKIES[sky])
        canvas.taken()
    names = ["boat"] if boats else rng.sample([n for n in _ICONS if n != "boat"], rng.choice((1, 2)))
    things = []
    for name, px in zip(names, (0.3, 0.7) if len(names) == 2 else (rng.uniform(0.35, 0.65),), strict=True):
        paint, colours = _ICONS[name]
        colour = rng.choice(colours)
        paint(canvas, px, horizon + rng.uniform(0.08, 0.16), _colour(rng, colour))
        things.append(Thing(_article(f"{colour} {name}"), (canvas.taken(),)))
    when = {"day": "by day", "night": "at night", "sunset": "at sunset"}[sky]
    what = " to the left of ".join(thing.text for thing in things)
    return Scene(
        canvas.finish(),
        (
            f"{what} {ground} {when} with the {light} on the {side}",
            f"{what} {ground} {when}",
            f"{what} under the {light}",
            " and ".join(thing.text for thing in things),
            f"{_article(names[0])} {when}",
        ),
        (*things, shines),
    )


_KINDS = (_one_shape, _two_shapes, _several_shapes, _pattern, _landscape)
_WEIGHTS = (40, 20, 12, 13, 15)


def draw(seed: int, size: int = 128) -> Scene:
    """The scene for a seed: a deterministic picture (RGB, `size` x `size` pixels) and its captions."""
    rng = random.Random(seed)
    kind = rng.choices(_KINDS, _WEIGHTS)[0]
    return kind(rng, size)


def draw_distinct(count: int, seed: int, size: int = 128) -> list[Scene]:
    """`count` scenes with different complete captions."""
    scenes: dict[str, Scene] = {}
    while len(scenes) < count:
        scene = draw(seed, size)
        scenes.setdefault(scene.captions[0], scene)
        seed += 1
    return list(scenes.values())


def main() -> None:
    folder = Path(sys.argv[1])
    count, seed = (int(word) for word in (sys.argv[2:4] + ["60", "7"][len(sys.argv) - 2 :]))
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(draw_distinct(count, seed, size=320), 1):
        scene.image.save(folder / f"{number:04d} {scene.captions[0]}.jpg", quality=90)


if __name__ == "__main__":
    main()
