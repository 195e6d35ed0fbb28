from __future__ import annotations

import functools
import io
import random
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from formats import P3, profile_of, psd
from fuzz import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFile, ImageFilter, PngImagePlugin, TiffImagePlugin, features

from clipsearch.errors import ImageUnusable
from clipsearch.images import decode as module
from clipsearch.images.compare import copy_similarity, sketch_of
from clipsearch.images.decode import Decoded, decode
from clipsearch.images.metadata import Metadata
from clipsearch.images.preprocess import Preprocess, decode_for, model_input, preprocess
from clipsearch.images.read import read

BASE, GPS = ExifTags.Base, ExifTags.GPS
LOSSY = 20  # of 255: blurred colours where the quarters meet; another turn of the picture differs by more than 100
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


@pytest.fixture(autouse=True)
def quiet_pillow() -> Iterator[None]:
    """Pillow warns of damaged EXIF; the program ignores warnings, and so must these tests to see what it does then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, **options)
    return out.getvalue()


@functools.cache
def asymmetric(width: int = 96, height: int = 64) -> Image.Image:
    """A different colour in each quarter, so that every turn and reflection is another picture."""
    image = Image.new("RGB", (width, height), "red")
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill="lime")
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill="blue")
    draw.rectangle((width // 2, height // 2, width, height), fill="white")
    return image


@functools.cache
def photo(width: int, height: int) -> Image.Image:
    """Soft light, edges and grain, about as much of each as a photo has."""
    rng = np.random.default_rng(1)
    soft = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    draw = ImageDraw.Draw(soft)
    for n in range(40):
        x, y, r = rng.integers(0, width), rng.integers(0, height), rng.integers(height // 20, height // 5)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(v) for v in rng.integers(0, 256, 3)), width=n % 3)
    values = np.asarray(soft.filter(ImageFilter.GaussianBlur(1)), np.float32) + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Root mean square, of 255."""
    assert (one.mode, one.size) == (other.mode, other.size)
    return float(np.sqrt(np.mean((np.asarray(one, np.float32) - np.asarray(other, np.float32)) ** 2)))


def colour(data: bytes, at: tuple[int, int] = (1, 1)) -> tuple[int, ...]:
    image = decode(data).image
    assert image.mode == "RGB"
    return image.getpixel(at)


# What a camera that is held so that the picture is `upright` stores, for each orientation that it notes.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda upright: upright.rotate(180),
    4: lambda upright: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda upright: upright.rotate(90, expand=True).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    6: lambda upright: upright.rotate(90, expand=True),  # to be turned clockwise when it is shown
    7: lambda upright: upright.rotate(-90, expand=True).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    8: lambda upright: upright.rotate(-90, expand=True),
}


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[BASE.Orientation] = orientation
    return exif


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
def test_a_photo_comes_out_upright(kind: str, orientation: int) -> None:
    stored = STORED[orientation](asymmetric())
    # AVIF has no EXIF orientation: Pillow writes it as a property of the picture, and a player must obey that.
    decoded = decode(saved(stored, kind, exif=turned(orientation), quality=95))
    assert difference(decoded.image, asymmetric()) < LOSSY
    assert (decoded.metadata.width, decoded.metadata.height) == (96, 64)


@pytest.mark.parametrize("orientation", STORED)
def test_a_photo_that_is_decoded_smaller_comes_out_upright_too(orientation: int) -> None:
    upright = asymmetric(960, 640)
    decoded = decode(saved(STORED[orientation](upright), "JPEG", exif=turned(orientation)), short_side=64)
    assert difference(decoded.image, asymmetric(120, 80)) < LOSSY
    assert (decoded.metadata.width, decoded.metadata.height) == (960, 640)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_means_nothing_turns_nothing(orientation: int) -> None:
    assert difference(decode(saved(asymmetric(), exif=turned(orientation))).image, asymmetric()) == 0


