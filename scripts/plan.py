"""Estimate the resources for indexing many photos on many machines, from measured rates: a table for scripts/README.md.

Each rate is an option; the defaults are the figures in scripts/README.md.
"""

from __future__ import annotations

import argparse

GB = 1e9
DIM = 512  # ViT-B/32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=float, default=1e8, help="number of photos")
    parser.add_argument("--encode", type=float, default=57.7, help="images/s embedded by two cores")
    parser.add_argument("--decode", type=float, default=0.051, help="core seconds to read and decode a photo")
    parser.add_argument("--gpu", type=float, help="images/s embedded by a GPU, if measured")
    parser.add_argument("--writer", type=float, default=26_000, help="photos/s stored by the writer")
    parser.add_argument("--bytes", type=float, default=3.3e6, help="bytes per photo, read over the network")
    parser.add_argument("--catalogue", type=float, default=1550, help="catalogue bytes per photo")
    parser.add_argument("--publish", type=float, default=1800, help="photos/s written to a collection")
    parser.add_argument("--codes", type=float, default=1.0, help="bytes per dimension in a quantised collection")
    args = parser.parse_args()
    for line in table(args):
        print(line)


def table(args: argparse.Namespace) -> list[str]:
    """The lines of a Markdown table: resource, amount, basis."""
    photos = args.photos
    core_seconds = args.decode + 2 / args.encode
    rows = [
        ("cores, to finish in a day", f"{photos * core_seconds / 86400:,.0f}", "decoding and embedding, no GPU"),
        ("core hours per million", f"{1e6 * core_seconds / 3600:,.1f}", f"{1000 * core_seconds:.0f} ms per photo"),
        ("network, to finish in a day", f"{photos * args.bytes / 86400 / GB:,.1f} GB/s", "photos to the workers"),
        ("network to the writer", f"{photos * (4 * DIM + 300) / 86400 / 1e6:,.0f} MB/s", "fp32 rows and metadata"),
        ("writer", f"{photos / args.writer / 3600:,.1f} hours", f"{args.writer:,.0f} photos/s"),
        ("catalogue", f"{photos * args.catalogue / GB:,.0f} GB", f"{args.catalogue:,.0f} bytes per photo"),
        ("segments", f"{photos * 2.6 * DIM / GB:,.0f} GB", "fp16 rows, 4-bit codes, ids"),
        ("publishing", f"{photos / args.publish / 3600:,.1f} hours", f"{args.publish:,.0f} photos/s"),
        ("memory of a FLAT collection", f"{photos * 4 * DIM / GB:,.0f} GB", "fp32"),
        (
            "memory of a quantised collection",
            f"{photos * args.codes * DIM / GB:,.0f} GB",
            f"{8 * args.codes:.0f} bits per dimension",
        ),
    ]
    if args.gpu:
        rows.insert(
            1, ("GPUs, to finish in a day", f"{photos / args.gpu / 86400:,.1f}", f"{args.gpu:,.0f} images/s each")
        )
        rows.insert(2, ("cores beside the GPUs", f"{photos * args.decode / 86400:,.0f}", "decoding alone"))
    return ["| | | |", "|---|---|---|", *(f"| {resource} | {amount} | {basis} |" for resource, amount, basis in rows)]


if __name__ == "__main__":
    main()
