"""Small networks with all the parts of open_clip's models, for comparing implementations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import timm
import tokenizers
import torch

from clipsearch.arrays import unit_rows
from clipsearch.models.model import Model, from_folder

TEXTS = [
    "a photo of a dog",
    "two red circles on a table",
    "sunset",
    "",
    "schöne Grüße 🐕",
    "one two three four five six seven " * 5,
    "an end <end_of_text> and more",
]


def tiny_config(**changes: Any) -> dict[str, Any]:
    """open_clip's `model_cfg` of a network with all the parts and few numbers; patches do not fill the image."""
    vision = {"image_size": 36, "layers": 2, "width": 48, "head_width": 12, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text} | changes


def strengthen(net: torch.nn.Module) -> None:
    """Random weights give nearly the same embedding for all inputs, and zero biases hide a missing one."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "word_embeddings" in name:
                parameter.normal_(std=2)
            elif "embedding" in name and "LayerNorm" not in name:
                parameter.normal_(std=0.5)
            elif "attn" in name and "weight" in name:
                parameter.mul_(2)
            elif "mlp" in name and "weight" in name:
                parameter.mul_(4)
            elif "encoder.layer" in name and parameter.ndim == 2:  # of the transformers library
                parameter.mul_(10)
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def save_tiny(folder: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> Model:
    config = tiny_config(**changes)
    built = {key: value for key, value in config.items() if key != "custom_text"}
    torch.manual_seed(0)
    net = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**built)
    strengthen(net)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in net.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return from_folder(folder, f"local-dir:{folder}")


def some_pixels(model: Model, count: int = 4) -> np.ndarray:
    """Images with large parts of different colours, and noise."""
    rng = np.random.default_rng(2)
    height, width = model.preprocess.size
    coarse = rng.integers(0, 200, (count, 3, 3, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 3 // height, np.arange(width) * 3 // width
    return coarse[:, rows][:, :, columns] + rng.integers(0, 55, (count, height, width, 3), dtype=np.uint8)


KINDS: dict[str, dict[str, Any]] = {
    "gelu": {},
    "quick gelu": {"quick_gelu": True},
    "custom text": {"custom_text": True},
    "fp16": {"dtype": torch.float16},
    "bf16": {"dtype": torch.bfloat16},
    "oblong": {"vision_cfg": {"image_size": [24, 40], "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}},
    "open_clip's defaults": {
        "vision_cfg": {"image_size": 32, "layers": 1},
        "text_cfg": {"context_length": 8, "layers": 1},
    },
}


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    return (one * unit_rows(other)).sum(axis=1)


def assert_they_differ(rows: np.ndarray) -> None:
    """A test of equal embeddings says little where all are equal."""
    likeness = unit_rows(rows) @ unit_rows(rows).T
    assert (likeness - np.eye(len(rows))).max() < 0.99


# ------------------------------------------------------------------------------------------ BERT's family

_SENTENCES = [
    "a photo of a dog on a beach", "two red circles on a table", "ein Hund läuft am Strand", "un chien sur la plage",
    "sunset over the sea", "schöne Grüße aus Köln", "日本の夏 漢字", "one two three four five six seven eight",
    "a birthday party with balloons, 7.5% & more", "собака на пляже", "a cat's breakfast isn't here!",
]  # fmt: skip

HF_KINDS = {
    "minilm": {"model_type": "bert", "tokenizer_class": "BertTokenizer", "hf_proj_type": "linear"},
    "minilm mlp": {"model_type": "bert", "tokenizer_class": "BertTokenizer", "hf_proj_type": "mlp"},
    "bert cls": {"model_type": "bert", "tokenizer_class": "BertTokenizer", "hf_pooler_type": "cls_pooler"},
    "bert first": {
        "model_type": "bert",
        "tokenizer_class": "BertTokenizer",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
    },
    "xlm-roberta": {"model_type": "xlm-roberta", "tokenizer_class": "PreTrainedTokenizerFast"},
}


def word_pieces() -> tokenizers.Tokenizer:
    """A small tokenizer with all the parts of BERT's."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=400, special_tokens=special)
    made.train_from_iterator(_SENTENCES, trainer)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    made.enable_truncation(128)  # as the file of all-MiniLM-L6-v2 has it
    made.enable_padding(length=128)
    return made


def sentence_pieces(size: int, special: list[str], texts: list[str]) -> tokenizers.Tokenizer:
    """A small tokenizer of unigrams, as SentencePiece makes them, without what it puts around a text."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.NFKC()
    split = tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(list(split))
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>")
    made.train_from_iterator(texts, trainer)
    return made


def unigrams() -> tokenizers.Tokenizer:
    """A small tokenizer with all the parts of XLM-R's."""
    made = sentence_pieces(300, ["<s>", "<pad>", "</s>", "<unk>"], _SENTENCES * 20)
    made.add_special_tokens(["<mask>"])
    ends = [(token, made.token_to_id(token)) for token in ("<s>", "</s>")]
    made.post_processor = tokenizers.processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    return made


