// Boxes over the picture in the large view, in a layer that follows it wherever it is.

import { element } from "./dom.js";

export class Boxes {
  constructor(layer, stage, image) {
    Object.assign(this, { layer, stage, image, isOn: false });
    new ResizeObserver(() => this.place()).observe(image);
  }

  // Replace the boxes: pairs of an element and its left, top, right and bottom, from 0 to 1.
  set(boxes) {
    this.layer.replaceChildren(...boxes.map(([box, edges]) => {
      const [left, top, right, bottom] = edges.map((edge) => 100 * edge);
      box.classList.add("box");
      Object.assign(box.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
      return box;
    }));
    this.place();
  }

  // A switch that shows and hides the boxes.
  toggle() {
    const input = element("input", { type: "checkbox", onchange: () => this.show(input.checked) });
    input.checked = this.isOn;
    return element("label", { class: "switch" }, input, element("span", {}, "Show boxes"));
  }

  show(isOn) {
    this.isOn = isOn;
    this.place();
  }

  place() {
    const { layer, stage, image } = this;
    layer.hidden = !this.isOn || !layer.children.length || image.hidden;
    if (layer.hidden) return;
    const around = stage.getBoundingClientRect(), at = image.getBoundingClientRect();
    Object.assign(layer.style, { left: `${at.left - around.left}px`, top: `${at.top - around.top}px`, width: `${at.width}px`, height: `${at.height}px` });
  }
}
