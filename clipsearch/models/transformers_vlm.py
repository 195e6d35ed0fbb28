"""Vision-language models of the transformers library.

They write captions (BLIP, GIT) and answers (ViLT, BLIP), and find boxes (OWLv2) and masks (CLIPSeg).

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.errors import ModelUnknown, WeightsUnusable, first_line
from clipsearch.images.box import Box
from clipsearch.models.detection import Detection, distinct, segment
from clipsearch.models.generated_text import MAX_ANSWER, MAX_CAPTION, Answer, clean
from clipsearch.models.hub import from_hub
from clipsearch.models.open_clip_encoder import torch_errors, usable_device

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels

_MAX_TOKENS = 50  # of a caption or an answer
_CAPTIONERS = ("blip", "git")  # `model_type`s that caption an image without a prompt
_ANSWERERS = ("vilt", "blip")
_DETECTORS = ("owlv2", "owlvit")
_SEGMENTERS = ("clipseg",)
_LEAST_SCORE = 0.1  # of a detection, as in the examples of OWLv2's authors


def config_of(name: str) -> dict[str, Any]:
    """The `config.json` of a model: a folder, or a repository of the Hugging Face Hub, whose file is downloaded.

    Raises `ModelUnknown` or `DownloadFailed`.
    """
    folder = Path(name).expanduser()
    path = folder / "config.json" if folder.is_dir() else from_hub(name, ["config.json"])
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise ModelUnknown(f"{name} has no valid config.json")
    return config


def check_captioner(name: str) -> None:
    """Raise `ModelUnknown` unless a model captions images, or `DownloadFailed`. Loads neither torch nor the weights."""
    _check(name, answers=False)


def check_answerer(name: str) -> None:
    """As `check_captioner`, of answers to questions."""
    _check(name, answers=True)


def check_detector(name: str) -> None:
    """As `check_captioner`, of boxes around what a text names."""
    _type_of(name, _DETECTORS, "detect things in photos")


def _check(name: str, *, answers: bool) -> str:
    types, task = (_ANSWERERS, "answer questions about photos") if answers else (_CAPTIONERS, "caption photos")
    return _type_of(name, types, f"{task} here; a server may run it", answers=answers)


def _type_of(name: str, types: Sequence[str], task: str, *, answers: bool = False) -> str:
    """The model's type, which is one of `types`. Raises `ModelUnknown` or `DownloadFailed`."""
    config = config_of(name)
    kind = str(config.get("model_type"))
    is_for_questions = kind == "blip" and "BlipForQuestionAnswering" in (config.get("architectures") or ())
    if kind not in types or (kind == "blip" and is_for_questions != answers):
        raise ModelUnknown(f"{name} is a model of type {kind}, which cannot {task}")
    return kind


class _Model:
    """A network with its image processor and tokenizer, on a device."""

    def __init__(self, name: str, network: str, device: str) -> None:
        """`network` is the name of a class of transformers. Raises `BadArgument` and `WeightsUnusable`."""
        import torch
        import transformers

        library: Any = transformers  # partly untyped
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
        place = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
        self.device = usable_device(device)
        dtype = torch.float32 if self.device == "cpu" else torch.float16
        safe: dict[str, Any] = {"trust_remote_code": False}
        try:
            loaded = getattr(library, network).from_pretrained(place, use_safetensors=True, **safe)
            self.network = loaded.to(self.device, dtype).eval()
            self.image_processor = library.AutoImageProcessor.from_pretrained(place, **safe)
            self.tokenizer = library.AutoTokenizer.from_pretrained(place, **safe)
        except Exception as error:  # the library, torch, safetensors and the Hub have no common base class
            raise WeightsUnusable(f"{name} cannot be loaded: {first_line(error)}") from error

    def inputs(self, images: Sequence[Pixels], text: str | None = None) -> dict[str, Any]:
        """The tensors for images (height, width, 3) and optionally a text about each."""
        writable = [image.copy() for image in images]  # torch warns of others
        tensors = dict(self.image_processor(writable, return_tensors="pt"))
        if text is not None:
            most = self.network.config.get_text_config().max_position_embeddings
            tokens = self.tokenizer([text] * len(images), return_tensors="pt", truncation=True, max_length=most)
            tensors |= {name: tokens[name] for name in ("input_ids", "attention_mask")}
        dtype = self.network.dtype
        return {name: one.to(self.device, dtype if one.is_floating_point() else None) for name, one in tensors.items()}

    def generate(self, inputs: Mapping[str, Any], most: int) -> list[str]:
        """The text that the network writes for each input, at most `most` characters long."""
        import torch

        with torch.inference_mode(), torch_errors():
            tokens = self.network.generate(**inputs, max_new_tokens=_MAX_TOKENS, do_sample=False)
            return [clean(text, most) for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


class TransformersCaptioner:
    """Captions images in batches, without a prompt. Raises `ModelUnknown`, `WeightsUnusable` and `EncodingFailed`."""

    def __init__(self, name: str, device: str = "auto") -> None:
        check_captioner(name)
        self._model = _Model(name, "AutoModelForImageTextToText", device)

    def captions(self, images: Sequence[Pixels]) -> list[str]:
        return self._model.generate(self._model.inputs(images), MAX_CAPTION)


class TransformersAnswerer:
    """Answers questions. Raises as `TransformersCaptioner`. Only ViLT, which chooses from known answers, has scores."""

    def __init__(self, name: str, device: str = "auto") -> None:
        self._kind = _check(name, answers=True)
        self._model = _Model(name, "AutoModelForVisualQuestionAnswering", device)

    def answer(self, image: Pixels, question: str) -> Answer:
        inputs = self._model.inputs([image], question)
        if self._kind == "blip":
            return Answer(question, self._model.generate(inputs, MAX_ANSWER)[0])
        import torch

        with torch.inference_mode(), torch_errors():
            score, label = self._model.network(**inputs).logits[0].float().sigmoid().max(-1)
        text = clean(str(self._model.network.config.id2label[int(label)]), MAX_ANSWER)
        return Answer(question, text, float(score))


class TransformersDetector:
    """Finds things that a text names. Raises as `TransformersCaptioner`."""

    def __init__(self, name: str, device: str = "auto") -> None:
        check_detector(name)
        self._model = _Model(name, "AutoModelForZeroShotObjectDetection", device)

    def detect(self, image: Pixels, text: str) -> list[Detection]:
        import torch

        height, width = image.shape[:2]
        with torch.inference_mode(), torch_errors():
            found = self._model.network(**self._model.inputs([image], text))
            processed = self._model.image_processor.post_process_object_detection(
                found, threshold=_LEAST_SCORE, target_sizes=[(height, width)]
            )[0]
        boxes = (processed["boxes"].float().cpu().numpy() / (width, height, width, height)).clip(0, 1).tolist()
        scored = zip((Box(*box) for box in boxes), processed["scores"].tolist(), strict=True)
        return distinct(Detection(box, score) for box, score in scored if box.left < box.right and box.top < box.bottom)


class TransformersSegmenter:
    """Masks what a text names. Raises as `TransformersCaptioner`."""

    def __init__(self, name: str, device: str = "auto") -> None:
        _type_of(name, _SEGMENTERS, "segment photos")
        self._model = _Model(name, "CLIPSegForImageSegmentation", device)

    def detect(self, image: Pixels, text: str) -> list[Detection]:
        import torch

        with torch.inference_mode(), torch_errors():
            logits = self._model.network(**self._model.inputs([image], text)).logits
        found = segment(logits.float().sigmoid().reshape(logits.shape[-2:]).cpu().numpy())
        return [] if found is None else [found]
