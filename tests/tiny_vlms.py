"""Vision-language models of the true architectures, tiny and with random weights. They need the extra vlm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat", "on", "the", "beach", "how", "many"]
WORDS += ["yes", "no", "one", "two", "red", "circle", "is", "there", "it"]
_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = _TOWER | {"vocab_size": len(WORDS), "max_position_embeddings": 64, "pad_token_id": 0}
ENDS = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
VISION = _TOWER | {"image_size": 32, "patch_size": 16}


def tiny_owl() -> tuple[Any, Any]:
    """An OWLv2 with its image processor, which finds something in any photo for any text."""
    import torch
    import transformers

    config = transformers.Owlv2Config(
        text_config=TEXT | ENDS, vision_config=VISION | {"image_size": 64}, projection_dim=16
    )
    network = transformers.Owlv2ForObjectDetection(config)
    for part in (network.class_head.logit_shift, network.class_head.logit_scale):
        torch.nn.init.constant_(part.weight, 0.0)
        torch.nn.init.constant_(part.bias, 1.0)
    torch.nn.init.normal_(network.box_head.dense2.weight, std=0.01)  # boxes stay near their cells of the grid
    torch.nn.init.zeros_(network.box_head.dense2.bias)
    return network, transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64})


def save_vlm(folder: Path, network: Any, processor: Any) -> None:
    """Save a network, its image processor and a tokenizer of `WORDS` as `save_pretrained` does."""
    import transformers

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    for part in (network, processor, transformers.BertTokenizer(str(folder / "vocab.txt"))):
        part.save_pretrained(folder)
