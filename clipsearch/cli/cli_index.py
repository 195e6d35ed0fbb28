"""The commands that make an index and look after it.

What a command does not need it does not import.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsearch.cli.program import (
    SKIPPED,
    DebugOption,
    IndexOption,
    JsonOption,
    command,
    lines,
    print_json,
    say,
    say_missing,
)
from clipsearch.errors import BadRequest
from clipsearch.output import render
from clipsearch.paths import index_folder

if TYPE_CHECKING:
    from clipsearch.indexing.update import OnProgress, Report
    from clipsearch.store.catalogue import Root, Store


@command
def index(
    directories: Annotated[
        list[str] | None, typer.Argument(metavar="DIR", help="Folders; none: all that were indexed before.")
    ] = None,
    index: IndexOption = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="ARCH[/TAG] of open_clip, mini, hf-hub:..., local-dir:...")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Local weights of --model (.safetensors, .pt).")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(metavar="NAME", help="auto, fp32, bf16 or fp16.")] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images embedded at once; default: 16, on a GPU 64.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Threads that decode and embed; default: one a core.", show_default=False
        ),
    ] = None,
    hidden: Annotated[
        bool | None,
        typer.Option("--hidden/--no-hidden", help="Also hidden files, @eaDir, node_modules.", show_default=False),
    ] = None,
    follow_links: Annotated[
        bool | None,
        typer.Option("--follow-links/--no-follow-links", help="Also folders behind links.", show_default=False),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave out names or paths that match; repeatable; '' for none."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try files again that could not be read.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget the photos of a folder that has nothing in it any more.")
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Embed everything anew, with --model if given.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time went.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when files were skipped.")] = False,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    debug: DebugOption = False,
) -> None:
    """Index folders of photos, or bring the index up to date.

    Only what is new or changed is embedded; files that moved keep their embeddings. A folder that is not there
    now, or suddenly empty, such as an unmounted drive, keeps its photos until it is back. What --hidden,
    --follow-links and --exclude say of a folder is remembered.

    Examples:
      clipsearch index ~/Pictures
      clipsearch index
      clipsearch index ~/Pictures /media/old-drive --exclude '*.gif' --exclude thumbnails
      clipsearch index --retry --strict --json | jq .seconds
      clipsearch index --rebuild --model ViT-B-32

    Exit status: 0 when it is done, 2 for an error, 3 with --strict when files were skipped, 130 when interrupted; what
    was embedded until then is kept.

    """
    from clipsearch.indexing.update import Options, update_index

    options = Options(
        model=model,
        weights=weights and weights.expanduser(),
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        hidden=hidden,
        follow_links=follow_links,
        exclude=None if exclude is None else tuple(pattern for pattern in exclude if pattern),
        retry=retry,
        prune=prune,
        rebuild=rebuild,
    )
    note = say if not quiet else (lambda text: None)
    with _progress(not quiet and sys.stderr.isatty()) as on_progress:
        report = update_index(index_folder(index), directories or (), options, on_progress, note)
    if json:
        print_json(_report_object(report))
    elif not quiet:
        _summarise(report)
    if profile and not json:
        say("seconds (threads add up): " + ", ".join(f"{stage} {spent:.2f}" for stage, spent in report.stages.items()))
    if strict and (report.skipped or report.unreadable):
        raise typer.Exit(SKIPPED)


@contextlib.contextmanager
def _progress(shown: bool) -> Iterator[OnProgress | None]:
    """A progress bar on stderr, if it is to be shown."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scanning", total=None, rate="")
        stage = "scan"

        def on_progress(progress: Any) -> None:
            nonlocal stage
            if progress.stage != stage:
                stage = progress.stage
                bar.reset(task, description="indexing")
            speed = bar.tasks[0].speed
            rate = f"{speed:.0f} images/s" if speed and stage == "index" else ""
            bar.update(task, completed=progress.done, total=progress.total, rate=rate)

        yield on_progress


