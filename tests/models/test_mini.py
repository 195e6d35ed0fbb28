"""The bundled model, and the generated scenes that it is measured and tested with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scenes

from clipsearch.images.preprocess import preprocess
from clipsearch.models.model import about_mini, mini
from clipsearch.search.embed import cold_encoder

UNSEEN = scenes.draw_distinct(100, seed=30_000_000, size=128)  # training draws seeds below ten million


def test_the_bundle_is_small_and_described() -> None:
    files = {path.name: path.stat().st_size for path in mini().weights.parent.iterdir()}
    weights = {"open_clip_config.json", "open_clip_model.safetensors"}
    text = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert files.keys() == {"README.md", "LICENSE", "NOTICE"} | weights | text
    assert sum(files.values()) <= 64_000_000
    assert about_mini().startswith("it finds ")


def test_it_finds_drawn_scenes_that_it_has_not_seen() -> None:
    model = mini()
    encoder = cold_encoder(model, texts=True, images=True)
    images = encoder.encode_images(np.stack([preprocess(scene.image, model.preprocess) for scene in UNSEEN]))
    texts = encoder.encode_texts([scene.captions[0] for scene in UNSEEN])
    ranks = (-(texts @ images.T)).argsort(1).argsort(1).diagonal()
    assert (ranks == 0).mean() >= 0.6
    assert (ranks < 5).mean() >= 0.9


def test_a_scene_is_always_the_same_and_described_in_words() -> None:
    again = scenes.draw_distinct(100, seed=30_000_000, size=128)
    for one, other in zip(UNSEEN, again, strict=True):
        assert one.captions == other.captions
        assert one.image.tobytes() == other.image.tobytes()
        assert one.image.size == (128, 128)
    assert len({scene.captions[0] for scene in UNSEEN}) == 100
    assert len({scene.image.tobytes() for scene in UNSEEN}) == 100


def test_scenes_can_be_written_to_a_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["scenes.py", str(tmp_path), "5", "3"])
    scenes.main()
    assert len(list(tmp_path.glob("*.jpg"))) == 5
