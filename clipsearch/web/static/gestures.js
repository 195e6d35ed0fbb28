// Mouse, wheel and fingers on the large view: zoom, pan, swipe, and clicks beside the photo.

const SLOP = 8; // pixels that a click may move
const SWIPE = 50; // pixels
const WHEEL = 0.002, PINCH = 0.01; // change of the scale per pixel; browsers report pinching a touchpad as Ctrl with a wheel
const LINE = 16; // pixels, of wheels that count lines

// `on` has the callbacks: swiped(x, y), with the direction as -1, 0 or 1, and beside(), a click beside the photo. On
// what lies in `layer`, if given, the gestures work, too.
export function listen(stage, picture, zoom, on = {}, layer = null) {
  const fingers = new Map(); // by pointer; the last position of each
  let start = null, hasMoved = false, isPinch = false;
  // A finger of a pinch or swipe may come down on a button; a touch that does not move still clicks it.
  const isOurs = ({ target, pointerType }) => target === stage || target === picture || Boolean(layer?.contains(target))
    || (pointerType === "touch" && target.closest(".overlay, .view-tools"));

  stage.addEventListener("pointerdown", (event) => {
    if (!isOurs(event) || event.button) return;
    if (!fingers.size) [start, hasMoved, isPinch] = [at(event), false, false];
    fingers.set(event.pointerId, at(event));
    if (fingers.size > 1) isPinch = hasMoved = true;
  });

  stage.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId), now = at(event);
    if (!last) return;
    if (!hasMoved && distance(start, now) < SLOP) return;
    if (!hasMoved) stage.setPointerCapture(event.pointerId);
    hasMoved = true;
    if (fingers.size > 1) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      const middle = between(other, now), before = between(other, last);
      zoom.by(distance(other, now) / Math.max(1, distance(other, last)), middle);
      zoom.pan(middle.x - before.x, middle.y - before.y);
    } else if (zoom.isZoomed) zoom.pan(now.x - last.x, now.y - last.y);
    else if (isSwipe(event)) picture.style.translate = `${now.x - start.x}px 0`;
    fingers.set(event.pointerId, now);
  });

  const lift = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    picture.style.translate = "";
    if (event.type === "pointercancel" || !hasMoved || !isSwipe(event) || zoom.isZoomed || fingers.size) return;
    const x = event.clientX - start.x, y = event.clientY - start.y;
    if (Math.max(Math.abs(x), Math.abs(y)) < SWIPE) return;
    if (Math.abs(x) > Math.abs(y)) on.swiped(Math.sign(x), 0); else on.swiped(0, Math.sign(y));
  };
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);

  stage.addEventListener("click", ({ target }) => {
    if (target === stage && !hasMoved && !zoom.isZoomed) on.beside();
  });
  stage.addEventListener("dblclick", (event) => { if (event.target === picture) zoom.toggle(at(event)); });
  stage.addEventListener("wheel", (event) => {
    if (!isOurs(event)) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : LINE);
    zoom.by(Math.exp(-pixels * (event.ctrlKey ? PINCH : WHEEL)), at(event));
  }, { passive: false });

  const isSwipe = ({ pointerType }) => pointerType !== "mouse" && !isPinch;
}

const at = ({ clientX, clientY }) => ({ x: clientX, y: clientY });
const between = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