def save_hf(folder: Path, kind: str, dtype: torch.dtype = torch.float32, **text: Any) -> Model:
    """A small network whose texts are read by an encoder of the transformers library, which may be looked up in it."""
    described = HF_KINDS[kind]
    roberta = described["model_type"] != "bert"
    tokenizer = unigrams() if roberta else word_pieces()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"] if roberta else ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]
    names = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
    tokenizer_config = dict(zip(names, special, strict=True)) | {"tokenizer_class": described["tokenizer_class"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    encoder = {
        "model_type": described["model_type"],
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "hidden_act": "gelu",
        "max_position_embeddings": 66 if roberta else 64,
        "type_vocab_size": 1 if roberta else 2,
        "layer_norm_eps": 1e-5 if roberta else 1e-12,
        "pad_token_id": 1 if roberta else 0,
    }
    (folder / "config.json").write_text(json.dumps(encoder))
    text_cfg = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_model_pretrained": False}
    text_cfg |= {key: value for key, value in described.items() if key.startswith("hf_")}
    return save_tiny(folder, dtype, text_cfg=text_cfg | {"context_length": 24} | text, custom_text=True)


# ------------------------------------------------------------------------------------------ SigLIP

SIGLIP_KINDS: dict[str, dict[str, Any]] = {
    "siglip": {"tokenizer": "t5", "act": None},
    "siglip i18n": {"tokenizer": "t5", "act": None, "proj": {"proj_type": "none"}},
    "siglip2": {"tokenizer": "gemma", "act": "gelu_tanh"},
    "siglip2 fp16": {"tokenizer": "gemma", "act": "gelu_tanh", "dtype": torch.float16},
}
_WORDS = " ".join(_SENTENCES).lower()


def byte_pairs(merges: int = 200) -> tokenizers.Tokenizer:
    """A small tokenizer with all the parts of Gemma's, and its words: what it does not know it writes as bytes."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    trained.train_from_iterator(_SENTENCES, tokenizers.trainers.BpeTrainer(vocab_size=merges, show_progress=False))
    learnt = json.loads(trained.to_str())["model"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<unused0>"]
    others = ["\n", "▁▁", "▁▁▁"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *others, *learnt["vocab"]]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocabulary,
            [tuple(pair) for pair in learnt["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    made.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in special])
    made.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in others])
    made.post_processor = tokenizers.processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    return made


def t5_unigrams() -> tokenizers.Tokenizer:
    """A small tokenizer with all the parts of T5's but its table of characters."""
    made = sentence_pieces(200, ["<pad>", "</s>", "<unk>"], [_WORDS] * 20)
    made.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return made


def siglip_config(described: dict[str, Any], vocabulary: int, folder: Path) -> dict[str, Any]:
    """open_clip's `model_cfg` of a small network; patches do not fill the image."""
    text: dict[str, Any] = {"context_length": 16, "vocab_size": vocabulary, "hf_tokenizer_name": str(folder)}
    text |= {"tokenizer_kwargs": {"clean": "canonicalize"}, "width": 48, "heads": 4, "layers": 3}
    text |= {"no_causal_mask": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
    text |= described.get("proj", {"proj_bias": True})
    text |= {"act_kwargs": {"approximate": "tanh"}} if described["act"] else {}
    vision = {"timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"}
    vision |= {"timm_model_name": f"vit_base_{'patch32_siglip_256' if described['act'] else 'patch16_siglip_224'}"}
    vision |= {"image_size": 72 if described["act"] else 36}
    return {"embed_dim": 48, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}


def save_siglip(folder: Path, kind: str = "siglip2") -> tuple[Model, torch.nn.Module, torch.nn.Module]:
    """A small network with all the parts of SigLIP, and open_clip's text and timm's image tower with its weights.

    Its vision transformer is smaller than any that timm has a name for: see `SMALL_VISION`.
    """
    described = SIGLIP_KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_pairs() if described["tokenizer"] == "gemma" else t5_unigrams()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIGS[described["tokenizer"]]))
    config = siglip_config(described, tokenizer.get_vocab_size(), folder)
    torch.manual_seed(0)
    text = open_clip.model._build_text_tower(48, config["text_cfg"])
    width, hidden, layers, heads = SMALL_VISION
    image = timm.models.VisionTransformer(
        img_size=config["vision_cfg"]["image_size"],
        patch_size=32 if described["act"] else 16,
        num_classes=0,
        global_pool="map",
        embed_dim=width,
        depth=layers,
        num_heads=heads,
        mlp_ratio=hidden / width,
        class_token=False,
        act_layer=described["act"],
    )
    strengthen(text)
    strengthen(image)
    with torch.no_grad():
        image.patch_embed.proj.weight.mul_(4)
        image.attn_pool.latent.normal_()
    tensors = {f"text.{key}": value for key, value in text.state_dict().items()}
    tensors |= {f"visual.trunk.{key}": value for key, value in image.state_dict().items()}
    tensors |= {"logit_scale": torch.tensor(4.7), "logit_bias": torch.tensor(-16.5)}
    tensors = {key: value.to(described.get("dtype", torch.float32)).contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(tensors, folder / "open_clip_model.safetensors")
    for net, prefix in ((text, "text."), (image, "visual.trunk.")):  # as the file has them
        net.load_state_dict({key: tensors[prefix + key].float() for key in net.state_dict()})
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    written = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(written)
    return from_folder(folder, f"local-dir:{folder}"), text.eval(), image.eval()


SMALL_VISION = (48, 96, 2, 4)  # width, width in between, blocks, heads: to put in the place of those of timm's "base"
_TOKENIZER_CONFIGS: dict[str, dict[str, Any]] = {
    "gemma": {
        "tokenizer_class": "GemmaTokenizer",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "bos_token": "<bos>",
        "unk_token": "<unk>",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
    },
    "t5": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>", "eos_token": "</s>"},
}
