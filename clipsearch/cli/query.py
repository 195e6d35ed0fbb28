"""`clipsearch query`: find photos by text, image, date, place or file."""

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from clipsearch.cli import filters
from clipsearch.cli.app import (
    FAILED,
    NOTHING_FOUND,
    OUTPUT,
    Command,
    DebugOption,
    FormatOption,
    IndexOption,
    NullOption,
    advise,
    argument,
    chosen_format,
    colour,
    destination,
    flag,
    image_source,
    lines,
    message_of,
    new_app,
    open_index,
    option,
    print_line,
    progress_of,
    say,
    warn_left_out,
    width,
    write,
    write_records,
)
from clipsearch.cli.vlm import (
    VLM,
    AllowRemoteOption,
    Check,
    DetectorOption,
    EndpointOption,
    Locating,
    SegmenterOption,
    VlmModelOption,
)
from clipsearch.errors import BadArgument, BadRequest, NotIndexed
from clipsearch.index import Index
from clipsearch.output import records, terminal, text
from clipsearch.paths import cache_folder, private_folder
from clipsearch.search.hit import Hit
from clipsearch.search.question import (
    BY_SCORE,
    CUT,
    EVERYTHING,
    IMAGE,
    STRICT,
    Filter,
    Limits,
    Question,
    Term,
    image_term,
    names_no_file,
    text_terms,
)

app = new_app()
QUERY, RESULTS = "Query", "Results"


class _Query(Command):
    """Accepts -WORD as a text to steer away from: `query beach -people`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move such words behind --, where they are not parsed as options. --saved without a name becomes --saved=."""
        following = [*args, "-"][1:]
        args = [
            f"{arg}=" if arg == "--saved" and after[:1] == "-" else arg
            for arg, after in zip(args, following, strict=True)
        ]
        with_value = {name for one in self.get_params(ctx) for name in one.opts if not getattr(one, "is_flag", True)}
        options: list[str] = []
        texts: list[str] = []
        remaining = iter(args)
        for arg in remaining:
            if arg == "--":
                texts += remaining
            elif _is_negative(arg):
                texts.append(arg)
            else:
                options.append(arg)
                if arg in with_value:
                    options += itertools.islice(remaining, 1)
        return super().parse_args(ctx, [*options, "--", *texts] if texts else options)


def _is_negative(arg: str) -> bool:
    """Whether an argument is a text with a minus (-people), not a short option (-k5, -fjson)."""
    is_short_option = re.fullmatch(rf"-(?:k\d+|f(?:{'|'.join(records.FORMATS)}))", arg)
    return bool(re.match(r"-(?:[^\W\d_].|@|[\d.]+:)", arg)) and not is_short_option


