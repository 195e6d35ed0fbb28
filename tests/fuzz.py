"""How many examples Hypothesis draws: a fifth of the number in the test, or all with CLIPSEARCH_EXAMPLES=all."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

ALL = os.environ.get("CLIPSEARCH_EXAMPLES") == "all"


def examples(count: int, **options: Any) -> settings:
    """Settings for a test whose long form draws `count` examples."""
    return settings(max_examples=count if ALL else count // 5, deadline=None, **options)


def load_profile() -> None:
    """Make 100 the count of tests without `@examples`."""
    settings.register_profile("clipsearch", examples(100))
    settings.load_profile("clipsearch")
