// The slider at the right edge that scrolls to any month of a list in order of date. It does not filter.

import { element } from "./dom.js";
import { dateName } from "./items.js";
import { firstWhere } from "./rows.js";

const MIN_LENGTH = 3; // windows of results that make it useful
const MARK_HEIGHT = 22, THUMB = 36, SHOWN_MS = 900; // pixels; how long the month stays after scrolling
const LATER = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

export class Scrubber {
  constructor(slider, grid) {
    Object.assign(this, { slider, grid, lines: [], current: 0, held: null });
    this.years = element("div", { class: "years", "aria-hidden": "true" });
    this.thumb = element("div", { class: "thumb", "aria-hidden": "true" });
    this.bubble = element("div", { class: "bubble", "aria-hidden": "true" });
    slider.append(this.years, this.thumb, this.bubble);
    slider.addEventListener("pointerdown", (event) => this.drag(event));
    slider.addEventListener("keydown", (event) => this.press(event));
    addEventListener("resize", () => this.update());
  }

  // The results have other places.
  update() {
    const { rows } = this.grid;
    this.lines = rows.lines.filter(({ kind }) => kind === "heading");
    this.held = null;
    this.slider.hidden = this.lines.length < 2 || rows.height < MIN_LENGTH * innerHeight;
    if (this.slider.hidden) return;
    this.slider.setAttribute("aria-valuemin", 0);
    this.slider.setAttribute("aria-valuemax", this.lines.length - 1);
    this.drawYears();
    this.follow(false);
  }

  drawYears() {
    const marks = [], height = this.slider.clientHeight;
    let last = -Infinity;
    this.lines.forEach(({ day, y }, n) => {
      const top = THUMB / 2 + (height - THUMB) * this.share(y);
      if (day.slice(0, 4) === this.lines[n - 1]?.day.slice(0, 4) || top - last < MARK_HEIGHT) return;
      last = top;
      const mark = element("span", {}, day ? day.slice(0, 4) : "No date");
      mark.style.top = `${top}px`;
      marks.push(mark);
    });
    this.years.replaceChildren(...marks);
  }

  share(y) {
    return Math.min(1, Math.max(0, y / Math.max(1, this.grid.maxOffset)));
  }

  // Show the scroll position.
  follow(isScrolling = true) {
    if (this.slider.hidden) return;
    const { offset } = this.grid;
    if (this.held === null || Math.abs(scrollY - this.held) > 1) {
      this.held = null;
      this.current = Math.max(0, firstWhere(this.lines.length, (n) => this.lines[n].y > offset + 1) - 1);
    }
    const name = dateName(this.lines[this.current].day, this.grid.byDay);
    this.slider.setAttribute("aria-valuenow", this.current);
    this.slider.setAttribute("aria-valuetext", name);
    this.bubble.textContent = name;
    this.thumb.style.top = this.bubble.style.top = `${THUMB / 2 + (this.slider.clientHeight - THUMB) * this.share(offset)}px`;
    if (!isScrolling || offset < 0) return;
    this.slider.classList.add("scrolling");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.slider.classList.remove("scrolling"), SHOWN_MS);
  }

  drag(event) {
    if (event.button) return;
    event.preventDefault(); // no selection of text
    this.slider.focus({ preventScroll: true });
    this.slider.setPointerCapture(event.pointerId);
    this.slider.classList.add("dragging");
    const move = ({ clientY }) => {
      const { top, height } = this.slider.getBoundingClientRect();
      this.grid.scrollToHeight(Math.min(1, Math.max(0, (clientY - top - THUMB / 2) / (height - THUMB))) * this.grid.maxOffset);
    };
    const stop = () => {
      this.slider.classList.remove("dragging");
      this.slider.removeEventListener("pointermove", move);
    };
    this.slider.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) this.slider.addEventListener(end, stop, { once: true });
    move(event);
  }

  press(event) {
    const { key } = event, last = this.lines.length - 1;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = key in LATER ? this.current + LATER[key]
      : { Home: 0, End: last, PageDown: this.inOtherYear(1), PageUp: this.inOtherYear(-1) }[key];
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.goTo(Math.min(last, Math.max(0, target)));
  }

  // The first month of the next year in the list or, with step -1, of the one before.
  inOtherYear(step) {
    const year = (n) => this.lines[n].day.slice(0, 4);
    let n = this.current;
    if (step > 0) {
      while (n < this.lines.length - 1 && year(n) === year(this.current)) n += 1;
      return n;
    }
    if (n > 0 && year(n - 1) !== year(n)) n -= 1;
    while (n > 0 && year(n - 1) === year(n)) n -= 1;
    return n;
  }

  goTo(n) {
    this.current = n;
    this.grid.scrollToHeight(this.lines[n].y);
    this.held = scrollY; // near the end of the page, several months cannot be scrolled to the top
    this.follow();
  }
}