# ------------------------------------------------------------------------------------------ modes and formats


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    data = saved(image)
    assert [colour(data, (x, 0)) for x in range(3)] == [(255, 0, 0), (127, 127, 127), (255, 255, 255)]


def test_transparent_grey_is_white() -> None:
    image = Image.new("LA", (4, 2), (10, 0))
    image.putpixel((0, 0), (10, 255))
    assert [colour(saved(image), (x, 0)) for x in range(2)] == [(10, 10, 10), (255, 255, 255)]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"], ids=["one colour", "a table"])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(kind: str, transparency: int | bytes) -> None:
    if kind == "GIF" and isinstance(transparency, bytes):
        pytest.skip("GIF has one transparent colour")
    image = Image.new("P", (4, 2), 0)
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    image.putpixel((2, 0), 2)
    data = saved(image, kind, transparency=transparency)
    assert [colour(data, (x, 0)) for x in range(3)] == [(200, 0, 0), (255, 255, 255), (0, 0, 200)]


def test_a_transparent_colour_without_a_palette_is_white() -> None:
    image = Image.new("RGB", (4, 2), (1, 2, 3))
    image.putpixel((0, 0), (9, 9, 9))
    data = saved(image, transparency=(1, 2, 3))
    assert [colour(data, (x, 0)) for x in range(2)] == [(9, 9, 9), (255, 255, 255)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_the_common_modes_become_rgb(mode: str) -> None:
    image = Image.new("RGB", (8, 8), "white").convert(mode)
    assert colour(saved(image)) == (255, 255, 255)


def test_a_cmyk_jpeg_has_its_colours() -> None:
    # No cyan, much magenta and yellow: red.
    red, green, blue = colour(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 240
    assert max(green, blue) < 15


def test_a_cmyk_jpeg_can_be_decoded_smaller() -> None:
    image = decode(saved(Image.new("CMYK", (640, 640), (0, 255, 255, 0)), "JPEG"), short_side=80).image
    assert image.size == (80, 80)
    assert image.getpixel((40, 40))[0] > 240


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("PNG", np.array([[0, 257 * 100, 65535]], np.uint16), [0, 100, 255]),
        ("TIFF", np.array([[0, 257 * 100, 65535]], np.uint16), [0, 100, 255]),
        ("TIFF", np.array([[-5, 32768, 65535]], np.int32), [0, 128, 255]),
        ("TIFF", np.array([[0, 2**30, 2**31 - 1]], np.int32), [0, 128, 255]),
        ("TIFF", np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        ("TIFF", np.array([[-3, 50, 100]], np.float32), [0, 128, 255]),
        ("TIFF", np.array([[np.nan, 0.5, 1]], np.float32), [0, 128, 255]),
    ],
    ids=["16-bit PNG", "16-bit TIFF", "16 of 32 bits", "32 bits", "float to 1", "float", "not a number"],
)
def test_deep_greyscale_becomes_eight_bits(kind: str, values: np.ndarray, expected: list[int]) -> None:
    data = saved(Image.fromarray(values), kind)
    assert [colour(data, (x, 0))[0] for x in range(3)] == pytest.approx(expected, abs=1)


def test_infinite_and_all_black_floats_are_pictures_too() -> None:
    for values in (np.array([[np.inf, -np.inf, 0]]), np.zeros((1, 3))):
        assert decode(saved(Image.fromarray(values.astype(np.float32)), "TIFF")).image.size == (3, 1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), name) for name in ("red", "blue", "lime")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert colour(data) == pytest.approx((255, 0, 0), abs=8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("first", [(0, 0, 0, 0), (0, 0, 0, 255), (255, 255, 255, 255)])
def test_of_an_animation_that_begins_empty_the_first_frame_that_shows_something_counts(
    kind: str, first: tuple[int, ...]
) -> None:
    empty = Image.new("RGBA", (96, 64), first)
    shown = [asymmetric().convert("RGBA"), asymmetric().rotate(180).convert("RGBA")]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames = [empty, empty.copy(), *shown]
    frames[1].putpixel((0, 0), frames[0].getpixel((1, 1)))
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
    assert difference(decode(data).image, asymmetric()) < LOSSY


def tiff_pages(*pages: Image.Image, reduced: int | None = None) -> bytes:
    for number, page in enumerate(pages):
        page.encoderinfo = {"tiffinfo": {254: 1}} if number == reduced else {}
    info = {254: 1} if reduced == 0 else {}
    return saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], tiffinfo=info)


