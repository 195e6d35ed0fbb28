"""Choosing an engine by measured speed and agreement with fp32."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_models import cosines, save_tiny

from clipsearch.errors import BadArgument, EncodingFailed
from clipsearch.models import cache, engines
from clipsearch.models.encoders import Engine, NumpyEncoder
from clipsearch.models.engines import ChoosingEncoder, Comparison, encoder_for, kept
from clipsearch.models.graph_encoders import FP32, INT7, INT8, GraphEncoder, engines_for
from clipsearch.models.model import Model, mini

PIXELS = np.random.default_rng(5).integers(0, 256, (6, 36, 36, 3), np.uint8)


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return save_tiny(tmp_path / "tiny")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture(autouse=True)
def only_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engines, "engines_for", lambda encoder: [FP32, INT8] if len(engines_for(encoder)) > 1 else [FP32]
    )


class Clock:
    """A clock that every call of an engine advances by `seconds`, of which `cpu` on the processor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[Engine, float], share: float = 1.0) -> None:
        self.wall = self.cpu = 0.0
        self.calls: list[Engine] = []
        self.loaded: list[Engine] = []
        load, encode = GraphEncoder.__init__, GraphEncoder.encode_images

        def loading(encoder: GraphEncoder, numpy: NumpyEncoder, engine: Engine = FP32, threads: int = 1) -> None:
            self.loaded.append(engine)
            load(encoder, numpy, engine, threads)

        def encoding(encoder: GraphEncoder, pixels: np.ndarray) -> np.ndarray:
            self.calls.append(encoder.engine)
            self.wall += seconds[encoder.engine] * len(pixels)
            self.cpu += seconds[encoder.engine] * len(pixels) * share
            return encode(encoder, pixels)

        monkeypatch.setattr(GraphEncoder, "__init__", loading)
        monkeypatch.setattr(GraphEncoder, "encode_images", encoding)
        monkeypatch.setattr(engines.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(engines.time, "thread_time", lambda: self.cpu)


def choosing(model: Model) -> tuple[ChoosingEncoder, list[tuple[Engine, float]]]:
    told: list[tuple[Engine, float]] = []
    return ChoosingEncoder(NumpyEncoder(model), 2, lambda engine, cosine: told.append((engine, cosine))), told


def settled(model: Model, calls: int = 12) -> tuple[ChoosingEncoder, list[tuple[Engine, float]]]:
    encoder, told = choosing(model)
    for _ in range(calls):
        encoder.encode_images(PIXELS)
    return encoder, told


def test_engines_take_turns_and_the_fastest_is_kept(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, {FP32: 0.2, INT8: 0.1})
    encoder, told = settled(tiny)
    assert (encoder.engine, told) == (INT8, [])
    assert clock.calls[:3] == [FP32] * 3  # a short run does not load another
    assert clock.calls[3:5] == [FP32, INT8]  # compared on the same images
    assert clock.calls[-3:] == [INT8] * 3
    found = kept(tiny, 2)
    assert found is not None
    assert found.chosen == INT8
    assert found.rates == pytest.approx({FP32: 5.0, INT8: 10.0})
    assert 0.99 < found.cosines[INT8] < 1
    assert kept(tiny, 3) is None  # with more threads the rates are different
    clock.calls.clear()
    clock.loaded.clear()
    again, _ = settled(tiny, 2)
    assert (again.engine, again.comparison, set(clock.calls), clock.loaded) == (INT8, found, {INT8}, [INT8])


def test_fp32_stays_unless_another_is_clearly_faster(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, {FP32: 0.102, INT8: 0.1})
    assert settled(tiny)[0].engine == FP32


def test_a_choice_made_on_a_busy_machine_is_not_kept(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, {FP32: 0.2, INT8: 0.1}, share=0.7)
    encoder, _ = settled(tiny)
    assert encoder.engine == INT8
    assert encoder.comparison is not None
    assert kept(tiny, 2) is None


def test_an_engine_that_differs_is_rejected(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, {FP32: 0.2, INT8: 0.1})
    monkeypatch.setattr(engines, "MIN_COSINE", 1.5)
    encoder, told = settled(tiny)
    assert encoder.engine == FP32
    assert [engine for engine, _ in told] == [INT8]
    assert 0.99 < told[0][1] < 1
    found = kept(tiny, 2)
    assert found is not None
    assert (found.chosen, set(found.rates), set(found.cosines)) == (FP32, {FP32}, {INT8})


def test_the_more_accurate_form_is_tried_after_the_fast_one(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, {FP32: 0.2, INT7: 0.05, INT8: 0.1})
    monkeypatch.setattr(engines, "engines_for", lambda _: [FP32, INT7])
    exact = GraphEncoder(NumpyEncoder(tiny)).encode_images(PIXELS)
    seven, eight = (GraphEncoder(NumpyEncoder(tiny), one).encode_images(PIXELS) for one in (INT7, INT8))
    monkeypatch.setattr(engines, "MIN_COSINE", (cosines(seven, exact).min() + cosines(eight, exact).min()) / 2)
    encoder, told = settled(tiny)
    assert (encoder.engine, [engine for engine, _ in told]) == (INT8, [INT7])


def test_an_engine_that_fails_is_left_out(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, {FP32: 0.2, INT8: 0.1})
    load = GraphEncoder.__init__

    def failing(encoder: GraphEncoder, numpy: NumpyEncoder, engine: Engine = FP32, threads: int = 1) -> None:
        if engine == INT8:
            raise EncodingFailed("out of memory")
        load(encoder, numpy, engine, threads)

    monkeypatch.setattr(GraphEncoder, "__init__", failing)
    encoder, told = settled(tiny)
    assert (encoder.engine, told) == (FP32, [])


@pytest.mark.parametrize("seconds", [0.2, 0.04])
def test_a_rate_that_has_changed_is_measured_again(
    tiny: Model, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Clock(patch, {FP32: 0.2, INT8: 0.1})
        settled(tiny)
    with monkeypatch.context() as patch:
        Clock(patch, {INT8: seconds}, share=0.5)  # nothing is learnt from a busy machine
        settled(tiny)
        assert kept(tiny, 2) is not None
    Clock(monkeypatch, {INT8: seconds})
    assert settled(tiny)[0].engine == INT8
    assert kept(tiny, 2) is None


def test_a_choice_is_renewed_after_a_week(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, {FP32: 0.2, INT8: 0.1})
    settled(tiny)
    now = time.time()
    monkeypatch.setattr(engines.time, "time", lambda: now + 6 * 24 * 3600)
    assert kept(tiny, 2) is not None
    monkeypatch.setattr(engines.time, "time", lambda: now + 8 * 24 * 3600)
    assert kept(tiny, 2) is None


def test_a_choice_is_renewed_when_an_engine_is_installed(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, {FP32: 0.2, INT8: 0.1})
    settled(tiny)
    monkeypatch.setattr(engines, "_version", {"onnxruntime": "1.99", "openvino": ""}.get)
    assert kept(tiny, 2) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"chosen": "onnxruntime"}', '{"chosen": "a b", "when": 1, "rates": {}, "cosines": {}}']
)
def test_a_damaged_choice_is_made_again(tiny: Model, text: str) -> None:
    cache.keep_measurement(engines._subject(tiny, 2), text)
    assert kept(tiny, 2) is None


