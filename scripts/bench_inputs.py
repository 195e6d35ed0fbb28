"""What `bench.py` measures on: photo-like JPEGs, random weights, big indexes, and rclip in its own environment."""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import string
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZES = {"12": (4000, 3000), "2": (1632, 1224), "0.1": (384, 288), "0.02": (160, 120)}  # megapixels: width, height
PEER = "rclip==3.3.*"

# Geometry of real ViT-B/32 embeddings (OpenAI's weights, 386 photos, 1,203 prompts): images have a mean of norm 0.68,
# texts one of norm 0.86, and the cosine between the two means is 0.33.
IMAGE_MEAN, TEXT_MEAN, MEANS_COSINE = 0.68, 0.86, 0.33

FOLDERS = 1000  # that have files of their own


# ------------------------------------------------------------------------------------------ photos


def make_photos(folder: Path, megapixels: str, count: int) -> Path:
    """`count` JPEGs of about so many megapixels, always the same, made by all cores; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [n for n in range(count) if not (folder / f"{n:05d}.jpg").exists()]
    with multiprocessing.get_context("fork").Pool() as pool:
        pool.map(functools.partial(_make_photo, folder, SIZES[megapixels]), wanted, chunksize=8)
    return folder


def _make_photo(folder: Path, size: tuple[int, int], number: int) -> None:
    """A piece of one large texture, in its own light, with noise as a sensor adds it: about 3 bits a pixel."""
    texture, noise = _texture(size)
    rng = np.random.default_rng(number)
    width, height = size
    top, left = rng.integers(texture.shape[0] - height), rng.integers(texture.shape[1] - width)
    view = texture[top : top + height, left : left + width]
    if rng.random() < 0.5:
        view = view[:, ::-1]
    light = rng.uniform(0.6, 1.2, 3).astype(np.float32)
    grain = np.roll(noise, int(rng.integers(noise.shape[0])), 0)[:height, :width]
    pixels = np.clip(view * light + grain, 0, 255).astype(np.uint8)
    temporary = folder / f"{number:05d}.tmp"
    Image.fromarray(pixels).save(temporary, "JPEG", quality=90)
    temporary.rename(folder / f"{number:05d}.jpg")


@functools.cache
def _texture(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A picture a quarter larger than `size`, with detail at all scales as nature has it, and a field of noise."""
    rng = np.random.default_rng(0)
    width, height = size[0] * 5 // 4, size[1] * 5 // 4
    out = np.full((height, width, 3), 110, np.float32)
    octaves = int(np.log2(height)) - 2
    for octave in range(octaves):
        cells = 4 * 2**octave
        small = rng.normal(size=(cells, cells * width // height, 3)).astype(np.float32)
        small += 1.5 * small.mean(-1, keepdims=True)  # colours go together
        for channel in range(3):
            layer = Image.fromarray(small[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
            out[:, :, channel] += 34 * 0.78**octave * np.asarray(layer)
    return out, rng.normal(scale=6, size=(size[1], size[0], 3)).astype(np.float32)


# ------------------------------------------------------------------------------------------ models


def make_weights(work: Path) -> Path:
    """Random weights of ViT-B/32, as a safetensors file."""
    path = work / "vit-b-32.safetensors"
    if not path.exists():
        import open_clip
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        save_file(open_clip.create_model("ViT-B-32").state_dict(), path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)
    return path


def make_siglip(work: Path) -> Path:
    """A folder for `local-dir:`: SigLIP 2's B/32 with random weights and a vocabulary of its size, made of chance."""
    folder = work / "siglip2"
    if not (folder / "open_clip_config.json").exists():
        import open_clip
        import torch
        from safetensors.torch import save_file

        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        save_file(open_clip.create_model("ViT-B-32-SigLIP2-256").state_dict(), folder / "open_clip_model.safetensors")
        _write_vocabulary(folder)
        model = open_clip.get_model_config("ViT-B-32-SigLIP2-256")
        model["text_cfg"]["hf_tokenizer_name"] = str(folder)
        preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
        config = json.dumps({"model_cfg": model, "preprocess_cfg": preprocess})
        (folder / "open_clip_config.json").write_text(config)
    return folder


def _write_vocabulary(folder: Path, tokens: int = 256_000) -> None:
    """A `tokenizer.json` of Gemma's form and size: each merge puts together two tokens that there are."""
    rng = random.Random(0)
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *string.ascii_lowercase, *string.digits, "▁"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    words = pieces[len(special) + 256 :]
    learnt: dict[tuple[str, str], None] = {}
    while len(vocabulary) < tokens:
        pair = (words[int(len(words) * rng.random() ** 5)], words[int(len(words) * rng.random() ** 5)])
        merged = pair[0] + pair[1]
        if len(merged) > 12 or merged in vocabulary:
            continue
        vocabulary[merged] = len(vocabulary)
        words.append(merged)
        for place in range(1, len(merged)):  # every way to the token, as Gemma's table has them
            if merged[:place] in vocabulary and merged[place:] in vocabulary:
                learnt[merged[:place], merged[place:]] = None
    added = [{"id": number, "content": token, "special": True} for number, token in enumerate(special)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    end = {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<eos>", "type_id": 0}}]
    pair_of_texts = [*single, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "<eos>", "type_id": 1}}]
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    written = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token | flags for token in added],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair_of_texts,
            "special_tokens": {"<eos>": end},
        },
        "decoder": None,
        "model": model | {"vocab": vocabulary, "merges": [list(pair) for pair in learnt]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False, indent=2), encoding="utf-8")
    described: dict[str, Any] = {
        "tokenizer_class": "GemmaTokenizer",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
    }
    described |= {"bos_token": "<bos>", "add_bos_token": False, "add_eos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))


@dataclass(frozen=True, slots=True)
class Peer:
    """rclip, installed beside us, with a folder that has the model that it would download."""

    program: Path
    data: Path

    def environment(self) -> dict[str, str]:
        return os.environ | {"RCLIP_DATADIR": str(self.data), "HF_HUB_OFFLINE": "1"}

    def fresh(self) -> Peer:
        """The same without an index."""
        (self.data / "db.sqlite3").unlink(missing_ok=True)
        return self


def make_peer(work: Path, pixels: int) -> Peer:
    """rclip with random weights of its own architecture, ViT-B/32 at 256 pixels, or of ours, at 224."""
    program = work / "rclip" / "bin" / "rclip"
    if not program.exists():
        venv.create(work / "rclip", with_pip=True, clear=True)
        python = work / "rclip" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True, stdout=sys.stderr)
    data = work / f"rclip-{pixels}"
    folder = data / "ViT-B-32-256-datacomp_s34b_b86k"
    if not (folder / "done").exists():
        _export(folder, pixels)
        import open_clip

        (data / "tokenizer").mkdir(exist_ok=True)
        vocabulary = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
        shutil.copy(vocabulary, data / "tokenizer")
        (folder / "done").touch()
    return Peer(program, data)


def _export(folder: Path, pixels: int) -> None:
    """The two towers as ONNX, as rclip reads them: `input` of 256 pixels or 77 tokens, one output."""
    import open_clip
    import torch

    class Visual(torch.nn.Module):
        def __init__(self, tower: torch.nn.Module) -> None:
            super().__init__()
            self.tower = tower

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            margin = (256 - pixels) // 2  # rclip always makes 256
            return cast(torch.Tensor, self.tower(images[:, :, margin : 256 - margin, margin : 256 - margin]))

    class Textual(torch.nn.Module):
        def __init__(self, clip: torch.nn.Module) -> None:
            super().__init__()
            self.clip = clip

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return cast(torch.Tensor, cast(Any, self.clip).encode_text(tokens))

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32" if pixels == 224 else "ViT-B-32-256").eval()
    parts = (
        ("visual.onnx", Visual(clip.visual), torch.zeros(2, 3, 256, 256)),
        ("textual.onnx", Textual(clip), torch.zeros(2, 77, dtype=torch.long)),
    )
    for name, module, example in parts:
        torch.onnx.export(
            module.eval(),
            (example,),
            str(folder / name),
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


# ------------------------------------------------------------------------------------------ embeddings and indexes


def make_embeddings(rows: int, dim: int = 512, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Unit rows of images in blocks: a mean, a falling spectrum around it."""
    rng = np.random.default_rng(seed)
    spectrum = _spectrum(dim)
    mean = _means(dim)[0]
    for start in range(0, rows, 50_000):
        count = min(50_000, rows - start)
        yield _unit(mean + np.sqrt(1 - IMAGE_MEAN**2) * rng.normal(size=(count, dim)).astype(np.float32) * spectrum)


def make_queries(count: int, dim: int = 512, seed: int = 1) -> NDArray[np.float32]:
    """Unit rows of texts: across the modality gap, where approximate indexes lose them."""
    rng = np.random.default_rng(seed)
    spread = np.sqrt(1 - TEXT_MEAN**2) * rng.normal(size=(count, dim)).astype(np.float32) * _spectrum(dim)
    return _unit(_means(dim)[1] + spread)


def real_queries(folder: Path, count: int, seed: int = 1) -> NDArray[np.float32]:
    """Some of the real text embeddings (n, dim) in the .npy files of a folder, unit rows.

    They are mirrored so that their mean lies where that of `make_queries` does, at its angle to the images.
    """
    rows = _unit(np.concatenate([np.load(path) for path in sorted(folder.glob("*.npy"))]).astype(np.float32))
    axis = _unit(_unit(rows.mean(0)) - _unit(_means(rows.shape[1])[1]))
    chosen = rows[np.random.default_rng(seed).choice(len(rows), min(count, len(rows)), replace=False)]
    return np.asarray(chosen - 2 * (chosen @ axis)[:, None] * axis, np.float32)


def _spectrum(dim: int) -> NDArray[np.float32]:
    values = (1 + np.arange(dim)) ** -0.5
    return np.asarray(values / np.linalg.norm(values), np.float32)


def _means(dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    first, second = np.linalg.qr(np.random.default_rng(7).normal(size=(dim, 2)))[0].T
    text = MEANS_COSINE * first + np.sqrt(1 - MEANS_COSINE**2) * second
    return np.asarray(IMAGE_MEAN * first, np.float32), np.asarray(TEXT_MEAN * text, np.float32)


def _unit(x: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), np.float32)


def make_files(folder: Path, count: int) -> None:
    """Empty files named like JPEGs, a thousand a folder, for indexes whose files are never read.

    Beyond the first million files the folders are links to earlier ones: ten million files need gigabytes of inodes.
    """
    for path in files_in(folder, count):
        if path.name == "000.jpg":
            number = int(path.parent.name)
            if number >= FOLDERS:
                path.parent.unlink(missing_ok=True)
                path.parent.symlink_to(f"{number % FOLDERS:04d}")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
        if int(path.parent.name) < FOLDERS:
            path.touch()


def files_in(folder: Path, count: int) -> Iterator[Path]:
    """The paths of `make_files`, in order."""
    return (folder / f"{n // 1000:04d}" / f"{n % 1000:03d}.jpg" for n in range(count))


def link_files(folder: Path, count: int, photos: Path) -> None:
    """The same as links to a few photos, in turn, for indexes whose photos are shown."""
    targets = sorted(photos.iterdir())
    for number, path in enumerate(files_in(folder, count)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.link(targets[number % len(targets)], path)


def fill_index(index: Path, files: Path, count: int, name: str = "mini", weights: Path | None = None) -> None:
    """An index of ours with made-up embeddings of a model, through the store that `clipsearch index` writes with."""
    from clipsearch.images.metadata import Metadata
    from clipsearch.images.scan import FoundFile, Rules
    from clipsearch.models.hub import resolve
    from clipsearch.store.catalogue import Store

    model = resolve(name, weights)
    with Store.create(index, model.to_json(), model.dim) as store:
        root = store.folders.add(os.fsencode(files.resolve()), Rules())
        rows = itertools.chain.from_iterable(make_embeddings(count, model.dim))
        for number, (path, row) in enumerate(zip(files_in(files, count), rows, strict=True)):
            stat = path.stat()
            taken = f"{1950 + number % 100}-06-01T12:00:00"  # 1 % of them in each of a hundred years
            metadata = Metadata(4000, 3000, taken)
            file = FoundFile(os.fsencode(path.relative_to(files)), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            image_id = store.images.add(number.to_bytes(16, "big"), metadata, row)
            store.photos.put(root, file, image_id, None)
            if number % 50_000 == 0:
                store.commit()
        store.commit()
        store.vectors.update()


def fill_peer(peer: Peer, files: Path, count: int, dim: int = 512) -> None:
    """The same index for rclip, in its own tables, which it has made when it was first run."""
    database = sqlite3.connect(peer.data / "db.sqlite3")
    database.execute("DELETE FROM images")
    rows = itertools.chain.from_iterable(make_embeddings(count, dim))
    statement = "INSERT INTO images (filepath, modified_at, size, vector, hash) VALUES (?, ?, ?, ?, ?)"

    def records() -> Iterator[tuple[Any, ...]]:
        for number, (path, row) in enumerate(zip(files_in(files, count), rows, strict=True)):
            stat = path.stat()
            yield str(path.resolve()), stat.st_mtime, stat.st_size, row.tobytes(), f"{number:032x}"

    database.executemany(statement, records())
    database.commit()
    database.close()
