"""Measure clipsearch side by side with rclip 4 on this machine.

    ./scripts/bench all
    ./scripts/bench index query --json
    ./scripts/bench index --photos 300

The programs run alternately, each time as a new process. Medians and ratios are printed. Both use the same architecture
(ViT-B/32 with random weights, which affect neither speed nor memory); rclip also runs with its own input size of 256
pixels. Photos, weights, indexes and rclip itself are created once, in --work.

Parts:
  decode      milliseconds of one core from a JPEG to the model's input: at reduced and full scale, and in all with a
              decoding process, as `clipsearch index` does it
  encode      images/s of each engine alone, and its agreement with fp32
  index       `clipsearch index` of new photos of 12 and 2 megapixels
  small       `clipsearch index` of 1,000 new photos of 0.1 megapixels with mini
  first       `clipsearch index` of 20 new photos of 2 megapixels, with mini and with ViT-B/32
  size        megabytes of a virtual environment with clipsearch, without extras
  spread      `clipsearch index` with and without a local Ray cluster
  publish     `clipsearch publish` of 20,000 photos to Milvus Lite, and queries there
  pipeline    images/s of `index` after startup, compared with the limit set by decoding and embedding
  query       text and image queries on 2,000 photos, text queries on --rows photos
  siglip      text queries with SigLIP 2 B/32: random weights and a vocabulary of the real sizes
  filtered    text queries on --rows photos with different filters
  duplicates  finding similar pairs among 100,000 embeddings, compared with all pairs
  noop        `clipsearch index` of 20,000 and 100,000 photos without changes
  grow        `clipsearch index` of 100 new photos in an index of --rows
  memory      peak memory of `clipsearch index` of 2,000 and 20,000 photos
  search      latency and recall of the vector search alone, 10,000 to --rows rows; queries follow the distribution of
              real texts, or are real (--texts)

--before PROGRAM compares `index`, `small` and `first` with another clipsearch, such as one that is installed from an
earlier commit. Cold-cache figures need root on Linux, where the page cache can be dropped.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_inputs as inputs
import numpy as np

Figures = dict[str, Any]
WORDS = ("dog", "cat", "horse", "bird", "boat", "car", "train", "house", "tree", "river", "hill", "child")


# ------------------------------------------------------------------------------------------ measuring


@dataclass(frozen=True, slots=True)
class Cost:
    """The resources that a process used: wall-clock and CPU seconds, MB of peak memory, MB written to disk."""

    seconds: float
    cpu: float
    memory: float
    written: float


def run(command: Iterable[object], folder: Path | None = None, environment: dict[str, str] | None = None) -> Cost:
    """Run a command and measure it. Its output is discarded; if it fails, the benchmark stops."""
    # Let Python cache bytecode, as on any machine that has run the program before.
    environment = {k: v for k, v in (environment or os.environ).items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        stderr = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: nothing found
        raise SystemExit(f"{process.args!r} ended with {process.returncode}: {stderr.decode(errors='replace')[-2000:]}")
    memory = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, memory, usage.ru_oublock * 512 / 1e6)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a separate process.

    This process must stay small: between fork and exec, a child's peak memory includes that of its parent.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_turn(runs: Mapping[str, Callable[..., Cost]], times: int) -> dict[str, Cost]:
    """The median cost of each command. They run alternately, so that a slow minute affects all of them."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(times):
        for name, once in runs.items():
            costs[name].append(once())
    return {
        name: Cost(
            statistics.median(cost.seconds for cost in every),
            statistics.median(cost.cpu for cost in every),
            statistics.median(cost.memory for cost in every),
            statistics.median(cost.written for cost in every),
        )
        for name, every in costs.items()
    }


PAGE_CACHE = Path("/proc/sys/vm/drop_caches")


def can_drop_cache() -> bool:
    """Whether this process may drop the page cache."""
    return os.access(PAGE_CACHE, os.W_OK)


