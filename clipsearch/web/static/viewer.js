// One photo large, with what is known of it.

import { bars, bytes, button, by, commandLine, copy, count, element, icon, moment, percent } from "./dom.js";
import { get, large, original, small, whereIn } from "./server.js";

const dialog = by("viewer"), image = by("large"), stage = by("stage"), facts = by("facts");

export class Viewer {
  // `on`: step(by), closed(), more(photo, kind), near(photo), labels(): those to show, asked(): the terms of the question
  constructor(on) {
    this.on = on;
    by("previous").addEventListener("click", () => on.step(-1));
    by("next").addEventListener("click", () => on.step(1));
    by("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => on.closed());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    image.addEventListener("load", () => stage.classList.add("there"));
    image.addEventListener("error", () => { if (image.getAttribute("src")) this.gone(); });
  }

  get isOpen() {
    return dialog.open;
  }

  close() {
    if (dialog.open) dialog.close();
  }

  // `hit` is null for a photo that is not among the results; `around`: the ids of those before and after it.
  show(photo, hit, around) {
    this.photo = photo;
    stage.classList.remove("there");
    by("large-gone").hidden = true;
    image.hidden = false;
    image.width = photo.width;
    image.height = photo.height;
    image.style.backgroundImage = `url("${small(photo.id)}")`;
    image.alt = photo.name;
    image.src = large(photo.id);
    dialog.setAttribute("aria-label", `Photo ${photo.name}`);
    by("previous").disabled = !around[0];
    by("next").disabled = !around[1];
    for (const id of around) if (id) new Image().src = large(id);
    facts.replaceChildren(...this.facts(photo, hit));
    if (!dialog.open) {
      dialog.showModal();
      dialog.focus(); // and not its first button
    }
    this.showLabels();
  }

  gone() {
    image.hidden = true;
    by("large-gone").hidden = false;
  }

  facts(photo, hit) {
    const rows = [["Taken", photo.taken ? moment(photo.taken) : null], ["Changed", photo.taken ? null : moment(photo.date)], ["Camera", photo.camera], ["Tags", photo.keywords.join(", ")], ["At", photo.time === null ? null : `${photo.time.toFixed(1)} s`],
      ["Place", photo.latitude === null ? null : `${photo.latitude.toFixed(4)}, ${photo.longitude.toFixed(4)}`],
      ["Pixels", `${photo.width} × ${photo.height}`], ["File", bytes(photo.size)],
      ["Score", hit?.score === null || hit?.score === undefined ? null : hit.score.toFixed(3)]];
    const list = element("dl", {}, ...rows.filter(([, value]) => value).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", {}, value)))));
    const parts = [
      element("h2", {}, element("bdi", {}, photo.name)),
      element("p", { class: "folder" }, element("bdi", {}, photo.folder)),
      list,
    ];
    if (hit?.confidence !== null && hit?.confidence !== undefined) parts.push(this.sure(hit.confidence));
    parts.push(element("div", { class: "actions" },
      element("a", { class: "button", href: original(photo.id) + (photo.time === null ? "" : `#t=${photo.time}`), target: "_blank", rel: "noopener" }, icon("open"), element("span", {}, "Open original")),
      button("copy", "Copy path", () => copy(photo.path, "The path is copied")),
      button("plus", "More like this", () => this.on.more(photo, "like")),
      button("minus", "Less like this", () => this.on.more(photo, "unlike")),
      this.on.asked().length ? button("target", "Where", (event) => this.where(event.currentTarget), { "aria-pressed": "false" }) : null,
      photo.latitude === null ? null : button("search", "Around here", () => this.on.near(photo))));
    const others = [...(hit?.similar ?? []).map((other) => other.path), ...(hit?.same_file ?? []).map((other) => other.path)];
    if (others.length) parts.push(element("details", {}, element("summary", {}, count(others.length, "copy").replace("copys", "copies")), element("ul", {}, ...others.map((path) => element("li", {}, element("bdi", {}, path))))));
    parts.push(this.labels = element("section", { class: "bars", "aria-label": "Labels", hidden: true }));
    return parts;
  }

  // The part that the question is about, over the photo and away again.
  where(toggle) {
    const on = toggle.getAttribute("aria-pressed") === "false";
    toggle.setAttribute("aria-pressed", String(on));
    toggle.classList.toggle("on", on);
    image.src = on ? whereIn(this.photo.id, this.on.asked()) : large(this.photo.id);
    image.alt = on ? `${this.photo.name}, with the part that was asked for` : this.photo.name;
  }

  sure(confidence) {
    const cut = Number(document.documentElement.dataset.cut);
    const fill = element("span", { class: "fill" }), mark = element("span", { class: "mark" });
    fill.style.width = `${100 * confidence}%`;
    mark.style.left = `${100 * cut}%`;
    return element("div", { class: "sure" }, element("p", {}, "Shows what was asked for ", element("b", {}, percent(confidence))),
      element("span", { class: "track" }, fill, mark));
  }

  async showLabels() {
    const labels = this.on.labels(), place = this.labels, { photo } = this;
    if (!labels.length) return;
    try {
      const { probabilities, command } = await get("/labels", [...labels.map((label) => ["label", label]), ["photo", photo.id]]);
      if (place !== this.labels) return;
      const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
      place.replaceChildren(element("h3", {}, "Labels"), ...bars(sorted.map(([name, share]) => [name, share, percent(share)])),
        commandLine(command));
      place.hidden = false;
    } catch (error) {
      place.replaceChildren(element("p", {}, error.message));
      place.hidden = false;
    }
  }
}
