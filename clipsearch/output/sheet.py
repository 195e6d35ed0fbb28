"""A contact sheet: hits as one HTML page that holds its thumbnails itself and needs nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.errors import BadRequest
from clipsearch.images.thumbnail import thumbnail
from clipsearch.output.text import printable

if TYPE_CHECKING:
    from clipsearch.search.query import Hit
    from clipsearch.store.catalogue import Photo

_QUALITY = 75  # WebP would be a fifth smaller, and take ten times as long to write
_WORKERS = min(8, os.cpu_count() or 1)  # each may hold a photo of 200 megapixels

_FIRST = b"<!DOCTYPE html>"

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f4f1; --card: #fff; --mat: #edece8; --line: #0000001a; --text: #1c1c1e; --dim: #62625d; --mark: #0b5cad;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131315; --card: #1d1d20; --mat: #17171a; --line: #ffffff1f; --text: #ededf0; --dim: #a3a3aa;
    --mark: #8ab8ff;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  max-width: 112rem; margin: auto; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(.75rem, 4vw, 3.5rem) 4rem;
  background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  -webkit-text-size-adjust: 100%;
}
header { margin-bottom: clamp(1.25rem, 3vw, 2.5rem); padding: 0 .25rem; }
h1 {
  font-size: clamp(1.5rem, 1rem + 2vw, 2.25rem); font-weight: 650; line-height: 1.2; letter-spacing: -.015em;
  overflow-wrap: anywhere; text-wrap: balance;
}
header p { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin-top: .5rem; color: var(--dim); }
kbd { padding: .05em .4em; border: 1px solid var(--line); border-radius: .3em; font: .85em ui-monospace, monospace; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr));
  gap: clamp(.75rem, 2vw, 1.75rem); padding: 0; list-style: none;
}
.card {
  display: flex; flex-direction: column; overflow: hidden; scroll-margin: 1rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .9rem;
}
.card:has(> .photo:focus-visible) { outline: 3px solid var(--mark); outline-offset: 3px; }
.photo { position: relative; aspect-ratio: 1; background: var(--mat); outline: 0; }
.photo img { position: absolute; width: 100%; height: 100%; padding: .75rem; object-fit: contain; }
.gone {
  position: absolute; inset: .75rem; display: grid; place-items: center; padding: 1rem;
  border: 1px dashed var(--dim); border-radius: .4rem; color: var(--dim); font-size: .875rem; text-align: center;
}
.about { display: grid; gap: .4rem; padding: .8rem 1rem 1rem; font-size: .8125rem; overflow-wrap: anywhere; }
.found, .facts { display: flex; flex-wrap: wrap; gap: 0 .75rem; color: var(--dim); font-variant-numeric: tabular-nums; }
.found { align-items: baseline; justify-content: end; }
.found b { margin-right: auto; color: var(--text); font-size: 1.0625rem; font-weight: 650; }
.path { color: var(--dim); white-space: break-spaces; }
.path strong { display: inline-block; color: var(--text); font-weight: 600; }
summary { width: fit-content; border-radius: .2rem; color: var(--mark); cursor: pointer; }
details ul { padding: .4rem 0 0; list-style: none; }
details li { margin-top: .3rem; }
details a { display: block; text-decoration: none; }
details .path strong { color: var(--mark); }
details a:hover strong { text-decoration: underline; }
details a:focus-visible, summary:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
@media (pointer: coarse), (max-width: 34rem) { .keys { display: none; } }
@media (hover: hover) { .card:has(> .photo:hover) { border-color: var(--dim); } }
@media (max-width: 34rem) {
  .cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); }
  .photo img { padding: .5rem; }
  .gone { inset: .5rem; }
  .about { padding: .6rem .7rem .75rem; font-size: .75rem; }
}
@media print {
  body { padding: 0; background: none; }
  .cards { grid-template-columns: repeat(4, 1fr); gap: .75rem; }
  .card { break-inside: avoid; }
  .keys { display: none; }
}
"""

_SCRIPT = """
const cards = [...document.querySelectorAll(".card")];
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || !cards.length) return;
  const below = cards.findIndex((card) => card.offsetTop > cards[0].offsetTop);
  const columns = below < 0 ? cards.length : below, last = cards.length - 1;
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  const lowerRow = Math.floor(at / columns) < Math.floor(last / columns);
  const to = new Map([
    ["Home", 0], ["End", last],
    ["ArrowLeft", at - 1], ["h", at - 1], ["ArrowRight", at + 1], ["l", at + 1],
    ["ArrowUp", at - columns], ["k", at - columns],
    ...["ArrowDown", "j"].map((key) => [key, lowerRow ? Math.min(at + columns, last) : at]),
  ]).get(event.key);
  if (to === undefined) return;
  event.preventDefault();
  const inView = () => cards.findIndex((card) => card.getBoundingClientRect().bottom > 0);
  const card = cards[at < 0 && to !== 0 && to !== last ? inView() : to];
  if (!card) return;
  card.querySelector("a").focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
});
"""


