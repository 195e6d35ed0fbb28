"""Inputs of `bench.py`: photo-like JPEGs, random weights, large indexes, and rclip in its own environment."""

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZES = {"12": (4000, 3000), "2": (1632, 1224), "0.1": (384, 288), "0.02": (160, 120)}  # megapixels: width, height
PEER, PEER_PYTHON = "rclip==4.*", "3.12"  # it runs on few versions of Python, clipsearch on more

# Geometry of real ViT-B/32 embeddings (OpenAI's weights, 386 photos, 1,203 prompts): the norms of the mean image and
# text embeddings, and the cosine between the two means.
IMAGE_MEAN, TEXT_MEAN, MEANS_COSINE = 0.68, 0.86, 0.33

FOLDERS = 1000  # with real files; further folders are links to these


# ------------------------------------------------------------------------------------------ photos


def make_photos(folder: Path, megapixels: str, count: int) -> Path:
    """Create `count` deterministic JPEGs of about this size, in parallel. Existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [n for n in range(count) if not (folder / f"{n:05d}.jpg").exists()]
    with multiprocessing.get_context("fork").Pool() as pool:
        pool.map(functools.partial(_make_photo, folder, SIZES[megapixels]), wanted, chunksize=8)
    return folder


def _make_photo(folder: Path, size: tuple[int, int], number: int) -> None:
    """Write a crop of a large texture, with random lighting and sensor noise: about 3 bits per pixel as JPEG."""
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
    """A picture 25% larger than `size` with detail at all scales, and Gaussian noise."""
    rng = np.random.default_rng(0)
    width, height = size[0] * 5 // 4, size[1] * 5 // 4
    out = np.full((height, width, 3), 110, np.float32)
    octaves = int(np.log2(height)) - 2
    for octave in range(octaves):
        cells = 4 * 2**octave
        small = rng.normal(size=(cells, cells * width // height, 3)).astype(np.float32)
        small += 1.5 * small.mean(-1, keepdims=True)  # correlate the channels
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
    """A folder for `local-dir:`: SigLIP 2 B/32 with random weights and a random vocabulary of the real size."""
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
    """Write a random `tokenizer.json` in the format and size of Gemma's; each merge combines two existing tokens."""
    rng = random.Random(0)
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *string.ascii_lowercase, *string.digits, "▁"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    words = pieces[len(special) + 256 :]
    merges: dict[tuple[str, str], None] = {}
    while len(vocabulary) < tokens:
        pair = (words[int(len(words) * rng.random() ** 5)], words[int(len(words) * rng.random() ** 5)])
        merged = pair[0] + pair[1]
        if len(merged) > 12 or merged in vocabulary:
            continue
        vocabulary[merged] = len(vocabulary)
        words.append(merged)
        for split in range(1, len(merged)):  # like Gemma's table, list every pair that produces the token
            if merged[:split] in vocabulary and merged[split:] in vocabulary:
                merges[merged[:split], merged[split:]] = None
    added = [{"id": number, "content": token, "special": True} for number, token in enumerate(special)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    end = {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<eos>", "type_id": 0}}]
    pair_of_texts = [*single, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "<eos>", "type_id": 1}}]
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    tokenizer = {
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
        "model": model | {"vocab": vocabulary, "merges": [list(pair) for pair in merges]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=2), encoding="utf-8")
    config: dict[str, Any] = {
        "tokenizer_class": "GemmaTokenizer",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
    }
    config |= {"bos_token": "<bos>", "add_bos_token": False, "add_eos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed rclip, and its data folder with the model that it would otherwise download."""

    program: Path
    data: Path

    def environment(self) -> dict[str, str]:
        return os.environ | {"RCLIP_DATADIR": str(self.data), "HF_HUB_OFFLINE": "1"}

    def fresh(self) -> Peer:
        """Delete the index."""
        (self.data / "db.sqlite3").unlink(missing_ok=True)
        return self


def make_peer(work: Path, pixels: int) -> Peer:
    """Install rclip with random weights for ViT-B/32 at 256 pixels, its own architecture, or at 224, ours."""
    programs = install(work / "rclip", PEER, find_python(PEER_PYTHON))
    data = work / f"rclip-{pixels}"
    folder = data / "ViT-B-32-256-datacomp_s34b_b86k"
    if not (folder / "done").exists():
        _export(folder, pixels)
        import open_clip

        (data / "tokenizer").mkdir(exist_ok=True)
        vocabulary = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
        shutil.copy(vocabulary, data / "tokenizer")
        for name in ("LICENSE", "OPENAI-CLIP-MIT.txt", "README.md", "THIRD_PARTY_NOTICES.md"):
            (data / name).touch()  # without these, rclip downloads the model again
        (folder / "done").touch()
    return Peer(programs / "rclip", data)


def install(environment: Path, requirement: str, python: str) -> Path:
    """Install a package into its own virtual environment, unless that exists. Returns the folder of its programs."""
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    if not (environment / "done").exists():
        subprocess.run([python, "-m", "venv", "--clear", environment], check=True, stdout=sys.stderr)
        subprocess.run([programs / "python", "-m", "pip", "install", "-q", requirement], check=True, stdout=sys.stderr)
        (environment / "done").touch()
    return programs


def find_python(version: str) -> str:
    """The interpreter of a Python version such as "3.12": from $PYTHON312, PATH, pyenv or uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [os.environ.get(f"PYTHON{version.replace('.', '')}"), shutil.which(f"python{version}")]
    candidates += map(str, pyenv.glob(f"versions/{version}.*/bin/python"))
    if uv := shutil.which("uv"):
        found = subprocess.run([uv, "python", "find", version], capture_output=True, text=True, check=False)
        candidates.append(found.stdout.strip())
    for candidate in filter(None, candidates):
        told = subprocess.run([candidate, "-V"], capture_output=True, text=True, check=False)  # pyenv's shims may fail
        if told.stdout.startswith(f"Python {version}."):
            return candidate
    raise SystemExit(f"rclip needs Python {version}. Install it, or set PYTHON{version.replace('.', '')} to its path.")


def _export(folder: Path, pixels: int) -> None:
    """Export both towers to ONNX in rclip's layout: one `input` of 256 pixels or 77 tokens, one `output`."""
    import open_clip
    import torch

    class Visual(torch.nn.Module):
        def __init__(self, tower: torch.nn.Module) -> None:
            super().__init__()
            self.tower = tower

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            margin = (256 - pixels) // 2  # rclip always passes 256 pixels
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
    """Synthetic image embeddings in blocks: unit rows scattered around the mean with a decaying spectrum."""
    rng = np.random.default_rng(seed)
    spectrum = _spectrum(dim)
    mean = _means(dim)[0]
    for start in range(0, rows, 50_000):
        count = min(50_000, rows - start)
        yield _unit(mean + np.sqrt(1 - IMAGE_MEAN**2) * rng.normal(size=(count, dim)).astype(np.float32) * spectrum)


def make_queries(count: int, dim: int = 512, seed: int = 1) -> NDArray[np.float32]:
    """Synthetic text embeddings (count, dim). The modality gap to the images is what approximate indexes fail on."""
    rng = np.random.default_rng(seed)
    spread = np.sqrt(1 - TEXT_MEAN**2) * rng.normal(size=(count, dim)).astype(np.float32) * _spectrum(dim)
    return _unit(_means(dim)[1] + spread)


def real_queries(folder: Path, count: int, seed: int = 1) -> NDArray[np.float32]:
    """A sample of the real text embeddings in the .npy files of a folder, as unit rows (n, dim).

    They are reflected so that their mean coincides with that of `make_queries`, at the right angle to the images.
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
    """Create empty files with JPEG names, 1,000 per folder, for indexes whose files are never read.

    After the first million files, folders are links to earlier ones: ten million files need gigabytes of inodes.
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
    """As `make_files`, but with hard links to a few photos, for indexes whose photos are displayed."""
    targets = sorted(photos.iterdir())
    for number, path in enumerate(files_in(folder, count)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.link(targets[number % len(targets)], path)


def fill_index(index: Path, files: Path, count: int, name: str = "mini", weights: Path | None = None) -> None:
    """Create an index with synthetic embeddings, through the store that `clipsearch index` uses."""
    from clipsearch.images.found_file import FoundFile
    from clipsearch.images.metadata import Metadata
    from clipsearch.images.rules import Rules
    from clipsearch.models.hub import resolve
    from clipsearch.store.catalogue import Store

    model = resolve(name, weights)
    with Store.create(index, model.to_json(), model.dim) as store:
        root = store.folders.add(os.fsencode(files.resolve()), Rules())
        rows = itertools.chain.from_iterable(make_embeddings(count, model.dim))
        for number, (path, row) in enumerate(zip(files_in(files, count), rows, strict=True)):
            stat = path.stat()
            taken = f"{1950 + number % 100}-06-01T12:00:00"  # 1% of the photos per year
            metadata = Metadata(4000, 3000, taken)
            file = FoundFile(os.fsencode(path.relative_to(files)), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            image_id = store.images.add(number.to_bytes(16, "big"), metadata, row)
            store.photos.put(root, file, image_id, None)
            if number % 50_000 == 0:
                store.commit()
        store.commit()
        store.vectors.update()


def fill_peer(peer: Peer, files: Path, count: int, dim: int = 512) -> None:
    """Write the same embeddings into rclip's tables, which its first run has created."""
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
