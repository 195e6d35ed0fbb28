"""The commands that ask an index: query, label, duplicates, concept.

What a command does not need it does not import.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli.program import (
    NOTHING_FOUND,
    DebugOption,
    IndexOption,
    JsonOption,
    app,
    command,
    open_or_stdin,
    print_json,
    say,
    say_missing,
    some,
    text_lines,
    write,
)
from clipsearch.errors import BadRequest
from clipsearch.output import render
from clipsearch.paths import index_folder
from clipsearch.store.filters import EVERYTHING, Filter

if TYPE_CHECKING:
    from clipsearch.arrays import Array
    from clipsearch.search.embed import Embedder
    from clipsearch.search.label import Labelled
    from clipsearch.search.query import Hit, Searcher, Term
    from clipsearch.store.catalogue import Store

FormatOption = Annotated[
    str | None, typer.Option("--format", "-f", metavar="|".join(render.FORMATS), help="Default: table, piped: paths.")
]
NullOption = Annotated[bool, typer.Option("-0", "--print0", help="Paths that end in NUL, for xargs -0.")]


# ------------------------------------------------------------------------------------------ query


@command
def query(
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="What the photos show; @NAME is a concept.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", "--like", metavar="FILE", help="Photos like this one; a URL, or - for stdin."),
    ] = None,
    not_: Annotated[list[str] | None, typer.Option("--not", metavar="TEXT", help="Away from this.")] = None,
    unlike: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Away from what this photo shows.")] = None,
    k: Annotated[int, typer.Option("-k", "--count", metavar="N", help="How many photos at most.")] = 10,
    where: Filter = EVERYTHING,
    min_score: Annotated[
        float | None, typer.Option(metavar="X", help="Only photos that score at least this, -1 to 1.")
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option(metavar="P", help="Only photos that show the texts with at least this, 0 to 1.")
    ] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Stop where the photos stop being about the query.")] = False,
    unique: Annotated[
        str | None, typer.Option(metavar="[X]", help="Fold photos as near to each other as this cosine.")
    ] = None,
    format: FormatOption = None,
    null: NullOption = False,
    batch: Annotated[
        str | None, typer.Option(metavar="FILE", help="One query a line (- is stdin), answered as JSON lines.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show the photos in the terminal.")] = False,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a contact sheet, one HTML file.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the contact sheet in the browser.")] = False,
    copy_to: Annotated[str | None, typer.Option(metavar="DIR", help="Copy the photos there, over nothing.")] = None,
    link_to: Annotated[str | None, typer.Option(metavar="DIR", help="Link to the photos from there.")] = None,
    numbered: Annotated[bool, typer.Option("--numbered", help="Put the rank before the names in DIR.")] = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Find photos by text, by image, by both, or by date, place and file alone.

    Several texts and images are added up; a number before a colon is a weight, 1 if there is none. Without any, the
    photos that the other options choose are listed, the newest first.

    Examples:
      clipsearch query "a dog on a beach" -k 50
      clipsearch query "2:golden retriever" snow --not people
      clipsearch query --image beach.jpg --unlike hotel.jpg
      clipsearch query sunset --after 2023-06 --before 2023-09 --camera canon
      clipsearch query "a cat" --cut || echo "no cat"
      clipsearch query sunset -0 | xargs -0 cp -t ~/wallpapers
      clipsearch query receipt --format jsonl | jq -r 'select(.confidence > .5) | .path'
      find ~/Pictures -name '*.png' -print0 | clipsearch query "a cat" --files-from - --from0
      clipsearch query --near 48.85,2.35,5 --orientation landscape -k 100 --html paris.html
      clipsearch query @grandma "on a beach" --unique --preview

    Exit status: 0 when something was found, 1 when nothing was, 2 for an error.
    """
    from clipsearch.store.catalogue import Store

    chosen = _format(format, null, batch)
    least = _least(cut, min_confidence)
    threshold = None
    if unique is not None:
        from clipsearch.search.copies import NEAR_IN_RESULTS

        threshold = _threshold(unique, NEAR_IN_RESULTS)
    for name, value in (("--copy-to", copy_to), ("--link-to", link_to), ("--html", html)):
        if value in ("", "-"):
            raise BadRequest(f"{name} needs a name, not {value!r}")
    destination = copy_to or link_to
    if copy_to and link_to:
        raise BadRequest("--copy-to and --link-to are two ways to collect the photos; take one")
    if numbered and not destination:
        raise BadRequest("--numbered says how --copy-to and --link-to name photos")
    shows = {"--preview": preview, "--html": html, "--open": open_, "--copy-to": copy_to, "--link-to": link_to}
    if preview and (null or format not in (None, "table")):
        raise BadRequest("--preview shows the photos in a table; leave out --format and -0")
    if batch is not None and (text or image or not_ or unlike or any(shows.values())):
        raise BadRequest("--batch takes its queries from a file and answers as JSON lines; leave out the others")
    with Store.open(index_folder(index)) as store:
        searcher = _searcher(store, where)

        def ask(terms: Sequence[Term]) -> list[Hit]:
            hits = searcher.query(terms, k, min_score, least, threshold)
            return searcher.with_confidence(hits, terms) if html or open_ or chosen in ("json", "jsonl") else hits

        if batch is not None:
            found = False
            asked = ((place, line) for place, line in text_lines(batch) if line)
            for place, line in _read_ahead(asked, searcher.embedder, 64 if os.path.isfile(batch) else 1):
                try:
                    hits = ask([_text_term(line, store, searcher.embedder)])
                except BadRequest as error:
                    raise BadRequest(f"{place}: {error}") from None
                found = found or bool(hits)
                write(render.jsonl(hits, query=line))
                sys.stdout.flush()
        else:
            terms = [_text_term(words, store, searcher.embedder) for words in text or ()]
            terms += [_image_term(spelling) for spelling in image or ()]
            terms += [_text_term(words, store, searcher.embedder, -1) for words in not_ or ()]
            terms += [_image_term(spelling, -1) for spelling in unlike or ()]
            hits = ask(terms)
            found = bool(hits)
            if destination:
                from clipsearch.output.collect import collect

                collected = collect(hits, Path(destination).expanduser(), link=bool(link_to), numbered=numbered)
                say(f"{render.photos(len(collected))} in {destination}")
            if html or open_:
                _sheet(hits, " ".join(text or image or ["photos"]), html, open_)
            if preview:
                _preview(hits)
            else:
                _print(hits, chosen, null)
    if not found:
        raise typer.Exit(NOTHING_FOUND)