@app.command(cls=_Query)
@filters.takes_filters
def query(
    context: typer.Context,
    texts: Annotated[list[str] | None, argument("TEXT...", "Describe the photo; @NAME is a concept.")] = None,
    image: Annotated[
        list[str] | None, option("FILE", "Photos like this one: a path, URL or -.", QUERY, "--image", "--like")
    ] = None,
    not_: Annotated[list[str] | None, option("TEXT", "Steer away from TEXT.", QUERY, "--not")] = None,
    unlike: Annotated[list[str] | None, option("FILE", "Steer away from this photo.", QUERY)] = None,
    batch: Annotated[list[str] | None, option("FILE", "One query per line; prints JSON lines.", QUERY)] = None,
    save: Annotated[str | None, option("NAME", "Save this search as NAME.", QUERY)] = None,
    saved: Annotated[str | None, option("[NAME]", "Run the search saved as NAME, or list all.", QUERY)] = None,
    unsave: Annotated[str | None, option("NAME", "Delete the saved search NAME.", QUERY)] = None,
    filter: Filter = EVERYTHING,
    k: Annotated[int, option("N", "Show at most N photos.", RESULTS, "-k", "--count")] = 10,
    cut: Annotated[bool, flag("--cut", f"Only confident matches: --min-confidence {CUT:g}.", RESULTS)] = False,
    strict: Annotated[bool, flag("--strict", f"No guesses: --min-confidence {STRICT:g}.", RESULTS)] = False,
    min_confidence: Annotated[float | None, option("X", "Minimum confidence, 0 to 1.", RESULTS)] = None,
    min_score: Annotated[float | None, option("X", "Minimum score, -1 to 1.", RESULTS)] = None,
    unique: Annotated[bool, flag("--unique", "Show only the best file of each photo.", RESULTS)] = False,
    similarity: Annotated[float | None, option("X", "With --unique: group similar photos, 0 to 1.", RESULTS)] = None,
    frames: Annotated[bool, flag("--frames", "Show several frames of a video.", RESULTS)] = False,
    only: Annotated[str | None, option("BY", "Match only by look, text, tags or captions.", RESULTS)] = None,
    exact: Annotated[bool, flag("--exact", "Score every embedding (slower).", RESULTS)] = False,
    with_self: Annotated[bool, flag("--with-self", "Also show the indexed photo that is the query.", RESULTS)] = False,
    sort: Annotated[
        str, option("BY", "date, name, path or size; -date: newest first.", RESULTS, show_default=False)
    ] = BY_SCORE,
    format: FormatOption = None,
    null: NullOption = False,
    preview: Annotated[bool, flag("--preview", "Show thumbnails in the terminal.", OUTPUT)] = False,
    html: Annotated[str | None, option("FILE", "Write a contact sheet as one HTML file.", OUTPUT)] = None,
    open_: Annotated[bool, flag("--open", "Open the contact sheet in a browser.", OUTPUT)] = False,
    album: Annotated[bool, flag("--album", "Make --html an album to share: no paths.", OUTPUT)] = False,
    title: Annotated[str | None, option("TEXT", "Title of the album (default: the query).", OUTPUT)] = None,
    place_names: Annotated[bool, flag("--place-names", "Name towns in the album.", OUTPUT)] = False,
    copy_to: Annotated[str | None, option("DIR", "Copy matches into DIR; never overwrites.", OUTPUT)] = None,
    link_to: Annotated[str | None, option("DIR", "Link to matches from DIR.", OUTPUT)] = None,
    where_: Annotated[bool, flag("--where", "Locate the match, in JSON and --html.", OUTPUT)] = False,
    detector: DetectorOption = None,
    segmenter: SegmenterOption = None,
    check: Annotated[str | None, option("TEXT", "Keep photos for which a model says yes.", VLM)] = None,
    vlm_model: VlmModelOption = None,
    endpoint: EndpointOption = None,
    allow_remote: AllowRemoteOption = False,
    numbered: Annotated[bool, flag("--numbered", "Number the names in DIR in order.", OUTPUT)] = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Find photos by text, image, date, place or file.

    Several texts and images are added up. "2:golden retriever" doubles the weight of a text, -people steers away from
    one, and the path of an image works like --image. Without texts and images, the newest photos come first. Repeat a
    filter to match any of its values; all of --keyword, --person, --without-person, --size, --after, --before and
    --not-under must match. "beach OR sea" means either, in every filter that takes a text.

    A text is also looked for in the text in photos (see index --ocr), generated captions (see index --captions),
    keywords, people, titles, captions, places, and names of files and folders. All of its words must be there. The
    table and JSON say why a photo matches.

    A query by an indexed photo leaves out that photo and its identical copies; --with-self shows them. An image that is
    not indexed is compared with all photos, so you can check whether you have it.

    --sort orders the -k best matches but keeps their ranks. Without texts and images, it chooses the first -k photos in
    that order: --sort -size lists the largest. -date is newest first.

    --check "is there a red car?" asks a vision-language model about the best matches, at most five times -k, and keeps
    those that it answers with yes; see ask. --where marks the part that matches best; with --detector or --segmenter,
    everything that such a model finds for the texts; see where.

    The default --format is table on a terminal and paths in a pipe. --batch, --image and --files-from take - for stdin.

    --save NAME keeps texts, images, filters and options about results in the index. --saved NAME runs that search;
    options about results that you add replace the saved ones.

    Examples:
      clipsearch query "a dog on a beach" -k 50
      clipsearch query "2:golden retriever" snow -people
      clipsearch query --image beach.jpg --unlike hotel.jpg
      clipsearch query sunset --after 2023-06 --before 2023-09 --camera canon
      clipsearch query "a cat" --cut || echo "no cat"
      clipsearch query sunset -0 | xargs -0 cp -n -t ~/wallpapers
      clipsearch query receipt -f jsonl | jq 'select(.confidence > .5).path'
      find ~/Pictures -mtime -7 | clipsearch query "a cat" --files-from -
      clipsearch query --near 48.85,2.35,5 -k 100 --html paris.html
      clipsearch query "a dog" -k 200 --html dogs.html --album --title "Rex"
      clipsearch query "@grandma on a beach" --unique --preview
      clipsearch query sunset --not-under ~/Pictures/2023 --sort -date
      clipsearch query "wifi password" --only text
      clipsearch query --reads "boarding pass" -f jsonl | jq '.lines[].text'
      clipsearch query "a car" -k 5 --check "is there a red car?"
      clipsearch query "a dog" --where --detector owlv2 --html dogs.html
      clipsearch query "a dog on a beach" --cut --save "beach dogs"
      clipsearch query --saved "beach dogs" -k 50

    Exit status: 0 found something, 1 found nothing, 2 error.
    """
    if batch and (texts or image or not_ or unlike or preview or html or open_ or copy_to or link_to):
        raise BadRequest("--batch reads queries from FILE and prints JSON lines; leave out other queries and outputs")
    for_others = _Album(title, place_names) if album else None
    if (title is not None or place_names) and not album:
        raise BadRequest("--title and --place-names need --album")
    located = Locating(where_, detector, segmenter)
    located.check()
    shown = _Shown(_form(format, null, batch), null, preview, destination("html", html), open_, located.key, for_others)
    collected = _Collected(destination("copy_to", copy_to), destination("link_to", link_to), numbered)
    _check_together(shown, collected, format)
    if where_ and not shown.is_detailed:
        raise BadRequest("--where needs --html FILE, --open, --format json or --format jsonl")
    if batch and (where_ or check is not None):
        raise BadRequest(f"{'--where' if where_ else '--check'} cannot be used with --batch")
    named, least = _min_confidence(cut=cut, strict=strict, min_confidence=min_confidence)
    question = Question(
        _terms(texts or (), image or (), not_ or (), unlike or ()),
        filter,
        Limits(k, min_score, least, unique, similarity, exact, frames, sort, with_self, only),
    )
    checked = Check(check, vlm_model, endpoint, allow_remote)
    named_query = _Saved(save, saved, unsave)
    if named_query.is_whole and (batch or question.terms or filter != EVERYTHING):
        raise BadRequest("--saved and --unsave name a whole search; leave out texts, images and filters")
    with open_index(index) as opened:
        if named_query.is_about_names:
            _manage_saved(opened, named_query)
            return
        question = _kept(opened, question, named_query, context)
        if batch:
            found, failed = _answer_each(batch, opened, question)
        else:
            details = {
                "confidence": shown.needs_confidence,
                "where": located.key == "where",
                "lines": shown.is_detailed,
            }
            hits = checked.confirmed(opened, question, lambda asked: _found(opened, asked, named, **details))
            hits = located.detected(opened, hits, question)
            found, failed = bool(hits), False
            _collect(hits, collected)
            _show(hits, shown, question)
            _say_what_is_misread(opened, question, [*(texts or ()), *(not_ or ())])
        warn_left_out(opened.left_out)
    if failed:
        raise typer.Exit(FAILED)
    if not found:
        unlimited = Limits(k, exact=exact, frames=frames, sort=sort, with_self=with_self, only=only)
        if sys.stdout.isatty() and filter == EVERYTHING and question.limits == unlimited:
            say("nothing found; are the folders online? Run: clipsearch status")
        elif sys.stdout.isatty():
            say("nothing found")
        raise typer.Exit(NOTHING_FOUND)


def _terms(
    texts: Sequence[str], like: Sequence[str], without: Sequence[str], unlike: Sequence[str]
) -> tuple[Term, ...]:
    terms = [term for words in texts for term in text_terms(words, files=True)]
    terms += [image_term(image_source(image)) for image in like]
    terms += [term for words in without for term in text_terms(words, negative=True, files=True)]
    terms += [image_term(image_source(image), negative=True) for image in unlike]
    return tuple(terms)


def _say_what_is_misread(index: Index, question: Question, given: Sequence[str]) -> None:
    for words in filter(names_no_file, given):
        say(f"no such file: {words!r}; read as a description instead. To search file names, use --name")
    if not question.limits.with_self:
        for term in question.terms:
            if (
                isinstance(term.content, str)
                and term.kind == IMAGE
                and term.content in given
                and _is_indexed(index, term.content)
            ):
                say(f"{term.content} was read as --image; the photo itself is left out, --with-self shows it")
    advise(index, question.texts)


def _is_indexed(index: Index, path: str) -> bool:
    try:
        return bool(index.photo_at(os.path.abspath(os.path.expanduser(path))))
    except NotIndexed:
        return False


# ------------------------------------------------------------------------------------------ options


class _Album(NamedTuple):
    title: str | None
    place_names: bool


class _Shown(NamedTuple):
    """Options about printing hits."""

    form: str
    null: bool
    preview: bool
    html: str | None
    open: bool
    located: str | None  # "where" or "detections"
    album: _Album | None

    @property
    def is_detailed(self) -> bool:
        return bool(self.html or self.open or self.form in ("json", "jsonl"))

    @property
    def needs_confidence(self) -> bool:
        return self.is_detailed or self.form == "table"


class _Collected(NamedTuple):
    """Options about copying or linking hits into a folder."""

    copies: str | None
    links: str | None
    numbered: bool


class _Saved(NamedTuple):
    """Options about saved searches; an empty `saved` lists them."""

    save: str | None
    saved: str | None
    unsave: str | None

    @property
    def is_about_names(self) -> bool:
        """Whether there is nothing to search for."""
        return self.unsave is not None or self.saved == ""

    @property
    def is_whole(self) -> bool:
        """Whether the query comes from the index."""
        return self.unsave is not None or self.saved is not None


def _form(wanted: str | None, null: bool, batch: list[str] | None) -> str:
    default = "paths" if null or not sys.stdout.isatty() else "table"
    form = chosen_format(wanted, records.FORMATS, "jsonl" if batch else default)
    if batch and (null or form != "jsonl"):
        raise BadRequest("--batch always prints JSON lines; leave out --format and -0")
    if null and form != "paths":
        raise BadRequest(f"-0 prints paths; leave out --format {form}")
    return form


def _check_together(shown: _Shown, collected: _Collected, format: str | None) -> None:
    if collected.copies and collected.links:
        raise BadRequest("use --copy-to or --link-to, not both")
    if collected.numbered and not (collected.copies or collected.links):
        raise BadRequest("--numbered needs --copy-to or --link-to")
    if shown.album and not (shown.html or shown.open):
        raise BadRequest("--album needs --html FILE or --open")
    if shown.album and shown.located:
        raise BadRequest("--where marks matches in contact sheets, not in albums; leave out --where or --album")
    if shown.preview and (shown.null or format not in (None, "table")):
        raise BadRequest("--preview prints a table; leave out --format and -0")


def _min_confidence(*, cut: bool, strict: bool, min_confidence: float | None) -> tuple[str, float | None]:
    """The option that sets the minimum confidence, and its value."""
    if cut + strict + (min_confidence is not None) > 1:
        raise BadRequest(
            f"--cut means --min-confidence {CUT:g}, --strict means --min-confidence {STRICT:g}; use one of them"
        )
    return ("cut", CUT) if cut else ("strict", STRICT) if strict else ("min_confidence", min_confidence)


def _found(index: Index, question: Question, named: str, **details: bool) -> list[Hit]:
    """The hits. Errors about the minimum confidence name the option `named`."""
    try:
        return index.ask(question, **details)
    except BadArgument as error:
        if error.argument == "min_confidence":
            raise BadArgument(named, error.problem) from None
        raise


# ------------------------------------------------------------------------------------------ saved searches


def _manage_saved(index: Index, how: _Saved) -> None:
    """Delete a saved search, or list each with the command that runs it."""
    if how.unsave is not None:
        index.saved_searches.remove(how.unsave)
        return
    for name, question in index.saved_searches.all().items():
        print_line(f"{name}\t{text.command('query', *question.arguments())}")


def _kept(index: Index, question: Question, how: _Saved, context: typer.Context) -> Question:
    """The question to answer: with --saved, the saved one with the options of this run. With --save, save it."""
    if how.saved is not None:
        limits = {name: value for name, value in question.limits._asdict().items() if _is_given(context, name)}
        saved = index.saved_searches.question(how.saved)
        question = saved._replace(limits=saved.limits._replace(**limits))
    if how.save is not None:
        index.saved_searches.save(how.save, question)
        say(f"saved; to run it again: {text.command('query', [], ['--saved', how.save.strip()])}")
    return question


def _is_given(context: typer.Context, limit: str) -> bool:
    names = ("cut", "strict", "min_confidence") if limit == "min_confidence" else (limit,)
    return any(getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE" for name in names)


# ------------------------------------------------------------------------------------------ many queries


def _answer_each(sources: Sequence[str], index: Index, question: Question) -> tuple[bool, bool]:
    """Print the hits of each line as JSON lines. Returns whether there were any, and whether a line failed.

    A line that is not a valid query prints an object with `error`, a query without hits one with `hits` 0.
    """
    found = failed = False
    numbered, queries = itertools.tee(
        (position, words)
        for source in sources
        for position, line in lines(source)
        if (words := line.decode("utf-8", "surrogateescape").strip())
    )
    ahead = 64 if all(map(os.path.isfile, sources)) else 1
    answers = index.ask_each((words for _, words in queries), question, ahead=ahead)
    for answer, (position, words) in zip(answers, numbered, strict=True):
        query = words.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if isinstance(answer, BadRequest):
            say(f"{position}: {message_of(answer)}")
            failed = True
            write_records([records.as_json({"query": query, "error": message_of(answer)})])
        else:
            found = found or bool(answer)
            advise(index, question._replace(terms=tuple(text_terms(words))).texts, f"{position}: ")
            no_hits = [records.as_json({"query": query, "hits": 0})]
            write_records(records.hits(answer, "jsonl", query=query) if answer else no_hits)
        sys.stdout.flush()
    return found, failed


# ------------------------------------------------------------------------------------------ results


def _collect(hits: list[Hit], how: _Collected) -> None:
    destination = how.copies or how.links
    if destination:
        from clipsearch.output.collect import collect

        paths = collect(hits, Path(destination).expanduser(), link=bool(how.links), numbered=how.numbered)
        say(f"{'linked' if how.links else 'copied'} {text.photos(len(paths))} to {destination}")


def _show(hits: list[Hit], how: _Shown, question: Question) -> None:
    if how.html or how.open:
        _write_page(hits, question, how)
    if how.preview:
        _preview(hits)
    elif how.form == "table":
        write([terminal.hits(hits, width(), colour=colour())])
    else:
        write_records(records.hits(hits, how.form, b"\0" if how.null else b"\n", located=how.located))


def _write_page(hits: Sequence[Hit], question: Question, how: _Shown) -> None:
    """Write the contact sheet or the album."""
    if how.html is None:  # --open alone: overwrite the last page in the cache
        path = cache_folder() / "contact-sheet.html"
        private_folder(path.parent)
        path.unlink(missing_ok=True)  # one that an older version wrote would not be replaced
    else:
        path = Path(how.html).expanduser().absolute()
    if how.album:
        _write_album(path, hits, text.album_title(question) if how.album.title is None else how.album.title, how)
    else:
        from clipsearch.output.sheet import write_sheet

        title, subtitle = text.question_title(question), text.question_subtitle(question)
        write_sheet(path, hits, title, subtitle, private=how.html is None)
    if how.open:
        say(f"{'album' if how.album else 'contact sheet'}: {path}")
        _open_in_browser(path)


def _write_album(path: Path, hits: Sequence[Hit], title: str, how: _Shown) -> None:
    """Write the album with a progress bar, and say what is in it."""
    from clipsearch.output.album import summary, write_album

    assert how.album is not None
    done = itertools.count(1)
    with progress_of("album") as progress:
        made = write_album(
            path,
            hits,
            title,
            place_names=how.album.place_names,
            private=how.html is None,
            on_photo=lambda: progress(next(done), len(hits)),
        )
    for line in summary(made, path.name):
        say(line)


def _open_in_browser(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.as_uri()):
        raise BadRequest(f"cannot start a browser; open {path} yourself")


def _preview(hits: Sequence[Hit]) -> None:
    pictures = terminal.previews(hits, width())
    for number, hit in enumerate(hits):
        write([terminal.hits([hit], width(), colour=colour(), header=not number)])
        sys.stdout.flush()
        write([next(pictures).encode()])