class _Picture(NamedTuple):
    jpeg: bytes
    width: int
    height: int


def sheet(hits: Iterable[Hit], title: str) -> Iterator[str]:
    """The page, piece by piece: a card for each hit, whose thumbnail leads to the photo.

    A photo that cannot be read any more has a card that says so. To be written as UTF-8.
    """
    rows = list(hits)
    yield _head(printable(title), len(rows))
    for hit, picture in zip(rows, _pictures(hit.photo.path for hit in rows), strict=True):
        yield _card(hit, picture)
    yield f"</ol>\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def write_sheet(path: Path, hits: Iterable[Hit], title: str, subtitle: str = "") -> None:
    """The page as a file, whole or not at all, and over nothing but an earlier page. Raises `BadRequest`."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            with open(path, "w", encoding="utf-8") as page:
                page.writelines(sheet(hits, title))
            return
        if path.exists():
            with open(path, "rb") as there:
                if there.read(len(_FIRST)) not in (b"", _FIRST):
                    raise BadRequest(f"{path} is there and no contact sheet; take another name")
        temporary = path.with_name(f".clipsearch-{os.getpid()}.tmp")
        try:
            with open(temporary, "x", encoding="utf-8") as page:
                page.writelines(sheet(hits, title))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}") from None


def _pictures(paths: Iterable[bytes]) -> Iterator[_Picture | None]:
    """Thumbnails in the order of the paths, made by several threads that are never far ahead of the page."""
    waiting: deque[Future[_Picture | None]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(_picture, path))
                if len(waiting) > 2 * _WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # nobody wants the rest
                future.cancel()


def _picture(path: bytes) -> _Picture | None:
    image = thumbnail(path)
    if image is None:
        return None
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return _Picture(out.getvalue(), image.width, image.height)


def _head(title: str, count: int) -> str:
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)};"
        " base-uri 'none'; form-action 'none'"
    )
    photos = "1 photo" if count == 1 else f"{count:,} photos"
    keys = "<kbd>←</kbd> <kbd>↓</kbd> <kbd>↑</kbd> <kbd>→</kbd> move, <kbd>Enter</kbd> opens the photo"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1><bdi>{escape(title)}</bdi></h1>
<p><span>{photos}</span>{f'<span class="keys">{keys}</span>' if count else ""}</p>
</header>
<main>
<ol class="cards" role="list">
"""


def _card(hit: Hit, picture: _Picture | None) -> str:
    image = hit.photo.metadata
    found = [f"<b>{hit.rank}</b>"]
    if hit.score is not None:
        found.append(f"<span>score {hit.score:.3f}</span>")
    if hit.confidence is not None:
        found.append(f"<span>confidence {hit.confidence:.0%}</span>")
    facts = [f"<span>{image.width} &times; {image.height}</span>"]
    if image.camera:
        facts.insert(0, f"<span><bdi>{escape(printable(image.camera))}</bdi></span>")
    if image.taken:
        taken = escape(printable(image.taken))
        facts.insert(0, f'<time datetime="{taken}">{taken[:16].replace("T", " ")}</time>')
    return f"""<li class="card">
<a class="photo" href="{_link(hit.photo)}">{_shown(hit, picture)}</a>
<div class="about">
<p class="found">{" ".join(found)}</p>
<p class="path">{_path(hit.photo)}</p>
<p class="facts">{" ".join(facts)}</p>
{_similar(hit.similar)}</div>
</li>
"""


def _shown(hit: Hit, picture: _Picture | None) -> str:
    name = f"Photo {hit.rank}: {escape(printable(os.path.basename(hit.photo.path)))}"
    if picture is None:
        gone = "cannot be read any more"
        return f'<span class="gone" role="img" aria-label="{name}, {gone}">{gone}</span>'
    data = base64.b64encode(picture.jpeg).decode("ascii")
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img {size} alt="{name}" decoding="async" src="data:image/jpeg;base64,{data}">'


def _similar(photos: tuple[Photo, ...]) -> str:
    if not photos:
        return ""
    items = "".join(f'<li><a class="path" href="{_link(photo)}">{_path(photo)}</a></li>\n' for photo in photos)
    return f"<details><summary>+{len(photos)} similar</summary>\n<ul>\n{items}</ul></details>\n"


def _path(photo: Photo) -> str:
    """The path for a person: its name stands out, and lines break after a slash."""
    folder, slash, name = printable(photo.path).rpartition("/")
    return f"<bdi>{escape(folder + slash).replace('/', '/<wbr>')}<strong>{escape(name)}</strong></bdi>"


def _link(photo: Photo) -> str:
    return escape(Path(os.fsdecode(photo.path)).as_uri())


def _hash(text: str) -> str:
    """How a content security policy names an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
