// What a detector finds in the picture in the large view: a form in the details, and boxes.

import { Boxes } from "./boxes.js";
import { byId, element, percent } from "./dom.js";
import { detect } from "./server.js";

export class Detections {
  // `on` has the getter pictureId(), and the callback changed(), when boxes appear or disappear.
  constructor(stage, image, on) {
    Object.assign(this, { boxes: new Boxes(byId("detection-boxes"), stage, image), on, of: "", result: null });
  }

  get isOn() {
    return Boolean(this.of);
  }

  // The form for a picture; `text` is the first suggestion of what to find.
  form(text) {
    const field = element("input", { type: "text", maxlength: "500", required: true, value: text, "aria-label": "Find in this photo", placeholder: "Find in this photo" });
    const send = element("button", { type: "submit" }, "Find");
    this.result = element("div", { class: "answer" }, element("p", { role: "status" }));
    const submit = async (event) => {
      event.preventDefault();
      send.disabled = true;
      await this.find(field.value);
      send.disabled = false;
    };
    return element("form", { class: "question", onsubmit: submit }, element("div", {}, field, send), this.result);
  }

  async find(text) {
    const id = this.on.pictureId(), { result } = this, status = result.firstChild;
    this.clear();
    status.textContent = "Looking…";
    try {
      const { detections } = await detect(id, text);
      if (result !== this.result || id !== this.on.pictureId()) return; // another picture is shown by now
      status.textContent = detections.length ? `${detections.length} found: ${detections.map(({ score }) => percent(score)).join(", ")}` : "None found";
      if (detections.length) this.show(id, text, detections);
    } catch (error) {
      status.textContent = error.message;
    }
  }

  show(id, text, detections) {
    this.of = id;
    this.boxes.set(detections.map(({ box, score }) => [
      element("div", { role: "img", "aria-label": `${text}, ${percent(score)}` }, element("bdi", { "aria-hidden": "true" }, percent(score))), box]));
    this.boxes.show(true);
    this.result.append(this.boxes.toggle());
    this.on.changed();
  }

  // Remove the boxes, unless they are of this picture.
  clear(pictureId = "") {
    if (!this.isOn || this.of === pictureId) return;
    this.of = "";
    this.boxes.set([]);
    this.result.replaceChildren(element("p", { role: "status" }));
    this.on.changed();
  }
}
