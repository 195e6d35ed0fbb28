// The slide show: the next photo every few seconds.

import { byId, icon } from "./dom.js";
import { toast } from "./feedback.js";

const button = byId("slides"), interval = byId("interval");

export class Slides {
  // `next()` shows the next photo; it promises whether there is one.
  constructor(next) {
    Object.assign(this, { next, isOn: false, timer: 0 });
    button.addEventListener("click", () => this.toggle());
    interval.addEventListener("change", () => this.restart());
  }

  toggle(isOn = !this.isOn) {
    this.isOn = isOn;
    button.setAttribute("aria-pressed", String(isOn));
    button.replaceChildren(icon(isOn ? "pause" : "play"));
    interval.hidden = !isOn;
    this.restart();
  }

  // Count the time from now on: a photo has just appeared.
  restart() {
    clearTimeout(this.timer);
    if (this.isOn) this.timer = setTimeout(() => this.advance(), 1000 * interval.value);
  }

  async advance() {
    if (await this.next() || !this.isOn) return;
    this.toggle(false);
    toast("End of the results");
  }
}
