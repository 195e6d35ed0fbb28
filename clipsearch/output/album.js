const figures = [...document.querySelectorAll("figure")];
const viewer = document.querySelector("dialog");
const [picture, count, about, close, previous, next] = ["img", ".count", ".about", ".close", ".previous", ".next"]
  .map((selector) => viewer.querySelector(selector));
let at = -1;

// The address says which photo is open, so that the Back button closes the viewer.
function show() {
  const to = figures.findIndex((figure) => `#${figure.id}` === location.hash);
  if (to < 0) { viewer.close(); return; }
  at = to;
  const shown = figures[at].querySelector("img");
  picture.src = shown.src;
  picture.alt = shown.alt;
  count.textContent = `${at + 1} / ${figures.length}`;
  about.replaceChildren(...figures[at].querySelector("figcaption").cloneNode(true).childNodes);
  previous.disabled = at === 0;
  next.disabled = at === figures.length - 1;
  if (!viewer.open) viewer.showModal();
  if (document.activeElement === document.body) close.focus();
}

function go(to) {
  if (figures[to]) location.replace(`#${figures[to].id}`);
}

addEventListener("hashchange", show);
viewer.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  picture.removeAttribute("src");
  figures[at].querySelector("a").focus();
});
viewer.addEventListener("click", ({ target }) => {
  if (target === previous) go(at - 1);
  else if (target === next) go(at + 1);
  else if (target === close || target === viewer) viewer.close();
});
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: figures.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  go(to);
});

let start = null;
viewer.addEventListener("touchstart", ({ touches }) => {
  start = touches.length === 1 && visualViewport.scale === 1 ? touches[0] : null;  // zoomed in, a finger pans
}, { passive: true });
viewer.addEventListener("touchend", ({ changedTouches: [end] }) => {
  const across = start ? end.clientX - start.clientX : 0, down = start ? end.clientY - start.clientY : 0;
  if (Math.abs(across) > Math.max(40, 2 * Math.abs(down))) go(at - Math.sign(across));
});
show();