def _format(wanted: str | None, null: bool, batch: str | None) -> str:
    usual = "paths" if null or not sys.stdout.isatty() else "table"
    form = render.chosen(wanted, render.FORMATS, "jsonl" if batch is not None else usual)
    if batch is not None and (null or form != "jsonl"):
        raise BadRequest("--batch answers as JSON lines; leave out --format and -0")
    if null and form != "paths":
        raise BadRequest(f"-0 prints paths; it does not go with --format {form}")
    return form


def _least(cut: bool, min_confidence: float | None) -> float | None:
    if not cut:
        return min_confidence
    if min_confidence is not None:
        raise BadRequest("--cut is a --min-confidence of its own; take one")
    from clipsearch.search.confidence import CUT

    return CUT


def _searcher(store: Store, where: Filter) -> Searcher:
    from clipsearch.search.query import Searcher

    searcher = Searcher(store, where)
    say_missing(searcher.selection.missing)
    if searcher.selection.offline:
        say(f"not searched, offline: {some([root.path for root in searcher.selection.offline])}")
    return searcher


def _threshold(text: str, usual: float) -> float:
    """What `--unique` and `--threshold` were given; empty for the usual."""
    try:
        value = float(text) if text else usual
    except ValueError:
        value = 2.0
    if not 0 <= value <= 1:
        raise BadRequest(f"{text!r} is no threshold; it is a cosine, 0 to 1, such as {usual}")
    return value


def _text_term(text: str, store: Store, embedder: Embedder, sign: int = 1) -> Term:
    """A text as it is written, with its weight; or a concept by its name."""
    from clipsearch.search.query import Term, text_term

    term = text_term(text, sign)
    if not str(term.content).startswith("@"):
        return term
    from clipsearch.search.concepts import Concepts

    return Term(Concepts(store.folder).row(str(term.content), embedder), term.weight)


def _image_term(spelling: str, sign: int = 1) -> Term:
    """An image as `_image` reads it; a weight may stand before it, unless the whole is a file's name."""
    from clipsearch.search.query import weighted

    weight, place = (1.0, spelling) if os.path.exists(spelling) else weighted(spelling)
    return _image(place)._replace(weight=sign * weight)


def _image(place: str) -> Term:
    """An image by its path, its URL, or `-`."""
    from clipsearch.search.query import Term, image_term

    if place == "-":
        with open_or_stdin(place) as file:
            return Term(file.read(), name="the image on stdin")
    if place.startswith(("https://", "http://")):
        from clipsearch.images.fetch import fetch

        return Term(fetch(place), name=place)
    return image_term(place)


