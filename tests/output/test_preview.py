"""Previews in half blocks. `tests/cli/test_results.py` tests the terminal protocols."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from clipsearch.output.terminal import preview


@pytest.mark.parametrize(
    ("size", "width", "shape"),
    [
        ((400, 400), 80, (24, 12)),  # a cell is twice as high as it is wide
        ((400, 200), 80, (48, 12)),
        ((4000, 200), 80, (80, 2)),  # as wide as the terminal, and no wider
        ((10, 4000), 80, (1, 12)),  # nor higher than it may be, however narrow
        ((110, 1000), 80, (2, 9)),
        ((4000, 10), 20, (20, 1)),
    ],
)
def test_a_picture_fits(size: tuple[int, int], width: int, shape: tuple[int, int]) -> None:
    lines = preview(Image.new("RGB", size, (1, 2, 3)), width).splitlines()
    assert {line.count("▀") for line in lines} == {shape[0]}
    assert len(lines) == shape[1]
    assert all(line.endswith("\x1b[0m") for line in lines)  # the colours end with the line


def test_a_cell_has_two_pixels_one_above_the_other() -> None:
    picture = Image.new("RGB", (2, 2), (10, 20, 30))
    picture.paste((200, 100, 50), (0, 1, 2, 2))
    [line] = preview(picture, 2, rows=1).splitlines()
    assert re.fullmatch(r"(\x1b\[38;2;10;20;30;48;2;200;100;50m▀){2}\x1b\[0m", line)