def with_cold_cache(once: Callable[..., Cost]) -> Cost:
    """Drop the page cache, then run."""
    os.sync()
    PAGE_CACHE.write_text("3\n")
    return once()


FEATURES = ("amx_tile", "amx_bf16", "amx_int8", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx2", "f16c")


def processor() -> Figures:
    """The processor's name, usable cores, and the instruction sets that affect the figures."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"name": platform.processor() or platform.machine(), "cores": os.cpu_count(), "features": []}
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", fields.get("Features", "")).split()
    known = [feature for feature in (*FEATURES, "asimd", "bf16", "i8mm", "sve") if feature in flags]
    return {
        "name": fields.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "features": known,
    }


def compare(title: str, costs: dict[str, Cost], count: int | None = None) -> Figures:
    """Print a table of costs with ratios to the first, and return the figures."""
    print(f"\n{title}")
    ours = next(iter(costs.values()))
    out: Figures = {}
    for name, cost in costs.items():
        rate = f"{count / cost.seconds:8.1f} images/s" if count else ""
        ratio = f"{cost.seconds / ours.seconds:7.2f} x"
        print(f"  {name:<22}{cost.seconds:9.2f} s{cost.cpu:9.2f} s cpu{cost.memory:9.0f} MB{ratio}{rate}")
        out[name] = {"seconds": cost.seconds, "cpu": cost.cpu, "memory_mb": cost.memory, "written_mb": cost.written}
        if count:
            out[name]["images_per_second"] = count / cost.seconds
    return out


def clipsearch(*arguments: object, program: object = None) -> list[object]:
    """The command line for the installed program, or for another one."""
    program = program or shutil.which("clipsearch")
    assert program is not None, "clipsearch is not installed; use ./scripts/bench"
    return [program, *arguments]


# ------------------------------------------------------------------------------------------ parts


def decode(args: argparse.Namespace) -> Figures:
    """From the bytes of a JPEG to the model's input, on one core."""
    from clipsearch.images.decode import decode as decode_image
    from clipsearch.images.preprocess import Preprocess, preprocess

    how = Preprocess(size=(224, 224))
    out: Figures = {}
    for megapixels, count in (("12", 12), ("2", 40), ("0.1", 100)):
        folder = inputs.make_photos(args.work / f"photos-{megapixels}", megapixels, count)
        files = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:count]]
        for scale, short_side in (("reduced", 2 * 224), ("full", None)):
            seconds = []
            for data in files:
                began = time.thread_time()
                decoded = decode_image(data, short_side=short_side)
                preprocess(decoded.image, how, (decoded.metadata.width, decoded.metadata.height))
                seconds.append(time.thread_time() - began)
            out[f"{megapixels} MP {scale}"] = 1000 * statistics.median(seconds)
        out[f"{megapixels} MP in all"] = 1000 * statistics.median(_in_process(how, files) for _ in range(args.times))
    print("\ndecode: milliseconds per photo on one core")
    for name, milliseconds in out.items():
        print(f"  {name:<16}{milliseconds:8.1f} ms")
    return out


def _in_process(how: Any, files: list[bytes]) -> float:
    """CPU seconds per file of this process and a decoding process, without its start."""
    from clipsearch.images.sandbox import Decoders

    def spent(some: list[bytes]) -> float:
        before = os.times()
        with Decoders(1, how) as decoders:
            for data in some:
                decoders.decode(data)
        return sum(os.times()[:4]) - sum(before[:4])

    return (spent(4 * files) - spent(files[:1])) / (4 * len(files) - 1)