def _read_ahead(queries: Iterator[tuple[str, str]], embedder: Embedder, count: int) -> Iterator[tuple[str, str]]:
    """The same queries, of which so many are embedded together; a pipe may wait for an answer before it asks on."""
    from clipsearch.search.query import text_term

    while part := list(itertools.islice(queries, count)):
        texts = []
        for _, line in part:
            with contextlib.suppress(BadRequest):  # which is said when it is this one's turn
                texts.append(str(text_term(line).content))
        texts = [text for text in texts if not text.startswith("@")]  # concepts
        if count > 1 and texts:
            embedder.texts(texts)
        yield from part


def _print(hits: list[Hit], format: str, null: bool) -> None:
    if format == "table":
        write([render.table(hits, _width(), colour=_colour()).encode("utf-8", "replace")])
    elif format == "paths":
        write(render.paths(hits, b"\0" if null else b"\n"))
    elif format == "tsv":
        write(render.tsv(hits))
    elif format == "jsonl":
        write(render.jsonl(hits))
    else:
        write(render.json_array(hits))


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _sheet(hits: list[Hit], title: str, file: str | None, open_it: bool) -> None:
    from clipsearch.output.sheet import write_sheet

    if file is None:
        import tempfile

        handle, file = tempfile.mkstemp(prefix="clipsearch-", suffix=".html")
        os.close(handle)
    path = Path(file).expanduser().absolute()
    write_sheet(path, hits, title)
    if open_it:
        import webbrowser

        say(f"the contact sheet is {path}")
        if not webbrowser.open(path.as_uri()):
            raise BadRequest(f"no browser could be started; open {path} yourself")


def _preview(hits: list[Hit]) -> None:
    from clipsearch.images.thumbnail import thumbnail

    for hit in hits:
        write([render.table([hit], _width(), colour=_colour()).encode("utf-8", "replace")])
        sys.stdout.flush()
        picture = thumbnail(hit.photo.path)
        if picture is not None:
            render.preview(picture, _width())


# ------------------------------------------------------------------------------------------ label


@command
def label(
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="What a photo may show.")] = None,
    labels_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="More labels, one a line (- is stdin).")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="These photos, indexed or not, and no others.")
    ] = None,
    where: Filter = EVERYTHING,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A prompt, {} for the label; repeatable; imagenet and simple are sets."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All labels of a photo, not just the most likely.")] = False,
    counts: Annotated[bool, typer.Option("--counts", help="How many photos have each label.")] = False,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="|".join(render.LABEL_FORMATS), help="Default: table, piped: tsv."),
    ] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    r"""Say which of some labels fits each photo best: zero-shot classification.

    Probabilities are over the labels that were given and add up to 1: a photo of something else gets one of them too.
    The usual template is "a photo of a {}".

    Examples:
      clipsearch label cat dog "a person"
      clipsearch label receipt photo screenshot --counts
      clipsearch label indoors outdoors --under ~/Pictures/2023 -f jsonl | jq -r .label
      clipsearch label cat dog --template "a photo of a {}" --template "a drawing of a {}."
      clipsearch label --labels-from labels.txt --template imagenet -f tsv | awk -F'\t' '$2 > .9'
      clipsearch label cat dog --image beach.jpg --all

    Exit status: 0 when there was a photo, 1 when there was none, 2 for an error.
    """
    from clipsearch.search.embed import Embedder
    from clipsearch.search.label import Classifier, templates_of
    from clipsearch.store.catalogue import Store

    chosen = render.chosen(format, render.LABEL_FORMATS, "table" if sys.stdout.isatty() else "tsv")
    if counts and every:
        raise BadRequest("--counts counts the likeliest labels; leave out --all")
    words = [*(labels or ()), *(text for _, text in (text_lines(labels_from) if labels_from is not None else ()))]
    with Store.open(index_folder(index)) as store:
        if image:
            if where != EVERYTHING:
                raise BadRequest("--image names the photos; leave out what chooses among those of the index")
            embedder = Embedder(store)
        else:
            searcher = _searcher(store, where)
            embedder = searcher.embedder
        classifier = Classifier(embedder, words, templates_of(template or ()))
        most = len(classifier.labels) if every else 1
        if image:
            found = classifier.classify(*_embedded(image, embedder), most)
        else:
            found = classifier.classify_indexed(store, searcher.selection, most)
        first = next(found, None)
        every_one = itertools.chain([] if first is None else [first], found)
        if counts:
            write(render.label_counts(_counted(every_one, classifier.labels), chosen, _width(), colour=_colour()))
        else:
            write(render.labelled(every_one, chosen, _width(), colour=_colour()))
    if first is None:
        raise typer.Exit(NOTHING_FOUND)


