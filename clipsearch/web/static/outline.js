// The coasts and borders of the world. They are in one file, which `scripts/make_outline.py` describes.

import { project } from "./mercator.js";
import { getBytes } from "./server.js";

const UNITS = 200; // of a degree
const DETAIL = 2; // pixels: what is smaller is left out
let loading = null;

// The outline, which is loaded once.
export function loadOutline() {
  loading ??= getBytes("/static/outline.bin").then(decoded);
  loading.catch(() => { loading = null; });
  return loading;
}

function decoded(buffer) {
  const bytes = new Uint8Array(buffer);
  let at = 0;
  const next = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      value |= (bytes[at] & 127) << shift;
      if (bytes[at++] < 128) return value;
    }
  };
  const step = () => { const value = next(); return value & 1 ? -(value + 1) / 2 : value / 2; };
  const line = () => {
    const points = new Float64Array(2 * next()), box = { west: Infinity, east: -Infinity, north: Infinity, south: -Infinity };
    for (let n = 0, longitude = 0, latitude = 0; n < points.length; n += 2) {
      longitude += step();
      latitude += step();
      const { x, y } = project(latitude / UNITS, longitude / UNITS);
      points[n] = x;
      points[n + 1] = y;
      Object.assign(box, { west: Math.min(box.west, x), east: Math.max(box.east, x), north: Math.min(box.north, y), south: Math.max(box.south, y) });
    }
    return { points, ...box };
  };
  const lines = () => Array.from({ length: next() }, line);
  return { land: lines(), borders: lines() };
}

// Draw what a camera sees.
export function drawOutline(context, { land, borders }, camera, colors) {
  const { width, height } = camera;
  context.fillStyle = colors.water;
  context.fillRect(0, 0, width, height);
  context.lineJoin = "round";
  trace(context, land, camera, true);
  context.fillStyle = colors.land;
  context.fill("evenodd");
  context.lineWidth = 1;
  context.strokeStyle = colors.coast;
  context.stroke();
  trace(context, borders, camera, false);
  context.strokeStyle = colors.border;
  context.stroke();
}

function trace(context, lines, camera, isClosed) {
  const half = camera.width / camera.scale / 2, top = camera.y - camera.height / camera.scale / 2, bottom = camera.y + camera.height / camera.scale / 2;
  context.beginPath();
  for (const line of lines) {
    if (line.south < top || line.north > bottom || Math.max(line.east - line.west, line.south - line.north) * camera.scale < DETAIL) continue;
    for (const turn of [-1, 0, 1]) {
      if (line.east + turn > camera.x - half && line.west + turn < camera.x + half) traceLine(context, line.points, turn, camera, isClosed);
    }
  }
}

// The line without the points that make no difference: those close to the last, and all but the first and last
// of a run on one side of the window.
function traceLine(context, points, turn, { x: centerX, y: centerY, scale, width, height }, isClosed) {
  let [lastX, lastY, side, isHeld] = [0, 0, 0, false];
  for (let n = 0; n < points.length; n += 2) {
    const x = width / 2 + (points[n] + turn - centerX) * scale, y = height / 2 + (points[n + 1] - centerY) * scale;
    const isEnd = n === 0 || n === points.length - 2;
    if (!isEnd && Math.abs(x - lastX) + Math.abs(y - lastY) < DETAIL) continue;
    const sides = (x < 0 ? 1 : x > width ? 2 : 0) | (y < 0 ? 4 : y > height ? 8 : 0);
    if (n === 0) context.moveTo(x, y);
    else if (side & sides) isHeld = true;
    else {
      if (isHeld) context.lineTo(lastX, lastY);
      isHeld = false;
      context.lineTo(x, y);
    }
    side = isHeld ? side & sides : sides;
    [lastX, lastY] = [x, y];
  }
  if (isHeld) context.lineTo(lastX, lastY);
  if (isClosed) context.closePath();
}
