"""What the server does with selected photos: who may ask, what it refuses, and that commands do the same."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import SCENES, save_scenes
from starlette.routing import Route
from starlette.testclient import TestClient

from clipsearch.images.xmp import keywords
from clipsearch.index import Index, open_index
from clipsearch.indexing.update import Options, update_index
from clipsearch.output import archive, trash
from clipsearch.output.collect import portable_names
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.search.question import IMAGE, Question, Term, parse
from clipsearch.store.catalogue import Store
from clipsearch.web import actions, limits
from clipsearch.web.app import create_app

OWN = {"origin": "http://127.0.0.1:8642"}


class Library:
    """An index of eight photos, and a client that was let in."""

    def __init__(self, folder: Path, *, allow_delete: bool = True) -> None:
        self.folder, self.index = folder, folder / "index"
        self.photos = save_scenes(folder / "photos", 8)
        update_index(self.index, [folder / "photos"], Options(model="mini"))
        pictures = Pictures(ThumbnailCache(folder / "thumbnails"))
        app = create_app(self.index, "token", pictures=pictures, allow_delete=allow_delete)
        self.page = TestClient(app, base_url=OWN["origin"], follow_redirects=False)

    def names(self, *numbers: int) -> list[str]:
        with open_index(self.index) as index:
            return [index.photo_at(self.photos[number]).url_name for number in numbers]

    def act(self, action: str, names: list[str], value: str = "", **options: Any) -> Any:
        return self.page.post(f"/action/{action}", json={"photos": names, "value": value}, headers=OWN, **options)

    def undo(self, done: Any) -> Any:
        return self.page.post(f"/undo/{done.json()['undo']}", headers=OWN)

    def found(self) -> list[str]:
        """The names of the photos that a search finds."""
        return sorted(hit["name"] for hit in self.page.get("/search").json()["hits"])

    def command(self, action: str, numbers: tuple[int, ...], value: str = "") -> str:
        """The shell command for some photos, as the page shows it."""
        answer = self.page.get(f"/action/{action}", params={"value": value, "count": len(numbers)}).json()
        paths = " ".join(shlex.quote(str(self.photos[number])) for number in numbers)
        return f"printf '%s\\0' {paths} | {answer['command']}"

    def run(self, command: str) -> str:
        """Run a shell command in the library's folder."""
        path = self.folder / "bin"
        path.mkdir(exist_ok=True)
        (path / "clipsearch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clipsearch "$@"\n')
        (path / "clipsearch").chmod(0o755)
        environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, cwd=self.folder, env=environment, check=True
        )
        return done.stdout.decode()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    made = Library(tmp_path)
    with made.page:
        assert made.page.get("/", params={"token": "token"}).status_code == 303
        yield made


# ------------------------------------------------------------------------------------------ who may ask


def test_strangers_and_other_pages_are_refused(library: Library) -> None:
    routes = [route for route in library.page.app.routes if isinstance(route, Route) and route.path != "/"]
    requests = [(method, re.sub("{.*?}", "x", route.path)) for route in routes for method in route.methods or ()]
    assert {("POST", "/action/x"), ("POST", "/people/x"), ("DELETE", "/saved"), ("GET", "/matches")} <= set(requests)
    cookies = dict(library.page.cookies)
    for method, address in requests:
        library.page.cookies.update(cookies)
        body = None if method in ("GET", "HEAD") else b"{}"
        for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            assert library.page.request(method, address, content=body, headers=headers).status_code == 403
        if body is not None:  # it must say where it comes from
            assert library.page.request(method, address, content=body).status_code == 403
        library.page.cookies.clear()
        assert library.page.request(method, address, content=body, headers=OWN).status_code == 401


def test_nothing_changes_by_a_get(library: Library) -> None:
    for name in actions.ACTIONS:
        library.page.get(f"/action/{name}", params={"value": "~/made", "count": 3})
    assert not (library.folder / "made").exists()
    with open_index(library.index) as index:
        assert index.concepts.names() == []


