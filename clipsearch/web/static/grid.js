// The photos in rows that fill the width, each at its own proportions. Only those near the window are in the document.

import { count, element, icon, moment, percent } from "./dom.js";
import { small } from "./server.js";

const AT_ONCE = 4; // pictures that are asked for at a time
const LINE = 64; // pixels of the line between what is about the question and what is not

const shape = (photo) => Math.min(3.2, Math.max(0.42, photo.width / photo.height || 1));

export class Grid {
  // `on`: near(): more is wanted; open(index), pick(index, toThere), unfold(index); address(photo); busy(): nothing else is to be asked now
  constructor(list, on) {
    Object.assign(this, { list, on, items: [], boxes: [], rows: [], lines: [], tiles: new Map(), current: 0, picked: new Set() });
    Object.assign(this, { loading: new Set(), queue: [] });
    new ResizeObserver(() => this.width !== this.list.clientWidth && this.arrange()).observe(list);
    addEventListener("scroll", () => this.later(), { passive: true });
    addEventListener("resize", () => this.later());
    list.addEventListener("focusin", (event) => {
      const tile = event.target.closest?.(".tile");
      if (tile) this.move(Number(tile.dataset.index), false);
    });
  }

  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.show(); });
  }

  // `items`: each a photo and its hit, with a `key` that it is selected by and a `look` that says all that its tile shows.
  // `lines`: before which photo a line is drawn, and what it says.
  set(items, lines, total) {
    Object.assign(this, { items, lines, total });
    this.current = Math.min(this.current, Math.max(0, items.length - 1));
    this.arrange();
  }

  start(items, lines, total) {
    this.current = 0;
    this.set(items, lines, total);
  }

  arrange() {
    const width = this.width = this.list.clientWidth;
    const gap = width < 600 ? 4 : 8;
    const wanted = Math.max(112, Math.min(250, 60 + width / 7));
    const breaks = new Map(this.lines);
    this.boxes = []; this.rows = []; this.bars = [];
    let y = 0, from = 0, shapes = 0;
    const close = (to, full) => {
      if (to === from) return;
      const gaps = gap * (to - from - 1);
      const height = full ? (width - gaps) / shapes : Math.min(wanted, (width - gaps) / shapes);
      let x = 0;
      for (let n = from; n < to; n += 1) {
        const w = shape(this.items[n].photo) * height;
        this.boxes.push({ x, y, w, h: height });
        x += w + gap;
      }
      this.rows.push({ y, h: height, from, to });
      y += height + gap;
      from = to; shapes = 0;
    };
    for (let n = 0; n < this.items.length; n += 1) {
      if (breaks.has(n)) {
        close(n, false);
        this.bars.push({ y, text: breaks.get(n) });
        y += LINE;
      }
      shapes += shape(this.items[n].photo);
      if (shapes * wanted + gap * (n - from) >= width) close(n + 1, true);
    }
    close(this.items.length, false);
    this.height = y;
    this.list.style.height = `${Math.ceil(y)}px`;
    this.show();
  }

  show() {
    const top = -this.list.getBoundingClientRect().top, margin = innerHeight;
    const wanted = new Map();
    for (const row of this.rowsBetween(top - margin, top + innerHeight + margin))
      for (let n = row.from; n < row.to; n += 1) wanted.set(this.items[n].look, n);
    const held = this.items[this.current];
    if (held) wanted.set(held.look, this.current);
    for (const [look, tile] of this.tiles) {
      if (wanted.has(look)) continue;
      const image = tile.querySelector("img");
      image.removeAttribute("src"); // the server need not make it any more
      this.loading.delete(image);
      tile.remove();
      this.tiles.delete(look);
    }
    let before = null;
    for (const [look, n] of [...wanted].sort((a, b) => a[1] - b[1])) {
      let tile = this.tiles.get(look);
      if (!tile) this.tiles.set(look, tile = this.tile(this.items[n]));
      this.place(tile, n);
      const next = before ? before.nextSibling : this.list.firstChild;
      if (tile !== next) this.list.insertBefore(tile, next);
      before = tile;
    }
    this.load(top, top + innerHeight);
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.load(-Infinity, Infinity), 250); // what is typed next comes before these
    this.showLines();
    if (this.items.length && top + innerHeight + 2 * margin > this.height) this.on.near();
  }

  // Ask for the pictures of the tiles between two heights.
  load(from, to) {
    const near = [...this.tiles.values()].sort((a, b) => a.dataset.index - b.dataset.index).filter((tile) => {
      const box = this.boxes[tile.dataset.index];
      return box.y < to && box.y + box.h > from;
    });
    this.queue = near.map((tile) => tile.querySelector("img")).filter((image) => image.dataset.src);
    this.pump();
  }

  // A browser opens six connections to a server: a question must not wait behind pictures for one of them.
  pump() {
    while (this.loading.size < AT_ONCE && this.queue.length && !this.on.busy()) {
      const image = this.queue.shift();
      if (!image.isConnected || !image.dataset.src) continue;
      this.loading.add(image);
      image.src = image.dataset.src;
      delete image.dataset.src;
    }
  }

  loaded(image) {
    this.loading.delete(image);
    this.pump();
  }

  rowsBetween(from, to) {
    let low = 0, high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].y + this.rows[middle].h < from) low = middle + 1; else high = middle;
    }
    const found = [];
    for (; low < this.rows.length && this.rows[low].y < to; low += 1) found.push(this.rows[low]);
    return found;
  }

  showLines() {
    this.list.querySelectorAll(".line").forEach((line) => line.remove());
    for (const { y, text } of this.bars) {
      const line = element("li", { class: "line" }, element("span", {}, text));
      line.style.top = `${y}px`;
      this.list.append(line);
    }
  }

  tile(item) {
    const { photo } = item;
    const image = element("img", { "data-src": small(photo.id), alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => { image.classList.add("there"); this.loaded(image); });
    image.addEventListener("error", () => { if (image.hasAttribute("src")) tile.classList.add("gone"); this.loaded(image); });
    const tile = element("li", { class: "tile" });
    const at = () => Number(tile.dataset.index);
    const open = element("a", { class: "open", href: this.on.address(photo), tabindex: "-1", draggable: "false" }, image,
      element("span", { class: "caption", "aria-hidden": "true" }, element("bdi", {}, photo.name),
        item.hit.confidence === null || item.hit.confidence === undefined ? null : element("b", {}, percent(item.hit.confidence))));
    open.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.button) return;
      event.preventDefault();
      if (event.shiftKey || this.picked.size) this.on.pick(at(), event.shiftKey); else this.on.open(at());
    });
    const pick = element("button", { type: "button", class: "pick", tabindex: "-1", "aria-pressed": "false", onclick: (event) => this.on.pick(at(), event.shiftKey) }, icon("check"));
    pick.setAttribute("aria-label", `Select ${photo.name}`);
    tile.append(open, pick);
    if (item.folded) {
      const label = `${item.unfolded ? "Fold" : "Unfold"} ${count(item.folded, "copy").replace("copys", "copies")}`;
      tile.append(element("button", { type: "button", class: "fold", tabindex: "-1", "aria-expanded": String(Boolean(item.unfolded)), "aria-label": label, title: label, onclick: () => this.on.unfold(at()) }, item.unfolded ? "–" : `+${item.folded}`));
    }
    if (item.copy) tile.classList.add("copy");
    return tile;
  }

  place(tile, n) {
    const box = this.boxes[n], item = this.items[n], style = tile.style;
    style.transform = `translate(${box.x}px, ${box.y}px)`;
    style.width = `${box.w}px`;
    style.height = `${box.h}px`;
    tile.dataset.index = n;
    tile.setAttribute("aria-posinset", n + 1);
    tile.setAttribute("aria-setsize", this.total ?? -1);
    const [open, pick] = tile.children;
    open.tabIndex = n === this.current ? 0 : -1;
    open.setAttribute("aria-label", this.name(item, n));
    const is = this.picked.has(item.key);
    tile.classList.toggle("picked", is);
    pick.setAttribute("aria-pressed", String(is));
  }

  name({ photo, hit, copy }, n) {
    const parts = [photo.name, copy ? `copy of number ${hit.rank}` : `number ${hit.rank ?? n + 1}`];
    if (hit.confidence !== null && hit.confidence !== undefined && !copy) parts.push(`${percent(hit.confidence)} sure`);
    return [...parts, moment(photo.date).slice(0, 10)].join(", ");
  }

  // Make a photo the one that the keyboard is at.
  move(n, focus = true) {
    const last = this.current;
    this.current = Math.min(Math.max(0, n), this.items.length - 1);
    if (last === this.current && !focus) return;
    if (focus) this.reveal(this.current);
    this.show();
    if (focus) this.tiles.get(this.items[this.current]?.look)?.querySelector(".open").focus({ preventScroll: true });
  }

  reveal(n) {
    const box = this.boxes[n];
    if (!box) return;
    const top = this.list.getBoundingClientRect().top + box.y;
    const above = document.querySelector("header").offsetHeight + 12, below = innerHeight - document.querySelector("footer").offsetHeight - 12;
    if (top < above) scrollBy(0, top - above);
    else if (top + box.h > below) scrollBy(0, Math.min(top - above, top + box.h - below));
  }

  // The photo in the next or the previous row that lies nearest to this one.
  beside(n, step) {
    const row = this.rows.findIndex(({ from, to }) => n >= from && n < to), to = this.rows[row + step];
    if (!to) return n;
    const middle = this.boxes[n].x + this.boxes[n].w / 2;
    let best = to.from;
    for (let m = to.from; m < to.to; m += 1)
      if (Math.abs(this.boxes[m].x + this.boxes[m].w / 2 - middle) < Math.abs(this.boxes[best].x + this.boxes[best].w / 2 - middle)) best = m;
    return best;
  }

  to(key, n = this.current) {
    return {
      ArrowLeft: n - 1, ArrowRight: n + 1, ArrowUp: this.beside(n, -1), ArrowDown: this.beside(n, 1),
      Home: 0, End: this.items.length - 1,
    }[key];
  }

  get hasFocus() {
    return this.list.contains(document.activeElement);
  }
}