def test_a_tiff_whose_first_page_is_a_thumbnail_shows_the_photo() -> None:
    for data in (
        tiff_pages(asymmetric(96, 64), photo(960, 640)),
        tiff_pages(asymmetric(800, 600), photo(960, 720), reduced=0),
    ):
        decoded = decode(data)
        assert decoded.metadata.width == 960
        assert difference(decoded.image, photo(*decoded.image.size)) == 0


def test_of_a_document_the_first_page_counts() -> None:
    assert difference(decode(tiff_pages(asymmetric(), asymmetric().rotate(180))).image, asymmetric()) == 0
    assert decode(tiff_pages(asymmetric(800, 600), photo(960, 640))).metadata.width == 800


def grey_tiff(values: np.ndarray, photometric: int) -> bytes:
    pixels, (height, width) = values.astype("<u2").tobytes(), values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(pixels))]]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
def test_scans_of_fewer_bits_and_inverted_ones_are_as_bright_as_they_should_be(bits: int, photometric: int) -> None:
    values = np.linspace(0, 2**bits - 1, 6).reshape(1, 6)
    image = decode(grey_tiff(values, photometric)).image
    found = [image.getpixel((x, 0))[0] for x in range(6)]
    expected = [0, 51, 102, 153, 204, 255]
    assert found == pytest.approx(expected if photometric else expected[::-1], abs=1)


def test_a_heic_is_decoded() -> None:
    exif = Image.Exif()
    exif[BASE.Model] = "Phone 1"
    decoded = decode(heic(asymmetric(), quality=95, exif=exif.tobytes()))
    assert difference(decoded.image, asymmetric()) < LOSSY
    assert decoded.metadata == Metadata(96, 64, camera="Phone 1")


@needs_avif
def test_an_avif_is_decoded() -> None:
    assert difference(decode(saved(asymmetric(), "AVIF", quality=95)).image, asymmetric()) < LOSSY


def test_a_transparent_heic_is_white() -> None:
    assert min(colour(heic(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), quality=95))) > 247


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TGA", "JPEG2000", "TIFF"])
def test_the_rarer_formats_are_decoded(kind: str) -> None:
    assert difference(decode(saved(asymmetric(), kind)).image, asymmetric()) < LOSSY


def with_turn_box(data: bytes) -> bool:
    return b"irot" in data or b"imir" in data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_that_only_exif_turns_is_upright(orientation: int) -> None:
    pillow_heif.register_heif_opener()
    data = saved(STORED[orientation](asymmetric()), "HEIF", quality=90, exif=turned(orientation))
    assert not with_turn_box(data)
    decoded = decode(data)
    assert (decoded.metadata.width, decoded.metadata.height) == (96, 64)
    assert difference(decoded.image, asymmetric()) < LOSSY


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_heic_with_a_box_is_not_turned_again_by_exif(orientation: int) -> None:
    data = heic(STORED[orientation](asymmetric()), quality=90, exif=turned(orientation).tobytes())
    assert with_turn_box(data)
    assert difference(decode(data).image, asymmetric()) < LOSSY


