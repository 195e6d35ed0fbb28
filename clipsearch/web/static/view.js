// How photos are shown, for any question: their size, and headings for months or days. This browser remembers it.

import { byId } from "./dom.js";
import { grid } from "./results.js";

const KEY = "clipsearch-view", STEP = 1.25; // of the height of rows
const size = byId("photo-size"), byDay = byId("by-day");

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // not allowed, or not ours
  }
}

function show() {
  grid.density = STEP ** Number(size.value);
  grid.byDay = byDay.checked;
  grid.layout();
}

function changed() {
  show();
  try {
    localStorage.setItem(KEY, JSON.stringify({ size: size.value, byDay: byDay.checked }));
  } catch {
    // it lasts as long as the page
  }
}

const { size: chosen = 0, byDay: isByDay = false } = remembered();
size.value = chosen;
byDay.checked = isByDay;
show();
size.addEventListener("input", changed);
byDay.addEventListener("change", changed);