@pytest.mark.parametrize("address", ["/action/zip", "/saved?as=x&text=a+star", "/undo/x"])
def test_the_rate_is_limited(library: Library, address: str) -> None:
    answers = [library.page.post(address, content=b"x", headers=OWN).status_code for _ in range(limits.PER_MINUTE + 1)]
    assert 429 not in answers[:-1]
    assert answers[-1] == 429


def test_the_size_of_a_request_is_limited(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "larger" in library.page.post("/action/zip", content=bytes(actions.BODY_BYTES + 1), headers=OWN).json()["error"]
    )
    names = library.names(0, 1)
    monkeypatch.setattr(actions, "MAX_SELECTED", 1)
    assert "at most 1 photos" in library.act("zip", names).json()["error"]
    assert library.act("zip", names[:1]).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"[]",
            b"7",
            b"\xff",
            b'{"photos": []}',
            b'{"photos": "x", "value": ""}',
            b'{"photos": [1], "value": ""}',
        ),
        *(b'{"photos": ["/etc/passwd"], "value": ""}', b'{"photos": ["../x"], "value": ""}', b"[" * 100_000),
        *(b'{"photos": [], "value": ""}', b'{"photos": ["%s"], "value": 7}' % (b"0" * 32 + b"." + b"0" * 16)),
    ],
)
def test_a_body_that_makes_no_sense_is_a_sentence(library: Library, body: bytes) -> None:
    answer = library.page.post("/action/copy", content=body, headers=OWN)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_only_photos_of_the_index_can_be_named(library: Library) -> None:
    [known] = library.names(0)
    content, file = known.split(".")
    for name in (f"{'0' * 32}.{file}", f"{content}.{'0' * 16}"):
        for action in actions.ACTIONS:
            answer = library.act(action, [known, name], "~/made" if action in ("copy", "link") else "x")
            assert answer.json()["error"] == "1 selected photo is no longer in the index"
    assert not (library.folder / "made").exists()
    assert not list(library.folder.rglob("*.xmp"))
    assert library.act("nothing", [known]).status_code == 400


# ------------------------------------------------------------------------------------------ a folder


@pytest.mark.parametrize(("action", "is_link"), [("copy", False), ("link", True)])
def test_copies_and_links_are_those_of_the_command(library: Library, action: str, is_link: bool) -> None:
    (library.folder / "one").mkdir()
    (library.folder / "one" / "01.png").write_text("somebody's own")
    shutil.copytree(library.folder / "one", library.folder / "two")
    answer = library.act(action, library.names(1, 3), "~/one")
    assert answer.json() == {"message": f"{'linked' if is_link else 'copied'} 2 photos to ~/one"}
    library.run(library.command(action, (1, 3), "~/two"))
    for folder in (library.folder / "one", library.folder / "two"):
        assert sorted(os.listdir(folder)) == ["01-2.png", "01.png", "03.png"]
        assert (folder / "01.png").read_text() == "somebody's own"
        assert (folder / "01-2.png").read_bytes() == library.photos[1].read_bytes()
        assert (folder / "03.png").is_symlink() == is_link


