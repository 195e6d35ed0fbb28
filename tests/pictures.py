"""Pairs of drawn pages, screenshots and codes that differ in small details."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Picture = Image.Image
Kernel = Image.Resampling
WORDS = ["invoice", "total", "amount", "customer", "street", "city", "payment", "bank", "transfer", "order", "date"]


def textured(image: Picture, seed: int, sigma: float = 6.0) -> Picture:
    """With structure and noise, as photos have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (image.height // 8, image.width // 8), np.uint8))
    texture = np.asarray(coarse.resize(image.size, Kernel.BICUBIC), np.float32)[..., None]
    noise = rng.normal(0, sigma, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image) * 0.8 + 0.2 * texture + noise).clip(0, 255).astype(np.uint8))


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # type: ignore[return-value]


def page(seed: int, line: int | None = None, change: Callable[[str], str] = str, ink: int = 30) -> Picture:
    """A page of text, of which one line may be changed."""
    chance = random.Random(seed)
    image = Image.new("RGB", (500, 660), "white")
    draw = ImageDraw.Draw(image)
    for number in range(24):
        text = " ".join(chance.choices(WORDS, k=5)) + f" {chance.randrange(100, 1000)}.{chance.randrange(10, 100)}"
        text = change(text) if number == line else text
        draw.text((30, 30 + 25 * number), text, fill=(ink,) * 3, font=font(17))
    return image


def other_digit(text: str) -> str:
    return text[:-1] + str((int(text[-1]) + 5) % 10)


def other_word(text: str) -> str:
    first, _, rest = text.partition(" ")
    return f"{'date' if first != 'date' else 'city'} {rest}"


def three_as_eight(text: str) -> str:
    return text[:-1] + ("8" if text[-1] == "3" else "3")


def screenshot(seed: int, clock: str = "10:41", light: tuple[int, int, int] = (0, 130, 0)) -> Picture:
    """A chat on a telephone."""
    chance = random.Random(seed)
    image = Image.new("RGB", (360, 640), (236, 229, 221))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 360, 50), fill=(240, 240, 240))
    draw.text((10, 5), clock, fill=(40, 40, 40), font=font(14))
    draw.ellipse((330, 20, 342, 32), fill=light)
    for number in range(9):
        left = chance.choice((10, 100))
        draw.rounded_rectangle((left, 62 + 62 * number, left + 250, 112 + 62 * number), 8, fill="white")
        text = " ".join(chance.choices(WORDS, k=3))
        draw.text((left + 10, 75 + 62 * number), text, fill=(20, 20, 20), font=font(15))
    return image


def code(seed: int, flipped: bool = False) -> Picture:
    """A QR code: random modules, and three finders."""
    modules = np.random.default_rng(seed).integers(0, 2, (25, 25), np.uint8)
    for top, left in ((0, 0), (0, 18), (18, 0)):
        modules[top : top + 7, left : left + 7] = 0
        modules[top + 1 : top + 6, left + 1 : left + 6] = 1
        modules[top + 2 : top + 5, left + 2 : left + 5] = 0
    modules[12, 13] ^= flipped
    return Image.fromarray(np.pad(modules * 255, 3, constant_values=255)).resize((248, 248), Kernel.NEAREST)


def logo(text: str, colour: str = "white") -> Picture:
    image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((50, 30), text, fill=colour, font=font(120))
    return image


def emblem(colour: tuple[int, int, int]) -> Picture:
    image = Image.new("RGB", (200, 200), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 30, 170, 170), fill=colour)
    draw.text((70, 50), "A", fill="white", font=font(80))
    return image


def coloured(word: str) -> Picture:
    """Red letters on green of the same brightness: a grey version shows nothing."""
    image = Image.new("RGB", (320, 240), (0, 130, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 320, 40), fill="white")
    draw.text((10, 5), "A title", fill="black", font=font(24))
    for line in range(7):
        draw.text((10, 50 + 26 * line), f"line {line} {word if line == 4 else 'paid'}", fill=(255, 0, 0), font=font(14))
    return image


def board(moved: bool) -> Picture:
    image = Image.new("RGB", (400, 400), (181, 136, 99))
    draw = ImageDraw.Draw(image)
    for n in range(64):
        x, y = n % 8 * 50, n // 8 * 50
        if (x + y) // 50 % 2:
            draw.rectangle((x, y, x + 49, y + 49), fill=(240, 217, 181))
    for n, (x, y) in enumerate([(0, 0), (2, 3), (4, 4 + moved), (7, 7), (5, 1)]):
        draw.ellipse(
            (x * 50 + 8, y * 50 + 8, x * 50 + 42, y * 50 + 42), fill=(30, 30, 30) if n % 2 else (250, 250, 250)
        )
    return image


def moved(image: Picture, pixels: int) -> tuple[Picture, Picture]:
    return image.crop((0, 0, image.width - 8, image.height)), image.crop(
        (pixels, 0, image.width - 8 + pixels, image.height)
    )


def noisy(image: Picture, seed: int) -> Picture:
    noise = np.random.default_rng(seed).normal(0, 3, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def sky(seed: int) -> Picture:
    """Stars at night."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(12, 2, (240, 320))
    for x, y, light in zip(rng.integers(2, 318, 80), rng.integers(2, 238, 80), rng.uniform(40, 240, 80), strict=True):
        pixels[y : y + 2, x : x + 2] += light
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


def gradient(seed: int) -> Picture:
    first, second = (Image.new("RGB", (320, 240), colour) for colour in (("navy", "white"), ("green", "pink"))[seed])
    return Image.composite(first, second, Image.linear_gradient("L").resize((320, 240)))


def icon(seed: int, side: int) -> Picture:
    chance = random.Random(seed)
    image = Image.new("RGB", (side, side), (240, 240, 240))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((side * 0.1, side * 0.1, side * 0.9, side * 0.9), side * 0.15, fill=(60, 110, 200))
    x, y = (side * (0.2 + 0.3 * chance.random()) for _ in range(2))
    draw.rectangle((x, y, x + side * 0.3, y + side * 0.3), fill="white")
    return image
