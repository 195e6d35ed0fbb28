"""Chooses the fastest precision on this CPU that agrees with fp32.

CPU feature flags do not predict speed: bf16 is twice as fast as fp32 on some CPUs and half as fast on others. So each
precision is benchmarked briefly, with as many threads as indexing uses, and the rates are cached. The loss of accuracy
depends on the model and the photos, so the first photos of each run are also embedded in fp32 and compared.
"""

from __future__ import annotations

import json
import platform
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.errors import ClipsearchError
from clipsearch.models import cache
from clipsearch.models.encoders import Encoder, TorchEncoder, usable_device
from clipsearch.models.model import Model

MIN_COSINE = 0.999  # minimum cosine to fp32; below it the ranking of results starts to change
_COMPARED = 4  # photos compared with fp32
_CANDIDATES = ("fp32", "bf16", "int8")  # CPUs have no fast fp16 products
_BATCH, _ROUNDS = 4, 3  # images per call, rounds; the first round is a warm-up

OnDisagreement = Callable[[str, float], None]  # a rejected precision and its cosine to fp32


class AgreeingEncoder:
    """An encoder for the CPU in the fastest precision that agrees with fp32 on the first images it gets.

    `threads` is the number of threads that will call it, each using one torch thread. `on_disagreement` is called for
    each faster precision that was rejected.
    """

    device = "cpu"
    does_both = True

    def __init__(self, model: Model, threads: int, on_disagreement: OnDisagreement) -> None:
        self._model, self._on_disagreement = model, on_disagreement
        rates = measured(model, threads) or _measure(model, threads)
        self._untried = sorted(rates, key=lambda name: rates[name])  # fastest last
        self._encoder = self._next()
        self._lock, self._is_compared = threading.Lock(), False

    @property
    def precision(self) -> str:
        """The precision in use. It can still change until the first images have been compared."""
        return self._encoder.precision

    @property
    def logit_scale(self) -> float:
        return self._encoder.logit_scale

    def encode_images(self, pixels: Pixels) -> Array:
        with self._lock:
            if not self._is_compared:
                self._compare(pixels[:_COMPARED])
                self._is_compared = True
        return self._encoder.encode_images(pixels)

    def encode_texts(self, texts: list[str]) -> Array:
        return self._encoder.encode_texts(texts)

    def _next(self) -> TorchEncoder:
        return TorchEncoder(self._model, "cpu", self._untried.pop(), threads=1)

    def _compare(self, pixels: Pixels) -> None:
        if self.precision == "fp32":
            return
        expected = TorchEncoder(self._model, "cpu", "fp32").encode_images(pixels)
        while self.precision != "fp32":
            rows = self._encoder.encode_images(pixels)
            cosine = float(np.einsum("nd,nd->n", rows, expected).min())
            if cosine >= MIN_COSINE:  # false for NaN, which rejects the precision
                return
            self._on_disagreement(self.precision, cosine)
            self._encoder = self._next()


def encoder_for(
    model: Model, device: str, precision: str, threads: int, on_disagreement: OnDisagreement
) -> AgreeingEncoder | TorchEncoder:
    """The encoder for bulk indexing with `threads` threads. "auto" on a CPU picks the fastest accurate precision."""
    if precision == "auto" and usable_device(device) == "cpu":
        return AgreeingEncoder(model, threads, on_disagreement)
    return TorchEncoder(model, device, precision, threads=1)


def measured(model: Model, threads: int) -> dict[str, float] | None:
    """Cached rates on this machine in images/s, by precision; None if nothing has been measured yet."""
    return cache.rates(_key(model, threads))


def _measure(model: Model, threads: int) -> dict[str, float]:
    rates = {}
    for precision in _worth_trying():
        try:
            rates[precision] = _rate(TorchEncoder(model, "cpu", precision, threads=1), model, threads)
        except (ClipsearchError, NotImplementedError):  # torch lacks the kernels for it on this CPU
            if precision == "fp32":
                raise
    cache.keep_rates(_key(model, threads), rates)
    return rates


def _worth_trying() -> list[str]:
    """fp32 and every candidate with faster matrix products. int8 takes 25 times as long on a CPU without support."""
    from clipsearch.models.torch_towers import seconds_of_a_product

    seconds = {precision: seconds_of_a_product(precision) for precision in _CANDIDATES}
    return [precision for precision in _CANDIDATES if seconds[precision] <= seconds["fp32"]]


def _rate(encoder: Encoder, model: Model, threads: int) -> float:
    """Images/s in the best round: other load on the machine can only make a round slower."""
    pixels = np.random.default_rng(0).integers(0, 256, (_BATCH, *model.preprocess.size, 3), np.uint8)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            list(pool.map(encoder.encode_images, [pixels] * threads))
            seconds.append(time.perf_counter() - began)
    return round(threads * _BATCH / min(seconds), 1)


def _key(model: Model, threads: int) -> str:
    """The cache key: everything that the rates depend on."""
    return json.dumps([_processor(), threads, model.fingerprint, version("torch")])


def _processor() -> str:
    try:  # on Linux, `platform` knows only the architecture
        lines = Path("/proc/cpuinfo").read_text()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(dict.fromkeys(re.findall(r"^(?:model name|flags|Features)\s*:\s*(.*)$", lines, re.MULTILINE)))
