// The faces in the photo in the large view: boxes over the photo, and a list in the details to name them in.

import { Boxes } from "./boxes.js";
import { button, byId, count, element } from "./dom.js";
import { faceImage, fetchPeople, nameForm, say, sureness } from "./faces.js";

export class FacesInPhoto {
  // `on` has the callbacks changed(), after a face was named, confirmed or rejected, and chosen(), after a click on a box.
  constructor(stage, image, on) {
    Object.assign(this, { boxes: new Boxes(byId("face-boxes"), stage, image), on, faces: [], section: null });
  }

  // Show faces in a section of the details. `hasBoxes`: they are in the picture itself, not in a moment of a video.
  show(faces, section, hasBoxes = false) {
    const open = this.faces.find(({ id }) => this.itemOf(id)?.open)?.id;
    Object.assign(this, { faces, section });
    section.hidden = !faces.length;
    section.replaceChildren(
      element("h3", {}, count(faces.length, "face")),
      hasBoxes ? this.boxes.toggle() : "",
      ...faces.map((face, n) => this.item(face, n)));
    this.boxes.set(hasBoxes ? faces.map((face, n) => [this.box(face, n), face.box]) : []);
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
    return element("button", { type: "button", class: face.name ? null : "unnamed", onclick: () => this.choose(face), "aria-label": [face.name ?? `Unnamed face ${n + 1}`, sureness(face)].filter(Boolean).join(", ") },
      face.name ? element("bdi", {}, face.name) : null);
  }

  // Open a face in the details.
  choose(face) {
    this.on.chosen();
    const item = this.itemOf(face.id);
    item.open = true;
    item.scrollIntoView({ block: "nearest" });
    item.querySelector("input").focus();
  }
}
