"""Vision-language models of the transformers library.

They write captions (BLIP, GIT) and answers (ViLT, BLIP), and find boxes (OWLv2) and masks (CLIPSeg). Weights are read
only from safetensors, and code that comes with a model is never run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import ModelUnknown, WeightsUnusable, first_line
from clipsearch.images.box import Box, distinct
from clipsearch.models.detection import Detection, segment
from clipsearch.models.generated_text import MAX_ANSWER, MAX_CAPTION, Answer, clean
from clipsearch.models.hub import from_hub
from clipsearch.models.open_clip_encoder import torch_errors, usable_device

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels

_MAX_TOKENS = 50  # of a caption or an answer
_LEAST_SCORE = 0.1  # of a detection, as in the examples of OWLv2's authors


class Task(NamedTuple):
    """What a model can be used for: the task, its `model_type`s, and the class of transformers that runs them."""

    what: str
    types: tuple[str, ...]
    network: str


CAPTIONS = Task("caption photos", ("blip", "git"), "AutoModelForImageTextToText")  # without a prompt
ANSWERS = Task("answer questions about photos", ("vilt", "blip"), "AutoModelForVisualQuestionAnswering")
DETECTIONS = Task("detect things in photos", ("owlv2", "owlvit"), "AutoModelForZeroShotObjectDetection")
MASKS = Task("segment photos", ("clipseg",), "CLIPSegForImageSegmentation")


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


def check(name: str, task: Task) -> str:
    """The `model_type` of a model. Loads neither torch nor the weights.

    Raises `ModelUnknown` if the model is for another task, or `DownloadFailed`.
    """
    config = config_of(name)
    kind = str(config.get("model_type"))
    answers = "BlipForQuestionAnswering" in (config.get("architectures") or ())
    if kind not in task.types or (kind == "blip" and answers != (task is ANSWERS)):
        hint = " here; a server may run it" if task in (CAPTIONS, ANSWERS) else ""
        raise ModelUnknown(f"{name} is a model of type {kind}, which cannot {task.what}{hint}")
    return kind


class _Model:
    """A network with its image processor and tokenizer, on a device."""

    def __init__(self, name: str, task: Task, device: str) -> None:
        """Raises `ModelUnknown`, `DownloadFailed`, `BadArgument` and `WeightsUnusable`."""
        self.type = check(name, task)
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
            loaded = getattr(library, task.network).from_pretrained(place, use_safetensors=True, **safe)
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
        self._model = _Model(name, CAPTIONS, device)

    def captions(self, images: Sequence[Pixels]) -> list[str]:
        return self._model.generate(self._model.inputs(images), MAX_CAPTION)


class TransformersAnswerer:
    """Answers questions. Raises as `TransformersCaptioner`. Only ViLT, which chooses from known answers, has scores."""

    def __init__(self, name: str, device: str = "auto") -> None:
        self._model = _Model(name, ANSWERS, device)

    def answer(self, image: Pixels, question: str) -> Answer:
        inputs = self._model.inputs([image], question)
        if self._model.type == "blip":
            return Answer(question, self._model.generate(inputs, MAX_ANSWER)[0])
        import torch

        with torch.inference_mode(), torch_errors():
            score, label = self._model.network(**inputs).logits[0].float().sigmoid().max(-1)
        text = clean(str(self._model.network.config.id2label[int(label)]), MAX_ANSWER)
        return Answer(question, text, float(score))


class TransformersDetector:
    """Finds things that a text names. Raises as `TransformersCaptioner`."""

    def __init__(self, name: str, device: str = "auto") -> None:
        self._model = _Model(name, DETECTIONS, device)

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
        self._model = _Model(name, MASKS, device)

    def detect(self, image: Pixels, text: str) -> list[Detection]:
        import torch

        with torch.inference_mode(), torch_errors():
            logits = self._model.network(**self._model.inputs([image], text)).logits
        found = segment(logits.float().sigmoid().reshape(logits.shape[-2:]).cpu().numpy())
        return [] if found is None else [found]
