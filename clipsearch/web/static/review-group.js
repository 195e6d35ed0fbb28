// One group of duplicates side by side, with what differs.

import { bytes, dateTime, element, videoLength } from "./dom.js";
import { largeUrl } from "./server.js";

const KINDS = { best: "suggested", identical: "identical bytes", copy: "same picture" };
const kindOf = ({ kind, similarity }, n) => KINDS[kind] ?? (n ? `${Math.min(99.9, 100 * similarity).toFixed(1)}% like the first` : "");

// What to compare, by name: as text, and as a number where more is better.
const FACTS = [
  ["Pixels", ({ width, height }) => [`${width} × ${height}`, width * height]],
  ["File size", ({ size }) => [bytes(size), size]],
  ["Type", ({ name }) => [name.includes(".") ? name.split(".").at(-1).toUpperCase() : "none"]],
  ["Length", (file) => [videoLength(file)]],
  ["Taken", ({ taken }) => [taken && dateTime(taken)]],
  ["Modified", ({ mtime }) => [dateTime(localTime(mtime))]],
  ["Camera", ({ camera }) => [camera]],
  ["Tags", ({ keywords, people, title, caption, rating }) => [[title, caption, ...people, ...keywords, rating > 0 ? "★".repeat(rating) : null].filter(Boolean).join(", ")]],
  ["Other names", ({ same_file: names }) => [names ? `${names} (links)` : ""]],
  ["Folder", ({ folder }) => [folder]],
];

const localTime = (seconds) => new Date(1000 * seconds - 60_000 * new Date(1000 * seconds).getTimezoneOffset()).toISOString();

export class Group {
  // `on` has the callbacks: toggle(n), to keep file `n` or not, and compare(n).
  constructor(list, on) {
    Object.assign(this, { list, on, files: [] });
  }

  // The position of the file that has the focus, or 0.
  get focused() {
    return Math.max(0, [...this.list.children].findIndex((card) => card.contains(document.activeElement)));
  }

  show(files, kept) {
    this.files = files;
    const rows = FACTS.map(([name, of]) => [name, files.map(of)]).filter(([, values]) => values.some(([text]) => text));
    this.list.replaceChildren(...files.map((file, n) => this.card(file, n, rows)));
    this.list.style.setProperty("--ratio", files[0].width / files[0].height || 1);
    this.mark(kept);
  }

  card(file, n, rows) {
    const checkbox = element("input", { type: "checkbox", "aria-label": `Keep ${file.name}`, onchange: () => this.on.toggle(n) });
    const image = element("img", { src: largeUrl(file.id), alt: "", loading: "lazy", onerror: ({ target }) => target.replaceWith(element("span", {}, "File moved, deleted or offline.")) });
    return element("li", { class: "file" },
      element("button", { type: "button", class: "picture", "aria-label": `Compare ${file.name}`, onclick: () => this.on.compare(n) }, image),
      element("label", { class: "keep" }, checkbox, n < 9 ? element("kbd", {}, String(n + 1)) : null, element("b", { class: "fate" }), element("span", { class: "kind" }, kindOf(file, n))),
      element("p", { class: "name" }, element("bdi", {}, file.name)),
      element("dl", {}, ...rows.map(([name, values]) => fact(name, values, n))));
  }

  // Show which files stay.
  mark(kept) {
    [...this.list.children].forEach((card, n) => {
      const stays = kept.has(n);
      card.classList.toggle("moves", !stays);
      card.querySelector("input").checked = stays;
      card.querySelector(".fate").textContent = stays ? "Keep" : "Move";
    });
  }

  focusOn(by) {
    const cards = [...this.list.children], at = cards.findIndex((card) => card.contains(document.activeElement));
    cards[Math.min(cards.length - 1, Math.max(0, at < 0 ? 0 : at + by))]?.querySelector(".picture").focus();
  }
}

// A row of a card; what differs stands out, and more so where it is the most.
function fact(name, values, n) {
  const [text, amount] = values[n], differs = values.some(([other]) => other !== text);
  const isMost = differs && amount !== undefined && values.every(([, other]) => other <= amount);
  return element("div", { class: `${differs ? "differs" : ""}${isMost ? " most" : ""}` }, element("dt", {}, name),
    element("dd", {}, element("bdi", {}, text || "–"), differs ? element("span", { class: "visually-hidden" }, isMost ? " (differs, the most)" : " (differs)") : null));
}

