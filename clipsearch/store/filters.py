"""Photo filters, and how people write them.

`Filter` is the table of all filters. Each field says what the filter is called on the command line, how its text is
parsed, and its condition; the options of commands, the parameters of the page and of MCP, and the
queries of both kinds of store are derived from it. Adding a filter means adding a field.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Any, NamedTuple

from clipsearch.errors import BadArgument, BadRequest
from clipsearch.images.facts import items
from clipsearch.images.kinds import TYPES
from clipsearch.store.conditions import (
    Circle,
    Compare,
    Condition,
    Contains,
    GeoBox,
    HasLine,
    HasText,
    IsMissing,
    Near,
    Not,
    Within,
    all_of,
    alternatives,
    any_of,
    fold_line,
    is_unicode,
)
from clipsearch.store.dates import parse_date, spell_date, to_local

ORIENTATIONS = ("landscape", "portrait", "square")

_UNITS = {"b": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_ALSO = {"jpeg2000": "jp2", "jpeg 2000": "jp2"}
_LARGEST = 2**63 - 1  # SQLite's largest integer


class Size(NamedTuple):
    """A range of file sizes in bytes, both ends included; None leaves an end open."""

    least: int | None = None
    most: int | None = None


class Stars(NamedTuple):
    """A range of ratings, both ends included; -1 is "rejected"."""

    least: int
    most: int


UNRATED = Stars(0, 0)

# ------------------------------------------------------------------------------------------ parsing


def parse_size(text: str) -> Size:
    """`+1.5M` (at least), `-500k` (at most) or `10ki` (exactly), as in fd. Raises `BadRequest`."""
    match = re.fullmatch(r"([+-]?)(\d{1,12})(\.\d{1,9})? ?([a-z]*)", text.strip().lower())
    if not match or (match[4] or "b") not in _UNITS:
        raise BadRequest(
            f"{text!r} is not a valid size; write +2M for at least two megabytes, -500k for at most 500 kilobytes"
        )
    unit = _UNITS[match[4] or "b"]
    size = min(int(match[2]) * unit + round(float(match[3] or 0) * unit), _LARGEST)
    return Size(None if match[1] == "-" else size, None if match[1] == "+" else size)


def parse_stars(text: str) -> Stars:
    """`4+` (at least), `2-3`, `5`, `rejected`, or `none` for photos without a rating. Raises `BadRequest`."""
    named = {"rejected": Stars(-1, -1), "none": UNRATED, "0": UNRATED}.get(text.strip().lower())
    match = re.fullmatch(r"\s*([1-5])\s*(\+|-\s*([1-5]))?\s*", text)
    if named is not None:
        return named
    if not match or (match[3] or "5") < match[1]:
        raise BadRequest(f"{text!r} is not a valid rating; write 4+ for at least four stars, 2-3, 5, rejected or none")
    return Stars(int(match[1]), int(match[3] or (5 if match[2] else match[1])))


def parse_circle(text: str) -> Circle:
    """`48.85,2.35`, `48.85 2.35` or `48.85,2.35,5km`: degrees, then the radius in kilometres. Raises `BadRequest`.

    With the extra `places`, also a town: `Paris`, `Paris, Texas`, `Paris, 5km`.
    """
    plain = re.sub(r"\s*km$", "", text.strip().lower())
    parts = re.split(r"\s*,\s*|\s+", plain)
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        if re.search(r"[^\W\d_]{2}", plain):
            return _around_town(text)
        numbers = ()
    try:
        return _circle(numbers)
    except ValueError:
        raise BadRequest(
            f"{text!r} is not a valid place; write LATITUDE,LONGITUDE in degrees, or LATITUDE,LONGITUDE,KM"
        ) from None


def _around_town(text: str) -> Circle:
    from clipsearch.store.places import town_named

    name, comma, radius = text.rpartition(",")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:km)?\s*", radius, re.IGNORECASE) if comma else None
    town = town_named(name if match else text)
    return Circle(town.latitude, town.longitude, *([float(match[1])] if match else []))


def parse_box(text: str) -> GeoBox:
    """`48.8,2.2,48.9,2.5`: the southern, western, northern and eastern edge in degrees. Raises `BadRequest`."""
    try:
        return _box([float(part) for part in re.split(r"\s*,\s*|\s+", text.strip())])
    except ValueError:
        raise BadRequest(f"{text!r} is not a valid box; write SOUTH,WEST,NORTH,EAST in degrees") from None


def parse_type(text: str) -> str:
    """The kind of file in `TYPES` that a name or suffix means: `jpg`, `.jpeg` and `JPEG` are jpeg."""
    name = text.strip().lower().removeprefix(".")
    for kind, suffixes in TYPES.items():
        if _ALSO.get(name, name) == kind or f".{name}" in suffixes:
            return kind
    raise BadRequest(f"unknown type {text!r}; choose from {', '.join(TYPES)}")


def parse_orientation(text: str) -> str:
    """One of `ORIENTATIONS`, which may be abbreviated."""
    found = [name for name in ORIENTATIONS if text and name.startswith(text.strip().lower())]
    if len(found) != 1:
        raise BadRequest(f"unknown orientation {text!r}; choose from {', '.join(ORIENTATIONS)}")
    return found[0]


def spellings_of(name: str) -> Iterator[set[str]]:
    """The spellings of each word that a path may use: upper and lower case, accents composed and decomposed."""
    for word in name.split():
        cases = {word, word.lower(), word.upper(), word.title()}
        yield {lower_ascii(unicodedata.normalize(form, one)) for one in cases for form in ("NFC", "NFD")}


def lower_ascii(text: str) -> str:
    """Lower case as SQLite's `lower` makes it: ASCII letters only."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _date(value: Any) -> datetime:
    if isinstance(value, str):
        return parse_date(value).replace(microsecond=0)
    if isinstance(value, date):
        return to_local(value) if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    raise ValueError("must be a date")


