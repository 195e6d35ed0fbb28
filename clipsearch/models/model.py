"""Models: names, configuration, preprocessing, files, and the fingerprint that ties an index to its model.

Names follow open_clip: `ARCH`, `ARCH/TAG`, `hf-hub:ORG/NAME` or `local-dir:FOLDER`. In addition, `mini` is the bundled
model, and `RECOMMENDED` defines a few short names. Nothing here needs torch or the network.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from clipsearch.errors import ModelMismatch, ModelUnknown, WeightsChanged, WeightsUnusable, reason
from clipsearch.images.preprocess import Preprocess
from clipsearch.models import cache


class Recommended(NamedTuple):
    """A recommended model, which users can also select by its `short` name.

    `megabytes` is the download size. `coco` and `flickr30k` are text-to-image R@1 in percent on the test sets: how
    often a caption's own photo is ranked first. None if unpublished.
    """

    short: str
    name: str
    megabytes: int
    licence: str
    languages: str
    coco: float | None = None
    flickr30k: float | None = None


# Sources: open_clip's docs/openclip_retrieval_results.csv ("image retr. R@1") for default and multilingual; table 1 of
# arXiv 2502.14786 for SigLIP 2. Licences are from the model cards on the Hugging Face Hub.
RECOMMENDED = (
    Recommended("default", "ViT-B-32/laion2b_s34b_b79k", 605, "MIT", "English", 39.3, 66.8),
    Recommended("siglip2", "ViT-B-32-SigLIP2-256/webli", 1540, "Apache-2.0", "many languages", 47.2),
    Recommended("accurate", "ViT-B-16-SigLIP2-256/webli", 1535, "Apache-2.0", "many languages", 53.2),
    Recommended(
        "multilingual", "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", 1470, "MIT", "many languages", 37.8, 64.5
    ),
)
DEFAULT = RECOMMENDED[0].name
MINI = "mini"
_MINI_FOLDER = Path(__file__).parent.parent / "mini"
# In open_clip's order of preference (`factory._find_checkpoint_in_dir`).
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
# SigLIP's logit bias is accepted and ignored: being constant, it changes neither a ranking nor a softmax.
_PLAIN_KEYS = frozenset(["embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_bias"])
BERT_FAMILY = ("bert", "roberta", "xlm-roberta")  # transformers' `model_type`
_OTHER_TOKENIZER = ("hf_tokenizer_name", "tokenizer_kwargs", "hf_model_name")

# Increment this when `preprocess` or `decode` produce different pixels, so that older embeddings are rejected.
PREPROCESSING_VERSION = 1


@dataclass(frozen=True, slots=True)
class TextFiles:
    """The files of a text encoder that uses the `tokenizers` library, besides its weights.

    `config` is the encoder's transformers `config.json`; for SigLIP it has only `pad_token_id`. `tokenizer` is the path
    of `tokenizer.json` and `sha256` its hash.
    """

    config: dict[str, Any]
    tokenizer: Path
    sha256: str

    @property
    def padding(self) -> int:
        """Id of the padding token; transformers' default for the encoder if the configuration has none."""
        return int(self.config.get("pad_token_id", 0 if self.config.get("model_type") == "bert" else 1))


