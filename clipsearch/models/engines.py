"""Chooses the fastest engine for a model's images on this CPU that agrees with fp32.

CPU feature flags do not predict which engine is fastest, so the engines take turns on the first batches of a run while
photos are decoded as usual. This costs almost nothing, and other load on the machine slows all of them down alike.
Whether a low precision is accurate enough depends on the model and the photos, so each engine's first batch is also
embedded in fp32. The choice is kept for a week.
"""

from __future__ import annotations

import json
import platform
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.errors import BadArgument, ClipsearchError
from clipsearch.models import cache
from clipsearch.models.encoders import Encoder, Engine, NumpyEncoder, check_names, numpy_encoder
from clipsearch.models.graph_encoders import FALLBACKS, FP32, GraphEncoder, engines_for
from clipsearch.models.model import Model
from clipsearch.models.open_clip_encoder import OpenClipEncoder, usable_device

MIN_COSINE = 0.999  # minimum cosine to fp32; below it the ranking of results starts to change
_FP32_CALLS = 2  # before other engines are loaded, which does not pay in a short run
_CALLS = 3  # timed per engine
_LEAST_GAIN = 1.05  # minimum speedup over fp32
_LEAST_SHARE = 0.85  # CPU time / wall time; below it the machine is busy, and the choice is not kept
_SURPRISE = 1.6  # if a run's rate differs from the kept one by this factor, the next run compares again
_WEEK = 7 * 24 * 3600.0

OnDisagreement = Callable[[Engine, float], None]  # a rejected engine and its cosine to fp32


@dataclass(frozen=True, slots=True)
class Comparison:
    """The engines that were compared: `rates` in images/s of one thread, and their lowest `cosines` to fp32."""

    chosen: Engine
    rates: dict[Engine, float]
    cosines: dict[Engine, float]
    when: float  # seconds since 1970


class ChoosingEncoder:
    """An encoder for the CPU that settles on an engine during its first calls. Up to `threads` threads may call it.

    `on_disagreement` is called for each engine that is rejected as too inaccurate.
    """

    device = "cpu"
    does_both = True

    def __init__(self, encoder: NumpyEncoder, threads: int, on_disagreement: OnDisagreement) -> None:
        self._numpy, self._threads, self._on_disagreement = encoder, threads, on_disagreement
        self.comparison = kept(encoder.model, threads)
        self._engines = [self.comparison.chosen] if self.comparison else engines_for(encoder)  # still to choose from
        self._loaded = {self._engines[0]: GraphEncoder(encoder, self._engines[0], threads)}
        self._calls = Counter({FP32: -_FP32_CALLS})
        self._seconds: dict[Engine, list[float]] = {engine: [] for engine in self._engines}  # per image
        self._cosines: dict[Engine, float] = {}
        self._wall = self._cpu = 0.0  # of timed calls
        self._trying = 0  # threads
        self._is_settled = False
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine in use. It can still change during the first calls."""
        return self._engines[0]

    @property
    def logit_scale(self) -> float:
        return self._numpy.logit_scale

    def encode_texts(self, texts: list[str]) -> Array:
        return self._numpy.encode_texts(texts)

    def encode_images(self, pixels: Pixels) -> Array:
        with self._lock:
            engine = min(self._engines, key=lambda engine: self._calls[engine])
            self._calls[engine] += 1
            encoder = self._loaded.get(engine)
            if encoder is None:  # this thread tries it; the others continue with the rest
                self._engines.remove(engine)
                self._trying += 1
        if encoder is None:
            return self._try(engine, pixels)
        if self._is_settled:
            return encoder.encode_images(pixels)
        wall, cpu = time.perf_counter(), time.thread_time()
        rows = encoder.encode_images(pixels)
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        with self._lock:
            self._note(engine, len(pixels), wall, cpu)
        return rows

    def _try(self, engine: Engine, pixels: Pixels) -> Array:
        """Load an engine and compare its embeddings with fp32's, which are returned."""
        expected = self._loaded[FP32].encode_images(pixels)
        try:
            encoder = GraphEncoder(self._numpy, engine, self._threads)
            rows = encoder.encode_images(pixels)
        except ClipsearchError:  # a missing operator, or not enough memory
            with self._lock:
                self._trying -= 1
            return expected
        cosine = float(np.einsum("nd,nd->n", rows, expected).min())
        with self._lock:
            self._trying -= 1
            self._cosines[engine] = cosine
            if cosine >= MIN_COSINE:  # false for NaN
                self._loaded[engine] = encoder
                self._engines.append(engine)
                return expected
            if engine in FALLBACKS:
                self._engines.append(FALLBACKS[engine])
                self._seconds[FALLBACKS[engine]] = []
        self._on_disagreement(engine, cosine)
        return expected

    def _note(self, engine: Engine, images: int, wall: float, cpu: float) -> None:
        if self._is_settled:
            return
        self._seconds[engine].append(wall / images)
        if engine.library == FP32.library:  # others have their own threads
            self._wall += wall
            self._cpu += cpu
        if not self._trying and all(len(self._seconds[engine]) >= _CALLS for engine in self._engines):
            self._settle()

    def _settle(self) -> None:
        self._is_settled = True
        rates = {engine: 1 / float(np.median(self._seconds[engine])) for engine in self._engines}
        was_busy = self._cpu < _LEAST_SHARE * self._wall
        subject = _subject(self._numpy.model, self._threads)
        if self.comparison is not None:
            change = rates[self.engine] / self.comparison.rates[self.engine]
            if not was_busy and not 1 / _SURPRISE < change < _SURPRISE:
                cache.forget_measurement(subject)
            return
        best = max(rates, key=lambda engine: rates[engine])
        if rates[best] < _LEAST_GAIN * rates[FP32]:
            best = FP32
        self.comparison = Comparison(best, rates, self._cosines, time.time())
        if not was_busy:
            cache.keep_measurement(subject, _record(self.comparison))
        self._engines = [best]
        self._loaded = {best: self._loaded[best]}


