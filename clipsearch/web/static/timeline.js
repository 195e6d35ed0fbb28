// The months of the photos, and of the results among them, as bars to drag over.

import { drawn, element } from "./dom.js";

const index = (month) => 12 * Number(month.slice(0, 4)) + Number(month.slice(5, 7)) - 1;
const month = (n) => `${String(Math.floor(n / 12)).padStart(4, "0")}-${String((n % 12) + 1).padStart(2, "0")}`;
const TALL = 40;

export class Timeline {
  // `choose(after, before, done)`: months, or two empty texts for all time; `done` is false while one is dragging.
  constructor(place, choose) {
    Object.assign(this, { place, choose, all: [], found: {}, range: null });
    this.chart = element("div", { class: "chart" });
    this.years = element("div", { class: "years", "aria-hidden": "true" });
    this.all_time = element("button", { type: "button", class: "quiet", onclick: () => choose("", "", true) }, "All time");
    this.label = element("output", { class: "range" });
    this.ends = ["First", "Last"].map((name, end) => element("input", {
      type: "range", step: 1, "aria-label": `${name} month`, class: "end",
      oninput: (event) => this.slide(end, Number(event.target.value)), onchange: () => this.commit(),
    }));
    place.append(element("div", { class: "plot" }, this.chart, this.years, ...this.ends), element("p", { class: "about" }, this.label, this.all_time));
    this.chart.addEventListener("pointerdown", (event) => this.drag(event));
  }

  setAll(months) {
    this.all = Object.entries(months).filter(([name]) => /^[12]\d{3}-\d\d$/.test(name));
    this.place.hidden = this.all.length < 2;
    if (this.place.hidden) return;
    this.first = index(this.all[0][0]);
    this.last = index(this.all.at(-1)[0]);
    this.draw();
  }

  setFound(months) {
    this.found = months;
    if (!this.place.hidden) this.draw();
  }

  // `after` and `before` as the filters have them; what is no month is shown as no range.
  setRange(after, before) {
    const is = (text) => /^\d{4}-\d\d$/.test(text);
    this.range = is(after) || is(before) ? [is(after) ? index(after) : -Infinity, is(before) ? index(before) - 1 : Infinity] : null;
    if (!this.place.hidden) this.draw();
  }

  draw() {
    const months = this.last - this.first + 1;
    const most = Math.max(...this.all.map(([, count]) => count));
    const svg = drawn("svg", { viewBox: `0 0 ${months} ${TALL}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const bar = (kind, name, share) => {
      const height = Math.max(kind === "found" ? 4 : 1.5, TALL * Math.sqrt(share)), x = index(name) - this.first + 0.08;
      svg.append(drawn("rect", { class: kind, x, y: TALL - height, width: 0.84, height }));
    };
    for (const [name, count] of this.all) bar("every", name, count / most);
    for (const [name, count] of Object.entries(this.found)) if (/^[12]/.test(name)) bar("found", name, count / most);
    if (this.range) {
      const [from, to] = this.inside();
      svg.append(drawn("rect", { class: "outside", x: 0, y: 0, width: from - this.first, height: TALL }),
        drawn("rect", { class: "outside", x: to - this.first + 1, y: 0, width: Math.max(0, this.last - to), height: TALL }));
    }
    this.chart.replaceChildren(svg);
    this.drawYears(months);
    const [from, to] = this.inside();
    this.ends.forEach((end, n) => {
      end.min = this.first; end.max = this.last; end.value = [from, to][n];
      end.setAttribute("aria-valuetext", month([from, to][n]));
    });
    this.label.textContent = from === to ? month(from) : `${month(from)} to ${month(to)}`;
    this.all_time.hidden = !this.range;
  }

  drawYears(months) {
    const years = Math.floor(this.last / 12) - Math.floor(this.first / 12) + 1;
    const step = Math.max(1, Math.ceil(years / Math.max(2, Math.floor(this.chart.clientWidth / 56))));
    const labels = [];
    for (let year = Math.ceil(this.first / 12); year * 12 <= this.last; year += step) {
      const label = element("span", {}, String(year));
      label.style.left = `${(100 * (year * 12 - this.first)) / months}%`;
      if ((year * 12 - this.first) / months < 0.97) labels.push(label);
    }
    this.years.replaceChildren(...labels);
  }

  inside() {
    const within = (n) => Math.min(this.last, Math.max(this.first, n));
    return this.range ? this.range.map(within) : [this.first, this.last];
  }

  at(event) {
    const { left, width } = this.chart.getBoundingClientRect();
    const share = Math.min(0.9999, Math.max(0, (event.clientX - left) / width));
    return this.first + Math.floor(share * (this.last - this.first + 1));
  }

  drag(event) {
    if (event.button) return;
    const from = this.at(event);
    this.chart.setPointerCapture(event.pointerId);
    const move = (moved) => { const to = this.at(moved); this.pick(Math.min(from, to), Math.max(from, to), false); };
    const stop = () => {
      this.chart.removeEventListener("pointermove", move);
      this.commit();
    };
    this.chart.addEventListener("pointermove", move);
    this.chart.addEventListener("pointerup", stop, { once: true });
    this.pick(from, from, false);
  }

  slide(end, value) {
    const [from, to] = this.inside();
    this.pick(end ? Math.min(from, value) : value, end ? value : Math.max(to, value), false);
  }

  pick(from, to, done) {
    this.range = [from, to];
    this.draw();
    this.choose(month(from), month(to + 1), done);
  }

  commit() {
    const [from, to] = this.inside();
    if (from === this.first && to === this.last) this.choose("", "", true);
    else this.choose(month(from), month(to + 1), true);
  }
}
