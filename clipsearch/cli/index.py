"""`clipsearch index`: index folders of photos, or bring the index up to date."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from clipsearch.cli.app import (
    OUTPUT,
    SKIPPED,
    DebugOption,
    IndexOption,
    JsonOption,
    explained,
    new_app,
    print_json,
    say,
)
from clipsearch.indexing.update import OnProgress, Options, Progress, update_index
from clipsearch.output import records, text
from clipsearch.paths import index_folder

app = new_app()
MODEL, FOLDERS, RUN = "Model", "What of the folders", "How"


class _Index(typer.core.TyperCommand):
    """The command, whose --ray may have an address, after an equals sign alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A bare --ray is one that means this machine."""
        return super().parse_args(ctx, ["--ray=local" if arg == "--ray" else arg for arg in args])


@app.command(cls=_Index)
@explained
def index(
    directories: Annotated[
        list[str] | None, typer.Argument(metavar="DIR...", help="Folders; none: all that were indexed before.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="mini, siglip2, a name of open_clip such as ViT-B-32, hf-hub:..., local-dir:...",
            rich_help_panel=MODEL,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Local weights of --model (.safetensors, .pt).", rich_help_panel=MODEL),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Embed everything anew, with --model if given.", rich_help_panel=MODEL)
    ] = False,
    hidden: Annotated[
        bool | None,
        typer.Option(
            "--hidden/--no-hidden",
            help="Also hidden files, @eaDir, node_modules.",
            show_default=False,
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    follow_links: Annotated[
        bool | None,
        typer.Option(
            "--follow-links/--no-follow-links",
            help="Also folders behind links.",
            show_default=False,
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    any_name: Annotated[
        bool | None,
        typer.Option(
            "--any-name/--no-any-name",
            help="Also photos whose names have no ending, by their first bytes.",
            show_default=False,
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    raw: Annotated[
        bool | None,
        typer.Option("--raw/--no-raw", help="RAW files too.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    video: Annotated[
        bool | None,
        typer.Option("--video/--no-video", help="Videos too.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    ocr: Annotated[
        bool | None,
        typer.Option(
            "--ocr/--no-ocr", help="Also read what is written in photos.", show_default=False, rich_help_panel=FOLDERS
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB|PATH",
            help="Leave out a path or .gitignore pattern; repeatable; '' for none.",
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try files again that could not be read.", rich_help_panel=FOLDERS)
    ] = False,
    look_again: Annotated[
        bool, typer.Option("--look-again", help="Read every file, whatever its times say.", rich_help_panel=FOLDERS)
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Forget the photos of a folder or drive that shows none of them.", rich_help_panel=FOLDERS
        ),
    ] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cuda, mps or cpu.", rich_help_panel=RUN)] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="auto, fp32, bf16, fp16 or int8.", rich_help_panel=RUN)
    ] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images embedded at once; 16, on a GPU 64.", rich_help_panel=RUN),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Threads that decode and embed; one a core.", rich_help_panel=RUN),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[=ADDRESS]",
            help="Embed on a Ray cluster: of this machine, or at ADDRESS.",
            rich_help_panel=RUN,
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time went.", rich_help_panel=OUTPUT)
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 when files were skipped.", rich_help_panel=OUTPUT)
    ] = False,
    json: JsonOption = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=OUTPUT)
    ] = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Index folders of photos, or bring the index up to date.

    Only what is new or changed is embedded; files that moved keep their embeddings. Photos on a drive that is not
    mounted stay in the index until it is back, also if it is mounted inside one of the folders. What --hidden,
    --follow-links, --any-name, --no-raw, --no-video and --exclude say of a folder is remembered, and --ocr for the
    whole index.

    --exclude takes a path in an indexed folder literally if it exists and is absolute or begins with ./, ../ or ~.
    Anything else is a .gitignore pattern: a leading / is the top of each indexed folder.

    Examples:
      clipsearch index ~/Pictures
      clipsearch index
      clipsearch index ~/Pictures /media/old-drive --exclude '*.gif' --exclude thumbnails/
      clipsearch index --retry --strict --json | jq .seconds
      clipsearch index --rebuild --model ViT-B-32
      clipsearch index --ocr

    Exit status: 0 when it is done, 2 for an error, 3 with --strict when files were skipped, 130 when interrupted; what
    was embedded until then is kept.
    """
    options = Options(
        model=model,
        weights=weights and weights.expanduser(),
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        hidden=hidden,
        follow_links=follow_links,
        any_name=any_name,
        raw=raw,
        video=video,
        ocr=ocr,
        exclude=None if exclude is None else tuple(pattern for pattern in exclude if pattern),
        retry=retry,
        look_again=look_again,
        prune=prune,
        rebuild=rebuild,
        ray=ray,
    )

    def note(fact: str) -> None:
        if not quiet:
            say(f"{fact}; for the default, later: clipsearch index --rebuild --model ViT-B-32")

    with progress_bar(not quiet and sys.stderr.isatty()) as on_progress:
        report = update_index(index_folder(index), directories or (), options, on_progress, note)
    if json:
        print_json(records.report(report))
    elif not quiet:
        for line in text.summary(report):
            say(line)
    if profile and not json:
        say(text.stages(report))
    if strict and (report.skipped or report.skipped_before or report.unreadable):
        raise typer.Exit(SKIPPED)


@contextlib.contextmanager
def progress_bar(shown: bool) -> Iterator[OnProgress | None]:
    """A progress bar on stderr, if it is to be shown."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns: tuple[Any, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scanning", total=None, rate="")
        stage = "scan"

        def on_progress(progress: Progress) -> None:
            nonlocal stage
            if progress.stage != stage:
                stage = progress.stage
                bar.reset(task, description={"index": "indexing", "read": "reading"}[stage])
            speed = bar.tasks[0].speed
            rate = f"{speed:.0f} images/s" if speed and stage != "scan" else ""
            bar.update(task, completed=progress.done, total=progress.total, rate=rate)

        yield on_progress
