// The results: justified rows in which each photo keeps its proportions. Only tiles near the viewport are in the DOM.

import { clock, count, dateTime, element, icon, percent, videoLength } from "./dom.js";
import { thumbnailUrl } from "./server.js";

const MAX_LOADING = 4; // thumbnails requested at the same time
const DIVIDER = 64; // pixels
const STILL_MS = 150; // without scrolling, until the place is reported

const aspect = (photo) => Math.min(3.2, Math.max(0.42, photo.width / photo.height || 1));
const isKnown = (value) => value !== null && value !== undefined;
// What marks a video: its length and, if a query found it, where.
const videoLabel = (photo, hit) => {
  const length = videoLength(photo);
  return length && (isKnown(hit?.score) && isKnown(photo.time) ? `${length} · at ${clock(photo.time)}` : length);
};
// How sure the match is, to show and to say: its confidence, or what has the words of the query.
const certainty = (hit) => {
  const literal = hit.why.find(({ kind }) => !["look", "name", "generated_caption"].includes(kind));
  if (literal) return { shown: literal.kind, said: `matches by ${literal.kind}` };
  return isKnown(hit.confidence) ? { shown: percent(hit.confidence), said: `confidence ${percent(hit.confidence)}` } : null;
};

export class Grid {
  // `on` has the callbacks: loadMore(), open(index), select(index, extend), hasSelection(), isSelected(photo),
  // toggleGroup(index), url(photo), moved(): one has scrolled, and isBusy(): a search is running, so thumbnails must wait.
  constructor(list, on) {
    Object.assign(this, { list, on, items: [], boxes: [], rows: [], dividers: [], tiles: new Map(), current: 0 });
    Object.assign(this, { loading: new Set(), queue: [], anchor: null });
    const observer = new ResizeObserver(() => { if (this.width !== this.list.clientWidth) this.layout(); else this.keepPlace(); });
    for (const part of list.parentElement.children) observer.observe(part); // what is above it may push it down
    addEventListener("scroll", () => this.scheduleRender(), { passive: true });
    addEventListener("resize", () => this.scheduleRender());
    list.addEventListener("focusin", (event) => {
      const tile = event.target.closest?.(".tile");
      if (tile) this.moveTo(Number(tile.dataset.index), false);
    });
  }

