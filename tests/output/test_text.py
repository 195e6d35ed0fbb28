from __future__ import annotations

import pytest
from rich.cells import cell_len

from clipsearch.output import text


@pytest.mark.parametrize("width", range(1, 60))
@pytest.mark.parametrize(
    "path", ["~/Pictures/2023/summer/IMG_0001.jpg", "/a/" + "x" * 80 + ".jpg", "/\U0001f436/" * 20]
)
def test_a_shortened_path_fits_and_keeps_both_ends(path: str, width: int) -> None:
    short = text._shorten(path, width, cell_len)
    assert cell_len(short) <= width
    if cell_len(path) <= width:
        assert short == path
    else:
        head, tail = short.split("…")
        assert path.startswith(head)
        assert path.endswith(tail)


def test_the_name_of_a_file_is_kept_whole_where_it_fits() -> None:
    path = "/some/very/long/folder/with/more/folders/in/it/the name.jpg"
    assert text._shorten(path, 20, cell_len).endswith("/the name.jpg")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain \u00e4 \U0001f436", "plain \u00e4 \U0001f436"),
        ("a\x1b[31mb\n\t", "a\\x1b[31mb\\n\\t"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        (b"\xff\xfe.jpg", "\\xff\\xfe.jpg"),
    ],
)
def test_printable_text_has_nothing_that_acts(raw: str | bytes, shown: str) -> None:
    assert text.printable(raw) == shown


def test_amounts_are_for_people() -> None:
    assert [text.amount(n) for n in (0, 999, 1500, 37_500_000, 2.5e12)] == [
        "0 B",
        "999 B",
        "1.5 KB",
        "38 MB",
        "2500 GB",
    ]
