"""A model: its architecture, how images are prepared for it, its files, and the fingerprint that an index is tied to.

A model's name is written the way open_clip writes it: `ARCH`, `ARCH/TAG`, `hf-hub:ORG/NAME` or `local-dir:FOLDER`.
`mini` is short for the folder that comes with the package; `recommended` has other short names. Nothing here needs
torch or the network.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clipsearch.errors import ModelMismatch, ModelUnknown, WeightsChanged, WeightsUnusable, reason
from clipsearch.images.preprocess import Preprocess
from clipsearch.models import cache
from clipsearch.models.recommended import RECOMMENDED, spelt_out

DEFAULT = RECOMMENDED[0].name
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
# The bias of SigLIP's logits is the same for all, so that it changes neither an order nor a softmax.
_PLAIN_KEYS = frozenset(["embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_bias"])
BERT_FAMILY = ("bert", "roberta", "xlm-roberta")  # as the transformers library calls them
_OTHER_TOKENIZER = ("hf_tokenizer_name", "tokenizer_kwargs", "hf_model_name")

# Raise this when `preprocess` or `decode` come to give other pixels: embeddings made before are then refused.
PREPROCESSING_VERSION = 1


@dataclass(frozen=True, slots=True)
class TextFiles:
    """What a text encoder has beside its weights, if its tokenizer is the `tokenizers` library's.

    `config` is the `config.json` of an encoder of the transformers library, and for SigLIP the one entry of it that
    matters; `tokenizer` is the `tokenizer.json`, and `sha256` its hash.
    """

    config: dict[str, Any]
    tokenizer: Path
    sha256: str

    @property
    def padding(self) -> int:
        """The token that fills up a text and is not read."""
        return int(self.config.get("pad_token_id", 0 if self.config.get("model_type") == "bert" else 1))


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is ready to use: all that its encoders need, and all that tells it from another.

    `config` is open_clip's `model_cfg`; `architecture` is what open_clip calls it, a name or `local-dir:FOLDER`. `text`
    is there where the texts are not CLIP's own tokens and the files that say how they are read are known.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    preprocess: Preprocess
    weights: Path
    sha256: str
    text: TextFiles | None = None

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.config["embed_dim"])

    @property
    def context_length(self) -> int:
        """How many tokens of a text are read at most, the first and the last included."""
        return int(self.config["text_cfg"].get("context_length", 77))

    @property
    def is_plain(self) -> bool:
        """Whether it has two towers and nothing else, in a file that can be mapped."""
        return self.weights.suffix == ".safetensors" and self.config.keys() <= _PLAIN_KEYS

    @property
    def reads_clip_tokens(self) -> bool:
        """Whether its texts are CLIP's own byte-pair tokens."""
        named = ":" not in self.architecture  # a name alone tells open_clip which tokens SigLIP reads
        other = any(self.config["text_cfg"].get(key) for key in _OTHER_TOKENIZER)
        return not other and not (named and "siglip" in self.architecture.lower())

    @property
    def reads_canonical_text(self) -> bool:
        """Whether its texts are in lower case and without punctuation, and then a tokenizer's: SigLIP."""
        return is_canonical(self.config["text_cfg"])

    @property
    def fingerprint(self) -> str:
        """Equal for two models exactly when they give the same embeddings, up to rounding."""
        essence = {
            "config": self.config,
            "preprocess": asdict(self.preprocess),
            "weights": self.sha256,
            "text": self.text and [self.text.config, self.text.sha256],
            "version": PREPROCESSING_VERSION,
        }
        return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The record that an index keeps."""
        return json.dumps(asdict(self) | {"fingerprint": self.fingerprint}, default=str)

    @staticmethod
    def from_json(text: str) -> Model:
        """The model of a record; whether its weights are still there is not checked yet.

        Raises `ModelMismatch` when this clipsearch would make other embeddings with the same weights.
        """
        try:
            record = json.loads(text)
            fingerprint = record.pop("fingerprint")
            files = record.pop("text")
            model = Model(
                **record
                | {"preprocess": Preprocess.from_json(record["preprocess"]), "weights": Path(record["weights"])},
                text=TextFiles(**files | {"tokenizer": Path(files["tokenizer"])}) if files else None,
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ModelMismatch("the index does not say any more which model it is of") from None
        if model.fingerprint != fingerprint:
            raise ModelMismatch("the index was made by a clipsearch that prepared images differently")
        return model._in(_MINI_FOLDER) if model.name == MINI else model

    def check_weights(self) -> None:
        """Raise `WeightsChanged` unless the model's files are those that the index was made with."""
        for path, digest in self.files:
            try:
                current = cache.sha256_of_file(path)
            except OSError:
                raise WeightsChanged(f"the weights of {self.name} are not at {path} any more") from None
            if current != digest:
                raise WeightsChanged(f"{path} is not the file that the index was made with")

    @property
    def files(self) -> list[tuple[Path, str]]:
        """The files that embeddings depend on, with their SHA-256."""
        weights = [(self.weights, self.sha256)]
        return [*weights, (self.text.tokenizer, self.text.sha256)] if self.text else weights

    def _in(self, folder: Path) -> Model:
        """The same model in another folder: the package may have been installed elsewhere since."""
        text = self.text and replace(self.text, tokenizer=folder / self.text.tokenizer.name)
        return replace(self, architecture=f"local-dir:{folder}", weights=folder / self.weights.name, text=text)


