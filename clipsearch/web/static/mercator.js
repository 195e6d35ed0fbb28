// The Mercator projection, and a camera over the map. The world is a square of side 1: x grows to the east from the
// antimeridian, y to the south.

const EDGE = 85.0511; // degrees north and south where the square ends
const TILE = 256; // pixels of the world's side at zoom 0
export const MAX_ZOOM = 18;
const FILLED = 0.8; // the share of the window that a box takes
const EARTH = 40_075_017; // metres around the equator
const radians = (degrees) => (degrees * Math.PI) / 180;
const wrap = (value) => value - Math.floor(value); // to 0 to 1
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));

export function project(latitude, longitude) {
  const sine = Math.sin(radians(clamp(latitude, -EDGE, EDGE)));
  return { x: longitude / 360 + 0.5, y: 0.5 - Math.atanh(sine) / (2 * Math.PI) };
}

// A box, [south, west, north, east], as a rectangle of the world.
export function rectangle([south, west, north, east]) {
  const { x, y } = project(north, west), last = project(south, east);
  return { x, y, width: last.x - x + (west > east ? 1 : 0), height: last.y - y };
}

const latitudeAt = (y) => (Math.asin(Math.tanh(2 * Math.PI * (0.5 - y))) * 180) / Math.PI;
const longitudeAt = (x) => 360 * (wrap(x) - 0.5);

export class Camera {
  // In pixels: the size of the window and, as `scale`, the side of the world.
  constructor() {
    Object.assign(this, { x: 0.5, y: 0.4, scale: TILE, width: 1, height: 1 });
  }

  get zoom() {
    return Math.log2(this.scale / TILE);
  }

  get latitude() {
    return latitudeAt(this.y);
  }

  get longitude() {
    return longitudeAt(this.x);
  }

  get metresPerPixel() {
    return (EARTH * Math.cos(radians(this.latitude))) / this.scale;
  }

  resize(width, height) {
    Object.assign(this, { width, height });
    this.to(this.x, this.y, this.scale);
  }

  // Look at a place. The world always fills the window, so that each place is in it at most once.
  to(x, y, scale) {
    this.scale = clamp(scale, Math.max(this.width, this.height), TILE * 2 ** MAX_ZOOM);
    const half = this.height / this.scale / 2;
    this.x = wrap(x);
    this.y = clamp(y, half, 1 - half);
  }

  lookAt(latitude, longitude, zoom) {
    const { x, y } = project(latitude, longitude);
    this.to(x, y, TILE * 2 ** zoom);
  }

  pan(x, y) {
    this.to(this.x - x / this.scale, this.y - y / this.scale, this.scale);
  }

  // Zoom by a factor; what is at a point of the window stays where it is.
  by(factor, point = { x: this.width / 2, y: this.height / 2 }) {
    const x = point.x - this.width / 2, y = point.y - this.height / 2, before = this.scale;
    this.to(this.x, this.y, before * factor);
    this.to(this.x + x / before - x / this.scale, this.y + y / before - y / this.scale, this.scale);
  }

  // Show a box, [south, west, north, east], no closer than at `zoom`.
  fit(box, zoom = MAX_ZOOM) {
    const { x, y, width, height } = rectangle(box);
    this.to(x + width / 2, y + height / 2, TILE * 2 ** Math.min(zoom, this.zoomFor(box)));
  }

  // The zoom at which a box fills the window; `MAX_ZOOM` for a single place.
  zoomFor(box) {
    const { width, height } = rectangle(box);
    return Math.min(MAX_ZOOM, Math.log2((FILLED * Math.min(this.width / width, this.height / height)) / TILE));
  }

  // The box in the window, or with a share of it more on each side, as [south, west, north, east].
  box(margin = 0) {
    const x = ((0.5 + margin) * this.width) / this.scale, y = ((0.5 + margin) * this.height) / this.scale;
    const [north, south] = [this.y - y, this.y + y].map((edge) => edge <= 0 ? 90 : edge >= 1 ? -90 : latitudeAt(edge));
    const [west, east] = x >= 0.5 ? [-180, 180] : [longitudeAt(this.x - x), longitudeAt(this.x + x)];
    return [south, west, north, east];
  }

  // Where a point of the world is in the window, on the side of the antimeridian that is nearer to the middle.
  toWindow({ x, y }) {
    return { x: this.width / 2 + (wrap(x - this.x + 0.5) - 0.5) * this.scale, y: this.height / 2 + (y - this.y) * this.scale };
  }
}