@dataclass(frozen=True, slots=True)
class Model:
    """What encoders need to run a model, and what distinguishes it from other models.

    `architecture` is open_clip's name for it, or `local-dir:FOLDER`; `config` is open_clip's `model_cfg`. `text` is
    None for CLIP's own tokenizer, and for tokenizers that only open_clip can run.
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
        """Dimensions of an embedding."""
        return int(self.config["embed_dim"])

    @property
    def context_length(self) -> int:
        """Maximum tokens per text, special tokens included."""
        return int(self.config["text_cfg"].get("context_length", 77))

    @property
    def is_plain(self) -> bool:
        """Whether this is a plain two-tower model in a file that can be memory-mapped."""
        return self.weights.suffix == ".safetensors" and self.config.keys() <= _PLAIN_KEYS

    @property
    def reads_clip_tokens(self) -> bool:
        """Whether it uses CLIP's own BPE tokenizer."""
        is_builtin = ":" not in self.architecture  # open_clip then infers SigLIP's tokenizer from the name
        other = any(self.config["text_cfg"].get(key) for key in _OTHER_TOKENIZER)
        return not other and not (is_builtin and "siglip" in self.architecture.lower())

    @property
    def reads_canonical_text(self) -> bool:
        """Whether texts are lower-cased and stripped of punctuation first, as for SigLIP."""
        return is_canonical(self.config["text_cfg"])

    @property
    def fingerprint(self) -> str:
        """16 hex digits. Models with the same fingerprint compute the same embeddings, up to rounding."""
        essence = {
            "config": self.config,
            "preprocess": asdict(self.preprocess),
            "weights": self.sha256,
            "text": self.text and [self.text.config, self.text.sha256],
            "version": PREPROCESSING_VERSION,
        }
        return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The record that is stored in an index."""
        return json.dumps(asdict(self) | {"fingerprint": self.fingerprint}, default=str)

    @staticmethod
    def from_json(text: str) -> Model:
        """Parse the record from an index. Does not check that the files still exist.

        Raises `ModelMismatch` if the record is damaged, or if preprocessing has changed since it was written.
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
            raise ModelMismatch("the model record of the index is damaged") from None
        if model.fingerprint != fingerprint:
            raise ModelMismatch("the index was built by a version of clipsearch that preprocessed images differently")
        return model._in(_MINI_FOLDER) if model.name == MINI else model

    def check_weights(self) -> None:
        """Raise `WeightsChanged` if a file of the model is missing or has changed since the index was built."""
        for path, digest in self.files:
            try:
                current = cache.sha256_of_file(path)
            except OSError:
                raise WeightsChanged(f"files of the model {self.name} are missing: {path}") from None
            if current != digest:
                raise WeightsChanged(f"{path} has changed since the index was built")

    @property
    def files(self) -> list[tuple[Path, str]]:
        """The files that embeddings depend on, each with its SHA-256."""
        weights = [(self.weights, self.sha256)]
        return [*weights, (self.text.tokenizer, self.text.sha256)] if self.text else weights

    def _in(self, folder: Path) -> Model:
        """The same model in another folder, since the package may have moved after the index was built."""
        text = self.text and replace(self.text, tokenizer=folder / self.text.tokenizer.name)
        return replace(self, architecture=f"local-dir:{folder}", weights=folder / self.weights.name, text=text)


def current_model(record: str) -> Model:
    """The model of an index's record with its current files and preprocessing, for a rebuild. Ignores fingerprints.

    Raises `WeightsUnusable`.
    """
    old = json.loads(record)
    if old["name"] == MINI:
        return mini()
    files = old["text"] and _hashed(old["text"]["config"], Path(old["text"]["tokenizer"]))
    weights = Path(old["weights"])
    parts = old["architecture"], old["config"], old["preprocess"]
    return make(old["name"], *parts, weights, files)


def canonical_name(name: str) -> str:
    """Resolve short names, the default architecture without its tag, and relative folders. No other name changes."""
    schema, _, place = name.partition(":")
    if schema == "local-dir":
        return f"local-dir:{Path(place).expanduser().absolute()}"
    return DEFAULT if name == DEFAULT.partition("/")[0] else full_name(name)


def full_name(name: str) -> str:
    """Expand a short name; any other name is returned as it is."""
    return {model.short: model.name for model in RECOMMENDED}.get(name, name)


def refers_to(name: str, model: Model) -> bool:
    """Whether a name given by a user refers to `model`. A bare architecture matches any tag.

    The exception is the default architecture, which means only the default model.
    """
    full = canonical_name(name)
    return full == model.name or ("/" not in full and full == split_name(model.name)[0])


def split_name(name: str) -> tuple[str, str | None]:
    """Split `ARCH/TAG`. The tag is None if missing."""
    architecture, _, tag = name.partition("/")
    return architecture, tag or None