def encode(args: argparse.Namespace) -> Figures:
    """Each engine of this machine with ViT-B/32 and mini, in alternation, one batch on each core."""
    from clipsearch.indexing.pipeline import BATCH_ON_CPU
    from clipsearch.models.encoders import NumpyEncoder
    from clipsearch.models.graph_encoders import GraphEncoder, engines_for
    from clipsearch.models.hub import resolve

    out: Figures = {}
    cores = _cores()
    for model in (resolve("ViT-B-32", inputs.make_weights(args.work)), resolve("mini")):
        numpy = NumpyEncoder(model)
        encoders = {str(engine): GraphEncoder(numpy, engine, cores) for engine in engines_for(numpy)}
        pixels = np.random.default_rng(0).integers(0, 256, (BATCH_ON_CPU, *model.preprocess.size, 3), np.uint8)
        exact = next(iter(encoders.values())).encode_images(pixels)
        seconds: dict[str, list[float]] = {name: [] for name in encoders}
        with ThreadPoolExecutor(cores) as pool:
            for _ in range(args.times * 2):
                for name, encoder in encoders.items():
                    began = time.perf_counter()
                    list(pool.map(encoder.encode_images, [pixels] * cores))
                    seconds[name].append(time.perf_counter() - began)
        print(f"\nencode: {model.architecture}, batches of {BATCH_ON_CPU}, {cores} threads")
        for name, encoder in encoders.items():
            rate = cores * BATCH_ON_CPU / statistics.median(seconds[name][2:])
            cosine = float((encoder.encode_images(pixels) * exact).sum(1).min())
            print(f"  {name:<20}{rate:8.1f} images/s, lowest cosine to fp32 {cosine:.5f}")
            out[f"{model.name} {name}"] = {"images_per_second": rate, "cosine": cosine}
    return out


