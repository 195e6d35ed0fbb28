"""Measure OCR recall: `index --ocr` on drawn pictures, then `query --reads` for each word in them.

    python scripts/measure_ocr.py [COUNT] [--keep DIR]

Draws COUNT pictures (default 300): signs, receipts, screenshots, pages, and letters on a photo-like background, in
English, German and Chinese, 20 to 90 pixels high, rotated by up to 10 degrees. Uses those of ten fonts that are
installed (Debian: fonts-dejavu, fonts-liberation, fonts-freefont-ttf, fonts-lato, fonts-roboto, fonts-open-sans,
fonts-hack, fonts-crosextra-carlito, fonts-noto-cjk).
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import clipsearch

FONTS = (
    "dejavu/DejaVuSans.ttf",
    "dejavu/DejaVuSerif.ttf",
    "liberation/LiberationSans-Regular.ttf",
    "liberation/LiberationMono-Regular.ttf",
    "freefont/FreeSerif.ttf",
    "lato/Lato-Regular.ttf",
    "roboto/unhinted/RobotoTTF/Roboto-Regular.ttf",
    "open-sans/OpenSans-Regular.ttf",
    "hack/Hack-Regular.ttf",
    "crosextra/Carlito-Regular.ttf",
)
CJK = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
WORDS = {
    "English": """boarding pass gate departure invoice total receipt coffee station museum library password reset
        account menu breakfast closed exit danger private parking welcome settings download meeting agenda tomorrow
        temperature platform delayed ticket student discount thank you subtotal balance transfer message camera""",
    "German": """Straße Größe Rechnung Mehrwertsteuer Bäckerei Brötchen Ausgang Zürich Fußgänger Öffnungszeiten
        Schlüssel Bahnhof Frühstück Apotheke geschlossen Überweisung Kündigung Gemüse Käse Führerschein
        Prüfung Abfahrt""",
    "Chinese": """北京 机场 出口 咖啡 图书馆 火车站 医院 超市 今天 天气 注意安全 欢迎光临 电话号码 菜单 米饭 地铁
        请勿吸烟 收银台""",
}
COLOURS = (((0, 80, 160), (255, 255, 255)), ((255, 210, 0), (0, 0, 0)), ((170, 20, 30), (250, 250, 250)))


class Picture(NamedTuple):
    """A drawn picture. `size` is the font size in pixels."""

    image: Image.Image
    kind: str
    language: str
    size: int
    words: list[str]


def draw(number: int) -> Picture:
    """Draw a picture from a seed."""
    rng = random.Random(number)
    kind = ("sign", "receipt", "screenshot", "page", "photo")[number % 5]
    language = ("English", "German", "Chinese")[number // 5 % 3]
    size = rng.choice((20, 22, 24, 30, 40)) if kind != "sign" else rng.choice((40, 60, 90))
    font = _font(rng, language, size)
    words = rng.sample(
        WORDS[language].split(), {"sign": 2, "receipt": 8, "screenshot": 10, "page": 16, "photo": 3}[kind]
    )
    width, height = (900, 1600) if kind == "receipt" else (1600, 1200)
    dark = kind == "screenshot" and rng.random() < 0.5
    ground, ink = ((24, 26, 32), (225, 228, 235)) if dark else ((250, 249, 246), (20, 20, 24))
    if kind == "sign":
        ground, ink = rng.choice(
            (((0, 80, 160), (255, 255, 255)), ((255, 210, 0), (0, 0, 0)), ((170, 20, 30), (250, 250, 250)))
        )
    image = _ground(number, width, height) if kind == "photo" else Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(image)
    x, y = width // 10, height // 8
    for word in words:
        text = f"{word}   {rng.randint(1, 99)},{rng.randint(10, 99)}" if kind == "receipt" else word
        long = pen.textlength(text, font)
        if x + long > width * 0.9 or kind == "receipt":
            x, y = width // 10, y + 2 * size
        if kind == "photo":
            pen.rectangle((x - 8, y - 4, x + long + 8, y + 1.3 * size), (245, 245, 240))
        pen.text((x, y), text, ink, font)
        x += int(long) + size
    if kind in ("sign", "photo"):
        image = image.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC, fillcolor=ground)
    return Picture(image, kind, language, size, words)


def _font(rng: random.Random, language: str, size: int) -> ImageFont.FreeTypeFont:
    if language == "Chinese":
        return ImageFont.truetype(CJK, size)
    folder = Path("/usr/share/fonts/truetype")
    return ImageFont.truetype(str(folder / rng.choice([name for name in FONTS if (folder / name).exists()])), size)


def _ground(number: int, width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(number)
    small = rng.integers(40, 220, (12, 16, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def main() -> None:
    """Print the share of words found, by kind, language and size, and the seconds per picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=300)
    parser.add_argument("--keep", type=Path, help="write the pictures to this folder and keep them")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch) / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {}
        for number in range(args.count):
            pictures[f"{number:04d}.jpg"] = drawn = draw(number)
            drawn.image.save(folder / f"{number:04d}.jpg", quality=88)
        with clipsearch.open_index(Path(scratch) / "index") as index:
            index.update(folder, clipsearch.Options(model="mini"))
            began = time.perf_counter()
            report = index.update((), clipsearch.Options(ocr=True))
            seconds = time.perf_counter() - began
            found: dict[str, list[bool]] = defaultdict(list)
            for word in dict.fromkeys(word for picture in pictures.values() for word in picture.words):
                hits = index.query(k=args.count, filter=clipsearch.Filter(reads=word))
                names = {hit.path.name for hit in hits}
                for name, picture in pictures.items():
                    if word in picture.words:
                        for key in ("all", picture.kind, picture.language, f"{picture.size} pixels"):
                            found[key].append(name in names)
    print(f"{args.count} pictures, text found in {report.with_text}, {seconds / args.count:.2f} s per picture")
    for key, hits_of in sorted(found.items()):
        print(f"  {key:<12} {sum(hits_of):>5} of {len(hits_of):>5} words, {100 * sum(hits_of) / len(hits_of):.1f}%")


if __name__ == "__main__":
    main()
