"""Every kind of image is indexed and found with the pixels that a person sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  # makes Pillow save JPEG XL
import pytest
from conftest import SCENES
from formats import psd
from PIL import ExifTags, Image

import clipsearch
from clipsearch.indexing.update import Options, Report, update_index

PICTURE = SCENES[2].image
UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def on_transparency() -> Image.Image:
    """The picture with its background, which is its commonest colour, made transparent."""
    background = max(PICTURE.getcolors(1 << 16), key=lambda entry: entry[0])[1]
    far = np.abs(np.asarray(PICTURE, np.int16) - np.array(background)).max(2) > 8
    layer = PICTURE.convert("RGBA")
    layer.putalpha(Image.fromarray((far * 255).astype(np.uint8)))
    return layer


def save_all(folder: Path) -> None:
    for orientation, undo in UNDO.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored = PICTURE if undo is None else PICTURE.transpose(undo)
        stored.save(folder / f"orientation-{orientation}.jpg", quality=95, exif=exif)
    PICTURE.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    PICTURE.quantize(64).save(folder / "palette.png")
    PICTURE.save(folder / "animated.gif", save_all=True, append_images=[SCENES[9].image, SCENES[10].image])
    PICTURE.save(folder / "lossless.webp", lossless=True)
    PICTURE.save(folder / "picture.tiff")
    PICTURE.save(folder / "picture.avif", quality=90)
    pillow_heif.from_pillow(PICTURE).save(folder / "picture.heic", quality=90)
    PICTURE.resize((1600, 1600)).save(folder / "large.jpg", quality=95)
    for name in ("DSCF0001.MPO", "stereo.jps"):
        PICTURE.save(folder / name, "MPO", save_all=True, append_images=[SCENES[9].image], quality=95)
    PICTURE.save(folder / "panorama.insp", "JPEG", quality=95)
    PICTURE.save(folder / "picture.jxl", lossless=True)
    (folder / "layers.psd").write_bytes(psd(PICTURE))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Report]:
    """A folder with every kind of picture and of file that is none, its index, and what the run said."""
    folder = tmp_path_factory.mktemp("kinds").resolve()
    save_all(folder)
    grey = np.asarray(PICTURE.convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(folder / "sixteen.png")
    on_transparency().save(folder / "transparent.png")
    PICTURE.save(folder / "reference.png")
    PICTURE.convert("L").convert("RGB").save(folder / "grey-reference.png")
    on_white = Image.new("RGBA", PICTURE.size, "white")
    on_white.alpha_composite(on_transparency())
    on_white.convert("RGB").save(folder / "white-reference.png")
    (folder / "text.jpg").write_text("not a picture\n" * 100)
    (folder / "truncated.jpg").write_bytes((folder / "large.jpg").read_bytes()[:1500])
    (folder / "damaged.jxl").write_bytes((folder / "picture.jxl").read_bytes()[:200])
    (folder / "empty.png").touch()
    (folder / "folder.jpg").mkdir()
    index = tmp_path_factory.mktemp("kinds-index") / "index"
    return folder, index, update_index(index, [folder], Options(model="mini"))


def scores(indexed: tuple[Path, Path, Report], reference: str) -> dict[str, float]:
    folder, index, _ = indexed
    hits = clipsearch.open_index(index).query(images=[folder / reference], k=1000, with_self=True)
    return {Path(hit.path).name: hit.score for hit in hits}


KINDS = [
    *(f"orientation-{n}.jpg" for n in UNDO),
    *("cmyk.jpg", "palette.png", "animated.gif", "lossless.webp", "picture.tiff", "picture.avif", "picture.heic"),
    *("large.jpg", "DSCF0001.MPO", "stereo.jps", "panorama.insp", "picture.jxl", "layers.psd"),
]


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_picture_is_indexed_as_what_a_person_sees(indexed: tuple[Path, Path, Report], name: str) -> None:
    found = scores(indexed, "reference.png")
    assert found[name] > 0.97
    assert found[name] > found["grey-reference.png"]


@pytest.mark.parametrize(
    ("name", "reference"), [("sixteen.png", "grey-reference.png"), ("transparent.png", "white-reference.png")]
)
def test_depth_and_transparency_are_seen_too(indexed: tuple[Path, Path, Report], name: str, reference: str) -> None:
    assert scores(indexed, reference)[name] > 0.99


def test_what_is_no_picture_is_skipped_with_a_reason(indexed: tuple[Path, Path, Report]) -> None:
    _, _, report = indexed
    reasons = {Path(path.decode()).name: reason for path, reason in report.skipped}
    assert reasons.keys() == {"text.jpg", "truncated.jpg", "damaged.jxl", "empty.png", "folder.jpg"}
    assert reasons["text.jpg"] == "not an image that can be read"
    assert "truncated" in reasons["truncated.jpg"]
    assert reasons["damaged.jxl"] == "damaged image data"
    assert reasons["empty.png"] == "empty file"
    assert reasons["folder.jpg"] == "a folder, not an image"
    assert report.added == len(KINDS) + 5


def test_every_picture_is_found_by_itself(
    indexed: tuple[Path, Path, Report], clipsearch: Callable[..., object]
) -> None:
    folder, index, _ = indexed
    result = clipsearch("query", "--image", folder / "picture.heic", "-k", 1, "--format", "tsv", index=index)
    assert result.lines == [f"1\t1.0000\t{folder / 'picture.heic'}"]
