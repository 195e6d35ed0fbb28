// A small map with a dot where a photo was taken.

import { element } from "./dom.js";
import { colorsOf } from "./mapview.js";
import { Camera, project } from "./mercator.js";
import { drawOutline, loadOutline } from "./outline.js";

const ZOOM = 4, DOT = 6; // pixels

export function miniMap({ latitude, longitude }, open) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const node = element("button", { type: "button", class: "mini-map", "aria-label": "Show on the map", title: "Show on the map", onclick: open }, canvas);
  draw();
  return node;

  async function draw() {
    let outline;
    try {
      outline = await loadOutline();
    } catch {
      return node.remove(); // the coordinates are beside it
    }
    const camera = new Camera(), context = canvas.getContext("2d", { alpha: false });
    const resized = new ResizeObserver(() => {
      if (!canvas.clientWidth) return;
      Object.assign(canvas, { width: canvas.clientWidth * devicePixelRatio, height: canvas.clientHeight * devicePixelRatio });
      camera.resize(canvas.clientWidth, canvas.clientHeight);
      camera.lookAt(latitude, longitude, ZOOM);
      context.scale(devicePixelRatio, devicePixelRatio);
      const colors = colorsOf(canvas), { x, y } = camera.toWindow(project(latitude, longitude));
      drawOutline(context, outline, camera, colors);
      context.beginPath();
      context.arc(x, y, DOT, 0, 2 * Math.PI);
      context.fillStyle = colors.mark;
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = colors.land;
      context.stroke();
    });
    resized.observe(canvas);
  }
}
