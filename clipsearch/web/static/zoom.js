// Enlarges the picture in the large view, to its own pixels and beyond.

const LEAST_REACH = 4, REACH = 4; // the largest scale: 4, or 4 screen pixels for each of the picture's
const TOGGLED = 2; // the least scale of "actual size", which may be smaller than the window

export class Zoom {
  // `pixels()` is the width of the original. `changed()` is called after each change.
  constructor(stage, picture, { pixels, changed }) {
    Object.assign(this, { stage, picture, pixels, changed, scale: 1, x: 0, y: 0 });
    new ResizeObserver(() => this.pan(0, 0)).observe(stage);
  }

  get isZoomed() {
    return this.scale > 1;
  }

  // The width of the picture in pixels of the screen.
  get width() {
    return this.picture.offsetWidth * this.scale * devicePixelRatio;
  }

  // The scale at which each pixel of the original has one of the screen.
  get actual() {
    return this.pixels() / (this.picture.offsetWidth * devicePixelRatio);
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.pan(0, 0);
  }

  toggle(point) {
    this.to(this.isZoomed ? 1 : Math.max(TOGGLED, this.actual), point);
  }

  by(factor, point) {
    this.to(this.scale * factor, point);
  }

  // Zoom to a scale; what is at `point`, by default the middle, stays where it is.
  to(scale, point = this.middle()) {
    if (!this.picture.offsetWidth) return; // hidden: a video is shown
    const next = Math.min(Math.max(LEAST_REACH, REACH * this.actual), Math.max(1, scale)), ratio = next / this.scale;
    const { left, top, width, height } = this.picture.getBoundingClientRect();
    this.x += (1 - ratio) * (point.x - left - width / 2);
    this.y += (1 - ratio) * (point.y - top - height / 2);
    this.scale = next;
    this.pan(0, 0);
  }

  // Move the picture, no further than to its edges.
  pan(x, y) {
    const { picture, stage } = this;
    const clamp = (value, size, room) => {
      const most = Math.max(0, (size * this.scale - room) / 2);
      return Math.min(most, Math.max(-most, value));
    };
    this.x = clamp(this.x + x, picture.offsetWidth, stage.clientWidth);
    this.y = clamp(this.y + y, picture.offsetHeight, stage.clientHeight);
    picture.style.transform = this.isZoomed ? `translate(${this.x}px, ${this.y}px) scale(${this.scale})` : "";
    this.changed();
  }

  middle() {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return { x: left + width / 2, y: top + height / 2 };
  }
}
