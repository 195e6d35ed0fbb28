"""Find the faces in photos and videos: a separate pass, after they are embedded."""

from __future__ import annotations

from collections.abc import Sequence

from clipsearch.indexing.passes import Pass
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.models.faces import LONG_SIDE, FaceFinder, FoundFace
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import NewFace


def find_faces(store: Store, workers: int, report: Report, on_progress: OnProgress) -> None:
    """Find the faces in images that were not searched before, in `workers` threads."""

    def put(image_id: int, faces: Sequence[FoundFace]) -> None:
        store.faces.put(image_id, [NewFace(*face) for face in faces])
        report.face_scans += 1
        report.faces += len(faces)

    images = store.faces.unseen()
    if images:
        finder = FaceFinder()
        Pass(lambda: finder, LONG_SIDE, workers).run(
            store, images, put, lambda done, total: on_progress(Progress("faces", done, total))
        )
