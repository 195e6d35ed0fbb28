"""Check an index against itself, and mend what can be mended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from clipsearch.errors import CatalogueDamaged
from clipsearch.store import vectors
from clipsearch.store.catalogue import Store
from clipsearch.store.schema import OF_IMAGE, OF_PHOTO, OF_TEXT, explained


class Damage(StrEnum):
    """What was wrong with some rows of the catalogue, or with segments of the vectors."""

    NAME = "damaged name"  # of files; they are forgotten, and found again if they are there
    NO_FOLDER = "no folder"  # files of no indexed folder; forgotten
    RECORD = "damaged record"  # of files; the next update looks at them again
    NO_EMBEDDING = "no embedding"  # files whose contents have no sound embedding; the next update embeds them again
    EMBEDDING = "damaged embedding"  # forgotten
    NO_IMAGE = "no image"  # embeddings of no image; forgotten
    NO_PHOTO = "no photo"  # images of no photo; forgotten
    TEXT = "damaged text"  # what was read in images; forgotten, and read again
    VECTORS = "damaged vectors"  # segments of them; written anew


@dataclass(frozen=True, slots=True)
class Repair:
    """A kind of damage that was mended, and how many files, images, embeddings or segments had it."""

    damage: Damage
    count: int


class Verified(NamedTuple):
    """A sound index: its files with an embedding, its distinct embeddings, and what was mended to make it sound."""

    photos: int
    embeddings: int
    repairs: tuple[Repair, ...]


# No file has this time, so that the next update looks at it.
_AGAIN = (
    "image = NULL, error = 'to be embedded again', mtime_ns = -1,"
    " mark = mark(path, size, -1, ctime_ns, NULL, CAST('to be embedded again' AS BLOB), sidecar_token,"
    " CAST(keywords AS BLOB))"
)
_REPAIRS = {  # in this order: what one forgets leaves others without what they belong to
    Damage.NAME: "DELETE FROM photos WHERE typeof(path) != 'blob'",
    Damage.NO_FOLDER: "DELETE FROM photos WHERE root NOT IN (SELECT id FROM roots)",
    Damage.RECORD: f"UPDATE photos SET {_AGAIN} WHERE mark({OF_PHOTO}) != mark",
    Damage.NO_EMBEDDING: (
        f"UPDATE photos SET {_AGAIN} WHERE image IN unsound"
        " OR (image IS NOT NULL AND image NOT IN (SELECT id FROM images))"
    ),
    Damage.EMBEDDING: "DELETE FROM images WHERE id IN unsound",
    Damage.NO_IMAGE: "DELETE FROM embeddings WHERE image NOT IN (SELECT id FROM images)",
    Damage.NO_PHOTO: (
        "DELETE FROM images WHERE id NOT IN (SELECT image FROM photos WHERE image IS NOT NULL)"
        " AND id NOT IN (SELECT frames.image FROM frames JOIN photos ON photos.image = frames.video)"
    ),
    Damage.TEXT: f"DELETE FROM texts WHERE mark({OF_TEXT}) != mark OR image NOT IN (SELECT id FROM images)",
}


def verify(store: Store) -> Verified:
    """Mend the catalogue, then the segments. Raises `CatalogueDamaged` when SQLite finds its file damaged."""
    repairs = repair(store)
    damaged = vectors.damaged(store)
    if damaged:
        vectors.refresh(store, anew=damaged)
        repairs.append(Repair(Damage.VECTORS, len(damaged)))
    return Verified(sum(of.photos for of in store.counts()), store.count_embeddings(), tuple(repairs))


def repair(store: Store) -> list[Repair]:
    """Mend the catalogue alone, and commit. Raises `CatalogueDamaged` when SQLite finds its file damaged."""
    with explained(store.folder):
        _check_file(store)
        store.prune()  # what an interrupted run left to do is no damage
        _list_unsound(store)
        counts = {damage: store.database.execute(statement).rowcount for damage, statement in _REPAIRS.items()}
        store.database.execute("DROP TABLE unsound")
        store.database.execute("DELETE FROM loose")
        store.commit()
    return [Repair(damage, count) for damage, count in counts.items() if count]


def _check_file(store: Store) -> None:
    state = store.database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if state != "ok":
        raise CatalogueDamaged(f"the catalogue of {store.folder} is damaged ({state.splitlines()[0]})")


def _list_unsound(store: Store) -> None:
    """Fill a table with the images whose embedding is missing, or which are not as they were written."""
    store.database.execute(
        "CREATE TEMP TABLE unsound AS"
        " SELECT images.id FROM images LEFT JOIN embeddings ON embeddings.image = images.id"
        f" WHERE vector IS NULL OR typeof(vector) != 'blob' OR length(vector) != {2 * store.dim}"
        f" OR mark({OF_IMAGE}, vector) != images.mark"
    )
