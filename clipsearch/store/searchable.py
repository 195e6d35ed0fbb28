"""The queries that every index answers, be it a folder (`catalogue.Store`) or a Milvus collection (`cluster`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids
from clipsearch.errors import BadRequest, IndexEmpty
from clipsearch.images.left_out import LeftOut
from clipsearch.paths import relative_to, spellings
from clipsearch.store.drives import OfflinePart, Presence
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.order import Order
from clipsearch.store.photo import Line, Listing, Months, Photo, Positions, Root, RootCounts
from clipsearch.store.selection import Selection
from clipsearch.store.words import Word

Part = Literal["text", "tags", "captions"]  # text in the photo (by OCR); tags and path; the generated caption


class Summary(NamedTuple):
    """The numbers of an index.

    `embeddings` are images, frames of videos and parts of panoramas; `distinct` counts a file once. `size` is in bytes,
    None if unknown; `method` names the kind of search; `skipped` has the files that could not be read as an image, each
    with the reason; `offline` the parts of online roots that are offline; `left_out` what the last scans left out.
    `read` counts images after OCR, `with_text` those with text, `captioned` those with a generated caption,
    `face_scans` images that were searched for faces; `people` counts named people, `unnamed_groups` other groups.
    """

    embeddings: int
    distinct: int
    size: int | None
    method: str
    skipped: list[tuple[bytes, str]]
    offline: list[OfflinePart]
    read: int
    with_text: int
    captioned: int
    left_out: LeftOut
    face_scans: int = 0
    faces: int = 0
    people: int = 0
    unnamed_groups: int = 0


class Searchable(ABC):
    """An open index. It shows one snapshot until `refresh`.

    `place` is its name for users, `folder` its folder, if it has one. `model` is the record of the model that made its
    embeddings (`Model.to_json`), `dim` their length. An image is a distinct content: photos with the same bytes share
    one. Each indexed frame of a video and each part of a panorama is one, too; one of them represents the file.
    """

    place: str
    folder: Path | None
    model: str
    dim: int

    # -------------------------------------------------------------------------------- the index

    @abstractmethod
    def close(self) -> None:
        """Release files, locks and connections."""

    @abstractmethod
    def refresh(self) -> None:
        """Show the index as it is now, its model included."""

    def end_snapshot(self) -> None:  # noqa: B027  # not every index has one
        """End the read transaction, if any: an open one lets SQLite's WAL grow. `refresh` starts another."""

    def read_ahead(self) -> None:  # noqa: B027  # a hint
        """Ask the system to read what `nearest` will read first."""

    @abstractmethod
    def version(self) -> object:
        """A token that changes whenever the index does."""

    @abstractmethod
    def summary(self) -> Summary:
        """The numbers of the index."""

    # -------------------------------------------------------------------------------- folders and files

    @abstractmethod
    def roots(self) -> list[Root]:
        """The indexed folders, by path."""

    @abstractmethod
    def counts(self) -> list[RootCounts]:
        """The photos and skipped files of each root."""

    @abstractmethod
    def presence(self, root: Root, folder: bytes = b"") -> Presence:
        """What of a root, or of a folder in it, is online."""

    @abstractmethod
    def files_of(self, root: Root, folder: bytes = b"") -> Iterator[bytes]:
        """The paths, below the root, of the photos in a root or in a folder of it, in no order."""

    def has_photos(self, root: Root, folder: bytes = b"") -> bool:
        """Whether a root, or a folder of it, has photos."""
        return next(self.files_of(root, folder), None) is not None

    @abstractmethod
    def image_of(self, root: Root, path: bytes) -> int | None:
        """The image of a file, if it has one."""

    @abstractmethod
    def find_image(self, content: bytes) -> int | None:
        """The image with a content hash."""

    def locate(self, path: bytes, roots: list[Root]) -> tuple[Root, bytes] | None:
        """The root of a photo and its path below it; links in the path are resolved if necessary."""
        if b"\0" in path:  # no file name has one
            return None
        for spelled in spellings(path):
            for root in roots:
                below = relative_to(spelled, root.path)
                if below is not None and self.image_of(root, below) is not None:
                    return root, below
        return None

    # -------------------------------------------------------------------------------- photos

    @abstractmethod
    def select(self, where: Filter = EVERYTHING) -> Selection:
        """The photos that pass a filter, in folders that are online. Only the last selection with `files` is valid.

        Raises `NotIndexed` if nothing below `where.under` is indexed or `where.not_under` is misspelled, `BadRequest`
        for `where.reads` before any OCR.
        """

    @abstractmethod
    def images_in(self, chosen: Selection, *, frames: bool = True) -> Ids:
        """The images of a selection: sorted ids, each once. Without `frames`, one per file."""

    @abstractmethod
    def photos_of(self, ids: Iterable[int], chosen: Selection | None = None) -> list[Photo]:
        """The photos of images; only those of a selection, if one is given."""

    def with_content(self, content: bytes, chosen: Selection) -> list[Photo]:
        """The photos of a selection with a content hash."""
        image = self.find_image(content)
        return [] if image is None else self.photos_of([image], chosen)

    @abstractmethod
    def by_path(self, chosen: Selection, *, copied: bool = False) -> Iterator[Photo]:
        """The photos of a selection by path; with `copied`, those whose contents several photos have."""

    @abstractmethod
    def first(self, chosen: Selection, order: Order, count: int) -> list[Photo]:
        """The first photos of a selection in an order."""

    @abstractmethod
    def listing(self, chosen: Selection, order: Order) -> Listing:
        """All photos of a selection in an order."""

    @abstractmethod
    def photos_by_key(self, keys: Iterable[int]) -> dict[int, Photo]:
        """Photos by their keys in a `Listing`; those that are no longer in the index are left out."""

    @abstractmethod
    def months(self, chosen: Selection) -> Months:
        """The number of photos of a selection in each month."""

    @abstractmethod
    def columns(self, chosen: Selection, names: tuple[str, ...]) -> Iterable[tuple[Any, ...]]:
        """These of `root` (its id), `path` (below the root) and the fields of `Metadata`, for each photo."""

    @abstractmethod
    def positions(self, chosen: Selection) -> Positions:
        """Where the photos of a selection were taken, of those whose place is known."""

    @abstractmethod
    def hashes(self) -> tuple[Ids, NDArray[np.uint64]]:
        """The ids (n,) of the images with a perceptual hash, and the hashes (n,)."""

    @abstractmethod
    def lines_of(self, ids: Iterable[int]) -> dict[int, list[Line]]:
        """The lines of text in images, by OCR; those without text are left out."""

    @abstractmethod
    def has_ocr(self) -> bool:
        """Whether updates of the index read the text in photos."""

    @abstractmethod
    def mentioning(self, words: tuple[Word, ...], chosen: Selection, most: int, part: Part) -> list[int]:
        """Images of a selection with all words in a part of what is known about them.

        At most `most`; may include false positives. All images of a file are listed.
        """

    # -------------------------------------------------------------------------------- embeddings

    @abstractmethod
    def unit_rows_of(self, ids: Iterable[int]) -> Array:
        """The unit rows (n, dim) float32 of image ids, in their order. Raises `IndexDamaged` if one has none."""

    @abstractmethod
    def scores_of(self, ids: Iterable[int], query: Array) -> dict[int, float]:
        """The cosines of images with the unit row `query` (dim,), as `nearest` computes them."""

    @abstractmethod
    def sample(self, count: int) -> Ids:
        """The images of up to `count` files with the lowest content hashes: a random sample that copies share, too."""

    @abstractmethod
    def nearest(self, query: Array, k: int, chosen: Selection, *, exact: bool = False) -> tuple[Ids, Array]:
        """The ids and cosines of the `k` images of a selection nearest to the unit row `query` (dim,), best first.

        Fewer if that is all. `exact`: compare every true row. Scores are products with the fp16 rows.
        """

    # -------------------------------------------------------------------------------- for both

    def is_empty(self) -> bool:
        return not any(self.has_photos(root) for root in self.roots())

    def require_photos(self) -> None:
        """Raise `IndexEmpty` if it has no photos."""
        if self.is_empty():
            raise IndexEmpty("the index is empty")

    def require_ocr(self) -> None:
        """Raise `BadRequest` if no text was read in photos."""
        if not self.has_ocr():
            raise BadRequest("no text has been read yet. Run: clipsearch index --ocr")

    def _check_text(self, where: Filter) -> None:
        if where.reads:
            self.require_ocr()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