def _summarise(report: Report) -> None:
    parts = [f"{report.added:,} added"]
    if report.duplicates:
        parts[0] += f" ({report.duplicates:,} duplicates)"
    for name in ("updated", "moved", "removed"):
        count = getattr(report, name)
        if count:
            parts.append(f"{count:,} {name}")
    parts.append(f"{report.unchanged:,} unchanged")
    if report.skipped:
        parts.append(f"{len(report.skipped):,} skipped")
    line = f"{', '.join(parts)} in {report.seconds:.1f} s"
    if report.embedded:
        line += f"; {report.embedded:,} embedded with {report.model}, {report.images_per_second:.0f} images/s"
    say(line)
    _list("skipped", report.skipped)
    _list("unreadable folder", report.unreadable)
    for root in report.offline:
        say(f"offline: {render.printable(root)} is not there; its photos are kept")


def _list(title: str, rows: list[tuple[bytes, str]], most: int = 10) -> None:
    for path, reason in rows[:most]:
        say(f"{title}: {render.printable(path)}: {reason}")
    if len(rows) > most:
        say(f"... and {len(rows) - most:,} more; clipsearch status --json lists them")


def _report_object(report: Report) -> dict[str, Any]:
    names = ("model", "added", "duplicates", "updated", "moved", "removed", "unchanged", "embedded")
    return {
        **{name: getattr(report, name) for name in names},
        "skipped": _reasons(report.skipped),
        "unreadable": _reasons(report.unreadable),
        "offline": [render.path_fields(path) for path in report.offline],
        "seconds": round(report.seconds, 3),
        "stages": {stage: round(spent, 3) for stage, spent in report.stages.items()},
        "images_per_second": round(report.images_per_second, 1),
    }


def _reasons(rows: list[tuple[bytes, str]]) -> list[dict[str, str]]:
    return [{**render.path_fields(path), "reason": reason} for path, reason in rows]


