"""Keywords that other programs wrote into photos and XMP sidecars."""

from __future__ import annotations

import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SCENES, Run
from formats import iptc
from PIL import Image

from clipsearch.errors import BadArgument, BadRequest
from clipsearch.images import siblings
from clipsearch.images.decode import decode
from clipsearch.images.sandbox import Decoders
from clipsearch.images.xmp import with_keywords
from clipsearch.indexing.update import Options, update_index
from clipsearch.store.catalogue import Store
from clipsearch.store.filters import Filter


def jpeg(image: Image.Image, xmp: bytes = b"", agency: bytes = b"") -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", **({"xmp": xmp} if xmp else {}))
    return out.getvalue()[:2] + agency + out.getvalue()[2:]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    inside = with_keywords(None, ["Familie|Großmutter", "beach"])
    (folder / "inside.jpg").write_bytes(jpeg(SCENES[0].image, inside))
    (folder / "agency.jpg").write_bytes(jpeg(SCENES[1].image, agency=iptc((25, "Straße".encode()), (25, b"Beach"))))
    SCENES[2].image.save(folder / "beside.png")
    (folder / "beside.png.xmp").write_bytes(with_keywords(None, ["dog"]))
    SCENES[3].image.save(folder / "short.png")
    (folder / "short.XMP").write_bytes(with_keywords(None, ["dog", "beach"]))
    SCENES[4].image.save(folder / "none.png")
    return folder


def tagged(index: Path, *words: str) -> set[str]:
    with Store.open(index) as store:
        chosen = store.select(Filter(keywords=words))
        by_path = {os.path.basename(os.fsdecode(photo.file)) for photo in store.by_path(chosen)}
        assert {photo.file for photo in store.photos_of(store.images_in(chosen), chosen)} == {
            photo.file for photo in store.by_path(chosen)
        }
        return by_path


