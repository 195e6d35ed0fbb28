"""Small networks with all the parts of open_clip's models, for comparing implementations.

Their weights are drawn with NumPy, under the names and in the shapes of open_clip's: none of this needs torch.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from clipsearch.arrays import unit_rows
from clipsearch.models import convnet
from clipsearch.models.model import Model, from_folder
from clipsearch.models.transformer import OPEN_CLIP, TIMM, Names

Shapes = dict[str, tuple[int, ...]]
_GAIN = 1.2  # of a matrix: how much wider it makes what it is given, if that is random

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


def _linear(name: str, before: int, after: int) -> Shapes:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _blocks(names: Names, layers: int, width: int, hidden: int) -> Shapes:
    """The transformer that `clipsearch.models.transformer` runs."""
    shapes: Shapes = {}
    for n in range(layers):
        block = {names.qkv_weight: (3 * width, width), names.qkv_bias: (3 * width,)}
        block |= _norm(names.norm_1, width) | _linear(names.out, width, width) | _norm(names.norm_2, width)
        block |= _linear(names.mlp_in, width, hidden) | _linear(names.mlp_out, hidden, width)
        shapes |= _below(f"{names.blocks}.{n}.", block)
    return shapes


def _below(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def clip_text(dim: int, text: dict[str, Any]) -> Shapes:
    """open_clip's `TextTransformer`, and the same part of its `CLIP`."""
    width, length = text.get("width", 512), text.get("context_length", 77)
    shapes: Shapes = {"token_embedding.weight": (text.get("vocab_size", 49408), width)}
    shapes |= {"positional_embedding": (length, width)}
    shapes |= _blocks(OPEN_CLIP, text.get("layers", 12), width, 4 * width) | _norm("ln_final", width)
    if text.get("proj_bias"):
        return shapes | _linear("text_projection", width, dim)
    return shapes if text.get("proj_type") == "none" else shapes | {"text_projection": (width, dim)}


_TABLES = {"vocab_size": "word", "max_position_embeddings": "position", "type_vocab_size": "token_type"}


def bert_text(dim: int, text: dict[str, Any], bert: dict[str, Any]) -> Shapes:
    """open_clip's `HFTextEncoder`."""
    width, hidden = bert["hidden_size"], bert["intermediate_size"]
    shapes = _norm("embeddings.LayerNorm", width)
    for size, table in _TABLES.items():
        shapes[f"embeddings.{table}_embeddings.weight"] = (bert[size], width)
    for n in range(bert["num_hidden_layers"]):
        layer = _linear("intermediate.dense", width, hidden) | _linear("output.dense", hidden, width)
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            layer |= _linear(f"attention.{name}", width, width)
        layer |= _norm("attention.output.LayerNorm", width) | _norm("output.LayerNorm", width)
        shapes |= _below(f"encoder.layer.{n}.", layer)
    if text.get("hf_pooler_type") == "cls_pooler":
        shapes |= _linear("pooler.dense", width, width)
    between = (width + dim) // 2
    is_linear = text.get("hf_proj_type") == "linear"
    head = {"weight": (dim, width)} if is_linear else {"0.weight": (between, width), "2.weight": (dim, between)}
    return _below("transformer.", shapes) | _below("proj.", head)


def clip_image(dim: int, vision: dict[str, Any]) -> Shapes:
    """open_clip's `VisionTransformer`."""
    width, patch, size = vision.get("width", 768), vision.get("patch_size", 16), vision.get("image_size", 224)
    rows, columns = (side // patch for side in ([size, size] if isinstance(size, int) else size))
    shapes: Shapes = {"class_embedding": (width,), "positional_embedding": (rows * columns + 1, width)}
    shapes |= {"conv1.weight": (width, 3, patch, patch), "proj": (width, dim)}
    shapes |= _norm("ln_pre", width) | _norm("ln_post", width)
    return shapes | _blocks(OPEN_CLIP, vision.get("layers", 12), width, 4 * width)


def timm_image(dim: int, vision: dict[str, Any]) -> Shapes:
    """open_clip's `TimmModel` of a convolutional network; one that this program does not run needs torch."""
    name = vision["timm_model_name"]
    if name not in convnet._NETWORKS:
        import open_clip

        net = open_clip.CLIP(**tiny_config(embed_dim=dim, vision_cfg=vision)).visual
        return {key: tuple(value.shape) for key, value in net.state_dict().items() if value.is_floating_point()}
    shapes: Shapes = {}
    for layer in (layer for block in convnet._NETWORKS[name]() for layer in block.layers):
        shapes[f"{layer.conv}.weight"] = (layer.out_channels, layer.in_channels, layer.size, layer.size)
        shapes |= {f"{layer.norm}.running_{part}": (layer.out_channels,) for part in ("mean", "var")}
        shapes |= _norm(layer.norm, layer.out_channels)
    if not vision["timm_proj"]:
        shapes |= _linear("classifier", convnet._FEATURES, dim)
    shapes = _below("trunk.", shapes)
    if vision["timm_proj"] == "linear":
        shapes["head.proj.weight"] = (dim, convnet._FEATURES)
    elif vision["timm_proj"] == "mlp":
        shapes |= _linear("head.mlp.fc1", convnet._FEATURES, 2 * dim) | {"head.mlp.fc2.weight": (dim, 2 * dim)}
    return shapes


def draw(shapes: Shapes) -> dict[str, np.ndarray]:
    """Weights that give clearly different embeddings of different inputs, and of which each makes a difference."""
    rng = np.random.default_rng(1)
    tensors = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32)
        if name.endswith("running_var"):
            values = rng.uniform(0.5, 2, shape).astype(np.float32)
        elif len(shape) < 2:
            values = values * np.float32(0.1) + np.float32(name.endswith("weight"))
        elif "word_embeddings" in name:
            values *= 2
        elif "embed" not in name or len(shape) == 4:
            values *= _GAIN / math.sqrt(values[0].size)
        else:
            values *= 0.5
        tensors[name] = values
    return tensors