@command
def status(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    r"""Show what is indexed: folders, counts, files that were skipped and why, size, model.

    Examples:
      clipsearch status
      clipsearch status --json | jq '.skipped[] | "\(.path): \(.reason)"'

    """
    from clipsearch.models.model import Model
    from clipsearch.store.catalogue import Store

    folder = index_folder(index)
    with Store.open(folder) as store:
        model = Model.from_json(store.model)
        counts, skipped, size = store.counts(), store.skipped(), store.size_on_disk()
        embeddings = store.count_embeddings()
        offline = {root.id for root in store.roots() if store.offline(root)}
    photos = sum(count.photos for count in counts)
    if json:
        roots = [
            {
                **render.path_fields(count.root.path),
                "online": count.root.id not in offline,
                "photos": count.photos,
                "skipped": count.skipped,
                "hidden": count.root.rules.hidden,
                "follow_links": count.root.rules.follow_links,
                "exclude": list(count.root.rules.exclude),
            }
            for count in counts
        ]
        print_json(
            {
                "index": str(folder),
                "model": model.name,
                "fingerprint": model.fingerprint,
                "dim": model.dim,
                "photos": photos,
                "embeddings": embeddings,
                "bytes": size,
                "roots": roots,
                "skipped": _reasons(skipped),
            }
        )
        return
    print(f"index   {render.printable(str(folder))}, {render.amount(size)}")
    print(f"model   {render.printable(model.name)}, {model.dim} dimensions")
    print(f"photos  {photos:,}, {embeddings:,} of them distinct, {len(skipped):,} files skipped")
    for count in counts:
        state = "  (offline)" if count.root.id in offline else ""
        print(f"  {count.photos:>9,}  {render.printable(count.root.path)}{state}")
    for path, reason in skipped[:20]:
        print(f"  skipped  {render.printable(path)}: {reason}")
    if len(skipped) > 20:
        print(f"  ... and {len(skipped) - 20:,} more; clipsearch status --json lists them")


@command
def models(
    every: Annotated[bool, typer.Option("--all", help="Also those that would be downloaded.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the models that can be used, and which are on this machine.

    Without --all: the bundled one, the default, and those in the local cache.

    Examples:
      clipsearch models
      clipsearch models --all | grep ViT-L

    """
    from clipsearch.models.hub import available
    from clipsearch.models.model import DEFAULT, MINI

    rows = [{"name": MINI, "state": "bundled", "default": False}]
    for name, path in available().items():
        if every or path or name == DEFAULT:
            rows.append({"name": name, "state": "cached" if path else "download", "default": name == DEFAULT})
    if json:
        print_json({"models": rows})
        return
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        mark = "  (default)" if row["default"] else ""
        print(f"{row['name']:<{width}}  {row['state']}{mark}")


@command
def forget(
    directories: Annotated[list[str], typer.Argument(metavar="DIR", help="Folders as status lists them.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Take folders out of the index. The photos themselves are never touched.

    Example:
      clipsearch forget /media/old-drive

    """
    from clipsearch.store.catalogue import Store
    from clipsearch.store.vectors import refresh

    with Store.open(index_folder(index), write=True) as store:
        chosen = [_root(store, directory) for directory in directories]
        count = sum(store.remove_root(root) for root in chosen)
        store.prune()
        store.commit()
        refresh(store)
    say(f"forgot {count:,} files")


def _root(store: Store, folder: str) -> Root:
    from clipsearch.paths import absolute

    roots = {root.path: root for root in store.roots()}
    root = roots.get(absolute(folder)) or roots.get(os.fsencode(folder))
    if root is None:
        raise BadRequest(f"{folder} is not an indexed folder; clipsearch status lists them")
    return root


@command
def relocate(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A folder as status lists it.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Where it is now.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Say that an indexed folder is somewhere else now: a new mount point, a new name. Nothing is embedded again.

    Example:
      clipsearch relocate /media/old-name /media/new-name

    """
    from clipsearch.indexing.update import relocate_root
    from clipsearch.store.catalogue import Store

    with Store.open(index_folder(index), write=True) as store:
        there, known = relocate_root(store, _root(store, old), new)
    say(f"{there:,} of {known:,} photos are there; clipsearch index brings the rest up to date")


@command
def verify(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check the index against itself and repair what is derived.

    What cannot be made again from the rest is embedded again by the next index.

    Examples:
      clipsearch verify
      clipsearch verify --json | jq -r '.repaired[]'

    Exit status: 0 when the index is sound now, 2 when it is damaged beyond repair.

    """
    from clipsearch.store import verify as store_verify
    from clipsearch.store.catalogue import Store

    with Store.open(index_folder(index), write=True) as store:
        verified = store_verify.verify(store)
    repaired = [_REPAIRED[repair.damage].format(repair.count) for repair in verified.repairs]
    if json:
        print_json({"photos": verified.photos, "embeddings": verified.embeddings, "repaired": repaired})
        return
    for sentence in repaired:
        print(f"repaired: {sentence}")
    print(f"sound: {verified.photos:,} photos, {verified.embeddings:,} embeddings")


_REPAIRED = {  # by the damage
    "damaged name": "{} files had a damaged name",
    "no folder": "{} files belonged to no indexed folder",
    "damaged record": "{} files were not as they had been recorded; the next index looks at them again",
    "no embedding": "{} files had contents without a sound embedding; the next index embeds them again",
    "damaged embedding": "{} unsound embeddings were dropped",
    "no image": "{} embeddings belonged to no image",
    "no photo": "{} images belonged to no photo",
    "damaged vectors": "the file of vectors did not match the catalogue and was written anew",
}


@command
def eval_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Lines: a path from here, a tab, a caption; - is stdin.")],
    index: IndexOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how well the index finds photos by captions that people wrote for them.

    Text to image: how often a photo is among the best 1, 5 and 10 for its caption, of all that are indexed, and its
    median rank. Image to text: the same for the captions of FILE, asked by photo. A photo may have several lines.

    Examples:
      clipsearch eval captions.tsv
      clipsearch eval captions.tsv --json | jq .text_to_image.recall_at_10

    """
    from clipsearch.search.evaluate import evaluate
    from clipsearch.store.catalogue import Store

    pairs = list(_captions(file))
    if sys.stderr.isatty():
        say(f"reading {len(pairs):,} captions with the index's model")
    with Store.open(index_folder(index)) as store:
        measured = evaluate(store, pairs)
    say_missing(measured.missing)
    if json:
        print_json(render.evaluation_object(measured))
    else:
        print(render.evaluation(measured))


def _captions(source: str) -> Iterator[tuple[bytes, str]]:
    for where, line in lines(source):
        path, _, rest = line.partition(b"\t")
        try:
            caption = rest.decode().strip()
        except UnicodeDecodeError:
            raise BadRequest(f"{where}: the caption is not UTF-8") from None
        if not path or not caption or b"\0" in line:
            raise BadRequest(f"{where}: not a path, a tab and a caption")
        yield path, caption
