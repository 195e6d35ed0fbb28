"""Searching with terms, limits and filters, on synthetic embeddings and on mini's."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run, save_scenes

from clipsearch.errors import BadArgument, BadRequest, IndexEmpty, NotIndexed
from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.read import content_hash
from clipsearch.images.rules import Rules
from clipsearch.models.model import Model, mini
from clipsearch.search import embed as embedding
from clipsearch.search import fold
from clipsearch.search.find import Searcher, sort_hits
from clipsearch.search.hit import Hit
from clipsearch.search.listing import PhotoList
from clipsearch.search.question import Limits, Term, image_term, text_terms
from clipsearch.store import nearest
from clipsearch.store.catalogue import Root, Store
from clipsearch.store.filters import Filter
from clipsearch.store.photo import Photo

DIM = 48
_NUMBER = itertools.count()


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def row_of(content: str | bytes) -> np.ndarray:
    """A unit row that depends on nothing but the content."""
    data = content.encode() if isinstance(content, str) else content
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    return unit(np.random.default_rng(seed).normal(size=DIM))


class StubEncoder:
    """Counts what it is asked for."""

    does_both = False

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images = 0

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        self.texts += texts
        return np.stack([row_of(text) for text in texts])

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        self.images += len(pixels)
        return np.stack([row_of(image.tobytes()) for image in pixels])


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> StubEncoder:
    stub = StubEncoder()
    monkeypatch.setattr(embedding, "cold_encoder", lambda model, **_: stub)
    return stub


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "cold_encoder", lambda *_, **__: pytest.fail("an encoder was loaded"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    # Each test has a model of its own, or they would find each other's texts in the cache.
    sha256 = f"{os.getpid()}-{next(_NUMBER)}"
    model = Model("stub", "stub", {"embed_dim": DIM}, Preprocess((32, 32)), tmp_path / "weights", sha256)
    with Store.create(tmp_path / "index", model.to_json(), DIM) as made:
        yield made


@pytest.fixture
def photos(store: Store, tmp_path: Path) -> Root:
    """A root for the photos of a test."""
    folder = tmp_path.resolve() / "photos"
    folder.mkdir()
    return store.folders.add(os.fsencode(folder), Rules())


def put(store: Store, root: Root, name: str, row: np.ndarray | None = None, content: bytes | None = None) -> Path:
    """A photo on the disk and in the index; equal contents share a row."""
    content = os.fsencode(name) if content is None else content
    path = Path(os.fsdecode(root.path)) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = content_hash(content)
    image_id = store.find_image(digest)
    if image_id is None:
        image_id = store.images.add(digest, Metadata(1, 1), row_of(content) if row is None else row)
    store.photos.put(root, FoundFile(os.fsencode(name), len(content), 1), image_id, None)
    store.commit()
    return path


def beside(row: np.ndarray, cosine: float) -> np.ndarray:
    """A unit row at a given cosine to another."""
    other = np.zeros(DIM)
    other[0] = 1.0
    other = unit(other - (other @ row) * row)
    return unit(cosine * row + np.sqrt(1 - cosine**2) * other)


def text_term(text: str, sign: int = 1) -> Term:
    [term] = text_terms(text, negative=sign < 0)
    return term


def names(hits: list[Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


def test_a_query_is_the_weighted_sum_of_its_terms(store: Store, photos: Root, encoder: StubEncoder) -> None:
    put(store, photos, "a.jpg")
    terms = [text_term("sea"), text_term("2:dog"), text_term("0.5:people", -1), Term(b"a.jpg", 3.0)]
    stored = unit(row_of(b"a.jpg").astype(np.float16).astype(np.float32))
    expected = unit(row_of("sea") + 2 * row_of("dog") - 0.5 * row_of("people") + 3 * stored)
    np.testing.assert_allclose(Searcher(store).embed(terms), expected, atol=1e-6)


def test_a_negative_term_leads_away(store: Store, photos: Root, encoder: StubEncoder) -> None:
    both = unit(row_of("sea") + row_of("people"))
    put(store, photos, "both.jpg", both)
    put(store, photos, "less.jpg", beside(row_of("sea"), 0.5))
    searcher = Searcher(store)
    assert names(searcher.query([text_term("sea")]))[0] == "both.jpg"
    assert names(searcher.query([text_term("sea"), text_term("people", -1)]))[0] == "less.jpg"
    with pytest.raises(BadRequest, match="what to avoid"):  # away from people is towards nothing
        searcher.query([text_term("people", -1)])


@pytest.mark.parametrize(
    "terms",
    [
        [text_term("sea"), text_term("sea", -1)],
        [text_term("2:sea"), text_term("sea", -1), text_term("sea", -1)],
    ],
)
def test_terms_that_cancel_each_other_are_refused(
    store: Store, photos: Root, encoder: StubEncoder, terms: list[Term]
) -> None:
    put(store, photos, "a.jpg")
    with pytest.raises(BadRequest, match="cancel each other"):
        Searcher(store).query(terms)


def test_without_terms_the_newest_are_listed(store: Store, photos: Root, no_encoder: None) -> None:
    put(store, photos, "a.jpg")
    put(store, photos, "b.jpg")
    assert names(Searcher(store).query([])) == ["a.jpg", "b.jpg"]
    assert [hit.score for hit in Searcher(store).query([], Limits(1))] == [None]


@pytest.mark.parametrize("k", [0, -3, 2.5, True, "3"])
def test_what_is_no_number_of_results_is_refused(store: Store, photos: Root, no_encoder: None, k: object) -> None:
    put(store, photos, "a.jpg")
    with pytest.raises(BadRequest, match=f"k must be a whole number of at least 1, not {k!r}"):
        Searcher(store).query([text_term("sea")], Limits(k))


def test_an_empty_index_is_said_to_be_empty(store: Store) -> None:
    with pytest.raises(IndexEmpty, match="the index is empty"):
        Searcher(store)


# ------------------------------------------------------------------------------------------ texts and images


def test_the_embedding_of_a_text_is_kept(store: Store, photos: Root, encoder: StubEncoder) -> None:
    put(store, photos, "a.jpg")
    first = Searcher(store).embed([text_term("sea")])
    second = Searcher(store).embed([text_term("3:sea")])
    assert encoder.texts == ["sea"]
    np.testing.assert_allclose(first, second, atol=1e-6)
    Searcher(store).embed([text_term("Sea")])
    assert encoder.texts == ["sea", "Sea"]


def test_an_encoder_is_loaded_once(store: Store, photos: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[dict[str, bool]] = []
    stub = StubEncoder()

    def load(model: Model, **kind: bool) -> StubEncoder:
        loaded.append(kind)
        return stub

    monkeypatch.setattr(embedding, "cold_encoder", load)
    put(store, photos, "a.jpg")
    searcher = Searcher(store)
    searcher.query([text_term("one"), text_term("two")])
    searcher.query([text_term("three")])
    assert loaded == [{"texts": True, "images": False}]


@pytest.mark.parametrize("number", [0, 7, 39])
def test_an_indexed_image_finds_itself_without_a_model(
    drawn: Path, drawn_index: Path, no_encoder: None, number: int
) -> None:
    path = drawn / f"{number:02d}.png"
    with Store.open(drawn_index) as opened:
        best, second = Searcher(opened).query([image_term(path)], Limits(2, with_self=True))
    assert best.path == path
    assert best.score > 0.999
    assert second.score <= best.score
    assert (best.rank, second.rank) == (1, 2)


def test_an_image_that_is_not_indexed_is_encoded(
    drawn: Path, drawn_index: Path, tmp_path: Path, encoder: StubEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCENES[3].image.save(tmp_path / "other.bmp")  # the pixels of an indexed photo, not its bytes
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        encoder, "encode_images", lambda pixels: seen.append(pixels) or np.eye(1, mini().dim, dtype=np.float32)
    )
    with Store.open(drawn_index) as opened:
        row = Searcher(opened).embed([image_term(tmp_path / "other.bmp")])
    assert row.tolist() == np.eye(mini().dim)[0].tolist()
    [pixels] = seen
    assert pixels.shape == (1, *mini().preprocess.size, 3)
    assert pixels.dtype == np.uint8


def test_the_same_pixels_in_another_file_find_the_photo(drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    SCENES[3].image.save(tmp_path / "other.bmp")
    with Store.open(drawn_index) as opened:
        [best] = Searcher(opened).query([image_term(tmp_path / "other.bmp")], Limits(1))
    assert best.path == drawn / "03.png"
    assert best.score > 0.99  # indexed in bf16 where the machine has it, encoded here in fp32


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_query_image_that_cannot_be_read_is_named(store: Store, photos: Root, no_encoder: None, data: bytes) -> None:
    put(store, photos, "a.jpg")
    with pytest.raises(BadRequest, match=r"beach\.jpg cannot be used as an image: "):
        Searcher(store).query([Term(data, name="beach.jpg")])


# ------------------------------------------------------------------------------------------ hits


def test_hits_come_by_score_then_by_path_and_every_copy_is_one(
    store: Store, photos: Root, encoder: StubEncoder
) -> None:
    for name in ("z.jpg", "sub/a.jpg", "b.jpg"):
        put(store, photos, name, beside(row_of("sea"), 0.9), b"copies")
    put(store, photos, "best.jpg", beside(row_of("sea"), 0.95))
    put(store, photos, "worst.jpg", beside(row_of("sea"), 0.2))
    hits = Searcher(store).query([text_term("sea")])
    assert names(hits) == ["best.jpg", "b.jpg", "a.jpg", "z.jpg", "worst.jpg"]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert len({hit.score for hit in hits[1:4]}) == 1
    assert hits[0].score == pytest.approx(0.95, abs=1e-3)
    assert hits[1].photo.file == os.fsencode(hits[1].path)
    assert names(Searcher(store).query([text_term("sea")], Limits(3))) == ["best.jpg", "b.jpg", "a.jpg"]


def test_hits_below_the_least_score_are_left_out(store: Store, photos: Root, encoder: StubEncoder) -> None:
    for n in range(10):
        put(store, photos, f"{n}.jpg", beside(row_of("sea"), n / 10))
    searcher = Searcher(store)
    assert names(searcher.query([text_term("sea")], Limits(10, 0.65))) == ["9.jpg", "8.jpg", "7.jpg"]
    assert names(searcher.query([text_term("sea")], Limits(2, 0.65))) == ["9.jpg", "8.jpg"]
    assert searcher.query([text_term("sea")], Limits(10, 0.99)) == []
    assert len(searcher.query([text_term("sea")], Limits(10, -1.0))) == 10


def test_a_name_that_is_not_utf8_is_still_a_name(store: Store, photos: Root, encoder: StubEncoder) -> None:
    path = put(store, photos, os.fsdecode(b"caf\xe9 \xff.jpg"))
    [hit] = Searcher(store).query([text_term("sea")])
    assert hit.path == path
    assert hit.photo.file.endswith(b"/caf\xe9 \xff.jpg")


def test_deleted_files_are_replaced_by_the_next_best(store: Store, photos: Root, encoder: StubEncoder) -> None:
    paths = [put(store, photos, f"{n:03d}.jpg", beside(row_of("sea"), 0.99 - n / 200)) for n in range(120)]
    searcher = Searcher(store)
    for path in paths[:100]:
        path.unlink()
    assert names(searcher.query([text_term("sea")], Limits(5))) == [f"{n}.jpg" for n in range(100, 105)]
    assert names(searcher.query([text_term("sea")], Limits(20))) == [f"{n}.jpg" for n in range(100, 120)]
    assert len(searcher.query([text_term("sea")], Limits(50))) == 20
    for path in paths[100:]:
        path.unlink()
    assert searcher.query([text_term("sea")], Limits(5)) == []


# ------------------------------------------------------------------------------------------ places


@pytest.fixture
def tree(store: Store, tmp_path: Path, encoder: StubEncoder) -> Path:
    """Two roots, `a` and `b`, in one folder, and a folder beside them."""
    top = tmp_path.resolve() / "top"
    for name in ("a", "b", "c"):
        (top / name).mkdir(parents=True)
    for name in ("a", "b"):
        root = store.folders.add(os.fsencode(top / name), Rules())
        for photo in ("1.jpg", "sub/2.jpg", "sub/deep/3.jpg", "sub-4.jpg"):
            put(store, root, photo, content=f"{name}/{photo}".encode())
        put(store, root, "sub/same.jpg", content=b"in both")
    return top


@pytest.mark.parametrize(
    ("under", "expected"),
    [
        ("a", ["a/1.jpg", "a/sub-4.jpg", "a/sub/2.jpg", "a/sub/deep/3.jpg", "a/sub/same.jpg"]),
        ("a/sub", ["a/sub/2.jpg", "a/sub/deep/3.jpg", "a/sub/same.jpg"]),
        ("a/sub/deep", ["a/sub/deep/3.jpg"]),
        ("b/sub/../sub/deep", ["b/sub/deep/3.jpg"]),
        ("a/nothing", []),
    ],
)
def test_results_stay_under_a_folder(store: Store, tree: Path, under: str, expected: list[str]) -> None:
    (tree / "a" / "nothing").mkdir()
    hits = Searcher(store, Filter(under=str(tree / under))).query([text_term("sea")], Limits(20))
    assert sorted(os.path.relpath(hit.path, tree) for hit in hits) == expected


def test_a_folder_that_is_not_there_is_refused_even_in_a_root(store: Store, tree: Path) -> None:
    with pytest.raises(BadRequest, match=r"nothing in .*typo was indexed"):
        Searcher(store, Filter(under=str(tree / "a" / "typo")))


def test_a_folder_behind_a_link_is_known_by_the_name_of_the_link(store: Store, tree: Path) -> None:
    root = next(root for root in store.roots() if root.path.endswith(b"/a"))
    (tree / "a" / "link").symlink_to(tree.parent)
    put(store, root, "link/5.jpg")
    hits = Searcher(store, Filter(under=str(tree / "a" / "link"))).query([text_term("sea")], Limits(20))
    assert all("/a/link/" in str(hit.path) for hit in hits)


def test_a_folder_around_roots_means_all_of_them(store: Store, tree: Path) -> None:
    assert len(Searcher(store).query([text_term("sea")], Limits(20))) == 10
    assert len(Searcher(store, Filter(under=str(tree))).query([text_term("sea")], Limits(20))) == 10
    assert len(Searcher(store, Filter(under="/")).query([text_term("sea")], Limits(20))) == 10


def test_some_folders_are_left_out(store: Store, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a folder is called by, one finds what is in it, the other everything else."""
    monkeypatch.chdir(tree / "a")
    monkeypatch.setenv("HOME", str(tree))
    root = next(root for root in store.roots() if root.path.endswith(b"/a"))
    (tree / "a" / "indexed link").symlink_to(tmp_path)
    put(store, root, "indexed link/5.jpg")
    (tree / "c" / "link").symlink_to(tree / "a" / "sub")

    def found(**filter: object) -> set[str]:
        return {str(hit.path) for hit in Searcher(store, Filter(**filter)).query([text_term("sea")], Limits(99))}

    everything = found()
    folders = (
        "sub",
        "sub/",
        "./sub",
        "../b",
        "~/a/sub/deep",
        "~/b/",
        f"{tree}/c/link",
        "indexed link",
        "/",
        f"{tree}/a",
    )
    for folder in folders:
        inside = found(under=folder)
        assert found(not_under=folder) == everything - inside, folder
        assert inside, folder
    assert found(under=["sub", "../b"], not_under=["sub/deep", "../b/sub"]) == {
        *(f"{tree}/{name}" for name in ("a/sub/2.jpg", "a/sub/same.jpg", "b/1.jpg", "b/sub-4.jpg"))
    }
    assert found(under="sub/deep", not_under="sub") == set()
    assert found(not_under=f"{tree}/c") == everything  # it is there, though not indexed
    for typo in ("typo", "/nowhere", f"{tree}/sub"):
        with pytest.raises(NotIndexed, match=f"nothing in {typo} was indexed"):
            found(not_under=typo)