def _best_half(once: Callable[[], Any], times: int) -> float:
    """The median of the faster half, which excludes runs disturbed by other processes."""
    seconds = []
    for _ in range(times + 2):
        began = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - began)
    return statistics.median(sorted(seconds[2:])[: times // 2])


def index(args: argparse.Namespace) -> Figures:
    """Index new photos. rclip cannot index without a query, so it also runs one."""
    weights = apart(inputs.make_weights, args.work)
    out: Figures = {}
    for megapixels, default in (("12", 240), ("2", 400)):
        count = args.photos or default
        sample = _sample(args, megapixels, count)
        runs = _ours_anew(args, sample, "ViT-B-32", "--weights", weights) | _peers_anew(args, sample)
        title = f"index: {count} new JPEGs of {megapixels} MP"
        out[f"{megapixels} MP"] = compare(title, in_turn(runs, args.times), count)
    return out


def small(args: argparse.Namespace) -> Figures:
    """Index 1,000 new small photos with mini, where every millisecond beside decoding and embedding counts."""
    count = args.photos or 1000
    runs = _ours_anew(args, _sample(args, "0.1", count), "mini")
    return compare(f"small: index of {count} new JPEGs of 0.1 MP, mini", in_turn(runs, args.times), count)


def first(args: argparse.Namespace) -> Figures:
    """Index 20 new photos, most of which is starting. rclip also loads its text model and runs a query."""
    weights = apart(inputs.make_weights, args.work)
    sample = _sample(args, "2", 20)
    with_mini = in_turn(_ours_anew(args, sample, "mini"), args.times)
    runs = _ours_anew(args, sample, "ViT-B-32", "--weights", weights) | _peers_anew(args, sample)
    return {
        "mini": compare("first: index of 20 new JPEGs of 2 MP, mini", with_mini),
        "ViT-B/32": compare("first: index of 20 new JPEGs of 2 MP, ViT-B/32", in_turn(runs, args.times)),
    }


def size(args: argparse.Namespace) -> Figures:
    """The disk space of virtual environments, each with pip. clipsearch is installed again each time."""
    shutil.rmtree(args.work / "clipsearch", ignore_errors=True)
    inputs.install(args.work / "clipsearch", str(Path(__file__).parents[1]), sys.executable)
    environments = ["clipsearch"]
    if args.peers:
        inputs.install(args.work / "rclip", inputs.PEER, inputs.find_python(inputs.PEER_PYTHON))
        environments.append("rclip")
    out: Figures = {name: _megabytes(args.work / name) for name in environments}
    print("\nsize: a virtual environment")
    for name, megabytes in out.items():
        print(f"  {name:<16}{megabytes:8.0f} MB")
    return out


def _megabytes(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def spread(args: argparse.Namespace) -> Figures:
    """Index new photos with mini, without Ray and with a local Ray cluster of two workers."""
    count = args.photos or 1000
    sample = _sample(args, "2", count)
    runs: dict[str, Callable[..., Cost]] = {
        "clipsearch": lambda: _index_anew(args, sample, "mini"),
        "--ray --workers 2": lambda: _index_anew(args, sample, "mini", "--ray", "--workers", 2),
    }
    return compare(f"spread: index of {count} new JPEGs of 2 MP, mini", in_turn(runs, args.times), count)


def publish(args: argparse.Namespace) -> Figures:
    """Publish 20,000 synthetic photos to Milvus Lite, then again without changes, then query both."""
    ours, _, _ = _filled(args, 20_000, with_peers=False)
    collection = args.work / "published.db"

    def publish_all() -> Cost:
        shutil.rmtree(collection, ignore_errors=True)
        return run(clipsearch("publish", collection, "--index", ours))

    runs: dict[str, Callable[..., Cost]] = {
        "all photos": publish_all,
        "no changes": lambda: run(clipsearch("publish", collection, "--index", ours)),
        "query the collection": lambda: run(clipsearch("query", f"a cat at {time.time()}", "--index", collection)),
        "query the folder": lambda: run(clipsearch("query", f"a cat at {time.time()}", "--index", ours)),
    }
    return compare("publish: 20,000 photos", in_turn(runs, args.times))


def pipeline(args: argparse.Namespace) -> Figures:
    """The share of CPU time spent on decoding and embedding, after startup."""
    weights = apart(inputs.make_weights, args.work)
    decoding, embedding = apart(decode, args), apart(_embedding_alone, args)
    cores = apart(_cores)
    out: Figures = {}
    print("\npipeline: images/s after startup, and as a share of what decoding and embedding alone would allow")
    for megapixels, few, many in (("12", 48, 240), ("2", 96, 576)):
        photos = inputs.make_photos(args.work / f"photos-{megapixels}", megapixels, many)
        samples = {count: _linked(photos, count, args.work / f"sample-{count}") for count in (few, many)}
        costs = in_turn(
            {
                str(n): functools.partial(_index_anew, args, sample, "ViT-B-32", "--weights", weights)
                for n, sample in samples.items()
            },
            args.times,
        )
        rate = (many - few) / (costs[str(many)].seconds - costs[str(few)].seconds)
        ideal = cores / (decoding[f"{megapixels} MP reduced"] / 1000 + embedding)
        out[f"{megapixels} MP"] = {
            "images_per_second": rate,
            "ideal": ideal,
            "start_seconds": costs[str(few)].seconds - few / rate,
        }
        print(f"  {megapixels:>4} MP {rate:8.1f} of {ideal:.1f}: {100 * rate / ideal:.0f}%")
    return out


def _embedding_alone(args: argparse.Namespace) -> float:
    """Core seconds per image, in batches, in the precision that indexing would choose."""
    from clipsearch.indexing.pipeline import BATCH_ON_CPU
    from clipsearch.models.engines import encoder_for
    from clipsearch.models.hub import resolve

    model = resolve("ViT-B-32", inputs.make_weights(args.work))
    encoder = encoder_for(model, "cpu", "auto", _cores(), lambda engine, cosine: print(f"  {engine}: {cosine:.4f}"))
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_ON_CPU, 224, 224, 3), np.uint8)
    for _ in range(20):  # until an engine is chosen
        encoder.encode_images(pixels)
    return _best_half(lambda: encoder.encode_images(pixels), 12) / BATCH_ON_CPU


def _cores() -> int:
    from clipsearch.threads import usable_cores

    return usable_cores()


def _index_anew(args: argparse.Namespace, sample: Path, *model: object, program: object = None) -> Cost:
    index = args.work / "index-new"
    shutil.rmtree(index, ignore_errors=True)
    return run(clipsearch("index", sample, "--index", index, "--model", *model, program=program))


def _ours_anew(args: argparse.Namespace, sample: Path, *model: object) -> dict[str, Callable[..., Cost]]:
    """Index a sample with this clipsearch, and with that of --before."""
    programs = {"clipsearch": None} | ({"before": args.before} if args.before else {})
    return {
        name: functools.partial(_index_anew, args, sample, *model, program=program)
        for name, program in programs.items()
    }


def _peers_anew(args: argparse.Namespace, sample: Path) -> dict[str, Callable[..., Cost]]:
    peers = {pixels: apart(inputs.make_peer, args.work, pixels) for pixels in args.peers}
    return {f"rclip, {pixels} px": lambda peer=peer: _ask_peer(peer.fresh(), sample) for pixels, peer in peers.items()}


def _sample(args: argparse.Namespace, megapixels: str, count: int) -> Path:
    """A folder with `count` photos, created if needed."""
    photos = inputs.make_photos(args.work / f"photos-{megapixels}", megapixels, count)
    return _linked(photos, count, args.work / f"sample-{megapixels}")


def _linked(photos: Path, count: int, folder: Path) -> Path:
    """A folder with links to the first `count` photos."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted(photos.glob("*.jpg"))[:count]:
        os.link(path, folder / path.name)
    return folder


def _ask_peer(peer: inputs.Peer, folder: Path, query: object = "a dog", *options: str) -> Cost:
    command = [peer.program, "--filepath-only", "--top", "10", *options, query]
    return run(command, folder, peer.environment())


def query(args: argparse.Namespace) -> Figures:
    """Queries, each a new process. Texts never repeat, so none is cached."""
    out: Figures = {}
    new = args.work / "new.jpg"
    shutil.copy(inputs.make_photos(args.work / "photos-2", "2", 1) / "00000.jpg", new)
    for rows in (2_000, args.rows):
        ours, files, peers = _filled(args, rows)

        times = max(5, args.times) if rows == 2_000 else args.times
        texts: dict[str, Callable[..., Cost]]
        images: dict[str, Callable[..., Cost]]
        texts = {"clipsearch": lambda ours=ours: run(clipsearch("query", _new_text(), "--index", ours))}
        images = {"clipsearch": lambda ours=ours: run(clipsearch("query", "--image", new, "--index", ours))}
        for pixels, peer in peers.items():
            name = f"rclip, {pixels} px"
            texts[name] = lambda peer=peer, files=files: _ask_peer(peer, files, _new_text(), "--no-indexing")
            images[name] = lambda peer=peer, files=files: _ask_peer(peer, files, new.resolve(), "--no-indexing")
        out[f"text, {rows} photos"] = compare(f"query: text, {rows:,} photos", in_turn(texts, times))
        if can_drop_cache():
            cold = {name: lambda once=once: with_cold_cache(once) for name, once in texts.items()}
            title = f"query: text, {rows:,} photos, cold page cache"
            out[f"text, {rows} photos, cold page cache"] = compare(title, in_turn(cold, args.times))
        if rows == 2_000:
            out[f"image, {rows} photos"] = compare(f"query: image, {rows:,} photos", in_turn(images, times))
    return out


def _new_text() -> str:
    """One of 250,000 texts, so that it is not cached."""
    return "a {} and a {} with a {} near a {} or a {}".format(*random.choices(WORDS, k=5))


def siglip(args: argparse.Namespace) -> Figures:
    """Text queries with SigLIP 2 B/32 on 2,000 photos, each a new process."""
    folder, files, index = apart(inputs.make_siglip, args.work), args.work / "files-2000", args.work / "index-siglip"
    apart(inputs.make_files, files, 2_000)
    shutil.rmtree(index, ignore_errors=True)
    apart(inputs.fill_index, index, files, 2_000, f"local-dir:{folder}")
    first = run(clipsearch("query", _new_text(), "--index", index))  # sorts and caches the vocabulary
    repeated = _new_text()
    texts = {
        "new text": lambda: run(clipsearch("query", _new_text(), "--index", index)),
        "repeated": lambda: run(clipsearch("query", repeated, "--index", index)),
    }
    out = {"first": compare("siglip: the very first query", {"clipsearch": first})}
    run(clipsearch("query", repeated, "--index", index))
    out["text"] = compare("siglip: text, 2,000 photos", in_turn(texts, max(11, args.times)))
    if can_drop_cache():
        cold = {"new text": lambda: with_cold_cache(texts["new text"])}
        out["cold page cache"] = compare("siglip: text, cold page cache", in_turn(cold, args.times))
    return out


def filtered(args: argparse.Namespace) -> Figures:
    """Text queries on 1% of a large index, compared with all of it; and listing that 1% without a text."""
    ours, files, _ = _filled(args, args.rows, with_peers=False)
    listed = args.work / "listed.txt"
    listed.write_text("".join(f"{path.resolve()}\n" for path in inputs.files_in(files, min(10_000, args.rows))))
    texts = {
        "no filter": (),
        "--after, --before": ("--after", "2000", "--before", "2001"),
        "--under, 1,000": ("--under", files / "0000"),
        "--files-from, 10,000": ("--files-from", listed),
    }
    runs: dict[str, Callable[..., Cost]] = {
        name: lambda options=options: run(clipsearch("query", f"a cat at {time.time()}", *options, "--index", ours))
        for name, options in texts.items()
    }
    runs["newest, no text"] = lambda: run(clipsearch("query", "--before", "2001", "--index", ours))
    return compare(f"filtered: text, {args.rows:,} photos", in_turn(runs, max(5, args.times)))


def duplicates(args: argparse.Namespace) -> Figures:
    """Find similar pairs among 100,000 embeddings, compared with all pairs in blocks, which gives the same result."""
    rows = apart(_planted, 100_000)
    out: Figures = {}
    print("\nduplicates: similar pairs among 100,000 embeddings of 512 dimensions, 2,000 of them planted")
    for threshold in (0.95, 0.99):
        seconds: dict[str, list[float]] = {"near_groups": [], "all pairs": []}
        found: dict[str, int] = {}
        for _ in range(args.times):
            for name, count in (("near_groups", _grouped), ("all pairs", _all_pairs)):
                began = time.perf_counter()
                found[name] = count(rows, threshold)
                seconds[name].append(time.perf_counter() - began)
        for name, every in seconds.items():
            print(f"  {threshold}  {name:<12}{statistics.median(every):8.2f} s, {found[name]:,} found")
        out[str(threshold)] = {name: statistics.median(every) for name, every in seconds.items()}
    ours, _, _ = _filled(args, 100_000, with_peers=False)
    command = {"clipsearch": lambda: run(clipsearch("duplicates", "--similar", "--index", ours))}
    out["command"] = compare("clipsearch duplicates --similar, 100,000 photos", in_turn(command, args.times))
    return out


def _planted(count: int) -> np.ndarray:
    rows = np.concatenate(list(inputs.make_embeddings(count)))
    rng = np.random.default_rng(5)
    places = rng.permutation(count)[:4_000]
    noise = rng.normal(size=(2_000, rows.shape[1])).astype(np.float32) * np.linspace(0.001, 0.02, 2_000)[:, None]
    near = rows[places[:2_000]] + noise.astype(np.float32)
    rows[places[2_000:]] = near / np.linalg.norm(near, axis=1, keepdims=True)
    return rows


def _grouped(rows: np.ndarray, threshold: float) -> int:
    from clipsearch.search.similar import near_groups

    return sum(len(group.members) for group in near_groups(rows, threshold))


def _all_pairs(rows: np.ndarray, threshold: float, block: int = 2048) -> int:
    found = 0
    for i in range(0, len(rows), block):
        for j in range(i, len(rows), block):
            first, second = np.nonzero(rows[i : i + block] @ rows[j : j + block].T >= threshold)
            found += int((first + i < second + j).sum())
    return found


def noop(args: argparse.Namespace) -> Figures:
    """Index again without changes, compared with rclip and with `find`, which only stats each file."""
    out: Figures = {}
    for rows in (20_000, 100_000):
        ours, files, peers = _filled(args, rows, with_peers=rows == 20_000)
        runs: dict[str, Callable[..., Cost]]
        runs = {"clipsearch": lambda ours=ours: run(clipsearch("index", "--index", ours))}
        for pixels, peer in peers.items():
            runs[f"rclip, {pixels} px"] = lambda peer=peer, files=files: _ask_peer(peer, files)
        if shutil.which("find"):
            runs["find -printf size, time"] = lambda files=files: run(
                ["find", files, "-type", "f", "-printf", "%s %T@ %p"]
            )
        out[str(rows)] = compare(f"noop: {rows:,} photos, no changes", in_turn(runs, max(5, args.times)))
    return out


def grow(args: argparse.Namespace) -> Figures:
    """Add 100 photos to a large index: time, and bytes written."""
    full, _, _ = _filled(args, args.rows, with_peers=False)
    photos = inputs.make_photos(args.work / "photos-0.1", "0.1", 100)
    copy = args.work / "index-grown"

    def once() -> Cost:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(full, copy)
        os.sync()
        return run(clipsearch("index", photos, "--index", copy))

    cost = in_turn({"clipsearch": once}, args.times)
    text = {"clipsearch": lambda: run(clipsearch("query", f"a cat at {time.time()}", "--index", copy))}
    out = compare(f"grow: 100 new photos in an index of {args.rows:,}", cost)
    print(f"  {'written':<24}{cost['clipsearch'].written:7.1f} MB, of {_size(copy) / 1e6:,.0f} MB")
    out["query"] = compare("grow: text query afterwards", in_turn(text, args.times))
    shutil.rmtree(copy)
    return out


def memory(args: argparse.Namespace) -> Figures:
    """Peak memory of indexing. It should not depend on the number of photos."""
    photos = inputs.make_photos(args.work / "photos-0.02", "0.02", 20_000)
    samples = {count: _linked(photos, count, args.work / f"sample-{count}") for count in (2_000, 20_000)}
    costs = in_turn(
        {f"{n:,} photos": functools.partial(_index_anew, args, sample, "mini") for n, sample in samples.items()}, 1
    )
    return compare("memory: largest process", costs)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _filled(
    args: argparse.Namespace, rows: int, *, with_peers: bool = True
) -> tuple[Path, Path, dict[int, inputs.Peer]]:
    """Indexes of clipsearch and its peers with synthetic embeddings of the same files."""
    from clipsearch.store.schema import FORMAT

    ours, files = args.work / f"index-{rows}", args.work / f"files-{rows}"
    apart(inputs.make_files, files, rows)
    done = ours / f"filled-{FORMAT}"
    if not done.exists():
        shutil.rmtree(ours, ignore_errors=True)
        apart(inputs.fill_index, ours, files, rows, "ViT-B-32", apart(inputs.make_weights, args.work))
        done.touch()
    peers = {}
    for pixels in args.peers[-1:] if with_peers else []:  # one is enough: searches do not depend on the image size
        peer = apart(inputs.make_peer, args.work, pixels).fresh()
        empty = args.work / "empty"
        empty.mkdir(exist_ok=True)
        _ask_peer(peer, empty)  # creates its tables
        apart(inputs.fill_peer, peer, files, rows)
        peers[pixels] = peer
    return ours, files, peers


def search(args: argparse.Namespace) -> Figures:
    """The vector search alone, in a warm process: milliseconds, and recall@10 compared with fp32."""
    from clipsearch.store.catalogue import Store

    out: Figures = {}
    print("\nsearch: ten nearest of n rows of 512 dimensions, for texts across the modality gap")
    for rows in (10_000, 100_000, args.rows):
        ours, _, _ = _filled(args, rows, with_peers=False)
        queries = inputs.real_queries(args.texts, 50) if args.texts else inputs.make_queries(50)
        best = _brute_force(rows, queries, 10)
        for exact in (False, True):
            found, seconds = 0, []
            with Store.open(ours) as store:
                for row, expected in list(zip(queries, best, strict=True))[: 5 if exact else None]:
                    began = time.perf_counter()
                    ids, _ = store.vectors.nearest(row, 10, exact=exact)
                    seconds.append(time.perf_counter() - began)
                    found += len(set((ids - 1).tolist()) & set(expected.tolist()))  # ids count from 1
            milliseconds, recall = 1000 * statistics.median(seconds), found / 10 / len(seconds)
            name = f"{rows}, exact" if exact else str(rows)
            out[name] = {"milliseconds": milliseconds, "recall_at_10": recall}
            print(f"  {rows:>10,} rows{', exact' if exact else '':<8}{milliseconds:8.1f} ms, recall@10 {recall:.3f}")
    return out


def _brute_force(rows: int, queries: np.ndarray, k: int) -> np.ndarray:
    """The k nearest of each query, by fp32 products with the rows as the index stores them, in fp16."""
    best = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for number, block in enumerate(inputs.make_embeddings(rows)):
        first = 50_000 * number
        scores = np.concatenate([scores, queries @ block.astype(np.float16).astype(np.float32).T], axis=1)
        best = np.concatenate(
            [best, np.broadcast_to(first + np.arange(len(block)), (len(queries), len(block)))], axis=1
        )
        order = np.argsort(-scores, axis=1)[:, :k]
        best, scores = np.take_along_axis(best, order, 1), np.take_along_axis(scores, order, 1)
    return best


_ALL = (
    decode,
    encode,
    index,
    small,
    first,
    size,
    spread,
    publish,
    pipeline,
    query,
    siglip,
    filtered,
    duplicates,
    noop,
    grow,
    memory,
    search,
)
PARTS = {part.__name__: part for part in _ALL}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"], metavar="PART", help=", ".join([*PARTS, "all"]))
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder for generated inputs")
    parser.add_argument("--photos", type=int, help="number of photos to index (default: 240 and 400; 1,000)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="size of the largest index (default: %(default)s)")
    parser.add_argument("--texts", type=Path, help="folder of .npy files with real text embeddings for queries")
    parser.add_argument("--times", type=int, default=3, help="runs per program, for medians (default: %(default)s)")
    parser.add_argument("--before", type=Path, metavar="PROGRAM", help="another clipsearch to compare with")
    parser.add_argument("--no-peer", action="store_true", help="do not run rclip")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and everything else to stderr")
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    args.peers = [] if args.no_peer else [224, 256]
    results = os.fdopen(os.dup(1), "w")
    if args.json:
        os.dup2(2, 1)  # what the parts print goes to stderr
    apart_parts = (decode, encode, duplicates, search)
    machine = processor()
    print(f"{machine['name']}, {machine['cores']} cores: {' '.join(machine['features'])}")
    figures = {"processor": machine} | {
        name: apart(part, args) if part in apart_parts else part(args)
        for name, part in PARTS.items()
        if name in args.parts or "all" in args.parts
    }
    if args.json:
        print(json.dumps(figures, indent=2), file=results)


if __name__ == "__main__":
    main()
