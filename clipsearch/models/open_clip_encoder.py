"""open_clip's own models in torch: on a GPU, and for models without a tower in this package."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.errors import BadArgument, ClipsearchError, EncodingFailed, WeightsUnusable, first_line
from clipsearch.extras import is_installed, missing
from clipsearch.models.encoders import Engine, numpy_encoder, with_weights
from clipsearch.models.hf_tokenizer import tokenize
from clipsearch.models.model import Model

# Device files of NVIDIA, AMD and Windows (WSL) GPUs; importing torch to find none takes two seconds.
_GPU_FILES = tuple(Path("/dev", name) for name in ("nvidia0", "nvidiactl", "kfd", "dxg"))


class OpenClipEncoder:
    """Runs a model's images in open_clip, and its texts in NumPy if there are towers for the model.

    `precision` "auto" means fp16 on a GPU and fp32 on a CPU. `threads` is the number of CPU threads per call, by
    default all; use 1 when calling from several threads.
    Raises `BadRequest` if torch is not installed, `BadArgument` or `WeightsUnusable`.
    """

    does_both = True

    def __init__(self, model: Model, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        if not is_installed("torch"):
            raise missing("torch", f"The model {model.name}")
        import torch

        self._model = model = with_weights(model)
        self.device = usable_device(device)
        if precision == "auto":
            precision = "fp32" if self.device == "cpu" else "fp16"
        if precision == "int8":
            raise BadArgument("precision", "int8 requires a CLIP or SigLIP vision transformer on a CPU")
        self.engine = Engine("open_clip", precision)
        self._all_threads = torch.get_num_threads()
        self._threads = threads or self._all_threads
        mean, std = model.preprocess.mean, model.preprocess.std
        self._mean = torch.tensor(mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(1, 3, 1, 1)
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.net = _open_clip_model(model, self.device, precision)
        self._numpy = numpy_encoder(model, texts=True, images=False)

    @property
    def logit_scale(self) -> float:
        return float(self.net.logit_scale.detach().exp())

    def encode_images(self, pixels: Pixels) -> Array:
        import torch

        torch.set_num_threads(self._threads)  # affects the calling thread only
        try:
            with torch.inference_mode(), torch_errors():
                return _rows(self.net.encode_image(self.normalised(pixels)))
        finally:
            torch.set_num_threads(self._all_threads)

    def normalised(self, pixels: Pixels) -> Any:
        """The network's input for images (n, height, width, 3)."""
        import torch

        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2)
        return ((batch.float() / 255 - self._mean) / self._std).to(self._dtype)

    def encode_texts(self, texts: list[str]) -> Array:
        if self._numpy:
            return self._numpy.encode_texts(texts)
        import torch

        with torch.inference_mode(), torch_errors():
            return _rows(self.net.encode_text(self._tokens(texts).to(self.device)))

    def _tokens(self, texts: list[str]) -> Any:
        import torch

        model = self._model
        if model.text is None:
            import open_clip

            return open_clip.get_tokenizer(model.architecture)(texts)
        tokens = torch.full((len(texts), model.context_length), model.text.padding)
        canonical = model.reads_canonical_text
        tokenized = tokenize(texts, model.text.tokenizer, model.context_length, canonical=canonical)
        for row, ids in zip(tokens, tokenized, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return tokens


def _rows(features: Any) -> Array:
    return unit_rows(features.float().cpu().numpy())


@contextlib.contextmanager
def torch_errors() -> Iterator[None]:
    """Turn torch's errors, such as out of memory, into `EncodingFailed`."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        raise EncodingFailed(f"the model failed on this device: {first_line(error)}") from error


def _open_clip_model(model: Model, device: str, precision: str) -> Any:
    import open_clip

    named = ":" not in model.architecture
    try:
        net = open_clip.create_model(
            model.architecture,
            pretrained=str(model.weights) if named else None,
            precision=precision,
            device=device,
            force_quick_gelu=bool(model.config.get("quick_gelu")),
            require_pretrained=True,
        )
    except ClipsearchError:
        raise
    except Exception as error:  # torch, safetensors, pickle and open_clip have no common base class
        raise WeightsUnusable(
            f"the weights {model.weights} do not fit {model.architecture}: {first_line(error)}"
        ) from error
    net.eval()
    return net


def usable_device(wanted: str) -> str:
    """Resolve "auto" to cuda, mps or cpu, in that order. Raises `BadArgument` if the device is not available here."""
    kind, _, number = wanted.partition(":")
    if kind == "cpu" or (kind == "auto" and not (is_installed("torch") and _may_have_gpu())):
        return "cpu"
    if not is_installed("torch"):
        raise missing("torch", f"The device {wanted}")
    import torch

    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if usable[name])
    if not usable[kind] or (
        number and not (kind == "cuda" and number.isdecimal() and int(number) < torch.cuda.device_count())
    ):
        raise BadArgument(
            "device", f"{wanted} is not available on this machine, or not supported by this build of torch"
        )
    return wanted


def _may_have_gpu() -> bool:
    return sys.platform != "linux" or any(path.exists() for path in _GPU_FILES)
