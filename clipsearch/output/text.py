"""Sentences and words for people: what commands report, titles, sizes and counts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipsearch.errors import counted
from clipsearch.images.left_out import what_to_do
from clipsearch.images.rules import Rules
from clipsearch.search.question import CONCEPT, IMAGE, TEXT, names_no_file
from clipsearch.search.reason import LOOK, NAME
from clipsearch.store.filters import FILTERS, Size

if TYPE_CHECKING:
    from clipsearch.images.left_out import LeftOut
    from clipsearch.indexing.people_changes import NamedFace
    from clipsearch.indexing.status import Status
    from clipsearch.indexing.update import Progress, Report
    from clipsearch.indexing.why import Why
    from clipsearch.models.engines import Comparison
    from clipsearch.output.safe_move import Move
    from clipsearch.search.copies import Copy
    from clipsearch.search.evaluate import Evaluation
    from clipsearch.search.hit import Hit, Photo
    from clipsearch.search.question import Question
    from clipsearch.store.filters import Filter
    from clipsearch.store.verify import Verified

MOST_LISTED = 10


# ------------------------------------------------------------------------------------------ sentences


def moves(done: Iterable[Move], *, dry_run: bool) -> Iterator[bytes]:
    """One line per file that was moved, or would be."""
    verb = "would move" if dry_run else "moved"
    for one in done:
        if one.target is not None and one.moved:
            yield f"{verb} {printable(one.source)} to {printable(one.target)}\n".encode()


def stays(one: Move) -> str:
    """Why a file was not moved."""
    return f"not moved: {os.fsdecode(one.source)}: {one.reason}"


def moved(done: Sequence[Move], folder: str, *, dry_run: bool) -> str:
    """How many copies were moved, or would be, and how to undo it."""
    moves = [one for one in done if one.moved]
    sidecars = sum(one.is_sidecar for one in moves)
    what = counted(len(moves) - sidecars, "copy", "copies")
    if sidecars:
        what += f" and {counted(sidecars, 'sidecar')}"
    line = f"{'would move' if dry_run else 'moved'} {what} ({amount(sum(one.size for one in moves))}) to {folder}"
    place = os.path.abspath(os.path.expanduser(folder))
    return line if dry_run or not moves else f"{line}; to undo, run: clipsearch duplicates --undo {quoted(place)}"


def put_back(done: Sequence[Move], folder: str, *, dry_run: bool) -> str:
    """How many files were moved back, or would be, and what to do next."""
    if not done:
        return f"nothing to undo: {folder} has no moved files"
    back = [one.size for one in done if one.moved]
    line = f"{'would move' if dry_run else 'moved'} {files(len(back))} ({amount(sum(back))}) back from {folder}"
    return line if dry_run or not back else f"{line}; to update the index, run: clipsearch index"


def summary(done: Report) -> Iterator[str]:
    """The result of an index run, line by line."""
    parts = [f"{done.added:,} added"]
    if done.duplicates:
        parts[0] += f" ({counted(done.duplicates, 'duplicate')})"
    for name in ("updated", "moved", "removed"):
        count = getattr(done, name)
        if count:
            parts.append(f"{count:,} {name}")
    parts.append(f"{done.unchanged:,} unchanged")
    if done.skipped:
        parts.append(f"{len(done.skipped):,} skipped")
    line = f"{', '.join(parts)} in {done.seconds:.1f} s"
    if done.embedded:
        line += f"; embedded {counted(done.embedded, 'image')} with {done.model}, {done.images_per_second:.0f} images/s"
    yield line
    if done.read:
        yield f"OCR: {photos(done.read)}, {done.with_text:,} with text"
    if done.face_scans:
        yield f"faces: {done.faces:,} in {counted(done.face_scans, 'image')}"
    yield from _captions(done)
    yield from _listed("skipped", done.skipped)
    if done.skipped_before:
        yield f"{files(len(done.skipped_before))} still skipped; to list them, run: clipsearch status"
    yield from _listed("unreadable, photos kept in the index", done.unreadable)
    yield from _listed("indexed in part", [(path, "cut short or damaged") for path in done.partial], rest="")
    yield from _listed("sidecar ignored", done.sidecars_ignored, rest="")
    yield from _left_out(done.left_out)
    for path in done.empty:
        yield f"no photos found in {printable(path)}"
    for root, offline in done.offline:
        hint = "; if its photos are gone for good, add --prune" if offline.can_be_pruned else ""
        yield f"offline: {printable(root)} {offline}; photos kept in the index{hint}"
    for engine, cosine in done.disagreed:
        yield f"{engine} was rejected: its embeddings are too far from fp32's (cosine {cosine:.4f})"
    for pattern in done.unmatched:
        yield f"--exclude {pattern!r} matched nothing"


def _captions(done: Report) -> Iterator[str]:
    if done.captioned or done.uncaptioned:
        rest = f", {done.uncaptioned:,} left for the next run" if done.uncaptioned else ""
        yield f"captions: {photos(done.captioned)} in {done.captioning_seconds:.1f} s{rest}"
    if done.captions_stopped:
        yield f"captions stopped: {printable(done.captions_stopped)}"


def estimate(progress: Progress) -> str:
    """How long a stage will take, from the rate so far."""
    minutes = max(1, round((progress.seconds_left or 0) / 60))
    left = f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    return (
        f"captions: {progress.done:,} of {photos(progress.total or 0)}, about {left} left;"
        " after an interruption, the next run continues"
    )


def next_steps(options: Sequence[str]) -> str:
    """What to do after the first index run, with the `options` that select the index."""
    return f"Next: {command('query', ['a dog on a beach'], options)}, or: {command('serve', [], ['--open', *options])}"


def stages(done: Report) -> str:
    """The time of each stage of an index run."""
    spent = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in done.stages.items())
    return f"seconds, summed over threads: {spent}" + (f"; {done.engine}" if done.engine else "")


def engines(comparison: Comparison | None) -> Iterator[str]:
    """The engines that were compared, with the chosen one first."""
    if comparison is not None:
        for engine, rate in sorted(comparison.rates.items(), key=lambda item: item[0] != comparison.chosen):
            agreement = f", cosine to fp32 {comparison.cosines[engine]:.4f}" if engine in comparison.cosines else ""
            chosen = ", in use" if engine == comparison.chosen else ""
            yield f"{engine}: {rate:.1f} images/s per thread{agreement}{chosen}"


def not_searched(offline: Mapping[bytes, str]) -> list[str]:
    """A sentence for each offline folder."""
    return [f"Not searched: {printable(folder)} {why}" for folder, why in offline.items()]


def _left_out(of: LeftOut) -> Iterator[str]:
    """Files and folders that scans do not look at, the most frequent first, grouped by what to do."""
    groups: dict[str | None, list[str]] = {}
    for suffix, count in of.files.most_common():
        groups.setdefault(what_to_do(suffix), []).append(f"{count:,} {printable(suffix) or 'without a suffix'}")
    if groups:
        yield "left out: " + ", ".join(", ".join(some) + (f" ({do})" if do else "") for do, some in groups.items())
    if of.folders:
        names = [f"{count:,} {printable(name)}" for name, count in of.folders.most_common(MOST_LISTED)]
        more = ", ..." if len(of.folders) > MOST_LISTED else ""
        yield f"skipped folders: {', '.join(names)}{more}; to include them, add --hidden"


def _listed(
    title: str, rows: Sequence[tuple[bytes, str]], rest: str = "; to list them, run: clipsearch status --json"
) -> Iterator[str]:
    for path, reason in rows[:MOST_LISTED]:
        yield f"{title}: {printable(path)}: {reason}"
    if len(rows) > MOST_LISTED:
        yield f"... and {len(rows) - MOST_LISTED:,} more{rest}"


def status(found: Status) -> Iterator[str]:
    """Folders and counts of an index, line by line."""
    size = "" if found.size is None else f", {amount(found.size)}"
    method = "" if found.method == "exact" else f", search {found.method}"
    yield f"index   {printable(found.place)}{size}{method}"
    yield f"model   {printable(found.model)}, {found.dim} dimensions"
    yield f"photos  {found.photos:,} ({found.distinct:,} distinct), {files(len(found.skipped))} skipped"
    for number, line in enumerate(engines(found.comparison)):
        yield f"{'' if number else 'speed':<8}{line}"
    if found.read:
        yield f"text    in {found.with_text:,} of {found.read:,} with OCR"
    if found.face_scans:
        yield f"faces   {found.faces:,} in {counted(found.face_scans, 'image')}"
    if found.faces:
        yield f"people  {found.people:,} named, {counted(found.unnamed_groups, 'unnamed group')}"
    if found.captioned:
        yield f"captions of {photos(found.captioned)}"
    for root in found.roots:
        state = f"  (offline: {root.offline})" if root.offline else ""
        yield f"  {root.photos:>9,}  {printable(root.path)}{state}"
        if root.rules != Rules():
            yield f"  {'':9}  with {printable(' '.join(_options(root.rules)))}"
    for part in found.offline:
        yield f"  {part.photos:>9,}  of these in {printable(part.path)}  (offline: {part.why})"
    for line in _left_out(found.left_out):
        yield f"  {line}"
    for path, reason in found.skipped[: 2 * MOST_LISTED]:
        yield f"  skipped  {printable(path)}: {reason}"
    if len(found.skipped) > 2 * MOST_LISTED:
        yield f"  ... and {len(found.skipped) - 2 * MOST_LISTED:,} more; to list them, run: clipsearch status --json"


def _options(rules: Rules) -> Iterator[str]:
    """The `index` options that give these rules."""
    for name, value, usual in zip(Rules._fields, rules, Rules(), strict=True):
        if name == "exclude":
            yield from (f"--exclude {quoted(pattern)}" for pattern in rules.exclude)
        elif value != usual:
            yield f"--{'' if value else 'no-'}{name.replace('_', '-')}"


def repairs(sound: Verified) -> list[str]:
    """One sentence per kind of repair."""
    sentences = {  # a counted noun, and what was repaired
        "SETTING": ("setting", "{} of the index had a damaged value; restored"),
        "FRAME": ("frame", "{} of a video or panorama had a damaged record; to embed it again, run: clipsearch index"),
        "DRIVE": ("drive", "{} had a damaged record; to record it again, run: clipsearch index"),
        "NAME": ("file", "{} had a damaged name"),
        "NO_FOLDER": ("file", "{} belonged to no indexed folder"),
        "RECORD": ("file", "{} had a damaged record; to read again, run: clipsearch index"),
        "NO_EMBEDDING": ("file", "{} had no valid embedding; to embed again, run: clipsearch index"),
        "EMBEDDING": ("damaged embedding", "{} dropped"),
        "NO_IMAGE": ("embedding", "{} belonged to no image"),
        "NO_PHOTO": ("image", "{} belonged to no photo"),
        "CAPTION": ("damaged caption", "{} dropped; to caption again, run: clipsearch index"),
        "TEXT": ("damaged text", "{} dropped; to read again, run: clipsearch index --ocr"),
        "FACE": ("face record", "{} dropped as damaged; to look for faces again, run: clipsearch index"),
        "PERSON": ("photo", "{} had damaged names of people; restored"),
        "FULL_TEXT": ("full-text index", "{} did not match the catalogue; rebuilt"),
        "VECTORS": ("vector segment", "{} did not match the catalogue; rebuilt"),
    }
    found = ((*sentences[repair.damage.name], repair.count) for repair in sound.repairs)
    return [sentence.format(counted(count, word)) for word, sentence, count in found]


def why(one: Why) -> bytes:
    """Why a path is or is not indexed, in one line."""
    detail = f": {one.detail}" if one.detail else ""
    return f"{printable(one.path)}: {one.state}{printable(detail)}\n".encode()


def evaluation(measured: Evaluation) -> str:
    """A table of recall, in percent."""
    lines = ["                 R@1    R@5   R@10  median rank"]
    for name, recall in (("text to image", measured.text_to_image), ("image to text", measured.image_to_text)):
        shares = "".join(f"{100 * share:7.1f}" for share in (recall.at_1, recall.at_5, recall.at_10))
        lines.append(f"{name}{shares}{recall.median_rank:13,.1f}")
    what = (
        f"in percent; distinct captions: {measured.captions:,}, their photos: {measured.photos:,} of {measured.among:,}"
    )
    return "\n".join([*lines, f"{what}; model: {printable(measured.model)}"])


def question_title(question: Question) -> str:
    """The terms of a question as a title."""
    titles = []
    for term in question.terms:
        is_image = term.kind == IMAGE
        spelled = os.path.basename(term.spelling) if is_image else term.spelling
        word = ("like " if term.weight > 0 else "unlike ") if is_image else "" if term.weight > 0 else "not "
        titles.append(word + spelled)
    return ", ".join(titles)


def album_title(question: Question) -> str:
    """What a question looks for in words, without names of files, or "Photos"."""
    texts = [
        term.content
        for term in question.terms
        if term.kind in (TEXT, CONCEPT) and term.weight > 0 and not names_no_file(term.content)
    ]
    title = ", ".join(texts) or "Photos"
    return title[0].upper() + title[1:]


def reasons(hit: Hit) -> list[str]:
    """What matches besides the look, and the names, which the path shows: `text: WIFI PASSWORD`."""
    return [
        f"{reason.kind.replace('_', ' ')}: {reason.matched}" for reason in hit.why if reason.kind not in (LOOK, NAME)
    ]


def clock(seconds: float) -> str:
    """A time in a video: 0:07, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def sureness(face: NamedFace) -> str:
    """How sure it is whose face this is: "confirmed", "87%", or nothing."""
    if face.confirmed:
        return "confirmed"
    return "" if face.confidence is None else f"{face.confidence:.0%}"


