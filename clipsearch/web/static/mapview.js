// A map to drag and zoom: the outline of the world on a canvas, and elements at places on it.

import { element } from "./dom.js";
import { listen } from "./gestures.js";
import { Camera, project, rectangle } from "./mercator.js";
import { drawOutline, loadOutline } from "./outline.js";

const SETTLED_MS = 150, STEP = 80, ZOOM_STEP = 2; // pixels and factor, for keys
const GRID = [45, 30, 15, 10, 5, 2, 1], LINE_ROOM = 110, SCALE_ROOM = 90; // degrees; pixels
const FONT = "12px system-ui, sans-serif", TEXT_HEIGHT = 14;
const KEYS = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
const NOWHERE = { x: 0, y: 0, scale: 0 };
const CANVAS = { alpha: false };
const isDark = matchMedia("(prefers-color-scheme: dark)");

export class MapView {
  // `on` has the callbacks moved(), after the map was dragged or zoomed, and failed(error), if there is no outline.
  constructor(stage, on) {
    Object.assign(this, { stage, on, camera: new Camera(), markers: [], towns: [], boxes: [], placed: NOWHERE, frame: null, timer: 0 });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.layer = element("div", { class: "markers", role: "group", "aria-label": "Photos on the map" });
    stage.append(this.canvas, this.layer);
    listen(stage, this.canvas, this, { swiped() {}, beside() {} }, this.layer);
    stage.addEventListener("keydown", (event) => this.press(event));
    new ResizeObserver(() => this.resize()).observe(stage);
    isDark.addEventListener("change", () => this.draw());
  }

  // ------------------------------------------------------------------------------ moving

  isZoomed = true; // for gestures: a finger always drags the map

  pan(x, y) {
    this.camera.pan(x, y);
    this.moved();
  }

  by(factor, point = null) {
    const { left, top } = this.stage.getBoundingClientRect();
    this.camera.by(factor, point ? { x: point.x - left, y: point.y - top } : undefined);
    this.moved();
  }

  toggle(point) { // a double click
    this.by(ZOOM_STEP, point);
  }

  moved() {
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.on.moved(), SETTLED_MS);
  }

  press(event) {
    const { key } = event, isOther = event.ctrlKey || event.metaKey || event.altKey;
    const action = { "+": () => this.by(ZOOM_STEP), "=": () => this.by(ZOOM_STEP), "-": () => this.by(1 / ZOOM_STEP) }[key] ?? (KEYS[key] && (() => this.pan(...KEYS[key])));
    if (!action || isOther) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width) return; // hidden
    this.camera.resize(width, height);
    this.draw();
  }

  // ------------------------------------------------------------------------------ showing

  // Put elements on the map: `markers` are { node, x, y, size } at points of the
  // world, with their size in pixels, and `towns` [name, latitude, longitude].
  show(markers, towns) {
    Object.assign(this, { markers, placed: NOWHERE });
    const context = this.canvas.getContext("2d", CANVAS);
    context.font = FONT;
    this.towns = towns.map(([name, latitude, longitude]) => ({ name, width: context.measureText(name).width, ...project(latitude, longitude) }));
    const nodes = markers.map(({ node }) => node);
    for (const node of [...this.layer.children]) if (!nodes.includes(node)) node.remove();
    for (const node of nodes) if (!node.parentElement) this.layer.append(node); // moving one would take its focus
    this.draw();
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.stage.clientWidth) this.drawNow();
    });
  }

  async drawNow() {
    try {
      this.outline ??= await loadOutline();
    } catch (error) {
      return this.on.failed(error);
    }
    const { camera, canvas } = this, { width, height } = camera, context = canvas.getContext("2d", CANVAS);
    const [w, h] = [width, height].map((size) => Math.round(size * devicePixelRatio));
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    const colors = colorsOf(this.stage);
    drawOutline(context, this.outline, camera, colors);
    drawGrid(context, camera, colors);
    drawBoxes(context, this.boxes, camera, colors);
    drawScale(context, camera, colors);
    const taken = this.place();
    drawTowns(context, this.towns, camera, colors, taken);
  }

  // Move the elements to their places. Returns the rectangles that they take. During a drag only their layer moves, which
  // the browser need not paint again.
  place() {
    const { camera, layer, markers } = this, { width, height, scale } = camera;
    const dragged = camera.toWindow(this.placed), [x, y] = [dragged.x - width / 2, dragged.y - height / 2];
    const points = markers.map((marker) => camera.toWindow(marker));
    if (this.placed.scale === scale && Math.abs(x) < width / 4) layer.style.transform = `translate(${x}px, ${y}px)`;
    else {
      layer.style.transform = "";
      points.forEach((point, n) => { markers[n].node.style.transform = `translate(${point.x}px, ${point.y}px) translate(-50%, -50%)`; });
      this.placed = { x: camera.x, y: camera.y, scale };
    }
    return points.map((point, n) => {
      const half = markers[n].size / 2;
      return [point.x - half, point.y - half, point.x + half, point.y + half];
    });
  }
}

