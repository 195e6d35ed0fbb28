"""Cluster faces by person, without knowing how many people there are: average linkage over nearest neighbours.

Pairs of similar faces are taken in order of similarity, and their clusters joined if the mean similarity of all pairs
between the two is high enough. Single links would chain strangers together through a few blurred faces. Clusters that
exist stay as they are: they take in new faces, but never merge.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipsearch.arrays import Array, Ids
from clipsearch.models.faces import SAME_PERSON

LINK = SAME_PERSON  # the least cosine of two faces that a cluster grows by
JOIN = SAME_PERSON - 0.01  # the least mean of all pairs between two clusters

_NEIGHBOURS = 32  # earlier faces that a face can be linked to
_BLOCK = 512  # faces whose cosines with all others are in memory at once


def cluster(rows: Array, labels: Ids, next_label: int) -> Ids:
    """Labels (n,) for faces with unit rows (n, dim): those that are positive in `labels` (n,) stay.

    New clusters get labels from `next_label` on.
    """
    parent = list(range(len(labels)))

    def root(face: int) -> int:
        while parent[face] != face:
            parent[face] = face = parent[parent[face]]
        return face

    label_of: list[int] = labels.tolist()
    first_of: dict[int, int] = {}
    for face, label in enumerate(label_of):
        if label > 0:
            parent[face] = first_of.setdefault(label, face)
    sums = np.zeros_like(rows)
    np.add.at(sums, parent, rows)
    sizes = np.bincount(parent, minlength=len(parent)).tolist()
    for one, other in _links(rows, labels):
        a, b = root(one), root(other)
        if a == b or (label_of[a] > 0 and label_of[b] > 0):
            continue
        if label_of[b] > 0:
            a, b = b, a
        if sums[a] @ sums[b] >= JOIN * sizes[a] * sizes[b]:
            parent[b] = a
            sums[a] += sums[b]
            sizes[a] += sizes[b]
    out = labels.copy()
    for face in np.flatnonzero(labels <= 0).tolist():
        top = root(face)
        if label_of[top] <= 0:
            label_of[top], next_label = next_label, next_label + 1
        out[face] = label_of[top]
    return out


def _links(rows: Array, labels: Ids) -> Iterator[tuple[int, int]]:
    """Pairs of similar faces, at least one without a label, the most similar first."""
    faces = np.argsort(labels <= 0, kind="stable")  # those with a label first, so that each pair is compared once
    ordered, start = rows[faces], int((labels > 0).sum())
    found = []
    for first in range(start, len(faces), _BLOCK):
        part = ordered[first : first + _BLOCK]
        cosines = part @ ordered[: first + len(part)].T
        cosines[:, first:][np.triu_indices(len(part))] = -1  # a face with itself, and with later ones
        found.append(_most_similar(cosines, first))
    if found:
        ones, others, closeness = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(-closeness, kind="stable")
        yield from zip(faces[ones[order]].tolist(), faces[others[order]].tolist(), strict=True)


def _most_similar(cosines: Array, first: int) -> tuple[Ids, Ids, Array]:
    """Pairs of each face with its most similar ones, and their cosines."""
    found = np.flatnonzero(cosines >= LINK)
    ones, others = np.divmod(found, cosines.shape[1])
    closeness = cosines.ravel()[found]
    kept = np.ones(len(found), bool)
    ends = np.cumsum(np.bincount(ones, minlength=len(cosines)))
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        if end - start > _NEIGHBOURS:
            of_face = closeness[start:end]
            kept[start:end] = of_face >= np.partition(of_face, -_NEIGHBOURS)[-_NEIGHBOURS]
    return ones[kept] + first, others[kept], closeness[kept]


def nearest(rows: Array, known: Array) -> Iterator[tuple[slice, Array]]:
    """The cosines of unit rows with known ones, in blocks."""
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield part, rows[part] @ known.T
