// The files of a group in one place, one at a time and at the same zoom: differences are easy to see.

import { byId, bytes, element } from "./dom.js";
import { listen } from "./gestures.js";
import { largeUrl, originalUrl } from "./server.js";
import { Zoom } from "./zoom.js";

const STEP = 1.5, HELD_MS = 300; // a key that is held longer flips back when it is released
const dialog = byId("comparison"), stage = byId("comparison-stage"), pictures = byId("pictures");

export class Comparison {
  // `on` has the callback keepOnly(n).
  constructor(on) {
    Object.assign(this, { on, files: [], shown: 0, before: 0, pressed: 0 });
    this.zoom = new Zoom(stage, pictures, { pixels: () => Math.max(1, ...this.files.map(({ width }) => width)), changed: () => this.zoomed() });
    listen(stage, pictures, this.zoom, { beside: () => dialog.close(), swiped: (x) => { if (x) this.flip(-x); } });
    pictures.addEventListener("click", () => this.flip(1));
    byId("close-comparison").addEventListener("click", () => dialog.close());
    byId("comparison-zoom").addEventListener("click", () => this.zoom.toggle());
    byId("keep-shown").addEventListener("click", () => this.keep());
    dialog.addEventListener("keydown", (event) => this.press(event));
    dialog.addEventListener("keyup", (event) => {
      if (event.key === " " && this.pressed && event.timeStamp - this.pressed > HELD_MS) this.show(this.before);
      if (event.key === " ") this.pressed = 0;
    });
  }

  open(files, n) {
    this.files = files;
    const [{ width, height }] = files;
    stage.style.setProperty("--ratio", width / height || 1);
    pictures.replaceChildren(...files.map(({ id, name }) => element("img", { src: largeUrl(id), alt: name, draggable: "false" })));
    byId("comparison-files").replaceChildren(...files.map(({ name }, place) => element("button", { type: "button", "aria-label": `${place + 1}: ${name}`, onclick: () => this.show(place) }, String(place + 1))));
    byId("comparison-files").hidden = files.length < 2;
    this.isFull = false;
    if (!dialog.open) dialog.showModal();
    dialog.focus();
    this.zoom.reset();
    this.show(n);
  }

  show(n) {
    this.shown = (n + this.files.length) % this.files.length;
    const file = this.files[this.shown];
    [...pictures.children].forEach((image, place) => image.classList.toggle("shown", place === this.shown));
    [...byId("comparison-files").children].forEach((button, place) => button.setAttribute("aria-pressed", String(place === this.shown)));
    byId("comparison-about").textContent = `${this.shown + 1} of ${this.files.length}: ${file.name}, ${file.width} × ${file.height}, ${bytes(file.size)}`;
  }

  flip(by) {
    this.show(this.shown + by);
  }

  keep() {
    dialog.close();
    this.on.keepOnly(this.shown);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      event.preventDefault();
      if (event.repeat) return;
      [this.before, this.pressed] = [this.shown, event.timeStamp];
      return this.flip(1);
    }
    const action = /^[1-9]$/.test(event.key) && event.key <= this.files.length ? () => this.show(event.key - 1)
      : { ArrowLeft: () => this.flip(-1), ArrowRight: () => this.flip(1), k: () => this.keep(), "+": () => this.zoom.by(STEP), "=": () => this.zoom.by(STEP), "-": () => this.zoom.by(1 / STEP), 0: () => this.zoom.reset() }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // Load all pixels of all files once they are enlarged beyond their previews.
  zoomed() {
    stage.classList.toggle("zoomed", this.zoom.isZoomed);
    byId("comparison-zoom").setAttribute("aria-pressed", String(this.zoom.isZoomed));
    const images = [...pictures.children];
    if (this.isFull || !this.zoom.isZoomed || !images.some(({ naturalWidth }, n) => naturalWidth < this.files[n].width && this.zoom.width > naturalWidth)) return;
    this.isFull = true;
    images.forEach(async (image, n) => {
      if (this.files[n].is_video) return;
      const original = new Image();
      original.src = originalUrl(this.files[n].id);
      await original.decode().then(() => { image.src = original.src; }, () => {}); // or the preview has to do
    });
  }
}
