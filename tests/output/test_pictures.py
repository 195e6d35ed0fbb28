"""Thumbnails and originals of photos whose files may have changed."""

from __future__ import annotations

import os
from pathlib import Path

import videos
from conftest import SCENES

from clipsearch.images.metadata import Metadata
from clipsearch.images.read import frame_hash, video_hash
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.store.photo import Photo


def test_of_several_videos_an_unchanged_one_is_shown(tmp_path: Path) -> None:
    paths = [videos.clip(tmp_path / name, [(SCENES[1].image, 2)]) for name in ("a.mp4", "b.mp4")]
    content = frame_hash(video_hash(os.fsencode(paths[0])), 1.0)
    status = [path.stat() for path in paths]
    photos = [
        Photo(1, os.fsencode(path), of.st_size, of.st_mtime_ns, content, Metadata(320, 240), of.st_ctime_ns, time=1.0)
        for path, of in zip(paths, status, strict=True)
    ]
    pictures = Pictures(ThumbnailCache(tmp_path / "cache"))
    expected = pictures.thumbnail(photos[1:], "small")
    assert expected.immutable
    videos.clip(paths[0], [(SCENES[7].image, 3)])
    os.utime(paths[1])  # so that nothing comes from the cache
    assert pictures.thumbnail(photos, "small") == expected
    assert not pictures.thumbnail(photos[:1], "small").immutable
    pictures.close()


def test_a_damaged_thumbnail_is_made_again(tmp_path: Path) -> None:
    cache = ThumbnailCache(tmp_path)
    for damaged in (b"", b"a", b"a picturf" + b"1234", b"a picture"):
        cache.put("ab", b"a picture")
        assert cache.get("ab") == b"a picture"
        (tmp_path / "ab/ab.jpg").write_bytes(damaged)
        assert cache.get("ab") is None
