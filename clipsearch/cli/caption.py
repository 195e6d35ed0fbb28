"""`clipsearch caption`: describe photos in words, and optionally write that to XMP sidecars."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli.app import (
    FAILED,
    AnyPhotos,
    DebugOption,
    Failures,
    IndexOption,
    TextFormatOption,
    chosen_format,
    flag,
    image_source,
    new_app,
    open_index,
    say,
    write_records,
)
from clipsearch.cli.sidecars import SIDECARS, DryRunOption, RemoveOption, clean_sidecars, write_sidecars
from clipsearch.cli.vlm import AllowRemoteOption, EndpointOption, VlmModelOption, vlm_of
from clipsearch.errors import BadRequest, counted
from clipsearch.output import records

if TYPE_CHECKING:
    from clipsearch.search.vqa import Captioned

app = new_app()


@app.command()
def caption(
    photos: AnyPhotos,
    vlm_model: VlmModelOption = None,
    endpoint: EndpointOption = None,
    allow_remote: AllowRemoteOption = False,
    write_xmp: Annotated[bool, flag("--write-xmp", "Write captions to sidecars that have none.", SIDECARS)] = False,
    remove: RemoveOption = False,
    dry_run: DryRunOption = False,
    format: TextFormatOption = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Print captions of photos by a vision-language model.

    Without options, prints the captions in the index (see index --captions). Photos without one are captioned by the
    same model, or else by Salesforce/blip-image-captioning-base, which needs the extra vlm. Nothing is stored in
    the index.

    --write-xmp writes captions to sidecars as dc:description, which other programs show, unless the photo or a sidecar
    has a description. Nothing else in a sidecar changes, photos are never modified, and --remove removes only what
    --write-xmp added.

    Examples:
      clipsearch caption beach.jpg
      clipsearch caption *.jpg -f jsonl | jq -r .generated_caption
      clipsearch caption *.jpg --write-xmp --dry-run

    Exit status: 0 done, 2 error, or a photo could not be read.
    """
    form = chosen_format(format, records.TEXT_FORMATS, "text")
    vlm = vlm_of(vlm_model, endpoint, allow_remote=allow_remote)
    if remove and (write_xmp or format or vlm):
        raise BadRequest("--remove deletes the captions that clipsearch wrote; use it alone or with --dry-run")
    if dry_run and not (write_xmp or remove):
        raise BadRequest("--dry-run needs --write-xmp or --remove")
    if remove:
        _remove(photos, dry_run)
        return
    failures = Failures()
    with open_index(index) as opened:
        found: Iterable[Captioned] = opened.captions(list(map(image_source, photos)), vlm, on_error=failures.add)
        if write_xmp:  # before a result is printed, so that `| head` does not stop it
            found = list(found)
            _write(found, dry_run, failures)
        write_records(records.captions(found, form, with_paths=len(photos) > 1))
    failures.exit()


def _write(found: "Iterable[Captioned]", dry_run: bool, failures: Failures) -> None:
    """Write captions to sidecars."""
    from clipsearch.output.tags import Tagger

    tagger, captioned = Tagger(), []
    for photo in found:
        if photo.caption:
            captioned.append(photo)
        else:
            say(f"the model wrote no caption for {os.fsdecode(photo.path)}")
    written = write_sidecars(tagger, captioned, lambda one: [tagger.plan_caption(*one)], dry_run)
    failures.names += [os.fsdecode(photo.path) for photo in written.failed]
    verb, have = ("would write", "have") if dry_run else ("wrote", "had")
    unchanged = counted(written.unchanged, "photo")
    say(f"{verb} {counted(written.sidecars, 'sidecar')}; {unchanged} already {have} a description")


def _remove(photos: Iterable[str], dry_run: bool) -> None:
    from clipsearch.output.tags import Tagger

    tagger = Tagger()
    paths = (os.fsencode(os.path.abspath(photo)) for photo in photos)
    if clean_sidecars(tagger, tagger.plan_removal_of_caption, paths, dry_run):
        raise typer.Exit(FAILED)