def from_folder(folder: Path, name: str) -> Model:
    """Load the model in a folder that has `open_clip_config.json` and weights, like open_clip's `local-dir:`.

    Raises `ModelUnknown` or `WeightsUnusable`.
    """
    config, preprocess = read_config(folder)
    names = text_file_names(config)
    files = text_files(config, *(folder / name for name in names)) if names else None
    return make(name, f"local-dir:{folder}", config, preprocess, _weights_in(folder), files)


def read_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and `preprocess_cfg` from a folder's `open_clip_config.json`. Raises `ModelUnknown`."""
    try:
        found = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        config, preprocess = found["model_cfg"], found.get("preprocess_cfg") or {}
        valid = all(isinstance(config[part], dict) for part in ("text_cfg", "vision_cfg")) and int(config["embed_dim"])
    except (OSError, ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ModelUnknown(f"{folder} has no valid open_clip_config.json")
    return config, preprocess


def about_mini() -> str:
    """A clause about the accuracy of the bundled model, with the figures from its model card."""
    about: str = json.loads((_MINI_FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))["about"]
    return about


def mini() -> Model:
    """The bundled model, which needs no download."""
    return from_folder(_MINI_FOLDER, MINI)


def make(
    name: str,
    architecture: str,
    config: dict[str, Any],
    preprocess: dict[str, Any],
    weights: Path,
    text: TextFiles | None = None,
) -> Model:
    """Build a `Model` from open_clip's `model_cfg` and `preprocess_cfg`. Missing values get open_clip's defaults.

    Raises `WeightsUnusable` if the weights file cannot be read.
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
    """Names of the configuration and tokenizer files that a model's text tower needs.

    None if it needs none, as with CLIP's own tokenizer, or if the text tower is not supported here. `config` is
    open_clip's `model_cfg`.
    """
    text = config["text_cfg"]
    if is_canonical(text):
        return "tokenizer_config.json", "tokenizer.json"
    if text.get("hf_model_name") and not text.get("tokenizer_kwargs") and not text.get("tokenizer_mode"):
        return "config.json", "tokenizer.json"
    return None


def text_files(config: dict[str, Any], encoder_config: Path, tokenizer: Path) -> TextFiles | None:
    """Load the files named by `text_file_names`; None if one is missing, invalid or of an unsupported encoder.

    `config` is open_clip's `model_cfg`. Raises `WeightsUnusable` if the tokenizer exists but cannot be read.
    """
    try:
        encoder = json.loads(encoder_config.read_text(encoding="utf-8"))
        if is_canonical(config["text_cfg"]):
            encoder = _padding_of(encoder, json.loads(tokenizer.read_text(encoding="utf-8")))
        elif encoder["model_type"] not in BERT_FAMILY:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return _hashed(encoder, tokenizer) if encoder and tokenizer.is_file() else None


def is_canonical(text: dict[str, Any]) -> bool:
    """Whether a `text_cfg` of open_clip asks for SigLIP's text cleanup and a Hugging Face tokenizer without encoder."""
    has_tokenizer = bool(text.get("hf_tokenizer_name")) and not text.get("hf_model_name")
    return (
        has_tokenizer and not text.get("tokenizer_mode") and text.get("tokenizer_kwargs") == {"clean": "canonicalize"}
    )


def _padding_of(tokenizer_config: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The padding token of a `tokenizer_config.json`; empty if it pads on the left, which is not supported."""
    token = tokenizer_config["pad_token"]
    name = token["content"] if isinstance(token, dict) else token
    numbers = {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    return {"pad_token_id": numbers[name]} if tokenizer_config.get("padding_side", "right") == "right" else {}


def _hashed(config: dict[str, Any], tokenizer: Path) -> TextFiles:
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
        raise WeightsUnusable(f"{folder} has no weights, such as {_WEIGHTS_IN_FOLDER[0]}")
    return others[0]
