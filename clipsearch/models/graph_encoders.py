"""Encoders that run image towers as graphs on a CPU: in ONNX Runtime, and in OpenVINO if it is installed.

A call uses one thread. To use all cores, call from several threads: that is faster than one call that uses all cores,
and keeps every core busy while other threads wait for decoders.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.errors import EncodingFailed, first_line
from clipsearch.extras import is_installed
from clipsearch.models import cache
from clipsearch.models.convnet import ConvTower
from clipsearch.models.encoders import Engine, NumpyEncoder
from clipsearch.models.onnx_graph import CPU, Session
from clipsearch.models.onnx_towers import Quantisation, TowerGraph, graph_of, overflows, ranges_of

FP32 = Engine("onnxruntime", "fp32")
INT8, INT7 = Engine("onnxruntime", "int8"), Engine("onnxruntime", "int7")
FALLBACKS = {INT7: INT8}  # slower and more accurate; tried if the first is rejected

# Increment this when quantised graphs are built differently, so that cached ones are built again.
_GRAPH_VERSION = 1
_MOST_GRAPHS = 3  # in the cache; ViT-B/32 takes 90 MB

# Images per call, so that the feature maps of a convolutional network stay in cache.
_CONVNET_BATCH = 4

_LEVELS = {"int8": 127, "int7": 63}  # the largest quantised weight
_CALIBRATION_IMAGES = 4

_PROVIDERS = {"onnxruntime": CPU, "coreml": "CoreMLExecutionProvider"}
_OPENVINO_DEVICES = {"openvino": "CPU", "openvino-gpu": "GPU"}
_OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def engines_for(encoder: NumpyEncoder) -> list[Engine]:
    """The engines of this machine that can run a model's images. The first is `FP32`."""
    import onnxruntime

    found = [FP32]
    if not isinstance(encoder.image_tower, ConvTower):
        found.append(INT7 if overflows() else INT8)
    if _PROVIDERS["coreml"] in onnxruntime.get_available_providers():
        found.append(Engine("coreml", "fp16"))
    if is_installed("openvino"):
        import openvino

        found += [Engine("openvino", "fp32"), Engine("openvino", "bf16")]
        if "GPU" in openvino.Core().available_devices:
            found.append(Engine("openvino-gpu", "fp16"))
    return found


class GraphEncoder:
    """Runs images with an engine of `engines_for`, in up to `threads` calls at a time, and texts in NumPy."""

    device = "cpu"
    does_both = True

    def __init__(self, encoder: NumpyEncoder, engine: Engine = FP32, threads: int = 1) -> None:
        self.engine, self._numpy = engine, encoder
        is_convnet = isinstance(encoder.image_tower, ConvTower)
        self._batch = _CONVNET_BATCH if is_convnet else None
        try:
            if engine.library in _PROVIDERS:
                self._runner: _Runner = _onnx_runtime(encoder, engine)
            else:
                self._runner = _OpenVino(encoder, engine, threads)
        except Exception as error:  # the libraries have no common base class
            raise _failed(error) from error
        encoder.release()  # the engine has its own copy

    @property
    def logit_scale(self) -> float:
        return self._numpy.logit_scale

    def encode_images(self, pixels: Pixels) -> Array:
        step = self._batch or max(1, len(pixels))
        try:
            parts = [self._runner(pixels[first : first + step]) for first in range(0, len(pixels), step)]
        except Exception as error:  # the libraries have no common base class
            raise _failed(error) from error
        return unit_rows(np.concatenate(parts))

    def encode_texts(self, texts: list[str]) -> Array:
        return self._numpy.encode_texts(texts)


def _failed(error: Exception) -> EncodingFailed:
    return EncodingFailed(f"the model failed on this device: {first_line(error)}")


class _Runner(Protocol):
    """Images (n, height, width, 3) uint8 to embeddings (n, dim), not normalised."""

    def __call__(self, pixels: Pixels) -> Array: ...


def _onnx_runtime(encoder: NumpyEncoder, engine: Engine) -> Session:
    providers = list(dict.fromkeys([_PROVIDERS[engine.library], CPU]))
    if engine == FP32:
        built = _graph(encoder)
        # The weights are mapped from the file; a message would copy them.
        return Session(built.message(with_weights=False), built.graph.weights, providers)
    is_quantised = engine.precision in _LEVELS
    message = _quantised_message(encoder, engine.precision) if is_quantised else _graph(encoder).message()
    return Session(message, providers=providers)


class _OpenVino:
    def __init__(self, encoder: NumpyEncoder, engine: Engine, threads: int) -> None:
        import openvino

        core = openvino.Core()
        device = _OPENVINO_DEVICES[engine.library]
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _OPENVINO_TYPES[engine.precision]}
        if device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        self._model = core.compile_model(core.read_model(_graph(encoder).message()), device, settings)
        self._requests = threading.local()  # one for each calling thread

    def __call__(self, pixels: Pixels) -> Array:
        if not hasattr(self._requests, "one"):
            self._requests.one = self._model.create_infer_request()
        rows: Array = self._requests.one.infer([pixels])[0].copy()
        return rows


def _graph(encoder: NumpyEncoder, quantisation: Quantisation | None = None) -> TowerGraph:
    return graph_of(encoder.image_tower, encoder.model.preprocess, encoder.model.dim, quantisation)


def _quantised_message(encoder: NumpyEncoder, precision: str) -> bytes:
    """The quantised graph, cached: building that of ViT-B/32 takes a second.

    int8 has weights of 8 bits. Where signed ones overflow, they are unsigned, which is slower; int7 has signed weights
    of 7 bits, which is less accurate.
    """
    dtype = np.uint8 if precision == "int8" and overflows() else np.int8
    name = f"graph-{encoder.model.fingerprint}-{precision}-{dtype.__name__}-{_GRAPH_VERSION}.onnx"
    cached = cache.data(name)
    if cached is not None:
        return bytes(cached)
    tower = encoder.image_tower
    assert not isinstance(tower, ConvTower)
    ranges = ranges_of(tower, _calibration_images(*encoder.model.preprocess.size))
    encoder.release()
    message = _graph(encoder, Quantisation(_LEVELS[precision], dtype, ranges)).message()
    cache.keep_data(name, message, most=_MOST_GRAPHS)
    return message


def _calibration_images(height: int, width: int) -> Pixels:
    """Random pictures with coarse and fine structure, the same in every run.

    Which channels of a transformer have large values depends on the model more than on the picture.
    """
    rng, out = np.random.default_rng(0), np.zeros((_CALIBRATION_IMAGES, height, width, 3), np.float32)
    for cells in (1, 2, 5, 14, 64):
        coarse = rng.uniform(0, 255 / 5, (_CALIBRATION_IMAGES, cells, cells, 3)).astype(np.float32)
        rows, columns = (np.arange(side) * cells // side for side in (height, width))
        out += coarse[:, rows][:, :, columns]
    return out.astype(np.uint8)
