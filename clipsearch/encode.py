"""Batches of images and texts to embeddings.

Two encoders give the same embeddings: `TorchEncoder` for batches, through `batch` where that serves the model and else
through open_clip, and `ColdEncoder` through NumPy, which answers before torch would be imported. Torch and open_clip
are imported when they are first needed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from clipsearch import convnet, models
from clipsearch.convnet import ConvTower
from clipsearch.errors import (
    BadRequest,
    ClipsearchError,
    DownloadFailed,
    EncodingFailed,
    ModelUnknown,
    WeightsUnusable,
)
from clipsearch.models import Model
from clipsearch.paths import open_clip_folder
from clipsearch.tokenize import END_OF_TEXT, tokenize
from clipsearch.towers import Array, ImageTower, Pixels, TextTower, load_safetensors, supports, unit_rows

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_USUAL_SCALE = math.log(100)  # CLIP's bound, which all of its models have reached
_WEIGHTS_ON_HUB = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


class Encoder(Protocol):
    """What turns pixels and texts into embeddings of one model, on a `device`: cpu, cuda or mps."""

    device: str

    @property
    def logit_scale(self) -> float:
        """What the model was trained to multiply cosines with before a softmax."""

    def encode_images(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) float32 of preprocessed images, (n, height, width, 3) uint8."""

    def encode_texts(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) float32 of texts."""


# ------------------------------------------------------------------------------------------ finding a model


def resolve(name: str, weights: Path | None = None) -> Model:
    """The model of a name, its weights fetched if they are not on this machine yet.

    `weights` is a local file to use in place of what the name stands for; its tag, if it has one, then says how
    images are preprocessed. Raises `ModelUnknown`, `WeightsUnusable` or `DownloadFailed`.
    """
    name = models.canonical_name(name) if weights is None else name
    if weights is not None and not weights.is_file():
        raise WeightsUnusable(f"there is no weights file {weights}")
    if name == models.MINI and weights is None:
        return models.mini()
    schema, _, place = name.partition(":")
    if schema in ("local-dir", "hf-hub") and weights is not None:
        raise BadRequest(f"--weights goes with an architecture, not with {schema}:")
    if schema == "local-dir":
        return models.from_folder(Path(models.canonical_name(name).partition(":")[2]), models.canonical_name(name))
    if schema == "hf-hub":
        folder = _from_hub(place, ["open_clip_config.json"]).parent
        _from_hub(place, _WEIGHTS_ON_HUB)
        return models.from_folder(folder, name)
    architecture, tag = models.split_name(name)
    config = models.builtin_config(architecture)
    if weights is not None:
        described = _pretrained(architecture, tag) if tag else _common_preprocessing(architecture)
        name = f"{name} with {weights.absolute()}"
        path = weights.absolute()
    else:
        tag = tag or _only_tag(architecture)
        described = _pretrained(architecture, tag)
        name = f"{architecture}/{tag}"
        path = _fetch(name, described)
    if not plain_tokenizer(config, architecture) and importlib.util.find_spec("transformers") is None:
        raise ModelUnknown(f"{name} reads text with a tokenizer of its own, which needs: pip install transformers")
    if described.get("quick_gelu"):  # OpenAI's weights, in a configuration that does not say so
        config["quick_gelu"] = True
    return models.make(name, architecture, config, described, path)


@functools.cache
def _tables() -> Any:
    """`open_clip.pretrained`, which lists all weights."""
    return _part_of_open_clip("pretrained")


def template_set(name: str) -> tuple[str, ...] | None:
    """The prompts of a named set, `{}` for the label: `imagenet` has the 80 of CLIP's authors, `simple` 7 of them."""
    sets = {"imagenet": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
    if name not in sets:
        return None
    return tuple(template("{}") for template in getattr(_part_of_open_clip("zero_shot_metadata"), sets[name]))


def _part_of_open_clip(name: str) -> Any:
    """A module of open_clip without the rest: `import open_clip` takes three seconds."""
    package = types.ModuleType("clipsearch._open_clip")
    package.__path__ = [str(open_clip_folder())]
    sys.modules[package.__name__] = package
    loaded = "safetensors.torch" in sys.modules
    if not loaded:
        sys.modules["safetensors.torch"] = cast(types.ModuleType, None)  # it does without what would import torch
    try:
        return importlib.import_module(f"{package.__name__}.{name}")
    finally:
        if not loaded:
            del sys.modules["safetensors.torch"]


def available() -> dict[str, str | None]:
    """Every `ARCH/TAG` of open_clip, with the path of its weights where they are on this machine."""
    found: dict[str, str | None] = {}
    for architecture, tag in _tables().list_pretrained():
        path = _cached(_pretrained(architecture, tag))
        found[f"{architecture}/{tag}"] = str(path) if path else None
    return found


def _pretrained(architecture: str, tag: str) -> dict[str, Any]:
    described: dict[str, Any] = _tables().get_pretrained_cfg(architecture, tag)
    if not described:
        tags = ", ".join(_tables().list_pretrained_tags_by_model(architecture)) or "none"
        raise ModelUnknown(f"{architecture} has no weights called {tag!r}; it has: {tags}")
    return described


def _common_preprocessing(architecture: str) -> dict[str, Any]:
    """How the images of an architecture are prepared, if that is the same for all its weights."""
    ways = {
        json.dumps({key: described.get(key) for key in ("mean", "std", "interpolation", "resize_mode")})
        for described in (
            _pretrained(architecture, tag) for tag in _tables().list_pretrained_tags_by_model(architecture)
        )
    }
    if len(ways) > 1:
        raise BadRequest(
            f"there are several ways to prepare images for {architecture};"
            f" name the weights that the file is like: --model {architecture}/TAG"
        )
    return json.loads(ways.pop()) if ways else {}


def _only_tag(architecture: str) -> str:
    tags: list[str] = _tables().list_pretrained_tags_by_model(architecture)
    if len(tags) == 1:
        return tags[0]
    choice = "it has: " + ", ".join(tags) if tags else "it has none; give a file with --weights"
    raise ModelUnknown(f"say which weights of {architecture}, as {architecture}/TAG; {choice}")


def _hub_files(described: dict[str, Any]) -> tuple[str, list[str]]:
    """Repository and the names that its weights may have, the best first."""
    repository, _, file = described["hf_hub"].rpartition("/")
    return repository, [file] if file else _WEIGHTS_ON_HUB


def _cached(described: dict[str, Any]) -> Path | None:
    return _in_hub_cache(*_hub_files(described)) if described.get("hf_hub") else None


def _fetch(name: str, described: dict[str, Any]) -> Path:
    """The path of a tag's weights: from the local cache if they are there, else from the network."""
    if described.get("hf_hub"):
        return _from_hub(*_hub_files(described))
    try:
        return Path(_tables().download_pretrained_from_url(described["url"]))
    except Exception as error:
        raise DownloadFailed(f"the weights of {name} could not be downloaded: {_first_line(error)}") from error


def _in_hub_cache(repository: str, files: list[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def _from_hub(repository: str, files: list[str]) -> Path:
    """The first of the files that a repository has: from the local cache, else from the network."""
    import huggingface_hub as hub

    cached = _in_hub_cache(repository, files)
    if cached is not None:
        return cached
    where = f"{repository} on the Hugging Face hub"
    for file in files:
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, file))  # fails at once; a download retries for a minute
            return Path(hub.hf_hub_download(repository, file))
        except hub.errors.EntryNotFoundError:
            continue
        except hub.errors.OfflineModeIsEnabled as error:
            raise DownloadFailed(f"{file} of {where} is not on this machine, and HF_HUB_OFFLINE is set") from error
        except Exception as error:  # the hub, the network and the disk each have their own
            raise DownloadFailed(
                f"{file} of {where} could not be downloaded: {_first_line(error)};"
                " use --weights FILE, or --model mini, which needs no download"
            ) from error
    raise DownloadFailed(f"{where} has no {' or '.join(files)}")


# ------------------------------------------------------------------------------------------ encoders


def plain_tokenizer(config: dict[str, Any], architecture: str) -> bool:
    """Whether a model reads CLIP's own byte-pair tokens, as `tokenize` makes them."""
    text = config["text_cfg"]
    other = ("hf_tokenizer_name", "tokenizer_kwargs", "hf_model_name")
    return not any(text.get(key) for key in other) and "siglip" not in architecture.lower()


def cold_encoder(model: Model, *, texts: bool, images: bool) -> Encoder:
    """The encoder that is ready soonest: without torch where there are towers in NumPy, else through open_clip."""
    return in_numpy(model, texts=texts, images=images) or TorchEncoder(model)


def in_numpy(model: Model, *, texts: bool, images: bool) -> ColdEncoder | None:
    """The encoder without torch, if it serves the model and the weights have the towers' shapes."""
    text, image = supports(model)
    if texts and not (text and plain_tokenizer(model.config, model.architecture)):
        return None
    if images and not (image or convnet.supports(model)):
        return None
    encoder = ColdEncoder(model)
    with contextlib.suppress(WeightsUnusable):  # open_clip may know how to stretch them, or will say what is wrong
        if texts:
            _ = encoder.text_tower
        if images:
            _ = encoder.image_tower
        return encoder
    return None


class ColdEncoder:
    """A model in NumPy. Slow for batches, ready at once."""

    device = "cpu"

    def __init__(self, model: Model) -> None:
        model = _with_weights(model)
        self._model = model
        self._tensors = load_safetensors(model.weights)

    @property
    def logit_scale(self) -> float:
        """See `Encoder`."""
        return math.exp(float(np.ravel(self._tensors.get("logit_scale", _USUAL_SCALE))[0]))

    def encode_images(self, pixels: Pixels) -> Array:
        """See `Encoder`."""
        return self.image_tower(pixels)

    def encode_texts(self, texts: list[str]) -> Array:
        """See `Encoder`."""
        context_length = self._model.config["text_cfg"].get("context_length", 77)
        return self.text_tower(tokenize(texts, context_length))

    @functools.cached_property
    def text_tower(self) -> TextTower:
        """Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""
        return TextTower(self._model, self._tensors)

    @functools.cached_property
    def image_tower(self) -> ImageTower | ConvTower:
        """Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""
        tower = ConvTower if convnet.supports(self._model) else ImageTower
        return tower(self._model, self._tensors)


class TorchEncoder:
    """A model in torch, on CUDA, MPS or the CPU: images through `batch` where that serves the model, else open_clip.

    `precision` "auto" is fp16 on a GPU; on a CPU bf16 where it has a matrix unit for it (AMX), else fp32. A call uses
    so many `threads` of a CPU: None is all of them; 1 is best where several calls are made at once.
    """

    def __init__(self, model: Model, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        import torch

        check_names(device, precision)
        model = _with_weights(model)
        self.device = _device(device)
        self.precision = _precision(precision, self.device)
        self._model = model
        self._all_threads = torch.get_num_threads()
        self._threads = threads or self._all_threads
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        mean, std = model.preprocess.mean, model.preprocess.std
        self._mean = torch.tensor(mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(1, 3, 1, 1)
        self._images: Any
        cold = in_numpy(model, texts=True, images=True)
        if cold is None:
            self._images = lambda images: self._net.encode_image(images.to(self._dtype))
            _ = self._net
        else:
            from clipsearch.batch import batch_tower

            self._images = batch_tower(cold.image_tower, self.device, self._dtype)

    @functools.cached_property
    def _net(self) -> Any:
        return _load(self._model, self.device, self.precision)

    @property
    def logit_scale(self) -> float:
        """See `Encoder`."""
        return float(self._net.logit_scale.detach().exp())

    def encode_images(self, pixels: Pixels) -> Array:
        """See `Encoder`."""
        import torch

        torch.set_num_threads(self._threads)  # holds for the calling thread alone
        try:
            with torch.inference_mode(), _explained():
                batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2)
                return self._rows(self._images((batch.float() / 255 - self._mean) / self._std))
        finally:
            torch.set_num_threads(self._all_threads)

    def encode_texts(self, texts: list[str]) -> Array:
        """See `Encoder`."""
        import torch

        with torch.inference_mode(), _explained():
            return self._rows(self._net.encode_text(self._tokens(texts).to(self.device)))

    def _tokens(self, texts: list[str]) -> Any:
        import torch

        if not plain_tokenizer(self._model.config, self._model.architecture):
            import open_clip

            return open_clip.get_tokenizer(self._model.architecture)(texts)
        context_length = self._model.config["text_cfg"].get("context_length", 77)
        tokens = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, ids in zip(tokens, tokenize(texts, context_length), strict=True):
            assert ids[-1] == END_OF_TEXT
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def _rows(self, features: Any) -> Array:
        return unit_rows(features.float().cpu().numpy())


def _with_weights(model: Model) -> Model:
    """The model of an index with its weights, fetched again if the cache that had them was emptied."""
    if not model.weights.is_file() and model.architecture == models.split_name(model.name)[0]:
        found = resolve(model.name)
        if found.fingerprint == model.fingerprint:
            return found
    model.check_weights()
    return model


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What torch says when a device fails or its memory is full, as a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise EncodingFailed(
            f"the model failed on this device: {_first_line(error)}; try a smaller --batch-size"
        ) from error


def _load(model: Model, device: str, precision: str) -> Any:
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
    except Exception as error:  # torch, safetensors, pickle and open_clip each have their own
        raise WeightsUnusable(
            f"the weights {model.weights} do not fit {model.architecture}: {_first_line(error)}"
        ) from error
    net.eval()
    return net


def check_names(device: str, precision: str) -> None:
    """Raise `BadRequest` for a device or precision that no machine has."""
    if device.partition(":")[0] not in DEVICES:
        raise BadRequest(f"no device is called {device!r}; there are {', '.join(DEVICES)}")
    if precision not in PRECISIONS:
        raise BadRequest(f"no precision is called {precision!r}; there are {', '.join(PRECISIONS)}")


def _device(wanted: str) -> str:
    import torch

    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if usable[name])
    kind, _, number = wanted.partition(":")
    if not usable[kind] or (
        number and not (kind == "cuda" and number.isdecimal() and int(number) < torch.cuda.device_count())
    ):
        raise BadRequest(f"this machine, or its torch, has no {wanted}; try --device auto")
    return wanted


def _precision(wanted: str, device: str) -> str:
    import torch

    if wanted != "auto":
        return wanted
    if device != "cpu":
        return "fp16"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].strip()[:200] if text else type(error).__name__
