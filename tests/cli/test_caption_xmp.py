"""`clipsearch caption --write-xmp` and `--remove`, run as a program with captions of a local server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SCENES, Run
from endpoints import ChatServer, chat_server, completion

from clipsearch.images.xmp import with_keywords, without_ours
from clipsearch.images.xmp_caption import with_caption, without_caption
from clipsearch.images.xmp_facts import facts_of
from clipsearch.indexing.update import Options, update_index
from clipsearch.output.tags import Tagger

CAPTION = "A <red> circle & a dog"
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/"'
RATED = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="3"/>
</rdf:RDF></x:xmpmeta>
""".encode()
DESCRIBED = RATED.replace(b'Rating="3"/>', b'Rating="3"><dc:description>Rex</dc:description></rdf:Description>')
EMPTY_DESCRIPTION = DESCRIBED.replace(b">Rex<", b"><")


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with chat_server() as server:
        server.reply = lambda _: completion(CAPTION)
        yield server


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_captions_are_written_only_where_none_is_and_removed_byte_for_byte(
    clipsearch: Run, chat: ChatServer, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(("new", "rated", "described", "empty", "takeout")):
        SCENES[number].image.save(photos / f"{name}.png")
    exif = SCENES[5].image.getexif()
    exif[0x010E] = "Rex at the beach"
    SCENES[5].image.save(photos / "embedded.jpg", exif=exif)
    for name, document in (("rated", RATED), ("described", DESCRIBED), ("empty", EMPTY_DESCRIPTION)):
        (photos / f"{name}.png.xmp").write_bytes(document)
    about = {"title": "takeout.png", "description": "Rex again", "photoTakenTime": {"timestamp": "1600000000"}}
    (photos / "takeout.png.json").write_text(json.dumps(about))
    before = files(photos)
    index = tmp_path / "index"
    update_index(index, [photos], Options(model="mini"))
    images = sorted(path for path in photos.iterdir() if path.suffix in (".png", ".jpg"))
    command = ("caption", *images, "--endpoint", chat.url, "--vlm-model", "llava", "--write-xmp")

    tried = clipsearch(*command, "--dry-run", index=index)
    assert (tried.status, files(photos)) == (0, before)
    would = [f"would write {photos}/{name}.png.xmp: {CAPTION}" for name in ("new", "rated")]
    assert tried.err.splitlines() == [*would, "would write 2 sidecars; 4 photos already have a description"]
    done = clipsearch(*command, index=index)
    assert (done.status, done.out) == (0, tried.out)
    assert done.err == "wrote 2 sidecars; 4 photos already had a description\n"
    after = files(photos)
    assert {name for name in after if after[name] != before.get(name)} == {"new.png.xmp", "rated.png.xmp"}
    assert facts_of(after["new.png.xmp"]).caption == facts_of(after["rated.png.xmp"]).caption == CAPTION

    update_index(index, [photos])  # the caption is now that of the photo, for this and for other programs
    shown = json.loads(clipsearch("query", "--name", "new.png", "-f", "json", index=index).out)[0]
    assert (shown["caption"], shown["generated_caption"]) == (CAPTION, None)
    assert clipsearch(*command, index=index).err == "wrote 0 sidecars; 6 photos already had a description\n"
    labels = Tagger()
    labels.apply(labels.plan_addition(bytes(photos / "new.png"), ["dog"]))
    assert clipsearch("caption", *images, "--remove").err == "cleaned 2 sidecars, deleted 0 that became empty\n"
    sidecar = photos / "new.png.xmp"
    assert sidecar.read_bytes() == with_keywords(None, ["dog"])
    labels.apply(labels.plan_removal(sidecar))
    assert files(photos) == before


@pytest.mark.parametrize("document", [None, RATED, with_keywords(RATED, ["dog"]), RATED.replace(b"rdf:", b"r:")])
def test_a_caption_is_removed_byte_for_byte(document: bytes | None) -> None:
    if document:
        document = document.replace(b"xmlns:rdf", b"xmlns:r") if b"<r:" in document else document
    written = with_caption(document, CAPTION)
    assert facts_of(written).caption == CAPTION
    assert with_caption(written, "another") == written
    assert without_caption(written) == document
    if document != RATED and document:
        assert without_ours(document) == without_ours(without_caption(written) or b"")


def test_what_somebody_has_edited_stays() -> None:
    written = with_caption(RATED, CAPTION)
    escaped = b'<rdf:li xml:lang="x-default">A &lt;red&gt; circle &amp; a dog</rdf:li>'
    assert written.count(escaped) == 2
    edited = written.replace(escaped, b'<rdf:li xml:lang="x-default">Rex</rdf:li>', 1)
    assert facts_of(without_caption(edited) or b"").caption == "Rex"
    translated = written.replace(escaped, escaped + b'<rdf:li xml:lang="de">Rex</rdf:li>', 1)
    rest = without_caption(translated) or b""
    assert (facts_of(rest).caption, b"pypi.org" in rest, escaped in rest) == ("Rex", False, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--remove", "--write-xmp"], "use it alone or with --dry-run"),
        (["--dry-run"], "--dry-run needs --write-xmp or --remove"),
    ],
)
def test_contradictory_options(clipsearch: Run, tmp_path: Path, options: list[str], message: str) -> None:
    run = clipsearch("caption", tmp_path / "a.png", *options)
    assert (run.status, run.out, run.err.count("\n")) == (2, b"", 1)
    assert message in run.err