@needs_avif
@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_avif_is_turned_once_by_its_box_or_by_exif(orientation: int) -> None:
    stored = STORED[orientation](asymmetric())
    boxed = saved(stored, "AVIF", quality=90, exif=turned(orientation))
    assert with_turn_box(boxed)
    assert difference(decode(boxed).image, asymmetric()) < LOSSY
    exif = Image.Exif()  # Pillow would write an orientation into a box
    exif[BASE.ResolutionUnit] = orientation
    alone = saved(stored, "AVIF", quality=90, exif=exif.tobytes())
    assert not with_turn_box(alone)
    assert alone.count(b"\x01\x28\0\x03") == 1
    alone = alone.replace(b"\x01\x28\0\x03", b"\x01\x12\0\x03")
    assert difference(decode(alone).image, asymmetric()) < LOSSY


SRGB = profile_of()
HOW = Preprocess((64, 64), resize_mode="squash")


def in_profile(image: Image.Image, profile: bytes) -> Image.Image:
    source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, source, target, outputMode=image.mode)


def pale(width: int = 96, height: int = 64) -> Image.Image:
    """No colour that another profile cannot express."""
    return Image.blend(asymmetric(width, height), Image.new("RGB", (width, height), "grey"), 0.4)


def seen(data: bytes) -> Image.Image:
    """What the model sees."""
    return Image.fromarray(model_input(decode_for(data, HOW), HOW))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("alpha", [False, True])
def test_an_embedded_profile_is_applied(kind: str, alpha: bool) -> None:
    if alpha and kind == "JPEG":
        return
    plain, wide = pale(), in_profile(pale(), P3)
    assert difference(wide, plain) > 8
    if alpha:
        wide.putalpha(255)
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    found, expected = seen(saved(wide, kind, icc_profile=P3, **options)), seen(saved(plain))
    assert difference(found, expected) < 4


@pytest.mark.parametrize("profile", [None, SRGB, b"damaged", SRGB[:300]])
def test_without_a_profile_other_than_srgb_pixels_stay_the_same(profile: bytes | None) -> None:
    image = photo(640, 480)
    expected = Image.fromarray(preprocess(image, HOW))
    assert difference(seen(saved(image, icc_profile=profile)), expected) == 0


def test_a_profile_named_srgb_that_is_not_is_applied() -> None:
    swapped = profile_of(r=(0.1431, 0.0606, 0.7141), b=(0.4361, 0.2225, 0.0139))
    red = np.asarray(seen(saved(Image.new("RGB", (64, 64), "blue"), icc_profile=swapped)))
    assert red[32, 32].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_a_grey_profile_is_applied() -> None:
    profile = bytearray(SRGB)
    profile[16:20] = b"GRAY"
    at = profile.index(b"rTRC")
    profile[at : at + 4] = b"kTRC"
    curve = struct.unpack_from(">I", profile, at + 4)[0]
    profile[curve : curve + 14] = b"curv\0\0\0\0\0\0\0\x01\x01\0"  # gamma 1.0
    for found in (Image.new("L", (64, 64), 55), Image.fromarray(np.full((64, 64), 55 * 257, np.uint16))):
        grey = np.asarray(seen(saved(found, icc_profile=bytes(profile))))
        assert grey[32, 32].tolist() == pytest.approx([128] * 3, abs=2)


@needs_avif
@pytest.mark.parametrize(
    ("primaries", "transfer", "stored", "shown"),
    [
        (9, 16, (148, 148, 148), (246, 246, 246)),  # PQ: diffuse white
        (9, 18, (191, 191, 191), (246, 246, 246)),  # HLG
        (12, 13, (234, 51, 35), (255, 0, 0)),  # Display P3: sRGB's red
        (1, 13, (234, 51, 35), (234, 51, 35)),
    ],
)
def test_code_points_are_applied(
    primaries: int, transfer: int, stored: tuple[int, int, int], shown: tuple[int, int, int]
) -> None:
    picture = Image.new("RGB", (64, 64), stored)
    avif = bytearray(saved(picture, "AVIF", quality=100, subsampling="4:4:4"))
    at = avif.index(b"colrnclx") + 8
    struct.pack_into(">HH", avif, at, primaries, transfer)
    points = struct.pack(">I4s4B", 4, b"cICP", primaries, transfer, 0, 1)
    png = saved(picture)
    png = png[:33] + points + struct.pack(">I", zlib.crc32(points[4:])) + png[33:]
    for data in (bytes(avif), png):
        assert np.asarray(seen(data))[32, 32].tolist() == pytest.approx(shown, abs=6)


