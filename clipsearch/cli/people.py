"""`clipsearch people`: list and name the people whose faces are in photos."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsearch.cli.app import (
    FAILED,
    NOTHING_FOUND,
    DebugOption,
    IndexOption,
    RecordFormatOption,
    argument,
    destination,
    flag,
    new_app,
    open_folder,
    option,
    record_format,
    say,
    write_found,
)
from clipsearch.cli.sidecars import SIDECARS, DryRunOption, RemoveOption, clean_sidecars, write_sidecars
from clipsearch.errors import BadRequest, counted
from clipsearch.output import records, terminal

if TYPE_CHECKING:
    from clipsearch.indexing.people_changes import Changes, NamedFace
    from clipsearch.output.tags import Change
    from clipsearch.search.hit import Photo

app = new_app(invoke_without_command=True)

Who = Annotated[str, argument("WHO", "A name, or the number of a group.")]
Faces = Annotated[list[int], argument("FACE...", "Numbers of faces, from: people show.")]
HtmlOption = Annotated[str | None, option("FILE", "Write the faces as one HTML file.", None, "--html")]

_ON_SHEET = 12  # faces of each group on a sheet of all people


@app.callback()
def people(
    context: typer.Context,
    every: Annotated[bool, flag("--all", "Include hidden people and faces in a single photo.")] = False,
    html: HtmlOption = None,
    write_xmp: Annotated[bool, flag("--write-xmp", "Write confirmed names to sidecars.", SIDECARS)] = False,
    remove: RemoveOption = False,
    dry_run: DryRunOption = False,
    index: IndexOption = None,
    format: RecordFormatOption = None,
    debug: DebugOption = False,
) -> None:
    """List the people in photos by their faces, and name them.

    Faces that look alike form a group with a number, which never changes. A name given to a group is recorded for each
    of its faces, in people.json in the index folder, and outlives a rebuild, another face model and moved files. Faces
    in new photos that are close to named ones get the name as unconfirmed. Nothing is sent anywhere.

    --write-xmp writes confirmed names as face regions into sidecars, where digiKam, Lightroom and others read them.
    Nothing else in a sidecar changes, photos are never modified, and --remove removes only what --write-xmp added.

    Examples:
      clipsearch people
      clipsearch people --html faces.html
      clipsearch people name 3 "Anna"
      clipsearch query --person Anna

    Exit status: 0 found, 1 nobody found, 2 error.
    """
    if context.invoked_subcommand is not None:
        if every or html or write_xmp or remove or dry_run or index or format:
            raise BadRequest(f"write options after the subcommand: clipsearch people {context.invoked_subcommand} ...")
        return
    if dry_run and not (write_xmp or remove):
        raise BadRequest("--dry-run needs --write-xmp or --remove")
    if write_xmp or remove:
        if write_xmp and remove:
            raise BadRequest("--write-xmp and --remove exclude each other")
        _write_regions(index, remove=remove, dry_run=dry_run)
        return
    html = destination("html", html)
    form = record_format(format)
    with open_folder(index) as opened:
        found = opened.people()
        shown = [group for group in found if every or (not group.hidden and (group.name or group.photos > 1))]
        if html is not None:
            sheet = [(group.name or str(group.number), opened.faces_of(str(group.number))) for group in shown]
            _write_sheet(html, [(title, faces[-_ON_SHEET:]) for title, faces in sheet], "People")
        else:
            write_found(shown, form, terminal.people, records.people)
    _report_left_out(len(found) - len(shown))
    if not shown:
        raise typer.Exit(NOTHING_FOUND)


def _write_regions(index: str | None, *, remove: bool, dry_run: bool) -> None:
    """Write the names of confirmed faces to sidecars, or remove them."""
    from clipsearch.output.tags import Tagger

    with open_folder(index) as opened:
        found = opened.confirmed_faces()
    tagger = Tagger()

    def plan(one: "tuple[Photo, list[NamedFace]]") -> "list[Change]":
        photo, faces = one
        return tagger.plan_faces(photo.file, [(face.name or "", face.box) for face in faces], photo.metadata)

    if remove:
        failed = clean_sidecars(tagger, tagger.plan_removal_of_faces, (photo.file for photo, _ in found), dry_run)
    else:
        written = write_sidecars(tagger, found, plan, dry_run)
        failed = bool(written.failed)
        verb = "would write" if dry_run else "wrote"
        say(f"{verb} {counted(written.sidecars, 'sidecar')}; the others are up to date")
    if failed:
        raise typer.Exit(FAILED)


def _report_left_out(count: int) -> None:
    if count:
        say(f"not shown: {counted(count, 'group')} with a single photo or hidden. To list them, use: people --all")


def _write_sheet(html: str, groups: Sequence[tuple[str, Any]], title: str) -> None:
    from clipsearch.output.sheet import write_faces

    path = Path(html).expanduser()
    write_faces(path, groups, title)
    say(f"contact sheet: {path}")


@app.command()
def show(
    who: Who,
    html: HtmlOption = None,
    index: IndexOption = None,
    format: RecordFormatOption = None,
    debug: DebugOption = False,
) -> None:
    """List the faces of a person, the least certain first.

    Each line has the face's number, how sure it is, its box in pixels, and the photo.

    Examples:
      clipsearch people show Anna
      clipsearch people show 3 --html faces.html

    Exit status: 0 found, 1 no faces, 2 error.
    """
    html = destination("html", html)
    form = record_format(format)
    with open_folder(index) as opened:
        faces = opened.faces_of(who)
        if html is not None:
            _write_sheet(html, [(who, faces)], who)
        else:
            write_found(faces, form, terminal.faces, records.faces)
    if not faces:
        raise typer.Exit(NOTHING_FOUND)


@app.command()
def name(
    who: Who,
    name: Annotated[str, argument("NAME", "The name to give.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Name a group of faces, or rename a person.

    If a person has the name already, the group joins that person.

    Example:
      clipsearch people name 3 "Anna"
    """
    with _changing(index) as changes:
        say(f"{who} is {changes.name(who, name).title}")


