// The tile of a photo in the grid.

import { clock, count, dateTime, element, icon, percent, videoLength } from "./dom.js";
import { thumbnailUrl } from "./server.js";

const isKnown = (value) => value !== null && value !== undefined;
// What marks a video: its length and, if a query found it, where.
const videoLabel = (photo, hit) => {
  const length = videoLength(photo);
  return length && (isKnown(hit?.score) && isKnown(photo.time) ? `${length} · at ${clock(photo.time)}` : length);
};
// How sure the match is, to show and to say: its confidence, or what has the words of the query.
const certainty = (hit) => {
  const literal = hit.why.find(({ kind }) => !["look", "name", "generated_caption"].includes(kind));
  if (literal) return { shown: literal.kind, said: `matches by ${literal.kind}` };
  return isKnown(hit.confidence) ? { shown: percent(hit.confidence), said: `confidence ${percent(hit.confidence)}` } : null;
};

// The place of a photo that is still being loaded.
export const createSkeleton = () => element("li", { class: "tile pending", "aria-hidden": "true" });

// `on` has the callbacks of `Grid`, and loaded(image), when an image was loaded or could not be.
export function createTile(item, on) {
  const { photo, hit } = item;
  const image = element("img", { "data-src": thumbnailUrl(photo.id), alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => { image.classList.add("loaded"); on.loaded(image); });
  image.addEventListener("error", () => { if (image.hasAttribute("src")) tile.classList.add("missing"); on.loaded(image); });
  const tile = element("li", { class: "tile" });
  const index = () => Number(tile.dataset.index);
  const open = element("a", { class: "open", href: on.url(photo), tabindex: "-1", draggable: "false" }, image,
    element("span", { class: "caption", "aria-hidden": "true" }, element("bdi", {}, photo.name),
      certainty(hit) ? element("b", {}, certainty(hit).shown) : null));
  open.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.button) return;
    event.preventDefault();
    const isEnter = event.detail === 0; // always opens; a click selects while others are selected
    if (!isEnter && (event.shiftKey || on.hasSelection())) on.select(index(), event.shiftKey); else on.open(index());
  });
  const select = element("button", { type: "button", class: "select", tabindex: "-1", "aria-pressed": "false", onclick: (event) => on.select(index(), event.shiftKey) }, icon("check"));
  select.setAttribute("aria-label", `Select ${photo.name}`);
  const video = videoLabel(photo, item.isCopy ? null : hit);
  if (video) open.append(element("span", { class: "video", "aria-hidden": "true" }, video));
  tile.append(open, select);
  if (item.copies) {
    const label = `${item.isExpanded ? "Hide" : "Show"} ${count(item.copies, "copy", "copies")}`;
    tile.append(element("button", { type: "button", class: "group", tabindex: "-1", "aria-expanded": String(Boolean(item.isExpanded)), "aria-label": label, title: label, onclick: () => on.toggleGroup(index()) }, item.isExpanded ? "–" : `+${item.copies}`));
  }
  if (item.isCopy) tile.classList.add("copy");
  return tile;
}

export function placeTile(tile, n, box) {
  tile.style.transform = `translate(${box.x}px, ${box.y}px)`;
  tile.style.width = `${box.w}px`;
  tile.style.height = `${box.h}px`;
  tile.dataset.index = n;
}

// `state` has the number of results, and whether the photo is the current one and selected.
export function updateTile(tile, n, item, { total, isCurrent, isSelected }) {
  const [open, select] = tile.children;
  tile.setAttribute("aria-posinset", n + 1);
  tile.setAttribute("aria-setsize", total);
  tile.classList.toggle("selected", isSelected);
  open.tabIndex = isCurrent ? 0 : -1;
  open.setAttribute("aria-label", label(item, n));
  select.setAttribute("aria-pressed", String(isSelected));
}

function label({ photo, hit, isCopy }, n) {
  const parts = [photo.name, isCopy ? `copy of number ${hit.rank}` : `number ${hit.rank ?? n + 1}`];
  if (certainty(hit) && !isCopy) parts.push(certainty(hit).said);
  const video = videoLabel(photo, isCopy ? null : hit);
  if (video) parts.push(`video ${video}`);
  parts.push(dateTime(photo.date).slice(0, 10));
  if (photo.place) parts.push(photo.place.title);
  return parts.join(", ");
}
