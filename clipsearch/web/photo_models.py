"""Models that are asked about one photo: a vision-language model and a detector."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipsearch.index import Index
from clipsearch.output import records
from clipsearch.paths import Collection
from clipsearch.search.vqa import Vlm


class PhotoModels:
    """Runs one request at a time. Each model is loaded by its first request; None: there is no such model."""

    def __init__(self, place: Path | Collection, vlm: Vlm | None, detector: str | None) -> None:
        self._index = Index(place)  # never opens the store, because the models are named
        self._vlm, self._detector = vlm, detector
        self._lock = asyncio.Lock()

    @property
    def can_ask(self) -> bool:
        """Whether `ask` has a model."""
        return self._vlm is not None

    @property
    def can_detect(self) -> bool:
        """Whether `detect` has a model."""
        return self._detector is not None

    async def ask(self, image: bytes, question: str) -> dict[str, Any]:
        """The question, the answer and its score."""

        def work() -> dict[str, Any]:
            (one,) = self._index.answers(question, [image], self._vlm)
            return records.answer_object(one.answer)

        return await self._run(work)

    async def detect(self, image: bytes, text: str) -> dict[str, Any]:
        """Everything in the image that the text names, best first. The edges of a box are 0 to 1."""

        def work() -> dict[str, Any]:
            found, _ = self._index.detect(text, image, self._detector)
            return {"text": text, "detections": [{"box": one.box, "score": one.score} for one in found]}

        return await self._run(work)

    async def _run(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[dict[str, Any]] = loop.create_future()

        def run() -> None:
            try:
                settle, value = done.set_result, work()
            except Exception as error:
                settle, value = done.set_exception, error  # type: ignore[assignment]
            loop.call_soon_threadsafe(lambda: None if done.done() else settle(value))

        async with self._lock:
            # A daemon, so that Ctrl-C does not wait for a slow model.
            threading.Thread(target=run, name="photo-model", daemon=True).start()
            return await done
