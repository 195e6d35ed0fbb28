"""Two pictures are copies if they have the same pixels after resizing, compression or a slight correction."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import scenes
import tifffile
from pictures import (
    board,
    code,
    coloured,
    emblem,
    font,
    gradient,
    icon,
    logo,
    moved,
    noisy,
    other_digit,
    other_word,
    page,
    screenshot,
    sky,
    textured,
    three_as_eight,
)
from PIL import ExifTags, Image, ImageDraw, ImageEnhance, ImageFilter

from clipsearch.errors import ImageUnusable
from clipsearch.images.compare import copy_similarity, may_be_copies, sketch_of
from clipsearch.images.decode import decode
from clipsearch.images.likeness import HASH_DISTANCE, perceptual_hash, same_framing

pillow_heif.register_heif_opener()

Picture = Image.Image
Kernel = Image.Resampling


PHOTOS = [textured(scene.image, n) for n, scene in enumerate(scenes.draw_distinct(4, seed=30_000_000, size=320))]
PHOTO = PHOTOS[0].crop((0, 0, 320, 240))


def encoded(image: Picture, form: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


png = partial(encoded, form="PNG")


def jpeg(image: Picture, quality: int = 90, **options: object) -> bytes:
    return encoded(image, quality=quality, **options)


def is_copy(best: bytes, other: bytes) -> bool:
    """Whether all three stages say that a file adds nothing to the best. None before the last may reject a copy."""
    similarity = copy_similarity(best, other)
    if similarity is None:
        return False
    assert 0 <= similarity <= 1
    first, second = (perceptual_hash(decode(data).image) for data in (best, other))
    assert (first ^ second).bit_count() <= HASH_DISTANCE
    assert may_be_copies(sketch_of(best), sketch_of(other))
    return True


def scaled(image: Picture, factor: float, kernel: Kernel = Kernel.LANCZOS) -> Picture:
    return image.resize((round(image.width * factor), round(image.height * factor)), kernel)


# ------------------------------------------------------------------------------------------ copies

SAVED_AGAIN: dict[str, Callable[[Picture], bytes]] = {
    "quality 20": lambda image: jpeg(image, 20),
    "quality 50": lambda image: jpeg(image, 50),
    "quality 90": lambda image: jpeg(image, 90),
    "without subsampling": lambda image: jpeg(image, 80, subsampling=0),
    "progressive": lambda image: jpeg(image, 80, progressive=True),
    "PNG": png,
    "WebP": lambda image: encoded(image, "WEBP", quality=80),
    "lossless WebP": lambda image: encoded(image, "WEBP", lossless=True),
    "HEIC": lambda image: encoded(image, "HEIF", quality=70),
    "AVIF": lambda image: encoded(image, "AVIF", quality=70),
    "TIFF": lambda image: encoded(image, "TIFF"),
    "BMP": lambda image: encoded(image, "BMP"),
    "half": lambda image: jpeg(scaled(image, 0.5)),
    "half, bilinear": lambda image: jpeg(scaled(image, 0.5, Kernel.BILINEAR), 80),
    "half, box": lambda image: png(scaled(image, 0.5, Kernel.BOX)),
    "half, bicubic": lambda image: jpeg(scaled(image, 0.5, Kernel.BICUBIC), 60),
    "quarter": lambda image: jpeg(scaled(image, 0.25), 85),
    "two thirds": lambda image: jpeg(scaled(image, 2 / 3), 85),
    "0.37": lambda image: png(scaled(image, 0.37, Kernel.HAMMING)),
    "brighter": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.1)),
    "darker": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(0.9), 80),
    "more contrast": lambda image: jpeg(ImageEnhance.Contrast(image).enhance(1.12)),
    "more saturation": lambda image: jpeg(ImageEnhance.Color(image).enhance(1.15)),
    "brighter and half": lambda image: jpeg(scaled(ImageEnhance.Brightness(image).enhance(1.08), 0.5), 75),
    "an alpha channel that hides nothing": lambda image: png(image.convert("RGBA")),
}


@pytest.mark.parametrize("how", SAVED_AGAIN)
@pytest.mark.parametrize("original", [png, partial(jpeg, quality=95)], ids=["PNG", "JPEG"])
def test_the_same_picture_saved_again_is_a_copy(original: Callable[[Picture], bytes], how: str) -> None:
    first = original(PHOTO)
    assert is_copy(first, SAVED_AGAIN[how](decode(first).image))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_picture_stored_turned_that_displays_the_same_is_a_copy(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = PHOTO.transpose(Image.Transpose(undo))
    turned = jpeg(stored, 90, exif=exif)
    assert decode(turned).image.size == PHOTO.size
    assert is_copy(jpeg(PHOTO, 90), turned)


@pytest.mark.parametrize("sigma", [5, 10])
@pytest.mark.parametrize("quality", [50, 75, 85])
def test_compression_may_remove_the_noise_of_a_dark_photo(sigma: float, quality: int) -> None:
    dark = textured(Image.fromarray(np.asarray(PHOTOS[2]) // 2), 7, sigma)
    assert is_copy(jpeg(dark, 95), jpeg(dark, quality))


@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_a_page_of_text_saved_again_is_a_copy(factor: float) -> None:
    original = jpeg(page(1), 92)
    assert is_copy(original, jpeg(scaled(page(1), factor), 85))
    assert is_copy(original, jpeg(page(1), 50))


def test_a_copy_may_lose_its_date_and_other_facts() -> None:
    assert is_copy(shot("2023:07:14 18:03:21", "45", 1 / 60), jpeg(PHOTO, 70))
    assert is_copy(shot("2023:07:14 18:03:21", "45", 1 / 60), shot("2023:07:14 18:03:21", None, None, quality=70))


def test_a_logo_on_transparency_saved_again_is_a_copy() -> None:
    assert is_copy(png(logo("A")), encoded(logo("A"), "WEBP", lossless=True))
    assert is_copy(png(logo("A")), png(scaled(logo("A"), 0.5)))


# ------------------------------------------------------------------------------------------ other pictures


def with_caption(text: str) -> Picture:
    image = scaled(PHOTO, 2)
    draw = ImageDraw.Draw(image)
    draw.text((40, image.height - 70), text, fill="white", font=font(36), stroke_width=2, stroke_fill="black")
    return image


SOFT = PHOTOS[1].filter(ImageFilter.GaussianBlur(1.5))
DIFFERENT: dict[str, tuple[Picture, Picture]] = {
    "pages": (page(1), page(2)),
    "a word": (page(1), page(1, 9, other_word)),
    "a digit": (page(1), page(1, 9, other_digit)),
    "a 3 and an 8": (page(1), page(1, 9, three_as_eight)),
    "a word in light grey": (page(1, ink=215), page(1, 9, other_word, ink=215)),
    "screenshots": (screenshot(1), screenshot(2)),
    "a clock": (screenshot(1), screenshot(1, "10:42")),
    "a green light and a red one": (screenshot(1), screenshot(1, light=(255, 0, 0))),
    "codes": (code(1), code(2)),
    "a module of a code": (code(1), code(1, flipped=True)),
    "white logos": (logo("A"), logo("B")),
    "a red emblem and a blue one": (emblem((200, 30, 30)), emblem((30, 60, 230))),
    "a move of chess": (board(False), board(True)),
    "captions": (with_caption("see you there"), with_caption("saw you there")),
    "panned by a pixel": moved(PHOTO, 1),
    "panned by three pixels, unsharp": moved(SOFT, 3),
    "mirrored": (PHOTO, PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "turned on display": (PHOTOS[1], PHOTOS[1].transpose(Image.Transpose.ROTATE_90)),
    "cropped": (PHOTO, PHOTO.crop((4, 3, 316, 237))),
    "in grey": (PHOTO, PHOTO.convert("L")),
    "scenes": (PHOTOS[1], PHOTOS[2]),
    "stars": (sky(1), sky(2)),
    "gradients": (gradient(0), gradient(1)),
    "much brighter": (PHOTO, ImageEnhance.Brightness(PHOTO).enhance(1.6)),
    **{f"icons of {side}": (icon(1, side), icon(2, side)) for side in (16, 24, 32, 64)},
}
HOW: dict[str, Callable[[Picture, Picture], tuple[bytes, bytes]]] = {
    "PNG": lambda a, b: (png(a), png(b)),
    "quality 90": lambda a, b: (jpeg(a.convert("RGB")), jpeg(b.convert("RGB"))),
    "quality 90 and 50": lambda a, b: (jpeg(a.convert("RGB")), jpeg(b.convert("RGB"), 50)),
    "half": lambda a, b: (png(a), png(scaled(b, 0.5))),
    "half, quality 75": lambda a, b: (jpeg(a.convert("RGB")), jpeg(scaled(b.convert("RGB"), 0.5), 75)),
    "WebP": lambda a, b: (encoded(a, "WEBP", quality=85), encoded(b, "WEBP", quality=60)),
}


@pytest.mark.parametrize("what", DIFFERENT)
@pytest.mark.parametrize("how", HOW)
def test_another_picture_is_no_copy(what: str, how: str) -> None:
    assert not is_copy(*HOW[how](*DIFFERENT[what]))


@pytest.mark.parametrize("how", ["PNG", "quality 90", "half"])
def test_a_comma_is_no_full_stop(how: str) -> None:
    """At half the size, in a JPEG, the two cannot be told apart."""
    assert not is_copy(*HOW[how](page(1), page(1, 9, lambda text: text.replace(".", ","))))


@pytest.mark.parametrize("how", ["PNG", "quality 90", "quality 90 and 50", "half"])
def test_letters_may_differ_from_their_background_in_colour_alone(how: str) -> None:
    assert not is_copy(*HOW[how](coloured("open"), coloured("date")))


@pytest.mark.parametrize("quality", [20, 35])
@pytest.mark.parametrize("what", ["pages", "a word", "a digit", "screenshots", "codes", "a move of chess", "captions"])
def test_strong_compression_hides_no_other_text(what: str, quality: int) -> None:
    a, b = DIFFERENT[what]
    assert not is_copy(jpeg(a.convert("RGB"), 90), jpeg(b.convert("RGB"), quality))
    assert not is_copy(jpeg(a.convert("RGB"), quality), jpeg(b.convert("RGB"), quality))


@pytest.mark.parametrize("save", [png, jpeg, partial(jpeg, quality=75)], ids=["PNG", "quality 90", "quality 75"])
def test_two_shots_from_a_tripod_differ_by_their_noise_alone(save: Callable[[Picture], bytes]) -> None:
    assert not is_copy(save(noisy(SOFT, 1)), save(noisy(SOFT, 2)))


@pytest.mark.parametrize("blank", ["white", "black", (250, 248, 240)])
def test_blank_pages_prove_nothing(blank: str) -> None:
    sheet = Image.new("RGB", (300, 400), blank)
    assert not is_copy(png(sheet), jpeg(sheet))
    assert not is_copy(png(noisy(sheet, 1)), png(noisy(sheet, 2)))


# ------------------------------------------------------------------------------------------ what the header says


def shot(date: str | None, fraction: str | None, exposure: float | None, quality: int = 95) -> bytes:
    exif = Image.Exif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    if date:
        details[ExifTags.Base.DateTimeOriginal] = date
    if fraction:
        details[ExifTags.Base.SubsecTimeOriginal] = fraction
    if exposure:
        details[ExifTags.Base.ExposureTime] = exposure
        details[ExifTags.Base.FNumber] = 2.8
        details[ExifTags.Base.ISOSpeedRatings] = 100
    return jpeg(PHOTO, quality, exif=exif)


@pytest.mark.parametrize(
    ("other", "copies"),
    [
        (("2023:07:14 18:03:21", "45", 1 / 60), True),
        (("2023:07:14 18:03:21", "450", 10 / 600), True),  # the same in other words
        (("2023:07:14 18:03:22", "45", 1 / 60), False),
        (("2023:07:14 18:03:21", "46", 1 / 60), False),
        (("2023:07:14 18:03:21", "45", 1 / 30), False),  # a bracket
    ],
)
def test_another_moment_or_exposure_is_another_photo(other: tuple[str, str, float], copies: bool) -> None:
    assert is_copy(shot("2023:07:14 18:03:21", "45", 1 / 60), shot(*other, quality=80)) == copies


def test_several_pictures_in_a_file_are_no_copy_of_the_first(tmp_path: Path) -> None:
    more = [PHOTOS[1].crop((0, 0, 320, 240)), PHOTOS[2].crop((0, 0, 320, 240))]
    single = png(PHOTO)
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        assert not is_copy(single, encoded(PHOTO, form, save_all=True, append_images=more))
        first, second = (encoded(PHOTO, form, save_all=True, append_images=one) for one in (more[:1], more[1:]))
        assert not is_copy(first, second)
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([np.asarray(one) for one in (PHOTO, *more)]), photometric="rgb")
    assert not is_copy(single, (tmp_path / "pages.tif").read_bytes())


# ------------------------------------------------------------------------------------------ what only one file has


def deep(seed: int) -> np.ndarray:
    """The same photo in 16 bits; only the lower eight differ from seed to seed."""
    return np.asarray(PHOTO).astype(np.uint16) * 256 + np.random.default_rng(seed).integers(0, 256, (240, 320, 3), "u2")


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def heif(**options: object) -> bytes:
    image = pillow_heif.from_bytes("RGB;16", PHOTO.size, deep(1).tobytes())
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def psd() -> bytes:
    """Without layers; what else a program keeps in it is not compared."""
    planes = np.asarray(PHOTO).transpose(2, 0, 1).tobytes()
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 240, 320, 8, 3) + bytes(12) + b"\0\0" + planes


VIDEO = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(20_000)
VIEWS = {"form": "MPO", "save_all": True, "append_images": [scaled(PHOTO, 0.5)]}
MORE_THAN_PIXELS: dict[str, bytes] = {
    "a motion photo": jpeg(PHOTO, 85) + VIDEO,
    "a motion photo in HEIC": encoded(PHOTO, "HEIF") + struct.pack(">I", len(VIDEO) + 8) + b"mpvd" + VIDEO,
    "a gain map": encoded(PHOTO, quality=85, **VIEWS),
    "an archive after a PNG": png(PHOTO) + VIDEO,
    "an archive after a WebP": encoded(PHOTO, "WEBP", quality=90) + VIDEO,
    "16 bits in PNG": bytes(imagecodecs.png_encode(deep(1))),
    "16 bits in TIFF": tiff(deep(1), photometric="rgb"),
    "16 bits in JPEG 2000": bytes(imagecodecs.jpeg2k_encode(deep(1), level=0)),
    "16 bits in PPM": b"P6 320 240 65535\n" + deep(1).byteswap().tobytes(),
    "10 bits in AVIF": bytes(imagecodecs.avif_encode(deep(1) >> 6, bitspersample=10, level=100)),
    "10 bits in HEIC": heif(quality=100),
    "layers in TIFF": tiff(np.asarray(PHOTO), photometric="rgb", extratags=[(37724, 7, 100, bytes(100), True)]),
    "a Photoshop document": psd(),
}


@pytest.mark.parametrize("what", MORE_THAN_PIXELS)
def test_a_file_with_more_than_its_pixels_is_no_copy_of_one_without(what: str) -> None:
    """Whichever file is larger, only the one with the video, the layers or the deeper colours may be kept."""
    data = MORE_THAN_PIXELS[what]
    shown = decode(data).image
    assert not is_copy(png(shown), data)
    assert not is_copy(jpeg(shown, 100, subsampling=0), data)
    assert is_copy(data, jpeg(shown, 80))


def test_a_file_for_printing_is_no_copy_of_one_for_screens() -> None:
    inks = encoded(PHOTO.convert("CMYK"), quality=90)
    assert not is_copy(png(decode(inks).image), inks)


def test_files_with_the_same_attachment_may_be_copies() -> None:
    original, again = jpeg(PHOTO, 92), jpeg(PHOTO, 80)
    assert is_copy(original + VIDEO, again + VIDEO)
    assert not is_copy(original + VIDEO, again + VIDEO[:-1])
    assert is_copy(original, again + b"a few facts about the shot" * 20)


def test_pictures_that_differ_below_eight_bits_are_no_copies() -> None:
    """As do two exposures of a night sky, and depth maps."""
    assert not is_copy(imagecodecs.png_encode(deep(1)), imagecodecs.png_encode(deep(2)))
    assert not is_copy(tiff(deep(1), photometric="rgb"), tiff(deep(2), photometric="rgb"))


FORMS: dict[str, Callable[[Picture], bytes]] = {
    "lossless WebP": partial(encoded, form="WEBP", lossless=True),
    "AVIF": partial(encoded, form="AVIF", quality=100),
    "PNG": png,
    "JPEG": partial(jpeg, quality=98, subsampling=0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("quality", [35, 50])
def test_a_large_file_of_a_poor_version_replaces_no_better_one(form: str, quality: int) -> None:
    poor = decode(jpeg(PHOTO, quality)).image
    assert not is_copy(FORMS[form](poor), jpeg(PHOTO, 92))


def test_a_palette_of_256_colours_replaces_no_photo() -> None:
    assert not is_copy(png(PHOTO.quantize(256)), jpeg(PHOTO, 95))
    assert not is_copy(png(PHOTO.quantize(256, dither=Image.Dither.NONE)), jpeg(PHOTO, 95))
    assert is_copy(
        png(logo("A").convert("RGB").quantize(16)), jpeg(logo("A").convert("RGB").quantize(16).convert("RGB"))
    )


def test_transparency_is_part_of_the_picture() -> None:
    assert not is_copy(png(logo("A")), png(logo("A").convert("RGB")))
    assert not is_copy(png(logo("A", "red")), png(logo("A", "blue")))


def test_what_cannot_be_read_is_compared_with_nothing() -> None:
    for broken in (b"", b"nothing", jpeg(PHOTO)[:500]):
        with pytest.raises(ImageUnusable):
            copy_similarity(jpeg(PHOTO), broken)


def test_tiny_pictures_are_compared_with_nothing() -> None:
    tiny = PHOTO.resize((7, 5))
    assert not is_copy(png(tiny), encoded(tiny, "BMP"))
    assert not is_copy(png(PHOTO), png(PHOTO.resize((8, 6))))


def test_framing_allows_for_rounding_alone() -> None:
    assert same_framing((4000, 3000), (2000, 1500))
    assert same_framing((4000, 3000), (133, 100))
    assert same_framing((4001, 3000), (1334, 1000))
    assert not same_framing((4000, 3000), (3000, 4000))
    assert not same_framing((4000, 3000), (2000, 1510))
    assert not same_framing((4000, 3000), (4000, 2990))


def test_a_hash_has_63_bits_and_survives_what_copies_go_through() -> None:
    hashes = [perceptual_hash(image) for image in PHOTOS]
    assert all(0 <= one < 2**63 for one in hashes)
    assert min((a ^ b).bit_count() for a in hashes for b in hashes if a != b) > HASH_DISTANCE
    again = perceptual_hash(decode(jpeg(scaled(PHOTOS[0], 0.25), 40)).image)
    assert (again ^ hashes[0]).bit_count() <= 4