  scheduleRender() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.width !== this.list.clientWidth) return; // turned: the rows, and so the place, are about to change
      this.render();
      this.anchor = this.place();
      clearTimeout(this.stillTimer);
      this.stillTimer = setTimeout(() => this.on.moved(), STILL_MS);
    });
  }

  // Each of `items` has a photo, its hit, and `tileKey`, which changes whenever its tile must be rebuilt. `dividers` are
  // [index, text]: a line above that item.
  set(items, dividers, total) {
    Object.assign(this, { items, dividers, total });
    this.current = Math.min(this.current, Math.max(0, items.length - 1));
    this.layout();
  }

  reset(items, dividers, total) {
    this.current = 0;
    this.set(items, dividers, total);
  }

  layout() {
    const width = this.width = this.list.clientWidth;
    const gap = width < 600 ? 4 : 8;
    const targetHeight = Math.max(112, Math.min(250, 60 + width / 7));
    const dividers = new Map(this.dividers);
    this.boxes = []; this.rows = []; this.lines = [];
    let y = 0, from = 0, aspects = 0;
    const endRow = (to, isFull) => {
      if (to === from) return;
      const gaps = gap * (to - from - 1);
      const height = isFull ? (width - gaps) / aspects : Math.min(targetHeight, (width - gaps) / aspects);
      let x = 0;
      for (let n = from; n < to; n += 1) {
        const w = aspect(this.items[n].photo) * height;
        this.boxes.push({ x, y, w, h: height });
        x += w + gap;
      }
      this.rows.push({ y, h: height, from, to });
      y += height + gap;
      from = to; aspects = 0;
    };
    for (let n = 0; n < this.items.length; n += 1) {
      if (dividers.has(n)) {
        endRow(n, false);
        this.lines.push({ y, text: dividers.get(n) });
        y += DIVIDER;
      }
      aspects += aspect(this.items[n].photo);
      if (aspects * targetHeight + gap * (n - from) >= width) endRow(n + 1, true);
    }
    endRow(this.items.length, false);
    this.height = y;
    this.list.style.height = `${Math.ceil(y)}px`;
    this.keepPlace();
    this.render();
  }

  // ------------------------------------------------------------------------------- the place

  // Where the reader is: the first photo below the header, by its file, and which share of it is hidden. Null while the
  // first photos are in the window.
  place() {
    const y = this.edge() - this.list.getBoundingClientRect().top, row = y > 0 ? this.rows[this.rowFrom(y)] : null;
    return row ? { file: this.items[row.from].photo.file, share: (y - row.y) / row.h } : null;
  }

  // Scroll to a place. Returns whether its photo is among the results.
  goTo(place) {
    const box = this.boxes[this.indexOf(place.file)];
    if (!box) return false;
    const distance = this.list.getBoundingClientRect().top + box.y + place.share * box.h - this.edge();
    if (Math.abs(distance) > 0.5) scrollBy({ top: distance, behavior: "instant" });
    this.anchor = place;
    return true;
  }

  goToTop() {
    this.anchor = null;
    if (this.list.parentElement.getBoundingClientRect().top < 0) scrollTo({ top: 0, behavior: "instant" });
  }

  // After a change of the layout, keep what one was looking at where it was.
  keepPlace() {
    if (this.anchor) this.goTo(this.anchor);
  }

  // The height from which on photos are visible: below the header, and below panels that stick to it.
  edge() {
    const header = document.querySelector("header").getBoundingClientRect().bottom, panels = document.querySelector(".panels").getBoundingClientRect();
    return panels.height && panels.top <= header + 1 ? panels.bottom : header;
  }

  // The index of a file, or of the one that it is grouped with; -1 if it is not among the results.
  indexOf(file) {
    const n = this.items.findIndex(({ photo }) => photo.file === file);
    return n >= 0 ? n : this.items.findIndex(({ hit }) => hit.similar.some((photo) => photo.file === file));
  }

  // ------------------------------------------------------------------------------- tiles

  render() {
    const top = -this.list.getBoundingClientRect().top, margin = innerHeight;
    const visible = new Map();
    for (const row of this.rowsBetween(top - margin, top + innerHeight + margin))
      for (let n = row.from; n < row.to; n += 1) visible.set(this.items[n].tileKey, n);
    const currentItem = this.items[this.current];
    if (currentItem) visible.set(currentItem.tileKey, this.current);
    for (const [key, tile] of this.tiles) {
      if (visible.has(key)) continue;
      const image = tile.querySelector("img");
      image.removeAttribute("src"); // cancels the request
      this.loading.delete(image);
      tile.remove();
      this.tiles.delete(key);
    }
    let previous = null;
    for (const [key, n] of [...visible].sort((a, b) => a[1] - b[1])) {
      let tile = this.tiles.get(key);
      if (!tile) this.tiles.set(key, tile = this.createTile(this.items[n]));
      this.updateTile(tile, n);
      const next = previous ? previous.nextSibling : this.list.firstChild;
      if (tile !== next) this.list.insertBefore(tile, next);
      previous = tile;
    }
    this.load(top, top + innerHeight);
    clearTimeout(this.prefetchTimer);
    this.prefetchTimer = setTimeout(() => this.load(-Infinity, Infinity), 250); // later, so that typing can go on first
    this.renderLines();
    if (this.items.length && top + innerHeight + 2 * margin > this.height) this.on.loadMore();
  }

  // Queue the thumbnails of the tiles between two heights.
  load(from, to) {
    const tiles = [...this.tiles.values()].sort((a, b) => a.dataset.index - b.dataset.index).filter((tile) => {
      const box = this.boxes[tile.dataset.index];
      return box.y < to && box.y + box.h > from;
    });
    this.queue = tiles.map((tile) => tile.querySelector("img")).filter((image) => image.dataset.src);
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

  onLoaded(image) {
    this.loading.delete(image);
    this.loadQueued();
  }

  // The number of the first row that ends below a height.
  rowFrom(y) {
    let low = 0, high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].y + this.rows[middle].h < y) low = middle + 1; else high = middle;
    }
    return low;
  }

  rowsBetween(from, to) {
    const found = [];
    for (let n = this.rowFrom(from); n < this.rows.length && this.rows[n].y < to; n += 1) found.push(this.rows[n]);
    return found;
  }

  renderLines() {
    this.list.querySelectorAll(".divider").forEach((line) => line.remove());
    for (const { y, text } of this.lines) {
      const line = element("li", { class: "divider" }, element("span", {}, text));
      line.style.top = `${y}px`;
      this.list.append(line);
    }
  }

  createTile(item) {
    const { photo, hit } = item;
    const image = element("img", { "data-src": thumbnailUrl(photo.id), alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => { image.classList.add("loaded"); this.onLoaded(image); });
    image.addEventListener("error", () => { if (image.hasAttribute("src")) tile.classList.add("missing"); this.onLoaded(image); });
    const tile = element("li", { class: "tile" });
    const index = () => Number(tile.dataset.index);
    const open = element("a", { class: "open", href: this.on.url(photo), tabindex: "-1", draggable: "false" }, image,
      element("span", { class: "caption", "aria-hidden": "true" }, element("bdi", {}, photo.name),
        certainty(hit) ? element("b", {}, certainty(hit).shown) : null));
    open.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.button) return;
      event.preventDefault();
      const isEnter = event.detail === 0; // always opens; a click selects while others are selected
      if (!isEnter && (event.shiftKey || this.on.hasSelection())) this.on.select(index(), event.shiftKey); else this.on.open(index());
    });
    const select = element("button", { type: "button", class: "select", tabindex: "-1", "aria-pressed": "false", onclick: (event) => this.on.select(index(), event.shiftKey) }, icon("check"));
    select.setAttribute("aria-label", `Select ${photo.name}`);
    const video = videoLabel(photo, item.isCopy ? null : hit);
    if (video) open.append(element("span", { class: "video", "aria-hidden": "true" }, video));
    tile.append(open, select);
    if (item.copies) {
      const label = `${item.isExpanded ? "Hide" : "Show"} ${count(item.copies, "copy", "copies")}`;
      tile.append(element("button", { type: "button", class: "group", tabindex: "-1", "aria-expanded": String(Boolean(item.isExpanded)), "aria-label": label, title: label, onclick: () => this.on.toggleGroup(index()) }, item.isExpanded ? "–" : `+${item.copies}`));
    }
    if (item.isCopy) tile.classList.add("copy");
    return tile;
  }

  updateTile(tile, n) {
    const box = this.boxes[n], item = this.items[n], style = tile.style;
    style.transform = `translate(${box.x}px, ${box.y}px)`;
    style.width = `${box.w}px`;
    style.height = `${box.h}px`;
    tile.dataset.index = n;
    tile.setAttribute("aria-posinset", n + 1);
    tile.setAttribute("aria-setsize", this.total ?? -1);
    const [open, select] = tile.children;
    open.tabIndex = n === this.current ? 0 : -1;
    open.setAttribute("aria-label", this.label(item, n));
    const isSelected = this.on.isSelected(item.photo);
    tile.classList.toggle("selected", isSelected);
    select.setAttribute("aria-pressed", String(isSelected));
  }

  label({ photo, hit, isCopy }, n) {
    const parts = [photo.name, isCopy ? `copy of number ${hit.rank}` : `number ${hit.rank ?? n + 1}`];
    if (certainty(hit) && !isCopy) parts.push(certainty(hit).said);
    const video = videoLabel(photo, isCopy ? null : hit);
    if (video) parts.push(`video ${video}`);
    parts.push(dateTime(photo.date).slice(0, 10));
    if (photo.place) parts.push(photo.place.title);
    return parts.join(", ");
  }

  // Make a photo the current one, for the keyboard.
  moveTo(n, focus = true) {
    const previous = this.current;
    this.current = Math.min(Math.max(0, n), this.items.length - 1);
    if (previous === this.current && !focus) return;
    if (focus) this.scrollIntoView(this.current);
    this.render();
    if (focus) this.tiles.get(this.items[this.current]?.tileKey)?.querySelector(".open").focus({ preventScroll: true });
  }

  scrollIntoView(n) {
    const box = this.boxes[n];
    if (!box) return;
    const top = this.list.getBoundingClientRect().top + box.y;
    const above = this.edge() + 12, below = innerHeight - document.querySelector("footer").offsetHeight - 12;
    if (top < above) scrollBy(0, top - above);
    else if (top + box.h > below) scrollBy(0, Math.min(top - above, top + box.h - below));
  }

  // The closest photo in the next (step 1) or previous (step -1) row.
  inRow(n, step) {
    const row = this.rows.findIndex(({ from, to }) => n >= from && n < to), target = this.rows[row + step];
    if (!target) return n;
    const middle = this.boxes[n].x + this.boxes[n].w / 2;
    let best = target.from;
    for (let m = target.from; m < target.to; m += 1)
      if (Math.abs(this.boxes[m].x + this.boxes[m].w / 2 - middle) < Math.abs(this.boxes[best].x + this.boxes[best].w / 2 - middle)) best = m;
    return best;
  }

  // The photo that a key moves to; undefined for other keys.
  target(key, n = this.current) {
    return {
      ArrowLeft: n - 1, ArrowRight: n + 1, ArrowUp: this.inRow(n, -1), ArrowDown: this.inRow(n, 1),
      Home: 0, End: this.items.length - 1,
    }[key];
  }

  get hasFocus() {
    return this.list.contains(document.activeElement);
  }
}
