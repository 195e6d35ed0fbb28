"""What many photos take on many machines, reckoned from rates that were measured: a table for scripts/README.md.

Every rate is an argument; the usual ones are those of scripts/README.md, with the processor that they were measured on.
"""

from __future__ import annotations

import argparse

GB = 1e9
DIM = 512  # of ViT-B/32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=float, default=1e8)
    parser.add_argument("--encode", type=float, default=57.7, help="images/s that two cores embed")
    parser.add_argument("--decode", type=float, default=0.051, help="seconds of a core for a photo, read to pixels")
    parser.add_argument("--gpu", type=float, help="images/s that a GPU embeds, if that was measured")
    parser.add_argument("--writer", type=float, default=26_000, help="photos/s that the one writer keeps")
    parser.add_argument("--bytes", type=float, default=3.3e6, help="of a photo, read over the network")
    parser.add_argument("--catalogue", type=float, default=1550, help="bytes of the catalogue for a photo")
    parser.add_argument("--publish", type=float, default=1800, help="photos/s that a collection takes")
    parser.add_argument("--codes", type=float, default=1.0, help="bytes of a number in a quantised collection")
    args = parser.parse_args()
    for line in table(args):
        print(line)


def table(args: argparse.Namespace) -> list[str]:
    """Lines of a table: what, how much, and what it follows from."""
    photos = args.photos
    core_seconds = args.decode + 2 / args.encode
    rows = [
        ("cores, to be done in a day", f"{photos * core_seconds / 86400:,.0f}", "decoding and embedding, no GPU"),
        ("core hours for a million", f"{1e6 * core_seconds / 3600:,.1f}", f"{1000 * core_seconds:.0f} ms a photo"),
        ("network, in a day", f"{photos * args.bytes / 86400 / GB:,.1f} GB/s", "photos to the workers"),
        ("to the writer", f"{photos * (4 * DIM + 300) / 86400 / 1e6:,.0f} MB/s", "rows in fp32 and metadata"),
        ("the one writer", f"{photos / args.writer / 3600:,.1f} hours", f"{args.writer:,.0f} photos/s"),
        ("catalogue", f"{photos * args.catalogue / GB:,.0f} GB", f"{args.catalogue:,.0f} bytes a photo"),
        ("segments", f"{photos * 2.6 * DIM / GB:,.0f} GB", "rows in fp16, codes of 4 bits, ids"),
        ("publishing", f"{photos / args.publish / 3600:,.1f} hours", f"{args.publish:,.0f} photos/s"),
        ("memory of a FLAT collection", f"{photos * 4 * DIM / GB:,.0f} GB", "fp32"),
        (
            "memory of a quantised one",
            f"{photos * args.codes * DIM / GB:,.0f} GB",
            f"{8 * args.codes:.0f} bits a number",
        ),
    ]
    if args.gpu:
        rows.insert(
            1, ("GPUs, to be done in a day", f"{photos / args.gpu / 86400:,.1f}", f"{args.gpu:,.0f} images/s each")
        )
        rows.insert(2, ("cores beside them", f"{photos * args.decode / 86400:,.0f}", "decoding alone"))
    return ["| | | |", "|---|---|---|", *(f"| {what} | {much} | {why} |" for what, much, why in rows)]


if __name__ == "__main__":
    main()
