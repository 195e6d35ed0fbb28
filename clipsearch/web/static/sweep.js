// Selecting a range of tiles with the pointer: dragging with a mouse, or a long press on a touch screen.

const FAR = 8; // pixels that make a press a drag
const LONG_MS = 450, EDGE = 60, STEP = 18; // near the edges of the window it scrolls by `STEP` a frame

// `on` has the callbacks start(index) and extend(index).
export function sweep(list, on) {
  let pressed = null, timer = 0, frame = 0, justSwept = false;

  const tileAt = ({ clientX, clientY }) => document.elementFromPoint(clientX, clientY)?.closest("#photos .tile");
  const indexOf = (tile) => Number(tile.dataset.index);

  function begin() {
    pressed.isSweeping = true;
    document.body.classList.add("sweeping");
    on.start(pressed.index);
    frame = requestAnimationFrame(scrollAtEdge);
  }

  function extend() {
    const tile = tileAt(pressed.last);
    if (tile && indexOf(tile) !== pressed.reached) on.extend(pressed.reached = indexOf(tile));
  }

  function scrollAtEdge() {
    const { clientY } = pressed.last, below = innerHeight - document.querySelector("footer").offsetHeight;
    const top = document.querySelector("header").getBoundingClientRect().bottom;
    const by = clientY < top + EDGE ? -STEP : clientY > below - EDGE ? STEP : 0;
    if (by && pressed.hasMoved) {
      scrollBy({ top: by, behavior: "instant" });
      extend();
    }
    frame = requestAnimationFrame(scrollAtEdge);
  }

  function end() {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    if (pressed?.isSweeping) {
      document.body.classList.remove("sweeping");
      justSwept = true;
      setTimeout(() => { justSwept = false; }); // after the click that ends it
    }
    pressed = null;
  }

  list.addEventListener("pointerdown", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile || event.button || !event.isPrimary || event.target.closest("button")) return;
    pressed = { index: indexOf(tile), reached: indexOf(tile), id: event.pointerId, first: event, last: event, isTouch: event.pointerType !== "mouse", hasMoved: false, isSweeping: false };
    if (pressed.isTouch) timer = setTimeout(begin, LONG_MS);
  });
  addEventListener("pointermove", (event) => {
    if (!pressed || event.pointerId !== pressed.id) return;
    pressed.last = event;
    if (Math.hypot(event.clientX - pressed.first.clientX, event.clientY - pressed.first.clientY) > FAR) {
      pressed.hasMoved = true;
      if (!pressed.isSweeping && pressed.isTouch) return end(); // it scrolls
      if (!pressed.isSweeping && !event.shiftKey && !event.ctrlKey && !event.metaKey) begin();
    }
    if (pressed?.isSweeping) extend();
  });
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
  // While a finger sweeps, the page must not scroll by itself, nor show the menu of a link.
  list.addEventListener("touchmove", (event) => { if (pressed?.isSweeping) event.preventDefault(); }, { passive: false });
  list.addEventListener("contextmenu", (event) => { if (pressed?.isTouch) event.preventDefault(); });
  list.addEventListener("click", (event) => {
    if (!justSwept) return;
    event.preventDefault();
    event.stopPropagation();
  }, { capture: true });
}
