// All photos that pass the filters, in an order. The server tells the shape and the date of each at once, and the photos
// themselves in pages: only pages near the window are kept.

import { copyOf, headings, itemOf, shapeOf } from "./items.js";

const PAGE = 60, MOST_PAGES = 40, MOST_AT_ONCE = 4; // pages in one request
const CHUNK = 400; // photos in one request for a range

export class PhotoList {
  // `answer` is the first one, with a layout. `on` has fetch(first, count, name), which promises photos from a number on,
  // or null if they are no longer wanted; `name` is a photo whose position is wanted. And changed(isMoved): there are
  // new photos or, if moved, photos in other places.
  constructor(answer, { isDated }, on) {
    Object.assign(this, { on, isDated, size: answer.ranked, number: answer.list, pages: new Map(), noted: new Map(), wanted: [0, 0], fetching: null });
    this.shapes = answer.layout.shapes.map((shape) => shapeOf(shape / 100));
    this.days = answer.layout.days;
    this.expanded = []; // { at, copies }: numbers of photos with copies beside them
    this.arrange();
    this.keep(answer.first, answer.hits);
  }

  arrange() {
    this.aspects = this.shapes;
    if (this.expanded.length) {
      this.aspects = [...this.shapes];
      for (const { at, copies } of [...this.expanded].reverse()) this.aspects.splice(at, 0, ...Array(copies).fill(this.shapes[at]));
    }
    this.length = this.total = this.aspects.length;
  }

  aspect(n) {
    return this.aspects[n];
  }

  lines(byDay) {
    if (!this.isDated) return [];
    return headings(this.days, byDay).map((line) => ({ ...line, n: this.place(line.n), isCounted: true }));
  }

  // ------------------------------------------------------------------------------- places and numbers

  // The number of a photo in the list, and of its copy: -1 for the photo itself.
  at(n) {
    let before = 0;
    for (const { at, copies } of this.expanded) {
      if (n <= at + before) break;
      if (n <= at + before + copies) return [at, n - at - before - 1];
      before += copies;
    }
    return [n - before, -1];
  }

  // The place of a photo by its number in the list: copies are shown before it.
  place(at) {
    return this.expanded.reduce((n, other) => n + (other.at < at ? other.copies : 0), at);
  }

  hit(at) {
    return this.pages.get(Math.floor(at / PAGE))?.[at % PAGE];
  }

  item(n) {
    const [at, copy] = this.at(n), hit = this.hit(at);
    if (!hit) return undefined;
    return copy < 0 ? itemOf(hit, this.expanded.some((one) => one.at === at)) : copyOf(hit, copy);
  }

  toggle(n) {
    const [at] = this.at(n), kept = this.expanded.filter((one) => one.at !== at);
    if (kept.length === this.expanded.length) kept.push({ at, copies: this.hit(at).similar.length });
    this.expanded = kept.sort((a, b) => a.at - b.at);
    this.arrange();
    this.on.changed(true);
    return this.place(at);
  }

  // The place of a file that is loaded or was noted, or of the photo that it is folded into; -1 if there is none.
  indexOf(file) {
    for (const [page, hits] of this.pages) {
      const n = hits.findIndex((hit) => hit.file === file || hit.similar.some((copy) => copy.file === file));
      if (n < 0) continue;
      const at = page * PAGE + n, copy = this.expanded.some((one) => one.at === at) ? hits[n].similar.findIndex((one) => one.file === file) : -1;
      return this.place(at) + copy + 1;
    }
    return this.noted.has(file) ? this.place(this.noted.get(file)) : -1;
  }

  // Remember where a photo is after its page is gone.
  note(n) {
    const item = this.item(n);
    if (item) this.noted.set(item.photo.file, this.at(n)[0]);
  }

  // Promises the place of a photo by its name, -1 if it is not in the list.
  async find(name, file) {
    const n = this.indexOf(file);
    if (n >= 0) return n;
    const answer = await this.on.fetch(0, 1, name);
    const at = answer?.positions[name];
    if (at === undefined) return -1;
    await this.load(this.place(at));
    return this.indexOf(file);
  }

  // ------------------------------------------------------------------------------- loading

  keep(first, hits) {
    for (let n = 0; n < hits.length; n += PAGE) this.pages.set((first + n) / PAGE, hits.slice(n, n + PAGE));
  }

  // Drop the pages that are furthest from the window, but not the one of the current photo.
  drop() {
    const middle = (this.wanted[0] + this.wanted[1]) / 2, kept = Math.floor(this.at(this.current)[0] / PAGE);
    const far = [...this.pages.keys()].filter((page) => page !== kept).sort((a, b) => Math.abs(b - middle) - Math.abs(a - middle));
    for (const page of far.slice(0, Math.max(0, this.pages.size - MOST_PAGES))) this.pages.delete(page);
  }

  // Load the photos in these places, those in the middle first, unless others are needed meanwhile.
  need(from, to, current) {
    if (to <= from) return;
    this.wanted = [from, to - 1].map((n) => Math.floor(this.at(n)[0] / PAGE));
    this.current = current;
    this.fetching ??= this.fetchWanted().finally(() => { this.fetching = null; });
  }

  async fetchWanted() {
    for (let missing = this.missing(); missing; missing = this.missing()) {
      const [first, end] = missing, answer = await this.on.fetch(first * PAGE, (end - first) * PAGE);
      if (!answer) return;
      this.keep(answer.first, answer.hits);
      this.drop();
      this.on.changed(false);
    }
  }

  // The pages to load next, as [first, end]; null if all are loaded.
  missing() {
    const [from, to] = this.wanted, middle = (from + to) / 2;
    const pages = Array.from({ length: to - from + 1 }, (_, n) => from + n).filter((page) => !this.pages.has(page));
    if (!pages.length) return null;
    let first = pages.reduce((best, page) => Math.abs(page - middle) < Math.abs(best - middle) ? page : best);
    let end = first + 1;
    while (end - first < MOST_AT_ONCE && pages.includes(end)) end += 1;
    while (end - first < MOST_AT_ONCE && pages.includes(first - 1)) first -= 1;
    return [first, end];
  }

  // Promises the item in a place; undefined if there is none.
  async load(n) {
    if (!(n >= 0 && n < this.length)) return undefined;
    if (!this.item(n)) {
      const page = Math.floor(this.at(n)[0] / PAGE), answer = await this.on.fetch(page * PAGE, PAGE);
      if (!answer) return undefined;
      this.keep(answer.first, answer.hits);
      this.on.changed(false);
    }
    return this.item(n);
  }

  // Promises the photos from one place to another; null if they are no longer wanted.
  async photos(from, to) {
    const hits = new Map(), last = this.at(to)[0];
    for (let at = this.at(from)[0]; at <= last; at += 1) {
      if (!hits.has(at) && !this.hit(at)) {
        const answer = await this.on.fetch(at, Math.min(CHUNK, last - at + 1));
        if (!answer?.hits.length) return null;
        answer.hits.forEach((hit, n) => hits.set(at + n, hit));
      }
      hits.set(at, hits.get(at) ?? this.hit(at));
    }
    const photos = [];
    for (let n = from; n <= to; n += 1) {
      const [at, copy] = this.at(n), hit = hits.get(at);
      photos.push(copy < 0 ? hit : hit.similar[copy]);
    }
    return photos;
  }
}
