"""Named models: architecture, preprocessing, where the weights lie, and the fingerprint that an index is tied to.

A model is written the way open_clip writes it: `ARCH`, `ARCH/TAG`, `hf-hub:ORG/NAME` or `local-dir:FOLDER`. `mini` is
short for the folder that comes with the package. This module knows what can be known without torch; what takes
open_clip's tables or the network is in `encode`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clipsearch.errors import ModelMismatch, ModelUnknown, WeightsUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.models import cache
from clipsearch.paths import open_clip_folder

DEFAULT = "ViT-B-32/laion2b_s34b_b79k"
MINI = "mini"
_MINI_FOLDER = Path(__file__).parent.parent / "mini"
# In the order in which open_clip looks for them (`factory._find_checkpoint_in_dir`).
_WEIGHTS_IN_FOLDER = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)

# Raise this when `preprocess` or `decode` come to give other pixels: embeddings made before are then refused.
PREPROCESSING_VERSION = 1


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is ready to use: all that its encoders need, and all that tells it from another.

    `config` is open_clip's `model_cfg`; `architecture` is what open_clip calls it, a name or `local-dir:FOLDER`.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    preprocess: Preprocess
    weights: Path
    sha256: str

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.config["embed_dim"])

    @property
    def fingerprint(self) -> str:
        """Equal for two models exactly when they give the same embeddings, up to rounding."""
        essence = {
            "config": self.config,
            "preprocess": asdict(self.preprocess),
            "weights": self.sha256,
            "version": PREPROCESSING_VERSION,
        }
        return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The record that an index keeps."""
        return json.dumps(asdict(self) | {"weights": str(self.weights), "fingerprint": self.fingerprint})

    @staticmethod
    def from_json(text: str) -> Model:
        """The model of a record; whether its weights are still there is not checked yet.

        Raises `ModelMismatch` when this clipsearch would make other embeddings with the same weights.
        """
        try:
            record = json.loads(text)
            fingerprint = record.pop("fingerprint")
            preprocess = Preprocess.from_json(record["preprocess"])
            model = Model(**record | {"preprocess": preprocess, "weights": Path(record["weights"])})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ModelMismatch(
                "the index does not say any more which model it is of; index your folders anew"
            ) from None
        if model.fingerprint != fingerprint:
            raise ModelMismatch(
                "the index was made by a clipsearch that prepared images differently;"
                " make it anew with: clipsearch index --rebuild"
            )
        if model.name == MINI:  # the package may have been installed elsewhere since
            model = replace(model, architecture=f"local-dir:{_MINI_FOLDER}", weights=_weights_in(_MINI_FOLDER))
        return model

    def check_weights(self) -> None:
        """Raise `WeightsUnusable` unless the weights are those that the index was made with."""
        try:
            current = cache.sha256_of_file(self.weights)
        except OSError:
            raise WeightsUnusable(
                f"the weights of {self.name} are not at {self.weights} any more; put them back, "
                "or make the index anew: clipsearch index --rebuild --model NAME"
            ) from None
        if current != self.sha256:
            raise WeightsUnusable(
                f"{self.weights} is not the file that the index was made with; put that back, "
                "or make the index anew: clipsearch index --rebuild"
            )


def as_it_is_now(record: str) -> Model:
    """The model of an index's record with the weights and the preprocessing of today, for making it anew."""
    described = json.loads(record)
    if described["name"] == MINI:
        return mini()
    weights = Path(described["weights"])
    return make(described["name"], described["architecture"], described["config"], described["preprocess"], weights)


def canonical_name(name: str) -> str:
    """The name in full: the default's tag may be left out, and a folder is absolute."""
    schema, _, place = name.partition(":")
    if schema == "local-dir":
        return f"local-dir:{Path(place).expanduser().absolute()}"
    return DEFAULT if name in (DEFAULT.partition("/")[0], "default") else name


def means(name: str, model: Model) -> bool:
    """Whether a name, as a user writes it, is that of a model: the tag may be left out unless it is the default's."""
    full = canonical_name(name)
    return full == model.name or ("/" not in full and full == split_name(model.name)[0])


def split_name(name: str) -> tuple[str, str | None]:
    """`ARCH/TAG` to its two parts; the tag may be missing."""
    architecture, _, tag = name.partition("/")
    return architecture, tag or None


def builtin_config(architecture: str) -> dict[str, Any]:
    """open_clip's own `model_cfg` of an architecture. Raises `ModelUnknown`."""
    if architecture not in builtin_architectures():
        raise ModelUnknown(f"no model is called {architecture!r}; clipsearch models --all lists them")
    config: dict[str, Any] = json.loads((_config_folder() / f"{architecture}.json").read_text(encoding="utf-8"))
    return config


def builtin_architectures() -> list[str]:
    """Every architecture that open_clip has a configuration of."""
    return sorted(path.stem for path in _config_folder().glob("*.json"))


def from_folder(folder: Path, name: str) -> Model:
    """The model in a folder with `open_clip_config.json` and weights, as `local-dir:` means it."""
    try:
        described = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        config, preprocess = described["model_cfg"], described.get("preprocess_cfg") or {}
        whole = all(isinstance(config[part], dict) for part in ("text_cfg", "vision_cfg")) and int(config["embed_dim"])
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ModelUnknown(f"{folder} has no open_clip_config.json that describes a model")
    return make(name, f"local-dir:{folder}", config, preprocess, _weights_in(folder))


def about_mini() -> str:
    """How well the bundled model finds photos, in a clause, as its card has it measured."""
    about: str = json.loads((_MINI_FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))["about"]
    return about


def mini() -> Model:
    """The model that comes with the package."""
    return from_folder(_MINI_FOLDER, MINI)


def make(name: str, architecture: str, config: dict[str, Any], preprocess: dict[str, Any], weights: Path) -> Model:
    """A `Model` from open_clip's `model_cfg` and `preprocess_cfg`, whose missing values get open_clip's defaults."""
    image_size = config["vision_cfg"].get("image_size", 224)
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    known = {k: preprocess[k] for k in ("interpolation", "resize_mode", "fill_color") if preprocess.get(k) is not None}
    for key in ("mean", "std"):
        if preprocess.get(key) is not None:
            values = preprocess[key]
            known[key] = (float(values),) * 3 if isinstance(values, int | float) else tuple(float(v) for v in values)
    try:
        digest = cache.sha256_of_file(weights)
    except OSError as error:
        raise WeightsUnusable(f"the weights {weights} cannot be read: {error.strerror}") from None
    return Model(name, architecture, config, Preprocess(size=(size[0], size[1]), **known), weights, digest)


def _config_folder() -> Path:
    return open_clip_folder() / "model_configs"


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS_IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*.safetensors"))
    if not others:
        raise WeightsUnusable(f"{folder} has no weights ({_WEIGHTS_IN_FOLDER[0]})")
    return others[0]