def test_nothing_is_said_about_what_is_offline_in_a_folder_that_is_left_out(store: Store, tree: Path) -> None:
    (tree / "b").rename(tree / "unmounted")
    for not_under, offline in ((str(tree / "b"), []), (str(tree / "a"), [os.fsencode(tree / "b")])):
        searcher = Searcher(store, Filter(not_under=not_under))
        assert list(searcher.left_out.offline) == offline
        assert len(searcher.query([text_term("sea")], Limits(20))) == (0 if offline else 5)


@pytest.mark.parametrize("under", ["c", "ab", "a-b", "missing/deep"])
def test_a_folder_that_was_not_indexed_is_refused(store: Store, tree: Path, under: str) -> None:
    with pytest.raises(NotIndexed, match=rf"nothing in .*{under} was indexed"):
        Searcher(store, Filter(under=str(tree / under)))


def test_a_link_to_a_folder_means_the_folder(store: Store, tree: Path) -> None:
    (tree / "c" / "link").symlink_to(tree / "a" / "sub")
    assert len(Searcher(store, Filter(under=str(tree / "c" / "link"))).query([text_term("sea")], Limits(20))) == 3


def test_a_root_that_is_offline_is_left_out_until_it_is_back(store: Store, tree: Path) -> None:
    (tree / "b").rename(tree / "unmounted")
    hits = Searcher(store).query([text_term("sea")], Limits(20))
    assert sorted({hit.path.relative_to(tree).parts[0] for hit in hits}) == ["a"]
    assert len(hits) == 5
    assert Searcher(store, Filter(under=str(tree / "b"))).query([text_term("sea")], Limits(20)) == []
    (tree / "unmounted").rename(tree / "b")
    assert len(Searcher(store).query([text_term("sea")], Limits(20))) == 10