def test_a_postscript_file_is_no_image() -> None:
    # Pillow would run Ghostscript on it.
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "EPS"
    with pytest.raises(ImageUnusable, match="not an image that can be read"):
        decode(data)


# ------------------------------------------------------------------------------------------ decoding at a smaller scale


@pytest.mark.parametrize(("kind", "more"), [("JPEG", {}), ("MPO", {"save_all": True})])
def test_a_jpeg_is_decoded_smaller_and_says_its_full_size(kind: str, more: dict[str, Any]) -> None:
    data = saved(photo(1600, 1200), kind, append_images=[asymmetric()], **more)
    for short_side, expected in ((100, 150), (150, 150), (151, 300), (448, 600), (601, 1200), (5000, 1200)):
        decoded = decode(data, short_side)
        assert decoded.image.height == expected
        assert (decoded.metadata.width, decoded.metadata.height) == (1600, 1200)
    assert decode(data).image.size == (1600, 1200)


def rms_after_preprocessing(size: tuple[int, int], side: int, full: tuple[int, int] | None) -> float:
    data, how = saved(photo(*size), "JPEG", quality=90), Preprocess(size=(side, side))
    whole, small = decode(data).image, decode(data, short_side=2 * side).image
    assert small.width < whole.width
    one, other = preprocess(whole, how).astype(np.float32), preprocess(small, how, full).astype(np.float32)
    assert one.std() > 20
    return float(np.sqrt(np.mean((one - other) ** 2)))


@pytest.mark.parametrize("size", [(1600, 1200), (1201, 1803), (2000, 900)])
def test_decoding_smaller_hardly_changes_what_the_model_sees(size: tuple[int, int]) -> None:
    assert rms_after_preprocessing(size, 224, full=size) < 2


def test_the_crop_of_a_smaller_decoding_falls_where_that_of_the_picture_does() -> None:
    # 301 x 451 would be made one row shorter than 1201 x 1803.
    size = (1201, 1803)
    assert rms_after_preprocessing(size, 128, full=size) < rms_after_preprocessing(size, 128, full=None) / 2


def test_other_formats_are_decoded_in_full() -> None:
    assert decode(saved(asymmetric(960, 640)), short_side=10).image.size == (960, 640)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_photoshop_file_is_read_at_either_depth(bits: int) -> None:
    picture = asymmetric(64, 48)
    decoded = decode(psd(picture, bits=bits))
    assert (decoded.metadata.width, decoded.metadata.height) == (64, 48)
    assert decoded.image.tobytes() == picture.tobytes()


# ------------------------------------------------------------------------------------------ metadata


def described(
    north: str = "N", east: str = "E", latitude: Any = (48.0, 51.0, 29.9), longitude: Any = (2.0, 17.0, 40.2)
) -> Image.Exif:
    exif = Image.Exif()
    exif[BASE.Make], exif[BASE.Model] = "Canon", "EOS R5"
    exif[BASE.DateTime] = "2024:01:01 00:00:00"
    exif.get_ifd(ExifTags.IFD.Exif)[BASE.DateTimeOriginal] = "2023:07:14 20:15:01"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {GPS.GPSLatitudeRef: north, GPS.GPSLatitude: latitude, GPS.GPSLongitudeRef: east, GPS.GPSLongitude: longitude}
    )
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIC", pytest.param("AVIF", marks=needs_avif)])
def test_a_photo_says_when_where_and_with_what_it_was_taken(kind: str) -> None:
    exif = described().tobytes()
    data = heic(asymmetric(), exif=exif) if kind == "HEIC" else saved(asymmetric(), kind, exif=exif)
    metadata = decode(data).metadata
    assert (metadata.taken, metadata.camera) == ("2023-07-14T20:15:01", "Canon EOS R5")
    assert (metadata.latitude, metadata.longitude) == pytest.approx((48.858306, 2.294500), abs=1e-6)


