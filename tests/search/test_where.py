"""Locating things in drawn scenes with known positions, rotated and cropped in every way."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scenes
from PIL import Image, ImageOps

from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.images.preprocess import preprocess, visible_part
from clipsearch.models.model import Model
from clipsearch.search.embed import Embedder
from clipsearch.search.hit import Where
from clipsearch.search.where import CELLS, Finder, View
from clipsearch.store.catalogue import Store

TWO = [scene for scene in scenes.draw_distinct(60, scenes.UNSEEN + 500, size=160) if len(scene.things) == 2][:8]


@pytest.fixture(scope="module")
def embedder(drawn_index: Path) -> Iterator[Embedder]:
    with Store.open(drawn_index) as store:
        yield Embedder(store)


def view(embedder: Embedder, image: Image.Image) -> View:
    return View(embedder, preprocess(image, embedder.for_parts), *image.size)


def is_inside(there: Where, boxes: tuple[scenes.Box, ...]) -> bool:
    x, y = there.point
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)


def test_it_points_at_the_thing_that_was_asked_for_and_not_at_the_other(embedder: Embedder) -> None:
    found = []
    for scene in TWO:
        seen_once = view(embedder, scene.image)
        found += [is_inside(seen_once.where(thing.text), thing.boxes) for thing in scene.things]
    assert sum(found) >= 0.85 * len(found)  # 95% of many; by chance 10%


def test_the_boxes_of_a_scene_hold_all_that_is_drawn_on_its_background() -> None:
    for scene in [one for one in TWO if not one.things[-1].text.startswith("the ")]:
        drawn = np.abs(np.asarray(scene.image, int) - np.asarray(scene.image, int)[0, 0]).sum(2) > 0
        assert drawn.any()
        for left, top, right, bottom in (box for thing in scene.things for box in thing.boxes):
            rows = slice(math.floor(top * 160), math.ceil(bottom * 160) + 1)
            columns = slice(math.floor(left * 160), math.ceil(right * 160) + 1)
            assert drawn[rows, columns].mean() > 0.2
            drawn[rows, columns] = False
        assert not drawn.any()


def bar(image: Image.Image, left: int, right: int) -> Image.Image:
    """The image between stripes of its own background."""
    out = Image.new("RGB", (left + image.width + right, image.height), image.getpixel((0, 0)))
    out.paste(image, (left, 0))
    return out


@pytest.mark.parametrize("mode", ["squash", "shortest", "longest"])
def test_boxes_are_of_the_photo_however_the_model_crops_it(embedder: Embedder, mode: str) -> None:
    how = embedder.model.preprocess
    embedder.model = replace(embedder.model, preprocess=replace(how, resize_mode=mode))
    try:
        scene = scenes.draw(scenes.UNSEEN + 1)
        (thing, *_) = scene.things
        ((left, top, right, bottom),) = thing.boxes
        image = bar(scene.image, 40, 8)
        there = view(embedder, image).where(thing.text)
    finally:
        embedder.model = replace(embedder.model, preprocess=how)
    across = image.width / scene.image.width
    shift = 40 / image.width
    assert is_inside(there, ((left / across + shift, top, right / across + shift, bottom),))
    assert there.heat.shape == (round(CELLS * image.height / image.width), CELLS)
    if mode == "shortest":  # the ends are cropped
        assert not there.heat[:, : int(CELLS * 22 / image.width)].any()


@pytest.mark.parametrize("mode", ["squash", "shortest"])
def test_it_points_into_the_part_of_a_panorama_that_matches(embedder: Embedder, mode: str) -> None:
    picture, out = Image.new("RGB", (160 * 4, 160)), io.BytesIO()
    for place, scene in enumerate(TWO[:4]):
        picture.paste(scene.image, (160 * place, 0))
    picture.save(out, "PNG")
    how = embedder.model.preprocess
    embedder.model = replace(embedder.model, preprocess=replace(how, resize_mode=mode))
    try:
        with Finder(embedder) as finder:
            there, _ = finder.where(embedder.prepared(preprocess(TWO[3].image, how)), out.getvalue())
    finally:
        embedder.model = replace(embedder.model, preprocess=how)
    assert there.box.left >= 0.75
    assert there.heat.shape == (CELLS // 4, CELLS)


def test_what_the_input_shows_is_what_the_preprocessing_shows(embedder: Embedder) -> None:
    """A bright column is put where the input's first and last columns come from."""
    for mode in ("squash", "shortest", "longest"):
        how = replace(embedder.model.preprocess, resize_mode=mode)
        for width, height in ((600, 300), (300, 600), (500, 500)):
            shades = np.tile(np.linspace(0, 255, width), (height, 1)).astype(np.uint8)
            pixels = preprocess(Image.fromarray(shades).convert("RGB"), how)
            box = visible_part(how, width, height)
            expected = np.interp(np.linspace(box.left, box.right, how.size[1]), [0, 1], [0, 255])
            middle = pixels[how.size[0] // 2, :, 0].astype(float)
            inside = np.linspace(box.left, box.right, how.size[1])
            shown = (inside > 0.02) & (inside < 0.98)
            np.testing.assert_allclose(middle[shown], expected[shown], atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_has_its_box_as_one_sees_it(embedder: Embedder, orientation: int) -> None:
    scene = TWO[0]
    stored = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, 1)  # what undoes the orientation
    image = bar(scene.image, 30, 0)
    image.getexif()[0x0112] = stored
    turned = ImageOps.exif_transpose(image)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    turned.save(out, "PNG", exif=exif)
    with Finder(embedder) as finder:
        there, of = finder.where(scene.things[0].text, out.getvalue())
    assert (of.width, of.height) == image.size
    upright = view(embedder, bar(scene.image, 30, 0)).where(scene.things[0].text)
    assert there.box == upright.box
    assert there.score == pytest.approx(upright.score, abs=1e-4)


def test_the_box_holds_the_hottest_place_and_only_what_is_hot_around_it(embedder: Embedder) -> None:
    there = view(embedder, TWO[1].image).where(TWO[1].things[1].text)
    assert there.heat.min() == 0
    assert there.heat.max() == 1
    assert (there.heat == 0).mean() >= 0.5
    assert is_inside(there, (there.box,))
    left, top, right, bottom = there.pixels(CELLS, CELLS)
    assert there.heat[top:bottom, left].max() >= 0.6
    assert (there.heat[top:bottom, left - 1].max() if left else 0) < 0.6
    assert (there.heat[top:bottom, right].max() if right < CELLS else 0) < 0.6
    assert there.pixels(200, 100) == tuple(
        round(share * side) for share, side in zip(there.box, (200, 100, 200, 100), strict=True)
    )


def test_a_text_and_its_row_give_the_same(embedder: Embedder) -> None:
    looked = view(embedder, TWO[2].image)
    one, other = looked.where("a red star"), looked.where(embedder.texts(["a red star"])[0])
    np.testing.assert_array_equal(one.heat, other.heat)
    assert one[1:] == other[1:]


def test_the_score_tells_what_is_there_from_what_is_not(embedder: Embedder) -> None:
    there, not_there = [], []
    for scene, other in zip(TWO, TWO[1:] + TWO[:1], strict=True):
        looked = view(embedder, scene.image)
        there.append(looked.where(scene.things[0].text).score)
        not_there.append(looked.where(other.things[0].text).score)
    assert np.mean(there) > np.mean(not_there) + 0.05


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000), (224, 224)])
def test_a_photo_of_one_colour_or_of_odd_shape_has_some_box(embedder: Embedder, size: tuple[int, int]) -> None:
    there = view(embedder, Image.new("RGB", size, "gray")).where("a dog")
    left, top, right, bottom = there.box
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert np.isfinite(there.heat).all()
    assert there.heat.max() == 1


def test_what_is_no_image_is_said(embedder: Embedder) -> None:
    with Finder(embedder) as finder, pytest.raises(ImageUnusable, match="not an image"):
        finder.where("a dog", b"text")


def test_a_model_that_does_not_tell_parts_apart_is_named(tmp_path: Path, embedder: Embedder) -> None:
    config = embedder.model.config
    other = replace(embedder.model, config=config | {"vision_cfg": config["vision_cfg"] | {"timm_pool": "max"}})
    with Store.create(tmp_path / "index", other.to_json(), other.dim) as store:
        lost = Embedder(store)
        assert isinstance(lost.model, Model)
        with pytest.raises(BadRequest, match="mini cannot locate things"):
            _ = lost.for_parts
