"""Which precision embeds images fastest on this machine, found by trying; and whether it agrees with fp32.

What the processor says of itself does not tell: bf16 is twice as fast as fp32 on one and half as fast on another. So
each precision embeds for a moment, as many batches at once as indexing will, and the rates are kept in the cache. What
a precision costs in cosine depends on the model and the photos. So the first photos of each run are embedded in fp32
too.
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

LEAST = 0.999  # cosine to fp32; below it the order of results begins to change
_FIRST = 4  # photos that are embedded in fp32 too
_TRIED = ("fp32", "bf16", "int8")  # on a CPU; fp16 has no fast products there
_BATCH, _ROUNDS = 4, 3  # images at once, and how often; the first warms up

OnDisagreement = Callable[[str, float], None]  # a precision and its cosine to fp32


class AgreeingEncoder:
    """The fastest encoder for a model on a CPU whose rows agree with fp32 on the first images that it is given.

    `at_once` is how many threads will embed at the same time, each with one thread of torch. `on_disagreement` is told
    what was left for the next fastest.
    """

    device = "cpu"
    does_both = True

    def __init__(self, model: Model, at_once: int, on_disagreement: OnDisagreement) -> None:
        self._model, self._on_disagreement = model, on_disagreement
        rates = measured(model, at_once) or _measure(model, at_once)
        self._left = sorted(rates, key=lambda name: rates[name])
        self._encoder = self._next()
        self._lock, self._checked = threading.Lock(), False

    @property
    def precision(self) -> str:
        """The one in use."""
        return self._encoder.precision

    @property
    def logit_scale(self) -> float:
        """What the model was trained to multiply cosines with before a softmax."""
        return self._encoder.logit_scale

    def encode_images(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) float32 of preprocessed images, (n, height, width, 3) uint8."""
        with self._lock:
            if not self._checked:
                self._check(pixels[:_FIRST])
                self._checked = True
        return self._encoder.encode_images(pixels)

    def encode_texts(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) float32 of texts."""
        return self._encoder.encode_texts(texts)

    def _next(self) -> TorchEncoder:
        return TorchEncoder(self._model, "cpu", self._left.pop(), threads=1)

    def _check(self, pixels: Pixels) -> None:
        if self.precision == "fp32":
            return
        expected = TorchEncoder(self._model, "cpu", "fp32").encode_images(pixels)
        while self.precision != "fp32":
            rows = self._encoder.encode_images(pixels)
            cosine = float(np.einsum("nd,nd->n", rows, expected).min())
            if cosine >= LEAST:  # not so where a row is not a number
                return
            self._on_disagreement(self.precision, cosine)
            self._encoder = self._next()


def encoder_for(
    model: Model, device: str, precision: str, at_once: int, on_disagreement: OnDisagreement
) -> AgreeingEncoder | TorchEncoder:
    """The encoder for many images, of which so many threads embed at once; the fastest where nothing is chosen."""
    if precision == "auto" and usable_device(device) == "cpu":
        return AgreeingEncoder(model, at_once, on_disagreement)
    return TorchEncoder(model, device, precision, threads=1)


def measured(model: Model, at_once: int) -> dict[str, float] | None:
    """Images a second by precision, as an earlier run on this machine has measured them; None if none has."""
    return cache.rates(_key(model, at_once))


def _measure(model: Model, at_once: int) -> dict[str, float]:
    rates = {}
    for precision in _worth_trying():
        try:
            rates[precision] = _rate(TorchEncoder(model, "cpu", precision, threads=1), model, at_once)
        except (ClipsearchError, NotImplementedError):  # what torch has no products for on this processor
            if precision == "fp32":
                raise
    cache.keep_rates(_key(model, at_once), rates)
    return rates


def _worth_trying() -> list[str]:
    """fp32, and what has faster products. Where a processor has none of its own, int8 takes 25 times as long."""
    from clipsearch.models.torch_towers import seconds_of_a_product

    seconds = {precision: seconds_of_a_product(precision) for precision in _TRIED}
    return [precision for precision in _TRIED if seconds[precision] <= seconds["fp32"]]


def _rate(encoder: Encoder, model: Model, at_once: int) -> float:
    """Images a second, the best of some rounds: what else the machine does only slows it down."""
    pixels = np.random.default_rng(0).integers(0, 256, (_BATCH, *model.preprocess.size, 3), np.uint8)
    seconds = []
    with ThreadPoolExecutor(at_once) as pool:
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            list(pool.map(encoder.encode_images, [pixels] * at_once))
            seconds.append(time.perf_counter() - began)
    return round(at_once * _BATCH / min(seconds), 1)


def _key(model: Model, at_once: int) -> str:
    """What a rate depends on."""
    return json.dumps([_processor(), at_once, model.fingerprint, version("torch")])


def _processor() -> str:
    try:  # Python knows no more than the architecture on Linux
        lines = Path("/proc/cpuinfo").read_text()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(dict.fromkeys(re.findall(r"^(?:model name|flags|Features)\s*:\s*(.*)$", lines, re.MULTILINE)))