@pytest.mark.parametrize(("north", "east", "signs"), [("S", "W", (-1, -1)), ("N", "W", (1, -1)), ("S", "E", (-1, 1))])
def test_south_and_west_are_negative(north: str, east: str, signs: tuple[int, int]) -> None:
    metadata = decode(saved(asymmetric(), exif=described(north, east))).metadata
    assert (metadata.latitude, metadata.longitude) == pytest.approx((48.858306 * signs[0], 2.2945 * signs[1]), abs=1e-6)


@pytest.mark.parametrize(
    "latitude",
    [(91.0, 0.0, 0.0), (1.0, 2.0, 3.0, 4.0), (TiffImagePlugin.IFDRational(1, 0), 0.0, 0.0), (0.0, 0.0, 1e9)],
    ids=["beyond the pole", "four numbers", "divided by zero", "too many seconds"],
)
def test_a_place_that_cannot_be_is_no_place(latitude: Any) -> None:
    metadata = decode(saved(asymmetric(), "JPEG", exif=described(latitude=latitude))).metadata
    assert (metadata.latitude, metadata.longitude) == (None, None)
    assert metadata.camera == "Canon EOS R5"


@pytest.mark.parametrize(
    ("north", "east", "latitude"), [("", "E", None), ("N", "\0", None), ("?", "E", None), (" south", "e", -48.8583056)]
)
def test_without_its_hemisphere_a_place_is_unknown(north: str, east: str, latitude: float | None) -> None:
    assert decode(saved(asymmetric(), exif=described(north, east))).metadata.latitude == latitude


@pytest.mark.parametrize(
    ("maker", "model", "camera"),
    [
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("", "Box", "Box"),
        ("NIKON CORPORATION", "", "NIKON CORPORATION"),
        ("A\0junk", " B \n C", "A junk B C"),
        ("", "", None),
    ],
)
def test_a_camera_is_named_once(maker: str, model: str, camera: str | None) -> None:
    exif = Image.Exif()
    exif[BASE.Make], exif[BASE.Model] = maker, model
    assert decode(saved(asymmetric(), "PNG", exif=exif)).metadata.camera == camera


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("2023:07:14 20:15:01", "2023-07-14T20:15:01"),
        ("2023-07-14T20:15:01Z", "2023-07-14T20:15:01"),
        ("2023:02:30 20:15:01", None),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_date_is_a_date_or_nothing(written: str, taken: str | None) -> None:
    exif = Image.Exif()
    exif[BASE.DateTime] = written
    assert decode(saved(asymmetric(), "JPEG", exif=exif)).metadata.taken == taken


