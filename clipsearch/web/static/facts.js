// What is known about the photo in the large view, and what can be done with it.

import { folderQuestion, toUrl } from "./address.js";
import { commandLine, copy } from "./clipboard.js";
import { bars, button, byId, bytes, clock, count, dateTime, element, icon, percent, videoLength } from "./dom.js";
import { miniMap } from "./minimap.js";
import { modelForm } from "./modelform.js";
import { copyPaths } from "./selection.js";
import { ask, get, originalUrl } from "./server.js";
import { isAllowed as mayDelete } from "./trash.js";

const panel = byId("details");
const isKnown = (value) => value !== null && value !== undefined;
const rounded = (value) => String(Number(value.toPrecision(3)));
const shutter = (seconds) => seconds >= 0.3 ? `${rounded(seconds)} s` : `1/${Math.round(1 / seconds)} s`;

export class Facts {
  // `on` has those of `Viewer`, and the getters terms() and showsWhere(), toggleWhere(), detectionForm(), and stop(),
  // which stops a video and returns the id of the picture.
  constructor(on) {
    this.on = on;
  }

  // `hit` is null for a photo that is not among the results.
  show(photo, hit) {
    Object.assign(this, { photo, hit });
    this.list = element("dl", {}, ...this.rows({}));
    this.text = element("section", { "aria-label": "Text in the photo", hidden: true });
    this.question = element("form", { hidden: true });
    this.detections = element("form", { hidden: true });
    this.faces = element("section", { class: "faces", "aria-label": "Faces", hidden: true });
    this.labels = element("section", { class: "bars", "aria-label": "Labels", hidden: true });
    const copies = [...(hit?.similar ?? []), ...(hit?.same_file ?? [])].map((other) => other.path);
    panel.replaceChildren(...[
      element("h2", {}, element("bdi", {}, photo.name)),
      element("p", { class: "folder" }, element("bdi", {}, photo.folder)),
      this.list,
      photo.latitude === null ? null : miniMap(photo, () => this.on.showOnMap(photo)),
      isKnown(hit?.confidence) ? confidence(hit.confidence) : null,
      this.faces,
      this.actions(),
      copies.length ? element("details", {}, element("summary", {}, count(copies.length, "copy", "copies")), element("ul", {}, ...copies.map((path) => element("li", {}, element("bdi", {}, path))))) : null,
      this.question,
      this.detections,
      this.text,
      this.labels,
    ].filter(Boolean));
    this.showLabels();
  }

  // Add what only the file and the index know: the exposure, the people and the text; and forms for models.
  add({ exposure, people, lines, can_ask: canAsk, can_detect: canDetect }) {
    this.list.replaceChildren(...this.rows(exposure ?? {}, people));
    if (canAsk && this.question.hidden) this.question.replaceWith(this.question = questionForm(this.on.stop)); // else somebody may be typing
    if (canDetect && this.detections.hidden) this.detections.replaceWith(this.detections = this.on.detectionForm());
    if (!lines.length) return;
    const text = lines.join("\n");
    this.text.replaceChildren(element("h3", {}, "Text in the photo"),
      element("p", { class: "text", tabindex: "0", role: "textbox", "aria-readonly": "true", "aria-multiline": "true", "aria-label": "Text in the photo" }, element("bdi", {}, text)),
      button("copy", "Copy text", () => copy(text, "Text copied"), { class: "quiet" }));
    this.text.hidden = false;
  }

  rows(exposure, people = this.photo.people) {
    const { photo, hit } = this;
    const rows = [["Taken", photo.taken ? dateTime(photo.taken) : null], ["Modified", photo.taken ? null : dateTime(photo.date)],
      ["Camera", photo.camera], ["Lens", exposure.lens], ["Exposure", exposure.time && shutter(exposure.time)], ["Aperture", exposure.aperture && `f/${rounded(exposure.aperture)}`],
      ["ISO", exposure.iso && String(exposure.iso)], ["Focal length", exposure.focal_length && `${rounded(exposure.focal_length)} mm`],
      ["Title", photo.title], ["Caption", photo.caption], ["Generated caption", photo.generated_caption], ["People", people.join(", ")], ["Keywords", photo.keywords.join(", ")],
      ["Rating", photo.rating === -1 ? "rejected" : "★".repeat(photo.rating ?? 0)], ["Color label", photo.color_label], ["Length", videoLength(photo)], ["Found at", photo.time === null || !isKnown(hit?.score) ? null : clock(photo.time)],
      ["Place", photo.place?.title], ["Location", photo.latitude === null ? null : `${photo.latitude.toFixed(4)}, ${photo.longitude.toFixed(4)}`],
      ["Dimensions", `${photo.width} × ${photo.height}`], ["File size", bytes(photo.size)],
      ["Score", isKnown(hit?.score) ? hit.score.toFixed(3) : null],
      ["Matches", (hit?.why ?? []).map(({ kind, matched }) => matched ? `${kind.replace("_", " ")}: ${matched}` : kind).join(", ")]];
    return rows.filter(([, value]) => value).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", {}, value))));
  }

  actions() {
    const { photo, on } = this, folder = folderQuestion(photo);
    return element("div", { class: "actions" },
      element("a", { class: "button", href: originalUrl(photo.id) + (photo.time === null ? "" : `#t=${photo.time}`), target: "_blank", rel: "noopener" }, icon("open"), element("span", {}, "Open original")),
      button("copy", "Copy path", () => copyPaths([photo])),
      folder ? element("a", { class: "button", href: toUrl(folder), onclick: (event) => on.showFolder(event, folder) }, icon("folder"), element("span", {}, "Show in folder")) : null,
      button("plus", "More like this", () => on.searchBy(photo, "like")),
      button("minus", "Less like this", () => on.searchBy(photo, "unlike")),
      on.terms().length ? button("target", "Show where", (event) => on.toggleWhere(event.currentTarget), { "aria-pressed": String(on.showsWhere()) }) : null,
      photo.latitude === null ? null : button("search", "Photos nearby", () => on.searchNear(photo)),
      mayDelete ? button("trash", "Move to trash", () => on.trash(photo)) : null);
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

// A field for a question about the picture, and the answer of a vision-language model.
function questionForm(picture) {
  return modelForm({ label: "Ask about this photo", verb: "Ask", busy: "Asking…" }, async (question) => {
    const { answer, score } = await ask(picture(), question);
    return (answer || "No answer") + (isKnown(score) ? ` (${percent(score)})` : "");
  });
}

// A bar with a mark at the threshold for confident matches.
function confidence(value) {
  const threshold = Number(document.documentElement.dataset.cut);
  const fill = element("span", { class: "fill" }), mark = element("span", { class: "mark" });
  fill.style.width = `${100 * value}%`;
  mark.style.left = `${100 * threshold}%`;
  return element("div", { class: "confidence" }, element("p", {}, "Confidence ", element("b", {}, percent(value))),
    element("span", { class: "track" }, fill, mark));
}
