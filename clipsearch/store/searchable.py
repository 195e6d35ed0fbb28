"""What can be asked of an index, wherever it lies: in a folder (`catalogue`), or in a collection (`collection`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids
from clipsearch.errors import IndexEmpty
from clipsearch.paths import relative_to, spellings
from clipsearch.store.drives import Drive, Presence, presence_of
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.photo import Line, Photo, Root, RootCounts
from clipsearch.store.selection import Selection


class Searchable(ABC):
    """An index that is open to be asked, at one moment of it.

    `place` is what a user calls it by, `folder` where it lies on this machine, if it does. `model` is the record of the
    model that made its embeddings (`Model.to_json`), `dim` their length. Photos with the same contents have one image.
    """

    place: str
    folder: Path | None
    model: str
    dim: int

    # -------------------------------------------------------------------------------- the whole

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held."""

    @abstractmethod
    def renew(self) -> None:
        """See the index as it is at this moment, its model included."""

    @abstractmethod
    def rest(self) -> None:
        """Let go of the moment that is seen; `renew` sees another."""

    @abstractmethod
    def version(self) -> object:
        """Another value after each change of the index."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether no photo could be embedded yet."""

    @abstractmethod
    def roots(self) -> list[Root]:
        """The indexed folders, by path."""

    @abstractmethod
    def counts(self) -> list[RootCounts]:
        """Photos and skipped files of each root."""

    @abstractmethod
    def count_embeddings(self) -> int:
        """How many images there are."""

    @abstractmethod
    def size_on_disk(self) -> int | None:
        """Bytes of all files of the index; None where that is not known."""

    @abstractmethod
    def skipped(self) -> list[tuple[bytes, str]]:
        """Absolute path and reason of every file that could not be read as an image, as far as that is known."""

    @abstractmethod
    def method(self) -> str:
        """How the nearest are found, in a word or two, for those who want to know whether it is exact."""

    # -------------------------------------------------------------------------------- files

    @abstractmethod
    def has_photos(self, root: Root, below: bytes = b"") -> bool:
        """Whether a root, or a folder of it, has photos."""

    @abstractmethod
    def files_of(self, root: Root) -> Iterator[bytes]:
        """The paths below a root of the files that are photos, in bytewise order."""

    @abstractmethod
    def image_of(self, root: Root, path: bytes) -> int | None:
        """The image of a file, if it has one."""

    @abstractmethod
    def find_image(self, content: bytes) -> int | None:
        """The id of the image with this content hash."""

    def locate(self, path: bytes, roots: list[Root]) -> tuple[Root, bytes] | None:
        """The root of a photo and its path below it: as it is spelt, or with links to its folder or to it resolved."""
        if b"\0" in path:  # which is in no name
            return None
        for spelled in spellings(path):
            for root in roots:
                below = relative_to(spelled, root.path)
                if below is not None and self.image_of(root, below) is not None:
                    return root, below
        return None

    # -------------------------------------------------------------------------------- drives

    def presence(self, root: Root) -> Presence:
        """What of a root can be looked at now, and what is offline."""
        return presence_of(self, root)

    @abstractmethod
    def drives(self, root: Root) -> list[Drive]:
        """The drives that files of a root lie on, as they were when they were last seen."""

    @abstractmethod
    def drives_below(self, root: Root, below: bytes) -> set[int]:
        """The ids of the drives that photos in a folder of a root lie on."""

    @abstractmethod
    def has_photos_on(self, root: Root, drive: Drive) -> bool:
        """Whether photos of a root lie on a drive."""

    @abstractmethod
    def count_on(self, root: Root, drive: int) -> int:
        """How many photos of a root lie on a drive, by its id."""

    @abstractmethod
    def witness(self, root: Root, drive: Drive) -> bytes | None:
        """The absolute path of a file that shows that a drive is online; None when there is none."""

    @abstractmethod
    def has_moved(self, drive: Drive, to: Iterable[int]) -> bool:
        """Whether half of the photos of a drive, or more, are on others, by their ids, too."""

    # -------------------------------------------------------------------------------- photos

    @abstractmethod
    def select(self, where: Filter = EVERYTHING) -> Selection:
        """The photos that pass a filter, in the folders that can be looked at; one index has one with `files`.

        Raises `BadArgument` for a filter that makes no sense, `NotIndexed` when nothing in `where.under` was indexed.
        """

    @abstractmethod
    def images_in(self, chosen: Selection) -> Ids:
        """Ids, in order and each once, of the images of a selection's photos; photos without an image have none."""

    @abstractmethod
    def photos_of(self, ids: Iterable[int], chosen: Selection | None = None) -> list[Photo]:
        """The photos of images; of a selection, if one is given."""

    def with_content(self, content: bytes, chosen: Selection) -> list[Photo]:
        """The photos of a selection that have this content hash."""
        image = self.find_image(content)
        return [] if image is None else self.photos_of([image], chosen)

    @abstractmethod
    def by_path(self, chosen: Selection, *, copied: bool = False) -> Iterator[Photo]:
        """The photos of a selection in bytewise order of their paths.

        `copied`: only those whose contents more than one photo has.
        """

    @abstractmethod
    def hashes(self) -> tuple[Ids, NDArray[np.uint64]]:
        """The ids (n,) of the images that have a perceptual hash, and the hashes (n,)."""

    @abstractmethod
    def newest(self, chosen: Selection, count: int) -> list[Photo]:
        """So many photos of a selection, the newest first: by when they were taken, or else changed."""

    def lines_of(self, ids: Iterable[int]) -> dict[int, list[Line]]:
        """What is written in images, as far as somebody has read it."""
        return {}

    def count_distinct(self) -> int:
        """How many different contents the photos have: images, but for all frames of a video only one."""
        return self.count_embeddings()

    def read_counts(self) -> tuple[int, int]:
        """How many images were looked through for writing, and how many have some."""
        return 0, 0

    @abstractmethod
    def months(self, chosen: Selection) -> dict[str, int]:
        """How many photos of a selection are of each month, "2023-06", in order; by when taken, or else changed."""

    @abstractmethod
    def cameras(self) -> list[str]:
        """The names of all cameras, those with the most photos first."""

    # -------------------------------------------------------------------------------- embeddings

    @abstractmethod
    def unit_rows_of(self, ids: Iterable[int]) -> Array:
        """The unit rows (n, dim) float32 of image ids, in their order. Raises `IndexDamaged` when one has none."""

    @abstractmethod
    def nearest(self, query: Array, k: int, chosen: Selection, *, exact: bool = False) -> tuple[Ids, Array]:
        """Ids and cosines of the `k` images of a selection nearest to the unit row `query` (dim,), best first.

        Fewer if there are fewer. `exact`: look at every true row. The scores are products with the fp16 rows.
        """

    @abstractmethod
    def read_ahead(self) -> None:
        """Ask the system to read what `nearest` will begin with, while there is something else to do."""

    # -------------------------------------------------------------------------------- for all alike

    def require_photos(self) -> None:
        """Raise `IndexEmpty` where there is nothing to ask for."""
        if self.is_empty():
            raise IndexEmpty("the index is empty")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