def raw_exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of (tag, type, count, four bytes of value), as no library would write it."""
    rows = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + b"\0\0\0\0"


ASCII, SHORT, LONG, RATIONAL = 2, 3, 4, 5


@pytest.mark.parametrize(
    "exif",
    [
        raw_exif((BASE.Orientation, ASCII, 4, b"up\0\0"), (BASE.Make, SHORT, 2, b"\1\0\2\0")),
        raw_exif((BASE.Orientation, SHORT, 2, b"\1\0\6\0"), (BASE.DateTime, LONG, 1, b"\xff" * 4)),
        raw_exif((BASE.Orientation, SHORT, 0, b"\6\0\0\0"), (BASE.Model, RATIONAL, 1, b"\x08\0\0\0")),
        raw_exif((BASE.Orientation, RATIONAL, 1, b"\xff" * 4), (BASE.Make, ASCII, 2**31, b"\0" * 4)),
        raw_exif((BASE.Orientation, 77, 1, b"\6\0\0\0")),
        raw_exif((ExifTags.IFD.Exif, LONG, 1, b"\x08\0\0\0"), (ExifTags.IFD.GPSInfo, LONG, 1, b"\xff" * 4)),
        raw_exif((ExifTags.IFD.Exif, ASCII, 4, b"abc\0"), (ExifTags.IFD.GPSInfo, SHORT, 2, b"\1\0\1\0")),
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0",
        b"Exif\0\0nonsense",
    ],
)
def test_absurd_exif_does_not_matter(exif: bytes) -> None:
    decoded = decode(saved(asymmetric(), "JPEG", exif=exif, quality=95))
    assert difference(decoded.image, asymmetric()) < LOSSY
    assert (decoded.metadata.width, decoded.metadata.height) == (96, 64)
    assert (decoded.metadata.taken, decoded.metadata.latitude) == (None, None)


@given(st.randoms(use_true_random=False), st.integers(1, 12))
@examples(300)
def test_damaged_exif_never_costs_the_picture(rng: random.Random, changes: int) -> None:
    exif = bytearray(described().tobytes())
    for _ in range(changes):
        exif[rng.randrange(6, len(exif))] = rng.choice([0, 1, 3, 5, 12, 127, 255, rng.randrange(256)])
    decoded = decode(saved(asymmetric(), "JPEG", exif=bytes(exif)))
    assert sorted(decoded.image.size) == [64, 96]


# ------------------------------------------------------------------------------------------ what cannot be decoded


SMALL = photo(64, 48)
VALID = {
    "JPEG": saved(SMALL, "JPEG", exif=described()),
    "PNG": saved(SMALL, "PNG", exif=described()),
    "WEBP": saved(SMALL, "WEBP", exif=described()),
    "TIFF": saved(SMALL, "TIFF", compression="tiff_lzw"),
    "HEIC": heic(SMALL),
    **({"AVIF": saved(SMALL, "AVIF", speed=10)} if features.check("avif") else {}),
    **{kind: saved(SMALL, kind) for kind in ("GIF", "BMP", "TGA", "PPM", "JPEG2000")},
}


def assert_short(error: ImageUnusable) -> None:
    assert 0 < len(str(error)) <= 120
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not a photo, just words\n" * 20, "not an image that can be read"),
        (bytes(range(256)) * 40, "not an image that can be read"),
        (b"\0" * 5000, "not an image that can be read"),
        (b"\xff\xd8\xff\xe0", "not an image that can be read"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 100, ""),
    ],
    ids=["empty", "text", "bytes", "zeros", "a start of a JPEG", "a start of a HEIC"],
)
def test_what_is_no_image_is_unusable_for_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageUnusable, match=reason) as caught:
        decode(data)
    assert_short(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "HEIC", pytest.param("AVIF", marks=needs_avif)])
def test_a_file_cut_off_at_its_start_is_unusable(kind: str) -> None:
    with pytest.raises(ImageUnusable) as caught:
        decode(VALID[kind][: len(VALID[kind]) // 20])
    assert_short(caught.value)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "HEIC", pytest.param("AVIF", marks=needs_avif)])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_formats_whose_decoders_need_the_whole_file_are_unusable_without(kind: str, share: float) -> None:
    with pytest.raises(ImageUnusable) as caught:
        decode(VALID[kind][: int(len(VALID[kind]) * share)])
    assert_short(caught.value)


WHOLE = photo(640, 480)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {"interlace": 0})],
    ids=["baseline", "progressive", "png", "gif"],
)
@pytest.mark.parametrize("short_side", [None, 64])
@pytest.mark.parametrize("exif", [1, 6])
def test_a_file_cut_short_is_decoded_as_far_as_it_goes(
    kind: str, options: dict[str, Any], short_side: int | None, exif: int
) -> None:
    data = saved(WHOLE, kind, exif=turned(exif), **options)
    intact, most = decode(data, short_side), decode(data[: len(data) * 7 // 10], short_side)
    assert most.metadata == intact.metadata
    assert (intact.is_partial, most.is_partial) == (False, True)
    left = (0, 0, most.image.width, most.image.height // 2)
    if exif == 6 and kind != "GIF":
        left = (most.image.width // 2, 0, most.image.width, most.image.height)
    assert difference(most.image.crop(left), intact.image.crop(left)) < LOSSY
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(ImageUnusable):
        decode(data[: len(data) * 7 // 10], strict=True)


def test_a_jpeg_without_its_last_bytes_is_all_there() -> None:
    data = saved(WHOLE, "JPEG")
    assert difference(decode(data[:-2]).image, decode(data).image) == 0


def test_a_jpeg_of_which_next_to_nothing_is_left_is_unusable() -> None:
    data = saved(WHOLE, "JPEG")
    start = data.index(b"\xff\xda") + 20
    with pytest.raises(ImageUnusable):
        decode(data[:start])
    with pytest.raises(ImageUnusable):
        decode(data[: start + (len(data) - start) // 30])


def test_a_png_with_megabytes_of_text_is_decoded() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("history", "x" * 3_000_000, zip=True)
    assert difference(decode(saved(SMALL, pnginfo=text)).image, SMALL) == 0


def test_a_jpeg_cut_short_is_no_copy_of_the_whole() -> None:
    data = saved(WHOLE, "JPEG")
    with pytest.raises(ImageUnusable):
        sketch_of(data[:-2000])
    with pytest.raises(ImageUnusable):
        copy_similarity(data[:-2000], data)


@given(st.sampled_from(sorted(VALID)), st.randoms(use_true_random=False), st.integers(1, 20), st.booleans())
@examples(400, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_a_picture_or_unusable(kind: str, rng: random.Random, changes: int, at_the_start: bool) -> None:
    data = bytearray(VALID[kind])
    for _ in range(changes):
        position = rng.randrange(min(len(data), 200) if at_the_start else len(data))
        data[position] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    try:
        decoded = decode(bytes(data), short_side=rng.choice([None, 16]))
    except ImageUnusable as error:
        assert_short(error)
    else:
        assert isinstance(decoded, Decoded)
        assert decoded.image.mode == "RGB"


@given(st.binary(max_size=400))
@examples(100)
def test_random_bytes_are_a_picture_or_unusable(data: bytes) -> None:
    try:
        assert decode(data).image.mode == "RGB"
    except ImageUnusable as error:
        assert_short(error)


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (MemoryError(), "too large for this machine's memory"),
        (RuntimeError("one line\nand another"), "^one line$"),
        (NotImplementedError(), "^NotImplementedError$"),
        (struct.error("x" * 500), "^x{120}$"),
        (OSError("  \n"), "^OSError$"),
    ],
)
def test_whatever_a_decoder_raises_is_a_reason(raised: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise raised

    data = saved(asymmetric(), "BMP")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ImageUnusable, match=reason):
        decode(data)


def test_more_pixels_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(asymmetric())
    monkeypatch.setattr(module, "MAX_PIXELS", 96 * 64)
    decode(data)
    monkeypatch.setattr(module, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(ImageUnusable, match="too large: 96 x 64 pixels"):
        decode(data)


def test_the_limit_counts_the_pixels_that_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(asymmetric(960, 640), "JPEG")
    monkeypatch.setattr(module, "MAX_PIXELS", 100_000)
    assert decode(data, short_side=64).image.size == (120, 80)
    with pytest.raises(ImageUnusable, match="too large: 960 x 640 pixels"):
        decode(data)


def test_a_decompression_bomb_is_refused_before_it_goes_off() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ImageUnusable, match=r"too large|exceeds limit"):
        decode(data)


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read(tmp_path / "a") == b"abc"
    with pytest.raises(ImageUnusable, match="no such file or directory"):
        read(tmp_path / "none")
    with pytest.raises(ImageUnusable, match="is a directory"):
        read(tmp_path)