export function colorsOf(node) {
  const style = getComputedStyle(node);
  return Object.fromEntries(["water", "land", "coast", "border", "grid", "text", "dim", "mark"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
}

// Meridians and parallels, at least so far apart.
function drawGrid(context, camera, colors) {
  const degree = camera.scale / 360, [south, west, north, east] = camera.box();
  const step = GRID.filter((degrees) => degrees * degree >= LINE_ROOM).at(-1) ?? GRID[0];
  const line = (from, to) => { context.moveTo(...from); context.lineTo(...to); };
  context.beginPath();
  for (let n = Math.ceil(west / step); n * step <= (west > east ? east + 360 : east); n += 1) {
    const x = Math.round(camera.toWindow(project(0, n * step)).x) + 0.5;
    line([x, 0], [x, camera.height]);
  }
  for (let n = Math.ceil(south / step); n * step <= north; n += 1) {
    const y = Math.round(camera.toWindow(project(n * step, 0)).y) + 0.5;
    line([0, y], [camera.width, y]);
  }
  context.strokeStyle = colors.grid;
  context.lineWidth = 1;
  context.stroke();
}

// Boxes, each [south, west, north, east].
function drawBoxes(context, boxes, camera, colors) {
  context.strokeStyle = colors.mark;
  context.lineWidth = 2;
  for (const { x, y, width, height } of boxes.map(rectangle)) {
    const middle = camera.toWindow({ x: x + width / 2, y });
    context.strokeRect(middle.x - (width * camera.scale) / 2, middle.y, width * camera.scale, height * camera.scale);
  }
}

// A bar of a round length, in the lower left corner.
function drawScale(context, camera, colors) {
  const most = SCALE_ROOM * camera.metresPerPixel, power = 10 ** Math.floor(Math.log10(most));
  const metres = power * [5, 2, 1].find((digit) => digit * power <= most), length = metres / camera.metresPerPixel;
  const [x, y] = [12, camera.height - 12];
  context.beginPath();
  for (const [n, [across, up]] of [[0, 5], [0, 0], [length, 0], [length, 5]].entries()) context[n ? "lineTo" : "moveTo"](x + across, y - up);
  context.strokeStyle = colors.text;
  context.lineWidth = 1.5;
  context.stroke();
  write(context, metres < 1000 ? `${metres} m` : `${(metres / 1000).toLocaleString("en")} km`, x + 2, y - 12, colors);
}

// The names of towns, largest first, where there is room.
function drawTowns(context, towns, camera, colors, taken) {
  for (const { name, width, x, y } of towns) {
    const point = camera.toWindow({ x, y });
    const box = [point.x - 4, point.y - TEXT_HEIGHT / 2, point.x + 8 + width, point.y + TEXT_HEIGHT / 2];
    const isFree = box[0] > 0 && box[2] < camera.width && taken.every(([left, top, right, bottom]) => box[2] < left || box[0] > right || box[3] < top || box[1] > bottom);
    if (!isFree) continue;
    taken.push(box);
    context.beginPath();
    context.arc(point.x, point.y, 2, 0, 2 * Math.PI);
    context.fillStyle = colors.dim;
    context.fill();
    write(context, name, point.x + 6, point.y, colors);
  }
}

function write(context, text, x, y, colors) {
  context.font = FONT;
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.strokeStyle = colors.land;
  context.strokeText(text, x, y);
  context.fillStyle = colors.text;
  context.fillText(text, x, y);
}