def save_tensors(tensors: dict[str, np.ndarray], path: Path, dtype: str = "F32") -> None:
    """Write a safetensors file; `dtype` is its name of F32, F16 or BF16, which NumPy does not have."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.size * (4 if dtype == "F32" else 2)
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for tensor in tensors.values():
            values = tensor.astype("<f2" if dtype == "F16" else "<f4")
            if dtype == "BF16":  # the upper half of the bits, rounded
                values = ((values.view("<u4") + 0x8000) >> 16).astype("<u2")
            file.write(values.tobytes())


def save_tiny(folder: Path, dtype: str = "F32", text: Shapes | None = None, **changes: Any) -> Model:
    """A small CLIP; `text` are the tensors of another text encoder than CLIP's own."""
    config = tiny_config(**changes)
    return save_model(folder, config, clip_tensors(config, text), dtype)


def clip_tensors(config: dict[str, Any], text: Shapes | None = None) -> dict[str, np.ndarray]:
    """Weights of the network of a `model_cfg`."""
    dim, vision = config["embed_dim"], config["vision_cfg"]
    image = timm_image(dim, vision) if "timm_model_name" in vision else clip_image(dim, vision)
    text = text or clip_text(dim, config["text_cfg"])
    shapes = _below("text." if config.get("custom_text") else "", text) | _below("visual.", image)
    return draw(shapes) | {"logit_scale": np.array(2.66)}


def save_model(
    folder: Path,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    dtype: str,
    preprocess: dict[str, Any] | None = None,
) -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(tensors, folder / "open_clip_model.safetensors", dtype)
    described = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
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
    "fp16": {"dtype": "F16"},
    "bf16": {"dtype": "BF16"},
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


def save_hf(folder: Path, kind: str, dtype: str = "F32", **text: Any) -> Model:
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
    text_cfg |= {"context_length": 24} | text
    shapes = bert_text(tiny_config()["embed_dim"], text_cfg, encoder)
    return save_tiny(folder, dtype, shapes, text_cfg=text_cfg, custom_text=True)


# ------------------------------------------------------------------------------------------ SigLIP

SIGLIP_KINDS: dict[str, dict[str, Any]] = {
    "siglip": {"tokenizer": "t5", "act": None},
    "siglip i18n": {"tokenizer": "t5", "act": None, "proj": {"proj_type": "none"}},
    "siglip2": {"tokenizer": "gemma", "act": "gelu_tanh"},
    "siglip2 fp16": {"tokenizer": "gemma", "act": "gelu_tanh", "dtype": "F16"},
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


def siglip_image(size: int, patch: int) -> Shapes:
    """timm's `VisionTransformer`, smaller than any that it has a name for: see `SMALL_VISION`."""
    width, hidden, layers, _ = SMALL_VISION
    shapes: Shapes = {"pos_embed": (1, (size // patch) ** 2, width), "attn_pool.latent": (1, 1, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    pool = _linear("q", width, width) | _linear("kv", width, 2 * width) | _linear("proj", width, width)
    pool |= _norm("norm", width) | _linear("mlp.fc1", width, hidden) | _linear("mlp.fc2", hidden, width)
    return shapes | _blocks(TIMM, layers, width, hidden) | _norm("norm", width) | _below("attn_pool.", pool)


def save_siglip(folder: Path, kind: str = "siglip2") -> Model:
    """A small network with all the parts of SigLIP."""
    described = SIGLIP_KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_pairs() if described["tokenizer"] == "gemma" else t5_unigrams()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIGS[described["tokenizer"]]))
    config = siglip_config(described, tokenizer.get_vocab_size(), folder)
    image = siglip_image(config["vision_cfg"]["image_size"], 32 if described["act"] else 16)
    tensors = draw(_below("text.", clip_text(48, config["text_cfg"])) | _below("visual.trunk.", image))
    tensors |= {"logit_scale": np.array(4.7), "logit_bias": np.array(-16.5)}
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    return save_model(folder, config, tensors, described.get("dtype", "F32"), preprocess)


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