def _embedded(spellings: list[str], embedder: Embedder) -> tuple[list[bytes], Array]:
    import numpy as np

    terms = [_image(spelling) for spelling in spellings]
    rows = [embedder.image(term.content, term.name) for term in terms if isinstance(term.content, bytes)]
    return [_absolute(spelling) for spelling in spellings], np.stack(rows)


def _absolute(place: str) -> bytes:
    """The absolute path of a file; a URL or - as it is."""
    return os.fsencode(os.path.abspath(place) if os.path.exists(place) else place)


def _counted(found: Iterable[Labelled], labels: list[str]) -> list[tuple[str, int]]:
    from collections import Counter

    counted = Counter(one.labels[0][0] for one in found)
    return sorted(((name, counted[name]) for name in labels), key=lambda row: -row[1])


# ------------------------------------------------------------------------------------------ duplicates


@command
def duplicates(
    where: Filter = EVERYTHING,
    threshold: Annotated[
        str, typer.Option(metavar="X", help="How near photos must be to the best of their group: a cosine, 0 to 1.")
    ] = "",
    identical: Annotated[bool, typer.Option("--identical", help="Only files with the same contents.")] = False,
    format: FormatOption = None,
    null: NullOption = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """List groups of identical and near-identical photos: copies, edits, bursts.

    Of each group the best comes first: the one with the most pixels, then the largest file, then the oldest. The
    others are near to it by the cosine of their embeddings, 1 for the same contents. An empty line, or with -0 a
    second NUL, ends a group. Nothing is deleted.

    Examples:
      clipsearch duplicates
      clipsearch duplicates --identical --under ~/Pictures/2023
      clipsearch duplicates --threshold 0.98 --format tsv
      clipsearch duplicates --format jsonl | jq -r '.photos[1:][].path'

    Exit status: 0 when there are any, 1 when there are none, 2 for an error.
    """
    from clipsearch.search.copies import NEAR, find_copies
    from clipsearch.store.catalogue import Store

    if identical and threshold:
        raise BadRequest("--identical asks for the same contents, --threshold for near ones; take one")
    chosen = _format(format, null, None)
    near = _threshold(threshold, NEAR)
    with Store.open(index_folder(index)) as store:
        groups = find_copies(store, _searcher(store, where).selection, None if identical else near)
    write(render.copies(groups, chosen, b"\0" if null else b"\n", _width(), colour=_colour()))
    if not groups:
        raise typer.Exit(NOTHING_FOUND)


# ------------------------------------------------------------------------------------------ concepts


concept = typer.Typer(
    help="Name what a few photos show, such as a person or a place, and ask for it as @NAME.", no_args_is_help=True
)
app.add_typer(concept, name="concept")


@concept.command("add")
def concept_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it; query finds it as @NAME.")],
    photos: Annotated[list[str], typer.Argument(metavar="FILE...", help="Photos that show it.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Make a concept of photos, or give it more of them.

    The photos need not be indexed, and are not needed again.

    Examples:
      clipsearch concept add grandma a.jpg b.jpg
      clipsearch query @grandma "on a beach"
    """
    from clipsearch.search.concepts import Concepts, checked_name
    from clipsearch.search.embed import Embedder
    from clipsearch.store.catalogue import Store

    name = checked_name(name)
    examples = [(_absolute(place), _image(place).content) for place in photos]
    with Store.open(index_folder(index)) as store:
        count = Concepts(store.folder).add(
            name, [(path, data) for path, data in examples if isinstance(data, bytes)], Embedder(store)
        )
    say(f"@{name} has {render.photos(count)}")


@concept.command("list")
def concept_list(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List the concepts and how many photos each was made of.

    Example:
      clipsearch concept list --json | jq -r '.concepts[].name'
    """
    from clipsearch.search.concepts import Concepts
    from clipsearch.store.catalogue import Store

    with Store.open(index_folder(index)) as store:
        known = Concepts(store.folder)
    if json:
        rows = [
            {"name": name, "photos": [render.path_fields(example.path) for example in known.examples(name)]}
            for name in known.names()
        ]
        print_json({"concepts": rows})
        return
    for name in known.names():
        print(f"@{name}  {render.photos(len(known.examples(name)))}")


@concept.command("remove")
def concept_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A concept, with or without its @.")],
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Forget a concept. Its photos are not touched.

    Example:
      clipsearch concept remove grandma
    """
    from clipsearch.search.concepts import Concepts
    from clipsearch.store.catalogue import Store

    with Store.open(index_folder(index)) as store:
        Concepts(store.folder).remove(name)
