// Ranked results, best first or in another order. More are loaded during scrolling, and all that are loaded are kept.

import { copyOf, headings, itemOf, shapeOf } from "./items.js";

const AHEAD = 40; // photos before the end at which more are loaded

export class Ranking {
  // `answer` is the first one. `about` says whether results `isDated`: in order of date, whether it `hasDivider`: a line
  // where they are no longer confident matches, and which files are `expanded`: their copies are shown. `on` has
  // fetch(first), which promises the next answer, or null if it is no longer wanted, and changed(isMoved), as in
  // `PhotoList`.
  constructor(answer, about, on) {
    Object.assign(this, { on, about, hits: [], items: [], expanded: about.expanded, loading: null });
    this.take(answer);
  }

  take(answer) {
    this.answer = answer;
    this.hits = this.hits.concat(answer.hits);
    this.isComplete = (answer.complete && this.hits.length >= answer.ranked) || !answer.hits.length;
    this.arrange();
  }

  arrange() {
    this.items = this.hits.flatMap((hit) => {
      const isExpanded = this.expanded.has(hit.file);
      return isExpanded ? [itemOf(hit, true), ...hit.similar.map((_, n) => copyOf(hit, n))] : [itemOf(hit, false)];
    });
    this.length = this.items.length;
    this.total = this.isComplete ? this.length : -1;
  }

  aspect(n) {
    const { photo } = this.items[n];
    return shapeOf(photo.width / photo.height);
  }

  lines(byDay) {
    const dated = this.about.isDated ? headings(this.items.map(({ photo }) => [photo.taken?.slice(0, 10) ?? "", 1]), byDay) : [];
    const { confident } = this.answer;
    if (!this.about.hasDivider || confident === null || confident >= this.hits.length) return dated;
    const n = this.items.findIndex(({ hit }) => hit === this.hits[confident]);
    const divider = { kind: "divider", n, text: confident ? "Less certain" : "None of these is a confident match" };
    return [...dated, divider].sort((a, b) => a.n - b.n);
  }

  item(n) {
    return this.items[n];
  }

  toggle(n) {
    const { hit } = this.items[n];
    if (!this.expanded.delete(hit.file)) this.expanded.add(hit.file);
    this.arrange();
    this.on.changed(true);
    return this.items.findIndex((item) => item.hit === hit);
  }

  // The place of a file, or of the photo that it is folded into; -1 if there is none.
  indexOf(file) {
    const n = this.items.findIndex(({ photo }) => photo.file === file);
    return n >= 0 ? n : this.items.findIndex(({ hit }) => hit.similar.some((photo) => photo.file === file));
  }

  async find(_, file) {
    return this.indexOf(file);
  }

  note() {}

  need(_, to) {
    if (to > this.length - AHEAD) this.more();
  }

  // Load the next part; callers meanwhile wait for the same.
  more() {
    if (this.isComplete || !this.length) return Promise.resolve();
    this.loading ??= this.fetchMore().finally(() => { this.loading = null; });
    return this.loading;
  }

  async fetchMore() {
    const answer = await this.on.fetch(this.hits.length);
    if (!answer) return;
    this.take(answer);
    this.on.changed(true);
  }

  async load(n) {
    if (n >= this.length) await this.more();
    return this.items[n];
  }

  async photos(from, to) {
    return this.items.slice(from, to + 1).map(({ photo }) => photo);
  }
}