def test_an_offline_root_takes_no_places_from_the_others(store: Store, tree: Path) -> None:
    best = [hit.path for hit in Searcher(store).query([text_term("sea")], Limits(20)) if "/a/" in str(hit.path)]
    (tree / "b").rename(tree / "unmounted")
    for k in range(1, 6):
        assert [hit.path for hit in Searcher(store).query([text_term("sea")], Limits(k))] == best[:k]


# ------------------------------------------------------------------------------------------ against brute force


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 600 photos with copies, a segment of vectors, removed photos, a tail, and files that went since."""
    top = tmp_path_factory.mktemp("crowd").resolve()
    model = Model("stub", "stub", {"embed_dim": DIM}, Preprocess((32, 32)), top / "weights", f"crowd-{os.getpid()}")
    rng = np.random.default_rng(1)
    with Store.create(top / "index", model.to_json(), DIM) as made:
        roots = []
        for name in ("x", "y"):
            (top / name).mkdir()
            roots.append(made.folders.add(os.fsencode(top / name), Rules()))
        for n in range(450):
            put(made, roots[n % 2], f"{n % 5}/{n}.jpg", content=b"%d" % (n % 400))
        made.vectors.update()
        for root in roots:
            gone = [known.path for known in made.photos.known(root) if rng.random() < 0.1]
            made.photos.remove(root, gone)
        made.prune()
        for n in range(1000, 1060):
            put(made, roots[n % 2], f"{n % 5}/{n}.jpg", content=b"%d" % (n % 1040))
        for root in roots:
            for known in made.photos.known(root):
                if rng.random() < 0.15:
                    Path(os.fsdecode(root.path), os.fsdecode(known.path)).unlink()
        assert len(made.vectors._dropped())
        segments = made.vectors.segments()
        assert segments
        assert made.images.count(after=segments[-1].last)
    return top


@pytest.mark.parametrize("under", [None, "x", "y/3", "."])
@pytest.mark.parametrize("min_score", [None, 0.1])
@pytest.mark.parametrize("exact", [False, True])
def test_the_ranking_is_that_of_brute_force(
    crowd: Path,
    encoder: StubEncoder,
    monkeypatch: pytest.MonkeyPatch,
    under: str | None,
    min_score: float | None,
    exact: bool,
) -> None:
    monkeypatch.setattr(nearest, "SMALL", 0)
    monkeypatch.setattr(nearest, "EXACT", 0)
    monkeypatch.setattr(nearest, "_CANDIDATES", 20)
    with Store.open(crowd / "index") as opened:
        embeddings = {
            int(i): row.astype(np.float64)
            for ids, rows in opened.images.embeddings()
            for i, row in zip(ids, rows, strict=True)
        }
        photos = opened.photos_of(embeddings)
        folder = os.fsencode(crowd / under) + b"/" if under is not None and under != "." else b""
        there = [photo for photo in photos if photo.file.startswith(folder) and os.path.exists(photo.file)]
        searcher = Searcher(opened, Filter(under=None if under is None else str(crowd / under)))
        for number, k in enumerate((1, 2, 5, 20, 60, 1000)):
            query = row_of(f"text {number}").astype(np.float64)
            expected = sorted((-float(embeddings[photo.image_id] @ query), photo.file) for photo in there)[:k]
            if min_score is not None:
                expected = [(score, path) for score, path in expected if -score >= min_score]
            hits = searcher.query([text_term(f"text {number}")], Limits(k, min_score, exact=exact))
            assert [hit.photo.file for hit in hits] == [path for _, path in expected]
            np.testing.assert_allclose([hit.score for hit in hits], [-score for score, _ in expected], atol=1e-6)
            assert [hit.rank for hit in hits] == list(range(1, len(expected) + 1))


def natural(path: bytes) -> list[object]:
    """The parts of a name that are compared in turn: texts and numbers."""
    parts = re.split(r"([0-9]+)", os.fsdecode(path).rpartition("/")[2].casefold())
    return [int(part) if part.isdecimal() else part for part in parts]


KEYS: dict[str, Callable[[Photo], object]] = {
    "date": lambda photo: photo.date,
    "name": lambda photo: natural(photo.file),
    "path": lambda photo: photo.file,
    "size": lambda photo: photo.size,
}


@pytest.fixture
def album(store: Store, tmp_path: Path) -> list[Photo]:
    """150 photos in two folders: few dates and sizes, some unknown dates, names with numbers, some files gone."""
    rng = np.random.default_rng(5)
    for folder in ("b", "a b"):
        (tmp_path / folder).mkdir()
        root = store.folders.add(os.fsencode(tmp_path.resolve() / folder), Rules())
        for n in range(75):
            name = rng.choice(["IMG_", "img_0", "\xe9t\xe9 ", "", "\udcff", "A1b"]) + f"{rng.integers(1, 120)}.jpg"
            content = b"%s%s" % (os.fsencode(folder), os.fsencode(name))
            path = Path(os.fsdecode(root.path)) / f"{n % 3}" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
            taken = f"2023-0{rng.integers(1, 4)}-01T12:00:00" if n % 3 else None
            if store.find_image(content_hash(content)) is None:
                image = store.images.add(content_hash(content), Metadata(1, 1, taken), row_of(content))
                changed = int(rng.choice([1_675_252_800, 1_675_252_801, -5, 1_700_000_000])) * 10**9 + int(
                    rng.integers(9)
                )
                file = FoundFile(os.fsencode(f"{n % 3}/{name}"), int(rng.integers(3)), changed)
                store.photos.put(root, file, image, None)
                if n % 7 == 0:
                    path.unlink()
    store.commit()
    return [photo for photo in store.by_path(store.select()) if os.path.exists(photo.file)]


@pytest.mark.parametrize("sort", [sign + field for field in KEYS for sign in ("", "-")])
def test_every_order_is_that_of_brute_force(album: list[Photo], store: Store, encoder: StubEncoder, sort: str) -> None:
    def in_order(photos: Iterable[Photo]) -> list[Photo]:
        by_path = sorted(photos, key=lambda photo: photo.file)
        ordered = sorted(by_path, key=KEYS[sort.removeprefix("-")], reverse=sort.startswith("-"))
        return sorted(ordered, key=lambda photo: "date" in sort and not photo.metadata.taken)

    listed_all = PhotoList(store, Filter(), Limits(sort=sort).order)
    assert [hit.photo for hit in listed_all.part(store, 0, 1000)] == in_order(album)
    assert len(listed_all) == len(album)
    searcher = Searcher(store)
    for k in (1, 7, 40, 99, 1000):
        listed = searcher.query((), Limits(k, sort=sort))
        assert [hit.photo for hit in listed] == in_order(album)[:k]
        assert [hit.rank for hit in listed] == list(range(1, len(listed) + 1))
        best = searcher.query([text_term("sea")], Limits(k))
        found = searcher.query([text_term("sea")], Limits(k, sort=sort))
        assert [hit.photo for hit in found] == in_order(hit.photo for hit in best)
        assert sorted(found) == sorted(best)  # with their ranks and scores


def test_in_order_of_the_files_that_are_shown(
    store: Store, photos: Root, encoder: StubEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `unique`, the best copy of a small file may be larger than other photos, and is listed after them."""
    monkeypatch.setattr(fold, "is_copy", lambda *_: True)  # the files have no pictures
    for n in range(200):
        size, picture = (n + 1, n) if n < 100 else (1000 - n, n - 100)  # every photo has a larger copy
        image = store.find_image(content_hash(b"%d" % picture))
        if image is None:
            image = store.images.add(content_hash(b"%d" % picture), Metadata(1, 1), row_of(b"%d" % picture))
        path = Path(os.fsdecode(photos.path)) / f"{n}.jpg"
        path.write_bytes(b"x" * size)
        status = path.stat()
        store.photos.put(
            photos, FoundFile(os.fsencode(path.name), size, status.st_mtime_ns, status.st_ctime_ns), image, None
        )
    store.commit()
    for sort, k in itertools.product(("size", "-size"), (3, 100)):
        hits = Searcher(store).query((), Limits(k, unique=True, sort=sort))
        larger = sorted(range(801, 901), reverse=sort == "-size")
        assert [hit.photo.size for hit in hits] == larger[:k]