def _size(value: Any) -> Size:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, Size) and all(end is None or _is_bytes(end) for end in value):
        return value
    raise ValueError("must be a Size of whole bytes, or a text such as '+2M'")


def _stars(value: Any) -> Stars:
    if isinstance(value, str):
        return parse_stars(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return parse_stars("rejected" if value == -1 else str(value))
    if isinstance(value, Stars) and value in map(parse_stars, map(_spell_stars, [value])):
        return value
    raise ValueError("must be a number of stars, Stars, or a text such as '4+'")


def _is_bytes(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _circle(value: Any) -> Circle:
    if isinstance(value, str):
        return parse_circle(value)
    try:
        circle = Circle(*(float(number) for number in value))
        if abs(circle.latitude) <= 90 and abs(circle.longitude) <= 180 and 0 <= circle.km < math.inf:
            return circle
    except (TypeError, ValueError):
        pass
    raise ValueError("must be latitude, longitude (degrees) and kilometres")


def _box(value: Any) -> GeoBox:
    if isinstance(value, str):
        return parse_box(value)
    try:
        box = GeoBox(*(float(number) for number in value))
        if -90 <= box.south <= box.north <= 90 and abs(box.west) <= 180 and abs(box.east) <= 180:
            return box
    except (TypeError, ValueError):
        pass
    raise ValueError("must be the southern, western, northern and eastern edge of a box in degrees")


def _folder(value: Any) -> str:
    if not isinstance(value, str | bytes | os.PathLike):
        raise ValueError("must be the path of a folder")
    path = os.fsdecode(value)
    if not path.strip():
        raise ValueError("must not be empty")
    if "\0" in path:
        raise ValueError("contains a NUL character")
    return path


def _text(value: Any) -> str:
    text = _part_of_path(value)
    if not is_unicode(text):
        raise ValueError("is not UTF-8")
    return text


def _part_of_path(value: Any) -> str:
    """Text that may have bytes of another encoding, as surrogates."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    if not value.strip():
        raise ValueError("must not be empty")
    if "\0" in value:
        raise ValueError("contains a NUL character")
    return value.strip()


def _choice(parse: Callable[[str], str]) -> Callable[[Any], str]:
    def checked(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text")
        return parse(value)

    return checked


# ------------------------------------------------------------------------------------------ conditions


def _either(condition: Callable[[str], Condition]) -> Callable[[str], Condition]:
    """The condition on a text, or with `dog OR cat`, on one of several."""
    return lambda text: any_of(map(condition, alternatives(text)))


def _in_range(size: Size) -> Condition:
    ends = ((">=", size.least), ("<=", size.most))
    return all_of(Compare("size", operator, end) for operator, end in ends if end is not None)


def _in_box(box: GeoBox) -> Condition:
    """The meridian opposite Greenwich has two names, -180 and 180."""
    opposite = [-edge for edge in (box.west, box.east) if abs(edge) == 180]
    return any_of([Within(box), *(Within(box._replace(west=edge, east=edge)) for edge in opposite)])


def _has_words(*fields: str) -> Callable[[str], Condition]:
    """Each word is in one of these fields."""

    def condition(text: str) -> Condition:
        return all_of(
            any_of(Contains(field, way) for field in fields for way in sorted(ways)) for ways in spellings_of(text)
        )

    return condition


def _has_keyword(keyword: str) -> Condition:
    """People count as keywords. Programs write hierarchies as "Animals|Dog" or "Animals/Dog"."""
    ways = dict.fromkeys((keyword, keyword.replace("/", "|")))
    return any_of([_shows(keyword), *(HasLine("keywords", way) for way in ways)])


def _shows(name: str) -> Condition:
    """Another program tagged this person, or a face has the name."""
    return any_of([HasLine("people", name), HasLine("named", name)])


def _is_rated(stars: Stars) -> Condition:
    if stars == UNRATED:
        return IsMissing("rating")
    return all_of((Compare("rating", ">=", stars.least), Compare("rating", "<=", stars.most)))


def _suffix_of(kind: str) -> Condition:
    return any_of(Compare("type", "=", suffix) for suffix in TYPES[kind])


def _spell_size(size: Size) -> str:
    if size.least == size.most:
        return str(size.least)
    return f"+{size.least}" if size.most is None else f"-{size.most}"


def _spell_stars(stars: Stars) -> str:
    named = {UNRATED: "none", Stars(-1, -1): "rejected"}.get(stars)
    if named:
        return named
    return str(stars.least) if stars.least == stars.most else f"{stars.least}-{stars.most}"


def _spell_numbers(numbers: Circle | GeoBox) -> str:
    return ",".join(repr(number).removesuffix(".0") for number in numbers)


def _title_of_circle(circle: Circle) -> str:
    return f"within {circle.km:g} km of {circle.latitude:g}, {circle.longitude:g}"


def _title_of_box(box: GeoBox) -> str:
    return f"inside {box.south:g}, {box.west:g} to {box.north:g}, {box.east:g}"


# ------------------------------------------------------------------------------------------ values to choose from

_TYPE_OF = {suffix[1:]: kind for kind, suffixes in TYPES.items() for suffix in suffixes}


class Facet(NamedTuple):
    """The values of a filter that photos have: `values` gives those that a photo with these `columns` passes.

    Columns are fields of `Metadata`, and `suffix`, without its dot. `within`: a value also passes photos with a longer
    value that contains it. `folds`: spellings that the filter treats as one value have the same key.
    """

    columns: tuple[str, ...]
    values: Callable[..., Iterable[str]]
    folds: Callable[[str], str]
    within: bool = False


def _itself(value: str | None) -> Iterable[str]:
    return (value,) if value and value.strip() else ()


def _orientation_of(width: int, height: int) -> Iterable[str]:
    return ("landscape" if width > height else "portrait" if width < height else "square",)


def _type_of(suffix: str) -> Iterable[str]:
    return (_TYPE_OF[suffix],) if suffix in _TYPE_OF else ()


def _stars_of(rating: int | None) -> Iterable[str]:
    """A photo with three stars passes 3+, 2+ and 1+."""
    if not rating:
        return ("none",)
    return (
        ("rejected",) if rating < 0 else [f"{least}+" if least < 5 else "5" for least in range(1, min(rating, 5) + 1)]
    )


def _people_of(people: str | None, named: str | None) -> Iterable[str]:
    names = {fold_line(name): name for name in (*items(named), *items(people))}
    return names.values()


def _keywords_of(keywords: str | None, people: str | None, named: str | None) -> Iterable[str]:
    """As `_has_keyword` finds them."""
    paths = (key if "/" in key else key.replace("|", "/") for key in items(keywords))
    return (*paths, *_people_of(people, named))


# ------------------------------------------------------------------------------------------ the table


class FilterOption(NamedTuple):
    """A filter: a field of `Filter`, and its name on the page and in MCP; commands have dashes in it.

    `parse` takes text (raises `BadRequest`) or a Python value (raises `ValueError`); `spell` is its inverse.
    `condition` is None where the store itself resolves the values (folders). Of several values one must hold; with
    `every`, all of them. `commas`: in a form field, commas separate several values. `title` describes the values to
    people, `show` one value in it. `facet` has the values to choose from, where photos have a limited number.
    """

    field: str
    option: str
    metavar: str
    help: str
    parse: Callable[[Any], Any]
    condition: Callable[[Any], Condition] | None
    spell: Callable[[Any], str]
    every: bool
    commas: bool
    choices: tuple[str, ...]
    title: str
    show: Callable[[Any], str]
    facet: Facet | None

    @property
    def flag(self) -> str:
        """The option of commands."""
        return "--" + self.option.replace("_", "-")


def _filter(  # a row of the table
    metavar: str,
    help: str,
    parse: Callable[[Any], Any],
    condition: Callable[[Any], Condition] | None,
    title: str = "{}",
    *,
    option: str = "",
    every: bool = False,
    commas: bool = False,
    spell: Callable[[Any], str] = str,
    show: Callable[[Any], str] | None = None,
    choices: Iterable[str] = (),
    facet: Facet | None = None,
) -> Any:
    entry = FilterOption(
        "", option, metavar, help, parse, condition, spell, every, commas, tuple(choices), title, show or spell, facet
    )
    return field(default=(), metadata={"filter": entry})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Conditions that must all hold. Each takes one value or several, as text or as Python values.

        Filter(after="2023-06", types=("jpeg", "heic"), near=Circle(48.85, 2.35, 5))

    Of several values one must hold; of `after`, `before`, `size`, `keywords`, `people`, `without_people` and
    `not_under`, all must. A text such as "beach OR sea" means either, except in names of folders. A photo's date is
    when it was taken or, if unknown, when its file changed, in local time; `after` includes its moment, `before` does
    not. `files` limits the search to these paths; an empty list matches nothing. Values are parsed, and kept as tuples.
    Raises `BadRequest` for values that make no sense.
    """

    under: Any = _filter("DIR", "In this folder.", _folder, None, "in {}")
    not_under: Any = _filter("DIR", "Not in this folder.", _folder, None, "outside {}", every=True)
    after: Any = _filter(
        "DATE",
        "Taken on or after: 2023-06, yesterday.",
        _date,
        lambda moment: Compare("date", ">=", moment),
        "since {}",
        every=True,
        spell=spell_date,
    )
    before: Any = _filter(
        "DATE",
        "Taken before, not on, this date.",
        _date,
        lambda moment: Compare("date", "<", moment),
        "before {}",
        every=True,
        spell=spell_date,
    )
    camera: Any = _filter(
        "TEXT",
        "Camera make or model contains TEXT.",
        _text,
        _either(lambda name: Contains("camera", " ".join(name.split()))),
        facet=Facet(("camera",), _itself, lower_ascii, within=True),
    )
    near: Any = _filter(
        "PLACE[,KM]",
        "Near Paris, or LAT,LON; default 10 km.",
        _circle,
        Near,
        spell=_spell_numbers,
        show=_title_of_circle,
    )
    within: Any = _filter(
        "S,W,N,E", "Inside this box, in degrees.", _box, _in_box, spell=_spell_numbers, show=_title_of_box
    )
    size: Any = _filter(
        "[+-]SIZE", "+2M: at least; -500k: at most.", _size, _in_range, every=True, commas=True, spell=_spell_size
    )
    orientation: Any = _filter(
        "SHAPE",
        "landscape, portrait or square.",
        _choice(parse_orientation),
        lambda shape: Compare("orientation", "=", shape),
        choices=ORIENTATIONS,
        facet=Facet(("width", "height"), _orientation_of, str),
    )
    types: Any = _filter(
        "TYPE",
        "jpeg, png, heic, video, raw, ...",
        _choice(parse_type),
        _suffix_of,
        option="type",
        choices=TYPES,
        facet=Facet(("suffix",), _type_of, str),
    )
    name: Any = _filter("TEXT", "Path contains these words.", _part_of_path, _either(_has_words("path")), "named {}")
    caption: Any = _filter(
        "TEXT",
        "Title, caption or place has these words.",
        _text,
        _either(_has_words("title", "caption", "location")),
        "described as {}",
    )
    reads: Any = _filter("TEXT", "Text in the photo (needs index --ocr).", _text, _either(HasText), "with the text {}")
    keywords: Any = _filter(
        "TEXT",
        "Has this keyword; beach OR sea: either.",
        _text,
        _either(_has_keyword),
        "tagged {}",
        option="keyword",
        every=True,
        commas=True,
        facet=Facet(("keywords", "people", "named"), _keywords_of, fold_line),
    )
    people: Any = _filter(
        "NAME",
        "Shows this person, by face or by a tag.",
        _text,
        _either(_shows),
        "showing {}",
        option="person",
        every=True,
        facet=Facet(("people", "named"), _people_of, fold_line),
    )
    without_people: Any = _filter(
        "NAME",
        "Does not show this person.",
        _text,
        lambda name: Not(_either(_shows)(name)),
        "without {}",
        option="without_person",
        every=True,
    )
    rating: Any = _filter(
        "STARS",
        "4+: at least; 2-3; 5; rejected; none.",
        _stars,
        _is_rated,
        "rated {}",
        spell=_spell_stars,
        facet=Facet(("rating",), _stars_of, str),
    )
    color_label: Any = _filter(
        "COLOR",
        "Color label, as in Lightroom.",
        _text,
        _either(lambda name: Contains("color_label", name)),
        "labelled {}",
        facet=Facet(("color_label",), _itself, lower_ascii, within=True),
    )
    files: Any = None

    def __post_init__(self) -> None:
        for entry in FILTERS:
            values = tuple(dict.fromkeys(_parsed(entry, value) for value in several(getattr(self, entry.field))))
            object.__setattr__(self, entry.field, values)
        if self.files is not None:
            object.__setattr__(self, "files", _paths(self.files))

    @staticmethod
    def parse(pairs: Iterable[tuple[str, str]]) -> Filter:
        """The filter of (option, text) pairs, such as ("after", "2023-06"); raises `BadRequest`."""
        texts: dict[str, list[str]] = {}
        for option, text in pairs:
            texts.setdefault(OPTIONS[option].field, []).append(text)
        return Filter(**texts)

    def spelled(self) -> list[tuple[str, str]]:
        """The (option, text) pairs that `parse` makes this filter of; `files` have none."""
        return [(entry.option, entry.spell(value)) for entry in FILTERS for value in getattr(self, entry.field)]

    def conditions(self) -> list[Condition]:
        """The conditions on a photo, but for `under`, `not_under` and `files`: the store knows its folders."""
        out = []
        for entry in FILTERS:
            values = getattr(self, entry.field)
            if values and entry.condition is not None:
                out.append((all_of if entry.every else any_of)(map(entry.condition, values)))
        return out


def several(value: Any) -> tuple[Any, ...]:
    """One value, several, or none (None) as a tuple. Numbers alone are one value: latitude and longitude."""
    if value is None:
        return ()
    if isinstance(value, str | bytes | os.PathLike | Circle | GeoBox | Size | Stars) or not isinstance(value, Iterable):
        return (value,)
    values = tuple(value)
    return (values,) if values and all(isinstance(one, int | float) for one in values) else values


def _parsed(entry: FilterOption, value: Any) -> Any:
    try:
        return entry.parse(value)
    except ValueError as error:  # what is wrong with a Python value
        raise BadArgument(entry.option, str(error)) from None


def _paths(values: Any) -> tuple[bytes, ...]:
    try:
        return tuple(os.fsencode(path) for path in several(values))
    except TypeError:
        raise BadArgument("files", "must be paths") from None


FILTERS: tuple[FilterOption, ...] = tuple(
    entry._replace(field=one.name, option=entry.option or one.name)
    for one in fields(Filter)
    if (entry := one.metadata.get("filter"))
)
OPTIONS = {entry.option: entry for entry in FILTERS}
EVERYTHING = Filter()