def as_it_is_now(record: str) -> Model:
    """The model of an index's record with the weights and the preprocessing of today, for making it anew."""
    described = json.loads(record)
    if described["name"] == MINI:
        return mini()
    files = described["text"] and hashed(described["text"]["config"], Path(described["text"]["tokenizer"]))
    weights = Path(described["weights"])
    parts = described["architecture"], described["config"], described["preprocess"]
    return make(described["name"], *parts, weights, files)


def canonical_name(name: str) -> str:
    """The name in full: short names are spelt out, the default's tag may be left out, and a folder is absolute."""
    schema, _, place = name.partition(":")
    if schema == "local-dir":
        return f"local-dir:{Path(place).expanduser().absolute()}"
    return DEFAULT if name == DEFAULT.partition("/")[0] else spelt_out(name)


def means(name: str, model: Model) -> bool:
    """Whether a name, as a user writes it, is that of a model: the tag may be left out unless it is the default's."""
    full = canonical_name(name)
    return full == model.name or ("/" not in full and full == split_name(model.name)[0])


def split_name(name: str) -> tuple[str, str | None]:
    """`ARCH/TAG` to its two parts; the tag may be missing."""
    architecture, _, tag = name.partition("/")
    return architecture, tag or None


def from_folder(folder: Path, name: str) -> Model:
    """The model in a folder with `open_clip_config.json` and weights, as `local-dir:` means it."""
    config, preprocess = described_in(folder)
    names = text_file_names(config)
    files = text_files(config, *(folder / name for name in names)) if names else None
    return make(name, f"local-dir:{folder}", config, preprocess, _weights_in(folder), files)


def described_in(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and `preprocess_cfg` of a folder's `open_clip_config.json`. Raises `ModelUnknown`."""
    try:
        described = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        config, preprocess = described["model_cfg"], described.get("preprocess_cfg") or {}
        whole = all(isinstance(config[part], dict) for part in ("text_cfg", "vision_cfg")) and int(config["embed_dim"])
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ModelUnknown(f"{folder} has no open_clip_config.json that describes a model")
    return config, preprocess


def about_mini() -> str:
    """How well the bundled model finds photos, in a clause, as its card has it measured."""
    about: str = json.loads((_MINI_FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))["about"]
    return about


def mini() -> Model:
    """The model that comes with the package."""
    return from_folder(_MINI_FOLDER, MINI)


def make(
    name: str,
    architecture: str,
    config: dict[str, Any],
    preprocess: dict[str, Any],
    weights: Path,
    text: TextFiles | None = None,
) -> Model:
    """A `Model` from open_clip's `model_cfg` and `preprocess_cfg`, whose missing values get open_clip's defaults.

    Raises `WeightsUnusable` if the weights cannot be read.
    """
    image_size = config["vision_cfg"].get("image_size", 224)
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    known = {k: preprocess[k] for k in ("interpolation", "resize_mode", "fill_color") if preprocess.get(k) is not None}
    for key in ("mean", "std"):
        if preprocess.get(key) is not None:
            values = preprocess[key]
            known[key] = (float(values),) * 3 if isinstance(values, int | float) else tuple(float(v) for v in values)
    digest = _sha256(weights)
    return Model(name, architecture, config, Preprocess(size=(size[0], size[1]), **known), weights, digest, text)


def text_file_names(config: dict[str, Any]) -> tuple[str, str] | None:
    """The two files that say how a model reads texts, in the place where its tokenizer is; None if nothing reads them.

    `config` is open_clip's `model_cfg`. The first describes the encoder or the tokenizer, the second is the tokenizer.
    """
    text = config["text_cfg"]
    if is_canonical(text):
        return "tokenizer_config.json", "tokenizer.json"
    if text.get("hf_model_name") and not text.get("tokenizer_kwargs") and not text.get("tokenizer_mode"):
        return "config.json", "tokenizer.json"
    return None


def text_files(config: dict[str, Any], described: Path, tokenizer: Path) -> TextFiles | None:
    """What a model reads texts with, if the files that `text_file_names` names are there and are of a known kind.

    `config` is open_clip's `model_cfg`. Raises `WeightsUnusable`.
    """
    try:
        encoder = json.loads(described.read_text(encoding="utf-8"))
        if is_canonical(config["text_cfg"]):
            encoder = _padding_of(encoder, json.loads(tokenizer.read_text(encoding="utf-8")))
        elif encoder["model_type"] not in BERT_FAMILY:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return hashed(encoder, tokenizer) if encoder and tokenizer.is_file() else None


def is_canonical(text: dict[str, Any]) -> bool:
    """Whether open_clip's `text_cfg` is one of SigLIP's."""
    named = bool(text.get("hf_tokenizer_name")) and not text.get("hf_model_name")
    return named and not text.get("tokenizer_mode") and text.get("tokenizer_kwargs") == {"clean": "canonicalize"}


def _padding_of(described: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The entry for padding of a `tokenizer_config.json`; nothing if it goes before the text."""
    token = described["pad_token"]
    name = token["content"] if isinstance(token, dict) else token
    numbers = {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    return {"pad_token_id": numbers[name]} if described.get("padding_side", "right") == "right" else {}


def hashed(config: dict[str, Any], tokenizer: Path) -> TextFiles:
    """A text encoder's configuration and tokenizer as they are now. Raises `WeightsUnusable`."""
    return TextFiles(config, tokenizer, _sha256(tokenizer))


def _sha256(path: Path) -> str:
    try:
        return cache.sha256_of_file(path)
    except OSError as error:
        raise WeightsUnusable(f"{path} cannot be read: {reason(error)}") from None


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS_IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*.safetensors"))
    if not others:
        raise WeightsUnusable(f"{folder} has no weights ({_WEIGHTS_IN_FOLDER[0]})")
    return others[0]