def test_the_frames_of_a_video_are_in_order_of_time() -> None:
    photo = Photo(1, b"/a.mp4", 1, 1, b"", Metadata(1, 1))
    frames = [Hit(rank, 0.5, photo._replace(time=time)) for rank, time in enumerate((3.0, 1.0, 2.0), 1)]
    for sort in ("date", "-date", "-path"):
        assert [hit.rank for hit in sort_hits(frames, Limits(sort=sort).order)] == [2, 3, 1]


@pytest.mark.parametrize("sort", ["", "colour", "-score", "Date", "--date", None, 1])
def test_an_order_that_is_none_is_refused(sort: object) -> None:
    with pytest.raises(BadArgument, match="sort must be score, date, name, path or size, or reversed like -date, not "):
        Limits(sort=sort).check(())


def test_a_photo_is_not_found_by_itself(clipsearch: Run, tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    folder = tmp_path.resolve() / "photos"
    save_scenes(folder, 4)
    (folder / "copy.png").write_bytes((folder / "00.png").read_bytes())
    SCENES[0].image.resize((150, 150)).save(folder / "small.jpg")
    index = mini_index(folder)

    def found(*query: object, stdin: bytes = b"") -> set[str]:
        lines = clipsearch("query", *query, "-k", 9, index=index, stdin=stdin).lines
        return {Path(line).name for line in lines}

    others = {"01.png", "02.png", "03.png", "small.jpg"}
    everything = {*others, "00.png", "copy.png"}
    assert found("--image", folder / "00.png") == found(os.path.relpath(folder / "00.png")) == others
    assert found("--image", folder / "copy.png", "--unique") == others - {"small.jpg"}
    assert found("--image", folder / "00.png", "--with-self") == everything
    assert found("a circle", "--unlike", folder / "00.png") == everything
    elsewhere = tmp_path / "download.png"  # is it in the index?
    elsewhere.write_bytes((folder / "00.png").read_bytes())
    assert found("--image", elsewhere) == found("--image", "-", stdin=elsewhere.read_bytes()) == everything
    (best,) = clipsearch("query", "--image", folder / "00.png", "-k", 1, index=index).lines
    assert Path(best).name == "small.jpg"
    implied = clipsearch("query", folder / "00.png", "-k", 1, index=index)
    assert implied.lines == [best]
    assert "was read as --image" in implied.err