def video_length(photo: Photo) -> str | None:
    """The length of a video, rounded to a second; "video" if it is unknown; None for a still."""
    if not photo.is_video:
        return None
    duration = photo.metadata.duration
    return "video" if duration is None else clock(max(1, round(duration)))


def found_at(hit: Hit) -> str | None:
    """Where in a video a query found something: at 0:07."""
    return None if hit.photo.time is None or hit.score is None else f"at {clock(hit.photo.time)}"


def filter_title(where: Filter) -> str:
    """The filters as a title; empty without filters."""
    said = []
    for entry in FILTERS:
        values = getattr(where, entry.field)
        if values:
            shown = map(_SHOWN.get(entry.field, entry.show), values)
            said.append(entry.title.format((" and " if entry.every else " or ").join(shown)))
    if where.files is not None:
        said.append(f"among {files(len(where.files))}")
    return ", ".join(said)


def question_subtitle(question: Question) -> str:
    """The filters, the order, and what counts as a match."""
    order = question.limits.order
    by = "" if order is None else f"by {order.field}" + ", descending" * order.descending
    only = f"by {question.limits.only} only" if question.limits.only else ""
    return ", ".join(filter(None, (filter_title(question.filter), by, only)))


def _folder_title(folder: str) -> str:
    return printable(from_home(os.path.abspath(os.fsencode(folder))))


