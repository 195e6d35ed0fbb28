// What a detector finds in the picture in the large view: a form in the details, and boxes.

import { Boxes } from "./boxes.js";
import { byId, element, percent } from "./dom.js";
import { modelForm } from "./modelform.js";
import { detect } from "./server.js";

export class Detections {
  // `on` has stop(), which stops a video and returns the id of the picture, the getter pictureId(), and the callback
  // changed(), when boxes appear or disappear.
  constructor(stage, image, on) {
    Object.assign(this, { boxes: new Boxes(byId("detection-boxes"), stage, image), on, of: "", shown: null, toggle: null });
  }

  get isOn() {
    return Boolean(this.of);
  }

  // The form for a picture; `text` is the first suggestion of what to find.
  form(text) {
    this.shown = modelForm({ label: "Find in this photo", verb: "Find", busy: "Looking…", value: text }, (what) => this.find(what));
    return this.shown;
  }

  async find(text) {
    const id = this.on.stop(), { shown } = this;
    this.clear();
    const { detections } = await detect(id, text);
    if (shown !== this.shown || id !== this.on.pictureId()) return "The picture has changed. Find again.";
    if (!detections.length) return "None found";
    this.show(id, text, detections);
    return `${detections.length} found: ${detections.map(({ score }) => percent(score)).join(", ")}`;
  }

  show(id, text, detections) {
    this.of = id;
    this.boxes.set(detections.map(({ box, score }) => [
      element("div", { role: "img", "aria-label": `${text}, ${percent(score)}` }, element("bdi", { "aria-hidden": "true" }, percent(score))), box]));
    this.boxes.show(true);
    this.shown.append(this.toggle = this.boxes.toggle());
    this.on.changed();
  }

  // Remove the boxes, unless they are of this picture.
  clear(pictureId = "") {
    if (!this.isOn || this.of === pictureId) return;
    this.of = "";
    this.boxes.set([]);
    this.toggle.remove();
    this.shown.querySelector("[role=status]").textContent = "";
    this.on.changed();
  }
}