@app.command()
def merge(
    who: Who,
    others: Annotated[list[str], argument("OTHER...", "Names or numbers that are the same person.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Make one person of several. The first keeps its name and number.

    Example:
      clipsearch people merge Anna 7
    """
    with _changing(index) as changes:
        say(f"{', '.join(others)} joined {changes.merge(who, others).title}")


@app.command()
def split(who: Who, faces: Faces, index: IndexOption = None, debug: DebugOption = False) -> None:
    """Move faces of another person out of a group into a new one.

    These faces never come back to the group by themselves.

    Example:
      clipsearch people split Anna 812 813
    """
    with _changing(index) as changes:
        person = changes.split(who, faces)
        say(f"moved {counted(len(set(faces)), 'face')} from {who} to {person.title}")


@app.command()
def confirm(
    name: Annotated[str, argument("NAME", "A person, who need not exist yet.")],
    faces: Annotated[list[str], argument("FACE...", "Numbers of faces, or photos that have one face.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Confirm that faces are of a person. Other people lose them.

    A FACE is a number, or the path of a photo with exactly one face. Photos without a face, or with several, are
    counted and left out.

    Example:
      clipsearch people confirm Anna 812 813
    """
    numbers = [int(face) for face in faces if face.isascii() and face.isdigit()]
    if numbers and len(numbers) < len(faces):
        raise BadRequest("give numbers of faces or photos, not both; write ./12 for a photo that is named 12")
    with open_folder(index) as opened:
        photos = [] if numbers else [opened.photo_at(face) for face in faces]
    with _changing(index) as changes:
        if numbers:
            confirmed, left_out = len(set(numbers)), 0
            changes.confirm(numbers, name)
        else:
            confirmed, left_out = changes.confirm_in(photos, name)
        rest = f"; left out {counted(left_out, 'photo')} without a face or with several" if left_out else ""
        say(f"confirmed {counted(confirmed, 'face')} of {name}{rest}")


@app.command()
def reject(who: Who, faces: Faces, index: IndexOption = None, debug: DebugOption = False) -> None:
    """Remove faces that are not of a person. They never come back to that person by themselves.

    Unlike split, this says nothing about whether the faces are of one person.

    Example:
      clipsearch people reject Anna 814
    """
    with _changing(index) as changes:
        changes.reject(faces, who)
        say(f"removed {counted(len(set(faces)), 'face')} from {who}")


@app.command()
def hide(
    who: Who,
    show: Annotated[bool, flag("--show", "Show a hidden person again.")] = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Leave a person out of the list. Queries still find a hidden person by name.

    Examples:
      clipsearch people hide 12
      clipsearch people hide 12 --show
    """
    with _changing(index) as changes:
        person = changes.hide(who, hidden=not show)
        say(f"{'shown again' if show else 'hidden'}: {person.title}")


@app.command()
def forget(who: Who, index: IndexOption = None, debug: DebugOption = False) -> None:
    """Remove a name. The faces become an unnamed group again; photos and their metadata are not touched.

    Example:
      clipsearch people forget Anna
    """
    with _changing(index) as changes:
        say(f"forgot {changes.forget(who).title}")


@app.command()
def undo(index: IndexOption = None, debug: DebugOption = False) -> None:
    """Undo the last change of people; run it again to undo the one before.

    Example:
      clipsearch people undo
    """
    with _changing(index) as changes:
        say(f"undid: {changes.undo()}")


@contextmanager
def _changing(index: str | None) -> "Iterator[Changes]":
    with open_folder(index) as opened:
        yield (changes := opened.people_changes)
        if changes.pending:
            say("another process is updating the index; the change shows when it is done")
