"""Choosing a precision by measured speed and agreement with fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import cosines, save_tiny

from clipsearch.errors import BadArgument
from clipsearch.models import cache, precision, torch_towers
from clipsearch.models.encoders import TorchEncoder
from clipsearch.models.model import Model, mini
from clipsearch.models.precision import AgreeingEncoder, measured

PIXELS = np.random.default_rng(5).integers(0, 256, (6, 36, 36, 3), np.uint8)


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return save_tiny(tmp_path / "tiny")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")


def chosen(model: Model) -> tuple[AgreeingEncoder, list[tuple[str, float]]]:
    told: list[tuple[str, float]] = []
    return AgreeingEncoder(model, 2, lambda name, cosine: told.append((name, cosine))), told


@pytest.mark.parametrize(("name", "least"), [("fp32", 0.999999), ("bf16", 0.9995), ("int8", 0.999)])
def test_each_precision_gives_the_rows_of_fp32(tiny: Model, name: str, least: float) -> None:
    exact = TorchEncoder(tiny, "cpu", "fp32").encode_images(PIXELS)
    rows = TorchEncoder(tiny, "cpu", name).encode_images(PIXELS)
    assert cosines(rows, exact).min() > least
    assert (name == "fp32") == np.array_equal(rows, exact)


def test_int8_is_refused_where_there_are_no_linear_layers() -> None:
    with pytest.raises(BadArgument, match="precision int8 requires a CLIP or SigLIP vision transformer on a CPU"):
        TorchEncoder(mini(), "cpu", "int8")


@pytest.fixture
def any_may_be_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_worth_trying", lambda: ["fp32", "bf16", "int8"])


@pytest.mark.usefixtures("own_cache", "any_may_be_fastest")
def test_the_rates_of_this_machine_are_measured_once(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(tiny, 2) is None
    encoder, _ = chosen(tiny)
    rates = measured(tiny, 2)
    assert rates is not None
    assert set(rates) == {"fp32", "bf16", "int8"}
    assert min(rates.values()) > 0
    assert encoder.precision == max(rates, key=lambda name: rates[name])
    assert measured(tiny, 3) is None  # with more at once they are others
    monkeypatch.setattr(precision, "_measure", lambda *_: pytest.fail("again"))
    assert chosen(tiny)[0].precision == encoder.precision


@pytest.mark.usefixtures("own_cache")
def test_a_precision_whose_products_are_slow_is_not_tried(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a processor that has instructions for bf16 and none for int8.
    monkeypatch.setattr(torch_towers, "seconds_of_a_product", {"fp32": 1.0, "bf16": 0.5, "int8": 25.0}.get)
    chosen(tiny)
    assert set(measured(tiny, 2) or {}) == {"fp32", "bf16"}


@pytest.mark.parametrize("name", ["fp32", "bf16", "int8"])
def test_a_product_takes_some_time(name: str) -> None:
    assert 0 < torch_towers.seconds_of_a_product(name) < 10


@pytest.mark.usefixtures("own_cache", "any_may_be_fastest")
def test_a_precision_that_a_model_has_not_is_not_measured() -> None:
    chosen(mini())
    assert set(measured(mini(), 2) or {}) == {"fp32", "bf16"}


def test_the_fastest_that_agrees_is_used(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "measured", lambda *_: {"fp32": 1.0, "bf16": 2.0, "int8": 3.0})
    encoder, told = chosen(tiny)
    rows = encoder.encode_images(PIXELS)
    assert (encoder.precision, told) == ("int8", [])
    assert np.array_equal(rows, TorchEncoder(tiny, "cpu", "int8", threads=1).encode_images(PIXELS))
    assert encoder.encode_texts(["a dog"]).shape == (1, tiny.dim)
    assert encoder.logit_scale == TorchEncoder(tiny, "cpu").logit_scale


def test_one_that_differs_is_left_for_the_next(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "measured", lambda *_: {"fp32": 1.0, "bf16": 2.0, "int8": 3.0})
    monkeypatch.setattr(precision, "MIN_COSINE", 1.5)
    encoder, told = chosen(tiny)
    rows = encoder.encode_images(PIXELS)
    assert encoder.precision == "fp32"
    assert [name for name, _ in told] == ["int8", "bf16"]
    assert all(0.99 < cosine < 1.01 for _, cosine in told)
    assert np.array_equal(rows, TorchEncoder(tiny, "cpu", "fp32", threads=1).encode_images(PIXELS))
    encoder.encode_images(PIXELS)
    assert len(told) == 2  # looked at once a run


@pytest.mark.usefixtures("own_cache")
def test_damaged_rates_are_measured_anew(tiny: Model) -> None:
    for text in ("{", "[1]", '{"fp32": "fast"}'):
        cache._run("INSERT OR REPLACE INTO rates VALUES (?, ?)", [(precision._key(tiny, 2), text)])
        assert measured(tiny, 2) is None
