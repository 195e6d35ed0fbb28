// A bar chart of photos per month, with the results highlighted. Dragging across it filters by date.

import { element, number, svg } from "./dom.js";

const monthIndex = (month) => 12 * Number(month.slice(0, 4)) + Number(month.slice(5, 7)) - 1;
const monthName = (n) => `${String(Math.floor(n / 12)).padStart(4, "0")}-${String((n % 12) + 1).padStart(2, "0")}`;
const HEIGHT = 40;
const bars = (months) => Object.entries(months).filter(([name]) => /^[12]\d{3}-\d\d$/.test(name));

export class Timeline {
  // `onChange(after, before, done)` gets months, or two empty strings for all time; `done` is false during a drag.
  constructor(container, onChange) {
    Object.assign(this, { container, onChange, all: [], kind: "taken", undated: 0, found: null, range: null });
    this.chart = element("div", { class: "chart" });
    this.years = element("div", { class: "years", "aria-hidden": "true" });
    this.allTime = element("button", { type: "button", class: "quiet", onclick: () => onChange("", "", true) }, "All time");
    this.label = element("output", { class: "range-text" });
    this.note = element("span", { class: "undated" });
    this.handles = ["First", "Last"].map((name, end) => element("input", {
      type: "range", step: 1, "aria-label": `${name} month`, class: "handle",
      oninput: (event) => this.slide(end, Number(event.target.value)), onchange: () => this.commit(),
    }));
    container.append(element("div", { class: "plot" }, this.chart, this.years, ...this.handles), element("p", { class: "range-label" }, this.label, this.note, this.allTime));
    this.chart.addEventListener("pointerdown", (event) => this.drag(event));
  }

  // `taken` are the numbers of photos by month, and `changed` those of photos without a date, by that of their file. Those
  // say little, and may be decades away: they are drawn only if there is nothing else.
  setAll({ taken, changed }) {
    this.kind = Object.keys(taken).length ? "taken" : "changed";
    this.all = bars({ taken, changed }[this.kind]);
    this.undated = this.kind === "taken" ? Object.values(changed).reduce((sum, n) => sum + n, 0) : 0;
    this.container.hidden = this.all.length < 2;
    if (this.container.hidden) return;
    this.first = monthIndex(this.all[0][0]);
    this.last = monthIndex(this.all.at(-1)[0]);
    this.draw();
  }

  // `months` of the matches, as in `setAll`, or null if there is nothing to look for. `range` has the first and the last
  // month that pass the date filters, null for no limit.
  setFound(months, [from, to]) {
    this.found = months;
    this.range = from || to ? [from ? monthIndex(from) : -Infinity, to ? monthIndex(to) : Infinity] : null;
    if (!this.container.hidden) this.draw();
  }

  draw() {
    const months = this.last - this.first + 1;
    const largest = Math.max(...this.all.map(([, count]) => count));
    const chart = svg("svg", { viewBox: `0 0 ${months} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const addBar = (kind, name, share) => {
      const height = Math.max(kind === "found" ? 4 : 1.5, HEIGHT * Math.sqrt(share)), x = monthIndex(name) - this.first + 0.08;
      chart.append(svg("rect", { class: kind, x, y: HEIGHT - height, width: 0.84, height }));
    };
    for (const [name, count] of this.all) addBar("all", name, count / largest);
    for (const [name, count] of bars(this.found?.[this.kind] ?? {})) addBar("found", name, count / largest);
    if (this.range) {
      const [from, to] = this.visibleRange();
      chart.append(svg("rect", { class: "outside", x: 0, y: 0, width: from - this.first, height: HEIGHT }),
        svg("rect", { class: "outside", x: to - this.first + 1, y: 0, width: Math.max(0, this.last - to), height: HEIGHT }));
    }
    this.chart.replaceChildren(chart);
    this.drawYears(months);
    const [from, to] = this.visibleRange();
    this.handles.forEach((handle, n) => {
      handle.min = this.first; handle.max = this.last; handle.value = [from, to][n];
      handle.setAttribute("aria-valuetext", monthName([from, to][n]));
    });
    this.label.textContent = from === to ? monthName(from) : `${monthName(from)} to ${monthName(to)}`;
    this.note.textContent = this.undated ? `${number(this.undated)} without a date` : "";
    this.allTime.hidden = !this.range;
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

  visibleRange() {
    const clamp = (n) => Math.min(this.last, Math.max(this.first, n));
    return this.range ? this.range.map(clamp) : [this.first, this.last];
  }

  monthAt(event) {
    const { left, width } = this.chart.getBoundingClientRect();
    const share = Math.min(0.9999, Math.max(0, (event.clientX - left) / width));
    return this.first + Math.floor(share * (this.last - this.first + 1));
  }

  drag(event) {
    if (event.button) return;
    const from = this.monthAt(event);
    this.chart.setPointerCapture(event.pointerId);
    const move = (moved) => { const to = this.monthAt(moved); this.setMonths(Math.min(from, to), Math.max(from, to), false); };
    const stop = () => {
      this.chart.removeEventListener("pointermove", move);
      this.commit();
    };
    this.chart.addEventListener("pointermove", move);
    this.chart.addEventListener("pointerup", stop, { once: true });
    this.setMonths(from, from, false);
  }

  slide(end, value) {
    const [from, to] = this.visibleRange();
    this.setMonths(end ? Math.min(from, value) : value, end ? value : Math.max(to, value), false);
  }

  setMonths(from, to, done) {
    this.range = [from, to];
    this.draw();
    this.onChange(monthName(from), monthName(to + 1), done);
  }

  commit() {
    const [from, to] = this.visibleRange();
    if (from === this.first && to === this.last) this.onChange("", "", true);
    else this.onChange(monthName(from), monthName(to + 1), true);
  }
}