def encoder_for(model: Model, device: str, precision: str, threads: int, on_disagreement: OnDisagreement) -> Encoder:
    """The encoder for bulk indexing with `threads` threads. "auto" on a CPU chooses the fastest accurate engine.

    Raises `BadArgument` for a device or precision that this machine or model does not support, and `BadRequest` if
    that needs torch.
    """
    check_names(device, precision)
    device = usable_device(device)
    encoder = numpy_encoder(model, texts=True, images=True) if device == "cpu" else None
    if encoder is None:
        return OpenClipEncoder(model, device, precision, threads=1)
    if precision == "auto":
        return ChoosingEncoder(encoder, threads, on_disagreement)
    engines = [other for one in engines_for(encoder) for other in (one, FALLBACKS.get(one, one))]
    for engine in engines:
        if engine.precision == precision:
            return GraphEncoder(encoder, engine, threads)
    known = ", ".join(dict.fromkeys(engine.precision for engine in engines))
    raise BadArgument("precision", f"{precision} is not available for {model.name} on this CPU; choose from {known}")


def kept(model: Model, threads: int) -> Comparison | None:
    """The comparison on this machine that is still valid, if any."""
    try:
        record = json.loads(cache.measurement(_subject(model, threads)) or "")
        rates, cosines = ({Engine(*name.split()): float(x) for name, x in record[key].items()} for key in _MAPS)
        found = Comparison(Engine(*record["chosen"].split()), rates, cosines, float(record["when"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    is_valid = found.rates.get(found.chosen, 0.0) > 0 and 0 <= time.time() - found.when < _WEEK
    return found if is_valid else None


_MAPS = ("rates", "cosines")


def _record(found: Comparison) -> str:
    maps = {key: {str(engine): x for engine, x in getattr(found, key).items()} for key in _MAPS}
    return json.dumps({"chosen": str(found.chosen), "when": found.when, **maps})


def _subject(model: Model, threads: int) -> str:
    """The cache key: everything that a comparison depends on."""
    return json.dumps([_processor(), threads, model.fingerprint, _version("onnxruntime"), _version("openvino")])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:  # on Linux, `platform` knows only the architecture
        lines = Path("/proc/cpuinfo").read_text()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(dict.fromkeys(re.findall(r"^(?:model name|flags|Features)\s*:\s*(.*)$", lines, re.MULTILINE)))