def test_folders_outside_reason_are_refused(library: Library, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (library.folder / "way-out").symlink_to(outside)
    folders = {
        **dict.fromkeys(["relative", "", "../x", "~nobody-here/x"], "absolute path"),
        **dict.fromkeys([str(outside), "/etc", "/", "~/../x", "~/way-out/x", "~/photos/../../x"], "outside"),
        **dict.fromkeys(["~/.ssh", "~/.config/autostart", "~/a/.hidden/b", "~/photos/.x"], "hidden"),
        **dict.fromkeys(["~/index", "~/index/below", f"{library.index}"], "belongs to the index"),
        "~/x\0y": "characters",
    }
    for folder, words in folders.items():
        for answer in (
            library.act("copy", library.names(0), folder),
            library.page.get("/action/copy", params={"value": folder, "count": 1}),
        ):
            assert answer.status_code == 400, folder
            assert words in answer.json()["error"], folder
    assert list(outside.iterdir()) == []


def test_an_indexed_folder_need_not_be_in_the_home_folder(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    assert library.act("copy", library.names(0), str(library.folder / "photos" / "best")).status_code == 200
    assert "outside" in library.act("copy", library.names(0), str(library.folder / "x")).json()["error"]


@pytest.mark.parametrize("action", ["copy", "link", "zip", "keywords"])
def test_a_file_that_became_another_is_left_out(library: Library, action: str) -> None:
    names, secret = library.names(0, 1, 2, 3), library.folder / "secret.txt"
    secret.write_text("secret")
    library.photos[0].unlink()
    library.photos[1].unlink()
    library.photos[1].symlink_to(secret)
    library.photos[2].write_bytes(library.photos[2].read_bytes() + b"more")
    library.photos[3].touch()  # the same contents
    message = library.act(action, names, "~/made").json()["message"]
    assert "skipped 3 files: 00.png: moved, deleted or offline, 01.png" in message
    if action in ("copy", "link"):
        assert os.listdir(library.folder / "made") == ["03.png"]
    assert "none of the files can be used" in library.act(action, names[:3], "~/made").json()["error"]


# ------------------------------------------------------------------------------------------ ZIP


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        assert read.testzip() is None
        assert {entry.compress_type for entry in read.infolist()} <= {zipfile.ZIP_STORED}
        return {entry.filename: read.read(entry) for entry in read.infolist()}


def test_an_archive_has_the_files_as_they_are(library: Library) -> None:
    answer = library.act("zip", library.names(4, 2)).json()
    assert answer["message"].startswith("downloading 2 files, ")
    download = library.page.get(f"/download/{answer['download']}/photos.zip")
    assert download.headers["content-type"] == "application/zip"
    assert download.headers["content-disposition"] == 'attachment; filename="photos.zip"'
    assert unzipped(download.content) == {
        "photos/04.png": library.photos[4].read_bytes(),
        "photos/02.png": library.photos[2].read_bytes(),
    }
    assert library.page.get("/download/another/photos.zip").status_code == 400


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not there")
def test_the_command_makes_the_same_archive(library: Library) -> None:
    ticket = library.act("zip", library.names(4, 2)).json()["download"]
    library.run(library.command("zip", (4, 2)))
    by_command = unzipped((library.folder / "photos.zip").read_bytes())
    expected = unzipped(library.page.get(f"/download/{ticket}/photos.zip").content)
    assert {name: data for name, data in by_command.items() if not name.endswith("/")}.items() >= expected.items()


def test_the_command_adds_nothing_to_an_archive_that_is_there(library: Library) -> None:
    (library.folder / "photos.zip").write_bytes(b"mine")
    (library.folder / "bin").mkdir()
    (library.folder / "bin/zip").write_text("#!/bin/sh\necho > photos.zip\n")
    (library.folder / "bin/zip").chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        library.run(library.command("zip", (4, 2)))
    assert (library.folder / "photos.zip").read_bytes() == b"mine"


def test_archives_are_bounded(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    names = library.names(0, 1)
    size = sum(path.stat().st_size for path in library.photos[:2])
    for name, most in (("MAX_FILES", 1), ("MAX_BYTES", size - 1)):
        with monkeypatch.context() as patch:
            patch.setattr(archive, name, most)
            assert "do not fit in one ZIP" in library.act("zip", names).json()["error"]
    first = library.act("zip", names).json()["download"]
    for _ in range(actions._MAX_DOWNLOADS):
        library.act("zip", names)
    assert library.page.get(f"/download/{first}/photos.zip").status_code == 400


def test_an_archive_comes_in_parts_and_ends_at_a_file_that_changes_meanwhile(library: Library) -> None:
    with open_index(library.index) as index:
        photos = index.photos_named(library.names(0, 1))
    parts = archive.archive(photos)
    assert len(next(parts)) < 2 * photos[0].size + 1000
    library.photos[1].write_bytes(b"another")
    with pytest.raises(Exception, match="changed since"):
        list(parts)


def test_names_in_an_archive_are_names_everywhere() -> None:
    odd = ["a.jpg", "A.JPG", "a.jpg", "..", "/etc/passwd", "..\\..\\x.jpg", "con.png", ".hidden.png", "a\nb.png"]
    odd += ["x" * 300 + ".jpeg", "caf\udce9.png", "e\u0301.png", "\u00e9.png", "trailing. ", "a:b|c?.png", ""]
    found = portable_names(odd)
    assert found[:4] == ["a.jpg", "A-2.JPG", "a-3.jpg", "_"]
    assert len({name.casefold() for name in found}) == len(odd)
    for name in found:
        assert name
        assert not set(name) & set('<>:"/\\|?*\n')
        assert not name.startswith(".")
        assert len(name.encode()) <= 255
    assert found[9].endswith("x.jpeg")


# ------------------------------------------------------------------------------------------ concepts and keywords


def test_a_concept_is_that_of_the_command(library: Library) -> None:
    assert library.act("concept", library.names(1, 5), "mine").json() == {"message": "@mine has 2 photos"}
    library.run(library.command("concept", (1, 5), "theirs"))
    with open_index(library.index) as index:
        mine, theirs = (index.ask(parse([("text", f"@{name}")])) for name in ("mine", "theirs"))
        assert [hit.photo for hit in mine] == [hit.photo for hit in theirs]
        assert [hit.score for hit in mine] == pytest.approx([hit.score for hit in theirs], abs=1e-3)
        one, other = (index.concepts.examples(name) for name in ("mine", "theirs"))
        assert [(example.path, example.content) for example in one] == [(e.path, e.content) for e in other]
    assert "not a valid concept name" in library.act("concept", library.names(1), "a b").json()["error"]
    assert [one["label"] for one in library.page.get("/suggest?text=@").json()["suggestions"]] == ["@mine", "@theirs"]


def test_a_concept_needs_no_files(library: Library) -> None:
    names = library.names(1)
    library.photos[1].unlink()
    assert library.act("concept", names, "gone").status_code == 200


def test_keywords_are_those_of_the_command(library: Library) -> None:
    answer = library.act("keywords", library.names(0, 1), " beach, animal|dog,, beach ")
    assert answer.json() == {"message": "wrote 2 sidecars; 0 already had these keywords"}
    ours = [library.photos[number].with_suffix(".png.xmp") for number in (0, 1)]
    by_page = [path.read_bytes() for path in ours]
    assert set(keywords(by_page[0])) == {"beach", "animal", "dog"}
    again = library.act("keywords", library.names(0, 1), "beach").json()
    assert again == {"message": "wrote 0 sidecars; 2 already had these keywords"}
    for path in ours:
        path.unlink()
    library.run(library.command("keywords", (0, 1), "beach, animal|dog"))
    assert [set(keywords(path.read_bytes())) for path in ours] == [set(keywords(data)) for data in by_page]
    for words in ("", " , ", "a\x01b"):
        assert library.act("keywords", library.names(0), words).status_code == 400


def test_a_sidecar_that_cannot_be_changed_is_named(library: Library) -> None:
    library.photos[0].with_suffix(".png.xmp").write_text("not XML")
    message = library.act("keywords", library.names(0, 1), "x").json()["message"]
    assert message.startswith("wrote 1 sidecar; 0 already had these keywords; skipped 1 file: ")
    assert library.photos[0].with_suffix(".png.xmp").read_text() == "not XML"


# ------------------------------------------------------------------------------------------ the trash


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_trash_takes_photos_with_their_sidecars_and_gives_them_back(library: Library) -> None:
    photos, names = library.folder / "photos", library.found()
    for name in ("00.png.xmp", "odd name%.png.xmp"):
        (photos / name).write_text("<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    (photos / "00.mov").write_bytes(b"the other half of a Live Photo")
    shutil.copy2(photos / "03.png", photos / "odd name%.png")
    update_index(library.index)
    library.photos.append(photos / "odd name%.png")
    before = files(photos)

    done = library.act("trash", library.names(0, 2, 8))
    assert re.fullmatch(r"moved 3 files and 2 sidecars \(.* KB\) to the trash", done.json()["message"])
    assert library.found() == [name for name in names if name not in ("00.png", "02.png")]
    trash = library.folder / ".local" / "share" / "Trash"
    assert sorted(os.listdir(trash / "files")) == sorted(
        ["00.png", "00.png.xmp", "02.png", "odd name%.png", "odd name%.png.xmp"]
    )
    record = (trash / "info" / "odd name%.png.trashinfo").read_text().splitlines()
    assert record[:2] == ["[Trash Info]", f"Path={quote(str(photos / 'odd name%.png'))}"]
    assert record[2].startswith("DeletionDate=20")
    assert (photos / "00.mov").exists()
    assert trash.stat().st_mode & 0o777 == 0o700

    again = library.undo(done).json()
    assert again["message"].startswith("moved 3 files and 2 sidecars")
    assert files(photos) == before
    assert files(trash) == {}
    assert library.found() == names  # with the odd one as an identical copy
    assert "no longer be undone" in library.undo(done).json()["error"]


def test_files_in_the_trash_share_no_name_and_come_back_only_to_a_free_place(library: Library) -> None:
    first = library.act("trash", library.names(0))
    old, new = library.photos[1].read_bytes(), library.photos[2].read_bytes()
    library.photos[1].rename(library.photos[0])
    update_index(library.index)
    with open_index(library.index) as index:
        second = library.act("trash", [index.photo_at(library.photos[0]).url_name])
    assert second.status_code == 200
    library.photos[2].rename(library.photos[0])  # somebody's newest
    for done in (first, second):
        assert "another file is in its original place" in library.undo(done).json()["error"]
    assert library.photos[0].read_bytes() == new
    trash = library.folder / ".local" / "share" / "Trash" / "files"
    assert (trash / "00.2.png").read_bytes() == old
    assert len(os.listdir(trash)) == 2


def test_the_trash_refuses_what_changed(library: Library) -> None:
    names = library.names(0, 1, 2, 3)
    library.photos[0].unlink()
    library.photos[1].unlink()
    library.photos[1].symlink_to(library.photos[4])
    library.photos[2].write_bytes(library.photos[2].read_bytes() + b"more")
    before = files(library.folder / "photos")
    answer = library.act("trash", names[:3])
    assert answer.status_code == 400
    assert "00.png: it is gone, 01.png: it is a symbolic link, 02.png: it was changed" in answer.json()["error"]
    assert files(library.folder / "photos") == before
    assert "skipped 3 files" in library.act("trash", names).json()["message"]


def test_the_trash_needs_no_turn_to_write_to_the_index(library: Library) -> None:
    with Store.open(library.index, write=True):  # as `watch` does, which notices the change
        done = library.act("trash", library.names(0))
    assert done.json()["message"].endswith("to the trash")
    assert not library.photos[0].exists()
    assert library.undo(done).json()["message"].endswith("back")


def test_systems_without_such_a_trash_are_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux and BSD only" in library.act("trash", library.names(0)).json()["error"]
    assert library.photos[0].exists()


def test_deleting_needs_permission(tmp_path: Path) -> None:
    library = Library(tmp_path, allow_delete=False)
    with library.page:
        library.page.get("/", params={"token": "token"})
        for answer in (library.act("trash", library.names(0)), library.page.get("/action/trash")):
            assert answer.status_code == 403
            assert "--allow-delete" in answer.json()["error"]
        assert "data-allow-delete" not in library.page.get("/").text
    assert library.photos[0].exists()


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="there is no other file system")
def test_another_drive_has_its_own_trash_or_none(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as drive:
        monkeypatch.setattr(trash, "drive_of", lambda _: os.fsencode(drive))
        photos = save_scenes(Path(drive) / "pictures", 3)
        update_index(library.index, [photos[0].parent])
        with open_index(library.index) as index:
            names = [index.photo_at(photo).url_name for photo in photos]
        own = Path(drive) / f".Trash-{os.getuid()}"
        own.symlink_to(library.folder)  # planted by somebody
        refused = library.act("trash", names)
        assert "has no trash" in refused.json()["error"]
        assert all(photo.exists() for photo in photos)
        own.unlink()
        done = library.act("trash", names[:1])
        assert (own / "info" / "00.png.trashinfo").read_text().splitlines()[1] == "Path=pictures/00.png"
        assert os.listdir(own / "files") == ["00.png"]
        assert library.undo(done).status_code == 200
        assert photos[0].exists()
        (Path(drive) / ".Trash").mkdir()
        (Path(drive) / ".Trash").chmod(0o1777)  # an administrator's, for all users
        library.act("trash", names[1:2])
        assert os.listdir(Path(drive) / ".Trash" / str(os.getuid()) / "files") == ["01.png"]


@pytest.mark.skipif(shutil.which("gio") is None, reason="gio is not installed")
def test_the_command_moves_to_the_same_trash(library: Library) -> None:
    library.run(library.command("trash", (0, 3)))
    assert sorted(os.listdir(library.folder / ".local" / "share" / "Trash" / "files")) == ["00.png", "03.png"]


# ------------------------------------------------------------------------------------------ all matches


@pytest.mark.parametrize(
    "question",
    [{}, {"type": "png"}, {"text": SCENES[2].captions[0]}, {"text": "a circle", "cut": "0.01", "sort": "name"}],
)
def test_all_matches_are_those_of_the_command(library: Library, question: dict[str, str]) -> None:
    shown = library.page.get("/search", params=question | {"count": "400"}).json()
    found = library.page.get("/matches", params=question).json()
    matching = [hit["path"] for hit in shown["hits"][: shown["confident"]]]
    assert [photo["path"] for photo in found["photos"]] == matching
    assert library.run(found["command"]).splitlines() == matching


def test_what_has_no_matches_cannot_be_selected(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    [name] = library.names(0)
    for params, words in (({"like": name[:32]}, "select a range"), ({"text": "x", "cut": "0.9999"}, "nothing is")):
        assert words in library.page.get("/matches", params=params).json()["error"]
    monkeypatch.setattr("clipsearch.web.gallery.MAX_SELECTED", 7)
    assert "more than 7 photos match" in library.page.get("/matches").json()["error"]


# ------------------------------------------------------------------------------------------ saved searches


def test_searches_are_saved_and_shared_with_the_command_line(library: Library) -> None:
    asked = {"text": "a star -dots", "type": "png", "cut": "strict", "unique": "1", "as": "my stars"}
    saved = library.page.post("/saved", params=asked, headers=OWN).json()["saved"]
    assert [one["name"] for one in saved] == ["my stars"]
    assert parse(map(tuple, saved[0]["pairs"])) == parse(asked.items())
    library.run(f"clipsearch query --like {library.photos[2]} --save 'like 2' --index {library.index}")
    with Index(library.index) as index:
        index.saved_searches.save("not indexed", Question((Term("/etc/x.jpg", 1.0, IMAGE),)))
        assert index.saved_searches.question("my stars") == parse(asked.items())
    pairs = {one["name"]: one["pairs"] for one in library.page.get("/saved").json()["saved"]}
    assert pairs["like 2"] == [["like", library.names(2)[0][:32]]]
    assert pairs["not indexed"] is None
    left = library.page.delete("/saved", params={"as": "my stars"}, headers=OWN).json()["saved"]
    assert "my stars" not in [one["name"] for one in left]
    assert library.page.delete("/saved", params={"as": "my stars"}, headers=OWN).status_code == 400
    assert library.page.post("/saved", params={"as": "-x", "text": "a"}, headers=OWN).status_code == 400


def test_a_search_by_an_upload_cannot_be_saved(library: Library) -> None:
    data = io.BytesIO()
    SCENES[20].image.save(data, "PNG")
    id = library.page.post("/upload", params={"name": "x.png"}, content=data.getvalue(), headers=OWN).json()["id"]
    answer = library.page.post("/saved", params={"like": id, "as": "x"}, headers=OWN)
    assert "uploaded image cannot be saved" in answer.json()["error"]


def test_damaged_saved_searches_are_a_sentence(library: Library) -> None:
    (library.index / "saved.json").write_text(json.dumps({"x": 1}))
    assert "damaged" in library.page.get("/saved").json()["error"]
    assert library.page.get("/search", params={"text": "a star"}).status_code == 200
