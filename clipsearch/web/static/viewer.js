// The large view of one photo, with its metadata and actions.

import { commandLine } from "./clipboard.js";
import { bars, button, byId, bytes, clock, count, dateTime, element, icon, percent, videoLength } from "./dom.js";
import { copyPaths } from "./selection.js";
import { get, heatMapUrl, largeUrl, originalUrl, thumbnailUrl } from "./server.js";

const dialog = byId("viewer"), image = byId("large"), details = byId("details");
const isKnown = (value) => value !== null && value !== undefined;

export class Viewer {
  // `on` has the callbacks: step(by), closed(), searchBy(photo, kind), searchNear(photo), and getters: labels() and
  // terms(), the search parameters that the heat map shows.
  constructor(on) {
    this.on = on;
    byId("previous").addEventListener("click", () => on.step(-1));
    byId("next").addEventListener("click", () => on.step(1));
    byId("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => on.closed());
    dialog.querySelector(".stage").addEventListener("click", ({ target }) => target !== image && dialog.close());
    image.addEventListener("error", () => { if (image.getAttribute("src")) this.showMissing(); });
    image.addEventListener("load", () => {
      image.style.backgroundImage = "";
      this.setSize(image.naturalWidth, image.naturalHeight, this.photo.width); // the file may have changed since it was indexed
    });
    this.showsWhere = false; // also of the photos that are shown next
  }

  get isOpen() {
    return dialog.open;
  }

  close() {
    if (dialog.open) dialog.close();
  }

  // `hit` is null for a photo that is not among the results; `previous` and `next` are those before and after it.
  show(photo, hit, { previous, next }) {
    this.photo = photo;
    byId("large-missing").hidden = true;
    image.hidden = false;
    this.setSize(photo.width, photo.height, photo.width);
    image.style.backgroundImage = `url("${thumbnailUrl(photo.id)}")`;
    this.showImage();
    dialog.setAttribute("aria-label", `Photo ${photo.name}`);
    byId("previous").disabled = !previous;
    byId("next").disabled = !next;
    for (const neighbour of [previous, next]) if (neighbour) new Image().src = largeUrl(neighbour.id); // prefetch
    details.replaceChildren(...this.details(photo, hit));
    if (!dialog.open) {
      dialog.showModal();
      dialog.focus(); // otherwise the browser focuses the first button
    }
    this.showLabels();
  }

  showMissing() {
    image.hidden = true;
    byId("large-missing").hidden = false;
  }

  details(photo, hit) {
    const rows = [["Taken", photo.taken ? dateTime(photo.taken) : null], ["Modified", photo.taken ? null : dateTime(photo.date)], ["Camera", photo.camera], ["Title", photo.title], ["Caption", photo.caption], ["People", photo.people.join(", ")], ["Keywords", photo.keywords.join(", ")],
      ["Rating", photo.rating === -1 ? "rejected" : "★".repeat(photo.rating ?? 0)], ["Color label", photo.color_label], ["Length", videoLength(photo)], ["Found at", photo.time === null || !isKnown(hit?.score) ? null : clock(photo.time)],
      ["Place", photo.place?.title], ["Location", photo.latitude === null ? null : `${photo.latitude.toFixed(4)}, ${photo.longitude.toFixed(4)}`],
      ["Dimensions", `${photo.width} × ${photo.height}`], ["File size", bytes(photo.size)],
      ["Score", isKnown(hit?.score) ? hit.score.toFixed(3) : null],
      ["Matches", (hit?.why ?? []).map(({ kind, matched }) => matched ? `${kind}: ${matched}` : kind).join(", ")]];
    const list = element("dl", {}, ...rows.filter(([, value]) => value).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", {}, value)))));
    const parts = [
      element("h2", {}, element("bdi", {}, photo.name)),
      element("p", { class: "folder" }, element("bdi", {}, photo.folder)),
      list,
    ];
    if (isKnown(hit?.confidence)) parts.push(this.confidence(hit.confidence));
    parts.push(element("div", { class: "actions" },
      element("a", { class: "button", href: originalUrl(photo.id) + (photo.time === null ? "" : `#t=${photo.time}`), target: "_blank", rel: "noopener" }, icon("open"), element("span", {}, "Open original")),
      button("copy", "Copy path", () => copyPaths([photo])),
      button("plus", "More like this", () => this.on.searchBy(photo, "like")),
      button("minus", "Less like this", () => this.on.searchBy(photo, "unlike")),
      this.on.terms().length ? button("target", "Show where", (event) => this.toggleWhere(event.currentTarget), { "aria-pressed": String(this.showsWhere) }) : null,
      photo.latitude === null ? null : button("search", "Photos nearby", () => this.on.searchNear(photo))));
    const copies = [...(hit?.similar ?? []), ...(hit?.same_file ?? [])].map((other) => other.path);
    if (copies.length) parts.push(element("details", {}, element("summary", {}, count(copies.length, "copy", "copies")), element("ul", {}, ...copies.map((path) => element("li", {}, element("bdi", {}, path))))));
    parts.push(this.labels = element("section", { class: "bars", "aria-label": "Labels", hidden: true }));
    return parts;
  }

  // The space of the image before it is loaded: as large as the window allows, but small originals are not blown up.
  setSize(width, height, pixels) {
    image.style.setProperty("--ratio", width / height || 1);
    image.style.setProperty("--pixels", `${pixels}px`);
  }

  showImage() {
    const isMarked = this.showsWhere && this.on.terms().length > 0;
    image.src = isMarked ? heatMapUrl(this.photo.id, this.on.terms()) : largeUrl(this.photo.id);
    image.alt = isMarked ? `${this.photo.name}, with the matching part highlighted` : this.photo.name;
  }

  toggleWhere(toggle) {
    this.showsWhere = !this.showsWhere;
    toggle.setAttribute("aria-pressed", String(this.showsWhere));
    this.showImage();
  }

  // A bar with a mark at the threshold for confident matches.
  confidence(value) {
    const threshold = Number(document.documentElement.dataset.cut);
    const fill = element("span", { class: "fill" }), mark = element("span", { class: "mark" });
    fill.style.width = `${100 * value}%`;
    mark.style.left = `${100 * threshold}%`;
    return element("div", { class: "confidence" }, element("p", {}, "Confidence ", element("b", {}, percent(value))),
      element("span", { class: "track" }, fill, mark));
  }

  async showLabels() {
    const labels = this.on.labels(), section = this.labels, { photo } = this;
    if (!labels.length) return;
    try {
      const { probabilities, command } = await get("/labels", [...labels.map((label) => ["label", label]), ["photo", photo.id]]);
      if (section !== this.labels) return; // another photo is shown by now
      const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
      section.replaceChildren(element("h3", {}, "Labels"), ...bars(sorted.map(([name, probability]) => [name, probability, percent(probability)])),
        commandLine(command));
      section.hidden = false;
    } catch (error) {
      section.replaceChildren(element("p", {}, error.message));
      section.hidden = false;
    }
  }
}
