// The results as a grid of tiles. Only tiles near the viewport are in the DOM; those of photos that are still being
// loaded are skeletons.

import { photoName } from "./address.js";
import { count, element } from "./dom.js";
import { dateName } from "./items.js";
import { LINE, Rows } from "./rows.js";
import { createSkeleton, createTile, placeTile, updateTile } from "./tile.js";

const MAX_LOADING = 4; // thumbnails requested at the same time
const STILL_MS = 150; // without scrolling, until the place is reported

export class Grid {
  // `container` is the list of tiles. `on` has the callbacks: open(index), select(index, extend), hasSelection(),
  // isSelected(photo), toggleGroup(index), url(photo), laidOut(): tiles have other places, scrolled(), moved(): one has
  // stopped scrolling, and isBusy(): a search is running, so thumbnails must wait. `results` are a `Ranking` or a
  // `PhotoList`. `byDay`: headings are for days instead of months. `density` is the factor of the height of rows.
  constructor(container, on) {
    Object.assign(this, { container, on, results: null, tiles: new Map(), lines: new Map(), current: 0, byDay: false, density: 1 });
    Object.assign(this, { loading: new Set(), queue: [], anchor: null, awaitsFocus: false, rows: new Rows(0, () => 1, [], 1, 0, 1) });
    const observer = new ResizeObserver(() => { if (this.width !== this.container.clientWidth) this.layout(); else this.keepPlace(); });
    for (const part of container.parentElement.children) observer.observe(part); // what is above it may push it down
    addEventListener("scroll", () => this.scheduleRender(), { passive: true });
    addEventListener("resize", () => this.scheduleRender());
    container.addEventListener("focusin", (event) => {
      const tile = event.target.closest?.(".tile");
      if (tile) this.moveTo(Number(tile.dataset.index), false);
    });
  }

  get length() {
    return this.results?.length ?? 0;
  }

  // The item of a photo; undefined while it is not loaded.
  item(n) {
    return n >= 0 && n < this.length ? this.results.item(n) : undefined;
  }

