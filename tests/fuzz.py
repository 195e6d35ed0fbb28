"""How many examples Hypothesis draws: by default a fifth of the long form, which CLIPSEARCH_EXAMPLES=all asks for."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

ALL = os.environ.get("CLIPSEARCH_EXAMPLES") == "all"


def examples(count: int, **options: Any) -> settings:
    """The settings of a test that draws so many examples in its long form."""
    return settings(max_examples=count if ALL else count // 5, deadline=None, **options)


def load_profile() -> None:
    """Draw 100 examples in the long form of tests that ask for no number."""
    settings.register_profile("clipsearch", examples(100))
    settings.load_profile("clipsearch")
