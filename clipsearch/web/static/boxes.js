// The faces in the photo in the large view: boxes over the photo, and a list in the details to name them in.

import { button, byId, count, element } from "./dom.js";
import { faceImage, fetchPeople, nameForm, say, sureness } from "./faces.js";

export class FacesInPhoto {
  // `on` has the callbacks changed(), after a face was named, confirmed or rejected, and chosen(), after a click on a box.
  constructor(stage, image, on) {
    Object.assign(this, { stage, image, on, layer: byId("boxes"), faces: [], section: null, isOn: false, hasBoxes: false });
    new ResizeObserver(() => this.place()).observe(image);
  }

  // Show faces in a section of the details. `hasBoxes`: they are in the picture itself, not in a moment of a video.
  show(faces, section, hasBoxes = false) {
    const open = this.faces.find(({ id }) => this.itemOf(id)?.open)?.id;
    Object.assign(this, { faces, section, hasBoxes });
    section.hidden = !faces.length;
    const toggle = element("input", { type: "checkbox", onchange: ({ target }) => { this.isOn = target.checked; this.place(); } });
    toggle.checked = this.isOn;
    section.replaceChildren(
      element("h3", {}, count(faces.length, "face")),
      hasBoxes ? element("label", { class: "switch" }, toggle, element("span", {}, "Show boxes")) : "",
      ...faces.map((face, n) => this.item(face, n)));
    this.layer.replaceChildren(...faces.map((face, n) => this.box(face, n)));
    this.place();
    const item = this.itemOf(open);
    if (!item) return;
    item.open = true; // a face that was rejected can be named
    item.querySelector("summary").focus({ preventScroll: true });
  }

  itemOf(id) {
    return this.section?.querySelector(`[data-face="${id}"]`);
  }

  item(face, n) {
    const { name, confirmed } = face, title = name ?? `Unnamed face ${n + 1}`;
    const tell = async (what, who) => { if (who && await say(what, { faces: [face.id], name: who })) this.on.changed(); };
    return element("details", { class: "face", "data-face": face.id, ontoggle: ({ target }) => { if (target.open) fetchPeople().catch(() => {}); } }, // without suggestions, a name can still be typed
      element("summary", {}, faceImage(face), element("span", {}, element("bdi", {}, title), element("small", {}, sureness(face)))),
      name && !confirmed ? button("check", `Yes, ${name}`, () => tell("confirm", name)) : null,
      name ? button("close", `Not ${name}`, () => tell("reject", name)) : null,
      nameForm(`Name of ${title}`, (who) => tell("confirm", who), name ? "Somebody else" : "Name"));
  }

  box(face, n) {
    const [left, top, right, bottom] = face.box.map((edge) => 100 * edge);
    const box = element("button", { type: "button", class: face.name ? "box" : "box unnamed", onclick: () => this.choose(face), "aria-label": [face.name ?? `Unnamed face ${n + 1}`, sureness(face)].filter(Boolean).join(", ") },
      face.name ? element("bdi", {}, face.name) : null);
    Object.assign(box.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    return box;
  }

  // Open a face in the details.
  choose(face) {
    this.on.chosen();
    const item = this.itemOf(face.id);
    item.open = true;
    item.scrollIntoView({ block: "nearest" });
    item.querySelector("input").focus();
  }

  // Put the boxes over the picture.
  place() {
    const { layer, stage, image } = this;
    layer.hidden = !this.isOn || !this.hasBoxes || !this.faces.length || image.hidden;
    if (layer.hidden) return;
    const around = stage.getBoundingClientRect(), at = image.getBoundingClientRect();
    Object.assign(layer.style, { left: `${at.left - around.left}px`, top: `${at.top - around.top}px`, width: `${at.width}px`, height: `${at.height}px` });
  }
}