def test_many_threads_get_the_rows_of_fp32(tiny: Model) -> None:
    """Whatever engine a call happens to use, and however the calls interleave."""
    exact = GraphEncoder(NumpyEncoder(tiny)).encode_images(PIXELS)
    encoder, _ = choosing(tiny)
    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(encoder.encode_images, [PIXELS] * 200):
            assert cosines(rows, exact).min() > 0.999
    for _ in range(12):  # the tiny network may have embedded all of them before another engine was loaded
        encoder.encode_images(PIXELS)
    assert encoder.comparison is not None
    assert encoder.encode_texts(["a dog"]).shape == (1, tiny.dim)
    assert encoder.logit_scale == NumpyEncoder(tiny).logit_scale


# ------------------------------------------------------------------------------------------ what may be asked for


def only(encoder: object) -> Engine:
    return encoder.engine


def test_a_precision_can_be_asked_for(tiny: Model) -> None:
    for name in ("fp32", "int8"):
        encoder = encoder_for(tiny, "cpu", name, 2, pytest.fail)
        assert only(encoder) == Engine("onnxruntime", name)
        assert cosines(encoder.encode_images(PIXELS), NumpyEncoder(tiny).encode_images(PIXELS)).min() > 0.999


def test_a_precision_that_no_engine_has_is_refused(tiny: Model) -> None:
    with pytest.raises(BadArgument, match=r"precision bf16 is not available for .* on this CPU; choose from fp32"):
        encoder_for(tiny, "cpu", "bf16", 2, pytest.fail)
    with pytest.raises(BadArgument, match="precision int8 is not available for mini on this CPU; choose from fp32"):
        encoder_for(mini(), "cpu", "int8", 2, pytest.fail)


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("gpu", "auto", "device must be one of auto, cpu, cuda, mps, not 'gpu'"),
        ("cpu", "fp8", "precision must be one of auto, fp32, bf16, fp16, int8, not 'fp8'"),
    ],
)
def test_an_unknown_device_or_precision_is_refused(device: str, precision: str, message: str, tiny: Model) -> None:
    with pytest.raises(BadArgument, match=message):
        encoder_for(tiny, device, precision, 2, pytest.fail)


def test_a_comparison_survives_the_cache(tiny: Model) -> None:
    found = Comparison(INT8, {FP32: 1.5, INT8: 2.5}, {INT8: 0.9995}, time.time())
    cache.keep_measurement(engines._subject(tiny, 2), engines._record(found))
    assert kept(tiny, 2) == found


def test_a_choice_waits_for_an_engine_that_is_being_tried(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread loads an engine, the others go on in fp32, but do not settle for it."""
    encoder, _ = choosing(tiny)
    load, during = GraphEncoder.__init__, []

    def slowly(new: GraphEncoder, numpy: NumpyEncoder, engine: Engine = FP32, threads: int = 1) -> None:
        with ThreadPoolExecutor(1) as pool:
            during.extend(pool.map(encoder.encode_images, [PIXELS] * 8))
        load(new, numpy, engine, threads)

    monkeypatch.setattr(GraphEncoder, "__init__", slowly)
    for _ in range(engines._FP32_CALLS + 2):
        encoder.encode_images(PIXELS)
    assert len(during) == 8
    assert encoder.comparison is None
    assert INT8 in encoder._engines