def _size_title(size: Size) -> str:
    if size.least == size.most:
        return amount(size.least or 0)
    return f"at least {amount(size.least)}" if size.least is not None else f"at most {amount(size.most or 0)}"


_SHOWN: dict[str, Callable[[Any], str]] = {  # in this module's units
    "under": _folder_title,
    "not_under": _folder_title,
    "size": _size_title,
}


# ------------------------------------------------------------------------------------------ words


def printable(text: str | bytes, keep: str = "") -> str:
    """Text that cannot control a terminal: unprintable characters are escaped, except those in `keep`."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def harmless(record: bytes) -> bytes:
    """A record made safe for a terminal; tabs and line breaks stay, or with -0 the NUL that ends it."""
    return printable(record, keep="\0" if record.endswith(b"\0") else "\t\n").encode()


def likeness(copy: Copy) -> str:
    """How a file relates to the best of its group: best, identical, copy, or its similarity."""
    return f"similar {min(copy.similarity, 0.999):.3f}" if copy.kind == "similar" else str(copy.kind)


def photos(count: int) -> str:
    """A count of photos: 1 photo, 2 photos."""
    return counted(count, "photo")


def files(count: int) -> str:
    """A count of files: 1 file, 2 files."""
    return counted(count, "file")


def command(verb: str, arguments: Sequence[str], options: Sequence[str]) -> str:
    """A command line of clipsearch, for a shell. Arguments that look like options come last, after --."""
    dashed = [argument for argument in arguments if argument.startswith("-")]
    words = [*(argument for argument in arguments if argument not in dashed), *options]
    return " ".join(["clipsearch", verb, *map(quoted, [*words, *(["--", *dashed] if dashed else [])])])


def quoted(path: str | bytes) -> str:
    r"""A path, quoted for a shell: as `$'a\nb'` if it has characters that do not survive a terminal or clipboard."""
    word = os.fsdecode(path)
    return shlex.quote(word) if word.isprintable() else f"$'{''.join(map(_in_quotes, word))}'"


def amount(size: float) -> str:
    """A size in bytes with its unit."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _in_quotes(character: str) -> str:
    r"""A character in `$'...'`. Its bytes as `\x0a`, which ksh and old versions of bash know, too."""
    if character in "\\'":
        return f"\\{character}"
    return character if character.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def from_home(path: bytes) -> bytes:
    """A path, abbreviated with `~`."""
    home = os.fsencode(os.path.expanduser("~"))
    return b"~" + path[len(home) :] if len(home) > 1 and path.startswith(home + b"/") else path