def test_keywords_in_photos_and_beside_them_are_filters(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert update_index(index, [photos], Options(model="mini")).added == 5
    assert tagged(index, "beach") == {"inside.jpg", "agency.jpg", "short.png"}  # in any case
    assert tagged(index, "DOG") == {"beside.png", "short.png"}
    assert tagged(index, "dog", "beach") == {"short.png"}  # all of them
    assert tagged(index, "GROSSMUTTER") == {"inside.jpg"}
    assert tagged(index, "familie") == {"inside.jpg"}
    assert tagged(index, "strasse") == {"agency.jpg"}
    assert tagged(index, "bea") == set()  # a keyword, not a part of one


def test_what_changes_beside_a_photo_is_seen_without_decoding_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    update_index(index, [photos], Options(model="mini"))
    monkeypatch.setattr(Decoders, "decode", lambda *_: pytest.fail("decoded again"))
    (photos / "none.png.xmp").write_bytes(with_keywords(None, ["new"]))
    (photos / "beside.png.xmp").unlink()
    (photos / "short.XMP").write_bytes(with_keywords(None, ["cat"]))
    report = update_index(index)
    assert (report.unchanged, report.updated, report.embedded) == (5, 0, 0)
    assert tagged(index, "new") == {"none.png"}
    assert tagged(index, "dog") == set()
    assert tagged(index, "cat") == {"short.png"}
    (photos / "moved.jpg").write_bytes((photos / "inside.jpg").read_bytes())  # known contents bring their own
    (photos / "inside.jpg").unlink()
    assert update_index(index).moved == 1
    assert tagged(index, "beach") == {"moved.jpg", "agency.jpg"}


def test_the_command_shows_and_filters_them(clipsearch: Run, photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    update_index(index, [photos], Options(model="mini"))
    done = clipsearch("query", "a picture", "--keyword", "beach", "--keyword", "DOG", "-f", "json", index=index)
    (hit,) = json.loads(done.out)
    assert (hit["path"].rpartition("/")[2], hit["keywords"]) == ("short.png", ["dog", "beach"])
    assert clipsearch("query", "--keyword", "cow", index=index).status == 1
    assert clipsearch("query", "--keyword", " ", index=index).status == 2
    listed = clipsearch("query", "--keyword", "familie", "-f", "jsonl", index=index)
    assert set(json.loads(listed.lines[0])["keywords"]) == {"Familie", "Großmutter", "Familie|Großmutter", "beach"}


def test_all_sidecars_of_a_photo_count(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    words = {"short.xmp": "one", "short.XMP": "two", "short.png.xmp": "three", "short.PNG.Xmp": "four"}
    for name, word in words.items():
        (photos / name).write_bytes(with_keywords(None, [word]))
    update_index(index, [photos], Options(model="mini"))
    assert [tagged(index, word) for word in words.values()] == [{"short.png"}] * 4
    for name, word in words.items():
        (photos / name).write_bytes(with_keywords(None, [f"new {word}"]))
        assert update_index(index).unchanged == 5
        assert [tagged(index, word), tagged(index, f"new {word}")] == [set(), {"short.png"}]
    for name, word in words.items():
        (photos / name).unlink()
        update_index(index)
        assert tagged(index, f"new {word}") == set()


def test_a_sidecar_that_a_raw_file_shares_counts_for_both(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    SCENES[5].image.save(photos / "short.tif")
    update_index(index, [photos], Options(model="mini"))
    assert tagged(index, "dog", "beach") == {"short.png", "short.tif"}


def test_a_folder_that_is_called_like_a_sidecar_is_walked(photos: Path, tmp_path: Path) -> None:
    (photos / "2023.xmp").mkdir()
    SCENES[5].image.save(photos / "2023.xmp/inside.png")
    assert update_index(tmp_path / "index", [photos], Options(model="mini")).added == 6


def test_a_sidecar_that_is_not_used_is_reported_once(clipsearch: Run, photos: Path, tmp_path: Path) -> None:
    hostile = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b"<a>" * 300_000
    (photos / "none.png.xmp").write_bytes(hostile)
    with open(photos / "short.png.xmp", "wb") as file:
        file.truncate(20_000_000)
    index = tmp_path / "index"
    done = clipsearch("index", photos, "--model", "mini", index=index)
    assert done.status == 0
    folder = os.fsdecode(os.path.realpath(photos))
    assert [line for line in done.err.splitlines() if line.startswith("sidecar")] == [
        f"sidecar ignored: {folder}/none.png.xmp: its elements are nested more than 500 deep",
        f"sidecar ignored: {folder}/short.png.xmp: it is larger than 16 MB",
    ]
    assert tagged(index, "dog") == {"beside.png", "short.png"}
    again = json.loads(clipsearch("index", "--json", index=index).out)
    assert (again["unchanged"], again["sidecars_ignored"]) == (5, [])
    (photos / "none.png.xmp").write_bytes(b"<html/>")
    changed = json.loads(clipsearch("index", "--json", index=index).out)
    assert changed["sidecars_ignored"] == [{"path": f"{folder}/none.png.xmp", "reason": "it is not XMP"}]


def test_a_sidecar_that_the_disk_did_not_give_is_looked_at_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: bytes) -> bytes:
        raise OSError(5, "Input/output error")

    index = tmp_path / "index"
    with monkeypatch.context() as patch:
        patch.setattr(siblings, "read_sidecar", fails)
        report = update_index(index, [photos], Options(model="mini"))
        assert [reason for _, reason in report.sidecars_ignored] == ["input/output error"] * 2
    assert tagged(index, "dog") == set()
    assert update_index(index).sidecars_ignored == []
    assert tagged(index, "dog") == {"beside.png", "short.png"}


@pytest.mark.usefixtures("decoding_processes")
def test_hostile_packets_in_photos_cost_only_their_keywords(tmp_path: Path) -> None:
    image, block = SCENES[0].image, b"\x1c\x02\x19\0\x01a"
    image.save(tmp_path / "a.webp", xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b"<a>" * 5_000_000)
    image.save(tmp_path / "b.tif", tiffinfo={33723: block * 200_000})
    image.save(tmp_path / "c.tif", tiffinfo={33723: block})
    with Decoders(1, seconds=20) as decoders:
        found = [decoders.decode((tmp_path / name).read_bytes()) for name in ("a.webp", "b.tif", "c.tif")]
    assert [one.metadata.keywords for one in found] == [None, "a", "a"]  # of IPTC, the first megabyte


def test_hostile_files_beside_photos_have_no_keywords(photos: Path, tmp_path: Path) -> None:
    (photos / "none.png.xmp").write_bytes(b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><a>&b;</a>')
    (photos / "beside.png.xmp").unlink()
    (photos / "beside.png.xmp").mkdir()
    (photos / "short.XMP").write_bytes(os.urandom(1000))
    os.mkfifo(photos / "agency.jpg.xmp")
    (photos / "none.png.json").write_text(
        json.dumps({"photoTakenTime": {}, "description": "\ud800", "geoData": {"latitude": 10**400}})
    )
    index = tmp_path / "index"
    assert update_index(index, [photos], Options(model="mini")).added == 5
    assert tagged(index, "beach") == {"inside.jpg", "agency.jpg"}


def test_damaged_blocks_in_photos_are_none() -> None:
    broken = iptc((25, b"a"))[:-3] + b"\xff\xff\xff"
    for data in (jpeg(SCENES[0].image, b"<x:xmpmeta"), jpeg(SCENES[0].image, agency=broken)):
        assert decode(data).metadata.keywords in (None, "a")


def test_conditions_as_programs_and_people_write_them() -> None:
    assert Filter(keywords=[" a dog "]).keywords == ("a dog",)
    with pytest.raises(BadRequest, match="keyword must not be empty"):
        Filter(keywords=[""])
    assert Filter(keywords="dog").keywords == ("dog",)
    with pytest.raises(BadArgument, match="keyword must not be empty"):
        Filter(keywords=("dog", ""))


def test_accents_may_be_composed_or_not(tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    for number, form in enumerate(("NFC", "NFD")):
        path = tmp_path / f"photos/{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        SCENES[number].image.save(path)
        sidecar = with_keywords(None, [unicodedata.normalize(form, "Müller")])
        path.with_name(f"{number}.jpg.xmp").write_bytes(sidecar)
    with Store.open(mini_index(tmp_path / "photos")) as store:
        for form in ("NFC", "NFD"):
            chosen = store.select(Filter(keywords=unicodedata.normalize(form, "MÜLLER")))
            assert len(list(store.by_path(chosen))) == 2
