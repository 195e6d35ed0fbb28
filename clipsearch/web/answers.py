"""Questions about a photo, answered by a vision-language model one at a time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from clipsearch.index import Index
from clipsearch.output import records
from clipsearch.paths import Collection
from clipsearch.search.vqa import Vlm


class Answers:
    """Asks a model, which is loaded by the first question."""

    def __init__(self, place: Path | Collection, vlm: Vlm) -> None:
        self._index, self._vlm = Index(place), vlm  # it never opens the store: the model is named
        self._lock = asyncio.Lock()

    async def ask(self, image: bytes, question: str) -> dict[str, Any]:
        """The question, the answer and its score."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[dict[str, Any]] = loop.create_future()

        def ask() -> None:
            try:
                (one,) = self._index.answers(question, [image], self._vlm)
                settle, value = answered.set_result, records.answer_object(one.answer)
            except Exception as error:
                settle, value = answered.set_exception, error  # type: ignore[assignment]
            loop.call_soon_threadsafe(lambda: None if answered.done() else settle(value))

        async with self._lock:
            # A daemon, so that Ctrl-C does not wait for a slow model.
            threading.Thread(target=ask, name="answer", daemon=True).start()
            return await answered