  scheduleRender() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.width !== this.container.clientWidth) return; // turned: the rows, and so the place, are about to change
      this.render();
      // Not after `goTo`: turned twice, the same photo must be at the edge, even if others were beside it meanwhile.
      if (!this.anchor || Math.abs(scrollY - this.anchoredAt) > 1) this.setAnchor(this.place());
      this.on.scrolled();
      clearTimeout(this.stillTimer);
      this.stillTimer = setTimeout(() => this.on.moved(), STILL_MS);
    });
  }

  // Show other results, or null for none.
  show(results) {
    Object.assign(this, { results, current: 0, anchor: null });
    this.layout();
  }

  // There are other photos or, if they have moved, in other places.
  update(isMoved) {
    this.current = Math.min(this.current, Math.max(0, this.length - 1));
    if (isMoved) return this.layout();
    this.render();
    if (this.anchor && !this.anchor.name) this.on.moved(); // the place can be named now
  }

  layout() {
    const width = this.width = this.container.clientWidth, gap = width < 600 ? 4 : 8;
    const height = this.density * Math.max(112, Math.min(250, 60 + width / 7));
    const lines = this.results?.lines(this.byDay) ?? [];
    this.rows = new Rows(this.length, (n) => this.results.aspect(n), lines, width, gap, height);
    this.container.style.height = `${Math.ceil(this.rows.height)}px`;
    this.keepPlace();
    this.render();
    this.on.laidOut();
  }

  // ------------------------------------------------------------------------------- the place

  // Where the reader is: the first photo below the header, by number and name, and which share of it is hidden. Null while
  // the first photos are in the window. The name is "" while the photo is not loaded; a negative share is that of the
  // heading above the photo which is still visible.
  place() {
    const y = this.edge() - this.container.getBoundingClientRect().top, row = this.rows.at(y);
    if (!(y > 0 && row < this.rows.count)) return null;
    const n = this.rows.firsts[row], item = this.item(n), hidden = y - this.rows.tops[row];
    return { n, name: item ? photoName(item.photo) : "", share: hidden / (hidden < 0 ? LINE : this.rows.heights[row]) };
  }

  // Scroll to a place. Returns whether there is such a photo.
  goTo(place) {
    const box = this.rows.box(place.n);
    if (!box) return false;
    this.scrollToHeight(box.y + place.share * (place.share < 0 ? LINE : box.h));
    this.setAnchor(place);
    return true;
  }

  setAnchor(place) {
    this.anchor = place;
    this.anchoredAt = scrollY;
  }

  goToTop() {
    this.anchor = null;
    if (this.container.parentElement.getBoundingClientRect().top < 0) scrollTo({ top: 0, behavior: "instant" });
  }

  // After a change of the layout, keep what was visible where it was.
  keepPlace() {
    if (this.anchor) this.goTo(this.anchor);
  }

  // The height from which on photos are visible: below the header, and below panels that stick to it.
  edge() {
    const header = document.querySelector("header").getBoundingClientRect().bottom, panels = document.querySelector(".panels").getBoundingClientRect();
    return panels.height && panels.top <= header + 1 ? panels.bottom : header;
  }

  // How far the results are scrolled past the edge, and how far they can be.
  get offset() {
    return this.edge() - this.container.getBoundingClientRect().top;
  }

  get maxOffset() {
    return this.offset + document.documentElement.scrollHeight - innerHeight - scrollY;
  }

  scrollToHeight(y) {
    const distance = y - this.offset;
    if (Math.abs(distance) > 0.5) scrollBy({ top: distance, behavior: "instant" });
  }

  indexOf(file) {
    return this.results ? this.results.indexOf(file) : -1;
  }

  // ------------------------------------------------------------------------------- tiles

  render() {
    const top = -this.container.getBoundingClientRect().top, margin = innerHeight;
    const [from, to] = this.rows.photosBetween(top - margin, top + innerHeight + margin);
    const visible = new Map();
    for (let n = from; n < to; n += 1) visible.set(this.item(n)?.tileKey ?? n, n);
    const currentItem = this.item(this.current);
    if (currentItem) visible.set(currentItem.tileKey, this.current);
    for (const [key, tile] of this.tiles) if (!visible.has(key)) this.remove(key, tile);
    let previous = null;
    for (const [key, n] of [...visible].sort((a, b) => a[1] - b[1])) {
      const item = this.item(n);
      let tile = this.tiles.get(key);
      if (!tile) this.tiles.set(key, tile = item ? createTile(item, { ...this.on, loaded: (image) => this.loaded(image) }) : createSkeleton());
      placeTile(tile, n, this.rows.box(n));
      if (item) updateTile(tile, n, item, { total: this.results.total, isCurrent: n === this.current, isSelected: this.on.isSelected(item.photo) });
      const next = previous ? previous.nextSibling : this.container.firstChild;
      if (tile !== next) this.container.insertBefore(tile, next);
      previous = tile;
    }
    if (this.awaitsFocus && currentItem) this.focusCurrent();
    this.load(top, top + innerHeight);
    clearTimeout(this.prefetchTimer);
    this.prefetchTimer = setTimeout(() => this.load(-Infinity, Infinity), 250); // later, so that typing can go on first
    this.renderLines(top - margin, top + innerHeight + margin);
    this.results?.need(from, to, this.current);
  }

  remove(key, tile) {
    const image = tile.querySelector("img");
    image?.removeAttribute("src"); // cancels the request
    this.loading.delete(image);
    tile.remove();
    this.tiles.delete(key);
  }

  // Queue the thumbnails of the tiles between two heights.
  load(from, to) {
    const tiles = [...this.tiles.values()].filter((tile) => {
      const box = this.rows.box(Number(tile.dataset.index));
      return box && box.y < to && box.y + box.h > from;
    }).sort((a, b) => a.dataset.index - b.dataset.index);
    this.queue = tiles.map((tile) => tile.querySelector("img")).filter((image) => image?.dataset.src);
    this.loadQueued();
  }

  // Browsers allow six connections per server: thumbnails must leave some for the next search.
  loadQueued() {
    while (this.loading.size < MAX_LOADING && this.queue.length && !this.on.isBusy()) {
      const image = this.queue.shift();
      if (!image.isConnected || !image.dataset.src) continue;
      this.loading.add(image);
      image.src = image.dataset.src;
      delete image.dataset.src;
    }
  }

  loaded(image) {
    this.loading.delete(image);
    this.loadQueued();
  }

  // The headings and dividers between two heights.
  renderLines(from, to) {
    const visible = new Set(this.rows.linesBetween(from, to));
    for (const [line, shown] of this.lines) {
      if (visible.has(line)) continue;
      shown.remove();
      this.lines.delete(line);
    }
    for (const line of visible) {
      let shown = this.lines.get(line);
      if (!shown) this.lines.set(line, shown = line.kind === "heading" ? heading(line, this.byDay) : element("li", { class: "divider" }, element("span", {}, line.text)));
      shown.style.top = `${line.y}px`;
      if (!shown.isConnected) this.container.append(shown);
    }
  }

  // Make a photo the current one, for the keyboard.
  moveTo(n, focus = true) {
    const previous = this.current;
    this.current = Math.min(Math.max(0, n), Math.max(0, this.length - 1));
    this.results?.note(this.current);
    if (previous === this.current && !focus) return;
    if (focus) this.scrollIntoView(this.current);
    this.awaitsFocus = focus;
    this.render();
  }

  focusCurrent() {
    this.awaitsFocus = false;
    this.tiles.get(this.item(this.current).tileKey)?.querySelector(".open").focus({ preventScroll: true });
  }

  scrollIntoView(n) {
    const box = this.rows.box(n);
    if (!box) return;
    const top = this.container.getBoundingClientRect().top + box.y;
    const above = this.edge() + 12, below = innerHeight - document.querySelector("footer").offsetHeight - 12;
    if (top < above) scrollBy({ top: top - above, behavior: "instant" });
    else if (top + box.h > below) scrollBy({ top: Math.min(top - above, top + box.h - below), behavior: "instant" });
  }

  // The photo that a key moves to; undefined for other keys.
  target(key, n = this.current) {
    return {
      ArrowLeft: () => n - 1, ArrowRight: () => n + 1, ArrowUp: () => this.rows.beside(n, -1), ArrowDown: () => this.rows.beside(n, 1),
      Home: () => 0, End: () => this.length - 1,
    }[key]?.();
  }

  get isInFirstRow() {
    return this.length > 0 && this.rows.of(this.current) === 0;
  }

  get hasFocus() {
    return this.container.contains(document.activeElement);
  }
}

function heading({ day, count: size, isCounted }, byDay) {
  return element("li", { class: "heading" }, element("h2", {}, dateName(day, byDay)), isCounted ? element("span", {}, count(size, "photo")) : null);
}
