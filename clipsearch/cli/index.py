"""`clipsearch index`: index photo folders, or update the index."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from clipsearch.cli.app import (
    OUTPUT,
    SKIPPED,
    Command,
    DebugOption,
    IndexOption,
    JsonOption,
    new_app,
    open_folder,
    print_json,
    say,
)
from clipsearch.cli.vlm import AllowRemoteOption, EndpointOption, VlmModelOption, vlm_of
from clipsearch.indexing.update import OnProgress, Options, Progress
from clipsearch.output import records, text

app = new_app()
_WORTH_TELLING = 20.0  # seconds
MODEL, FOLDERS, UPDATE, SPEED = "Model", "What to index (remembered)", "Update", "Speed"


class _Index(Command):
    """Lets --ray stand alone: in Typer, an option always takes a value or never does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace a bare --ray by --ray=local."""
        return super().parse_args(ctx, ["--ray=local" if arg == "--ray" else arg for arg in args])


@app.command(cls=_Index)
def index(
    directories: Annotated[
        list[str] | None, typer.Argument(metavar="DIR...", help="Folders (default: all indexed folders).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="mini, siglip2, accurate, multilingual, ...",
            rich_help_panel=MODEL,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Local weights for --model (.safetensors, .pt).", rich_help_panel=MODEL),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Re-embed everything, with --model if given.", rich_help_panel=MODEL)
    ] = False,
    hidden: Annotated[
        bool | None,
        typer.Option(
            "--hidden/--no-hidden",
            help="Hidden files and folders.",
            show_default=False,
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    follow_links: Annotated[
        bool | None,
        typer.Option(
            "--follow-links/--no-follow-links",
            help="Links to folders.",
            show_default=False,
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    any_name: Annotated[
        bool | None,
        typer.Option(
            "--any-name/--no-any-name",
            help="Photos without a file suffix.",
            show_default=False,
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    raw: Annotated[
        bool | None,
        typer.Option("--raw/--no-raw", help="RAW files.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    video: Annotated[
        bool | None,
        typer.Option("--video/--no-video", help="Videos.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    ocr: Annotated[
        bool | None,
        typer.Option("--ocr/--no-ocr", help="Text in photos.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    faces: Annotated[
        bool | None,
        typer.Option("--faces/--no-faces", help="Faces.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    captions: Annotated[
        bool | None,
        typer.Option(
            "--captions/--no-captions",
            help="Describe photos in words.",
            show_default=False,
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    vlm_model: VlmModelOption = None,
    endpoint: EndpointOption = None,
    allow_remote: AllowRemoteOption = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Skip a path or pattern.",
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Retry files that could not be read.", rich_help_panel=UPDATE)
    ] = False,
    look_again: Annotated[
        bool, typer.Option("--look-again", help="Read every file, regardless of timestamps.", rich_help_panel=UPDATE)
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Forget the photos of empty folders and drives.", rich_help_panel=UPDATE),
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cuda, mps or cpu.", show_default=False, rich_help_panel=SPEED)
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(metavar="NAME", help="auto, fp32, bf16, fp16 or int8.", show_default=False, rich_help_panel=SPEED),
    ] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images per batch (default 16; GPU 64).", rich_help_panel=SPEED),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Threads (default: one per core).", rich_help_panel=SPEED),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[=ADDR]",
            help="Embed on a Ray cluster.",
            rich_help_panel=SPEED,
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the time of each stage and engine.", rich_help_panel=OUTPUT)
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 3 if files were skipped.", rich_help_panel=OUTPUT)
    ] = False,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.", rich_help_panel=OUTPUT)] = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Index photo folders, or update the index.

    Only new and changed files are embedded; moved files keep their embeddings. Photos on an unmounted drive stay in the
    index, even if it is usually mounted inside an indexed folder. --hidden, --follow-links, --any-name, --raw, --video
    and --exclude are remembered per folder until changed, --ocr, --faces and --captions for the whole index.
    --no-faces deletes the faces found so far, their embeddings included.

    --exclude takes a path literally if it exists and is absolute or starts with ./, ../ or ~. Anything else is a
    .gitignore pattern, in which a leading / means the top of an indexed folder. Repeat --exclude for several patterns;
    '' clears them. --no-hidden also skips trash, snapshots and previews, such as #recycle, #snapshot and @eaDir.
    --ray starts Ray on this machine, --ray=HOST:PORT uses a running cluster.

    --captions describes photos in words, for searches and screen readers. It takes seconds per photo without a GPU, and
    the next run continues after an interruption. --vlm-model is a BLIP, GIT or CoCa model, or with --endpoint a model
    of a server on this machine, such as Ollama. Another model replaces the captions.

    Examples:
      clipsearch index ~/Pictures
      clipsearch index
      clipsearch index ~/Pictures --exclude '*.gif' --exclude thumbnails/
      clipsearch index --retry --strict --json | jq .seconds
      clipsearch index --rebuild --model ViT-B-32
      clipsearch index --ocr
      clipsearch index --faces
      clipsearch index --captions

    Exit status: 0 done, 2 error, 3 files or captions are missing (with --strict), 130 interrupted; finished work stays.
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
        faces=faces,
        captions=captions,
        vlm=vlm_of(vlm_model, endpoint, allow_remote=allow_remote),
        exclude=None if exclude is None else tuple(pattern for pattern in exclude if pattern),
        retry=retry,
        look_again=look_again,
        prune=prune,
        rebuild=rebuild,
        ray=ray,
    )

    def note(fact: str) -> None:
        if not quiet:
            say(f"{fact}. To switch later: clipsearch index --rebuild --model ViT-B-32")

    def estimate(line: str) -> None:
        if not quiet:
            say(line)

    with progress_bar(not quiet and sys.stderr.isatty(), estimate) as on_progress:
        report = open_folder(index).update(directories or (), options, on_progress=on_progress, on_note=note)
    if json:
        print_json(records.report(report))
    elif not quiet:
        for line in text.summary(report):
            say(line)
        if report.is_first and report.embedded and sys.stderr.isatty():
            say(text.next_steps(["--index", index] if index else []))
    if profile and not json:
        for line in (text.stages(report), *text.engines(report.comparison)):
            say(line)
    if faces is False and not quiet:
        _report_kept_names(index)
    if strict and (report.skipped or report.skipped_before or report.unreadable or report.uncaptioned):
        raise typer.Exit(SKIPPED)


def _report_kept_names(index: str | None) -> None:
    opened = open_folder(index)
    if opened.keeps_people:
        say(
            "deleted all faces and embeddings; names are kept with the photo and the place in it; to delete them, too,"
            f" delete people.json and people.kept.json in {opened.folder}"
        )


@contextlib.contextmanager
def progress_bar(shown: bool, estimate: Callable[[str], None]) -> Iterator[OnProgress]:
    """A callback that updates a progress bar on stderr if `shown`. `estimate` gets how long a slow stage will take."""
    if not shown:
        yield _Estimates(estimate)
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

        estimates = _Estimates(bar.console.print)

        def on_progress(progress: Progress) -> None:
            nonlocal stage
            estimates(progress)
            if progress.stage != stage:
                stage = progress.stage
                names = {"index": "indexing", "read": "reading", "faces": "finding faces", "caption": "captioning"}
                bar.reset(task, description=names[stage])
            speed = bar.tasks[0].speed
            rate = f"{speed:.{0 if speed >= 10 else 1}f} images/s" if speed and stage != "scan" else ""
            bar.update(task, completed=progress.done, total=progress.total, rate=rate)

        yield on_progress


class _Estimates:
    """Tells once, after the first captions, how long the others will take."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._told = tell, False

    def __call__(self, progress: Progress) -> None:
        if progress.seconds_left is None or self._told:
            return
        self._told = True
        if progress.seconds_left >= _WORTH_TELLING:
            self._tell(text.estimate(progress))
