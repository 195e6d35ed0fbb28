"""Faces are found where they are, and embedded as dlib embeds them."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES
from PIL import Image

from clipsearch.errors import WeightsUnusable
from clipsearch.models import faces
from clipsearch.models.faces import FaceFinder, FoundFace

PORTRAIT = Image.open(Path(__file__).parent.parent / "portraits/astronaut.jpg")  # a face in 320 x 320 pixels

# What dlib 20.0's face_recognition_model_v1 returns, in 16 bits: for the two pictures of `inputs`, and for the portrait
# with dlib's own detector and alignment.
DLIB = [
    "hqq+L7IrSiMhq+ap/axIn84uuRgmMxWc27Nzp5CniS2usMqnMLBxr4csFCWkJQWmNLButOOtJLAdLb6x1yXBKJquraiKFwYlPCRwq+IxbJ/SsM2oqCHP"
    "M+0ytCqnJAGsjipPtFwlRDGqKZAvJCy2sDglcC6psIYmAynEsMSokqyAMcMsyqx9r7UwJLF9qHIuCq45sQC0gS0hNowxQLCKJ2CukavIJbwiPa4rqJWs"
    "2CxvMsStnilFMQupDCrXGgUkaq3LJo6qHSVFL+CwVik4LUaxUS1toOCs+iUCogmsb6YdNP6y2zPNM5kooi9qK2MwsKhjqmuwkKgYJRWkvqlepA==",
    "K6wMLHYpap60r7ut8qjKrrAtc6h2MbervrKdq8SoWS4brjSp1aryryApmClApEwaK6xos/Ksz60pLQOs9iTKLOCy+KWApj4r96RZrCUxWJyDrgwogCj0"
    "MYsytRIRJ92tIS8+s/Qi+jC+LWssjimFr9kntS21scws8CydrJ2rvq1CMnQtGqqTrZMyWLKerMss/q3Fr5m0/SxyNowy/K+vKpau46H7KfQi+qvDrJqs"
    "+iu9Mk+p7iTQMismUyruqbGm7akOqg6m1aUCLOGwXCy8MGiyODAep2WkNyceKHqXJyfsMHuy/TMKMD8IxC55n/kwK6zgrPevMK5hpN+d4SJOLQ==",
    "ZKutJCwn7qv9sPqm46K4sAUwhLAyMhOn1bNhqHydjTCksLWxxbB+rCsmwSrAIzgkDbSvtGasE60+JfiowqPJLk6vnSdHL58uH6Qbri8xD63ns+igHyyw"
    "Mbs0UK1Yo3CuRzB7tAslBi0VLWgu4id1sJgYRDNrtLCqPx6EsVilGahFL8AuMbEDsbQxArT+IqcsLa/Lsdu0s6hENpwxurEQqtyqLSKnI8afi6qqrzWw"
    "hCmLMyOsxh46NGgosqSOKY0vlLBEqu+u1xE7rO2rJCqIMf6vfjKUqaql+KQurP6kGa5xMBuz9yyMMdYs4DEJobMgJ6qBqpix4qcGJ3GqSiakJg==",
]


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def inputs() -> np.ndarray:
    y, x = np.mgrid[:150, :150]
    colours = np.stack([x * 255 // 149, y * 255 // 149, (x + y) * 255 // 298], 2)
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3))
    return np.stack([colours, noise]).astype(np.uint8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def find(finder: FaceFinder, picture: Image.Image) -> list[FoundFace]:
    return finder(np.asarray(picture))


def test_embeddings_are_those_of_dlib(finder: FaceFinder) -> None:
    expected = [np.frombuffer(base64.b64decode(row), "<f2").astype(np.float32) for row in DLIB]
    for found, row in zip(finder.embed(inputs()), expected, strict=False):
        assert cosine(found, row) > 0.999
        assert np.linalg.norm(found - row) < 0.05  # two faces of one person are up to 0.6 apart
    (face,) = find(finder, PORTRAIT)
    assert cosine(face.row, expected[-1]) > 0.99


def test_a_face_is_found_where_it_is(finder: FaceFinder) -> None:
    (face,) = find(finder, PORTRAIT)
    assert np.allclose(face.box, (0.41, 0.15, 0.61, 0.40), atol=0.02)
    eyes_nose_mouth = [(0.46, 0.23), (0.556, 0.233), (0.505, 0.29), (0.456, 0.316), (0.555, 0.321)]
    assert np.allclose(face.landmarks, eyes_nose_mouth, atol=0.01)
    assert np.linalg.norm(face.row) == pytest.approx(1, abs=1e-5)


def test_small_faces_are_found_in_a_group(finder: FaceFinder) -> None:
    face = PORTRAIT.crop((100, 20, 230, 160)).resize((52, 56), Image.Resampling.LANCZOS)  # 26 pixels wide
    group = Image.new("RGB", (1200, 800), "grey")
    places = [(90 + 200 * column, 70 + 180 * row) for row in range(4) for column in range(6)]
    for place in places:
        group.paste(face, place)
    found = find(finder, group)
    assert len(found) >= 20  # of 24
    whole = find(finder, PORTRAIT)[0].row
    assert np.median([cosine(one.row, whole) for one in found]) > faces.SAME_PERSON


def test_things_are_not_faces(finder: FaceFinder) -> None:
    assert [find(finder, scene.image) for scene in SCENES[:4]] == [[]] * 4
    upside_down = PORTRAIT.transpose(Image.Transpose.ROTATE_180)
    for picture in (Image.new("RGB", (1, 1)), Image.new("RGB", (3000, 2), "white"), upside_down):
        assert find(finder, picture) == []


def test_quality_falls_with_size_and_sharpness(finder: FaceFinder) -> None:
    small = PORTRAIT.resize((160, 160), Image.Resampling.LANCZOS)
    blurred = small.resize(PORTRAIT.size, Image.Resampling.BICUBIC)
    best, smaller, softer = (find(finder, picture)[0].quality for picture in (PORTRAIT, small, blurred))
    assert 0.3 < best <= 1
    assert 0 < smaller < best
    assert 0 < softer < best


def test_weights_that_cannot_be_used_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsUnusable):
        FaceFinder(tmp_path / "missing.safetensors")
    monkeypatch.setattr(faces, "WEIGHTS", tmp_path / "missing.safetensors")
    with pytest.raises(WeightsUnusable, match="cannot be read"):
        faces.record()
