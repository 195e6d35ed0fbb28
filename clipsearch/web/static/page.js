// Ties the parts of the page together. The URL holds the question, and everything else follows from it.

import { byId, number } from "./dom.js";
import { fromUrl } from "./address.js";
import { showFilters } from "./filters.js";
import "./images.js";
import { follow } from "./indexing.js";
import { listen } from "./keyboard.js";
import { showLabelField } from "./labels.js";
import { open, openFromUrl, searchBy, viewer } from "./opened.js";
import { toggle } from "./panels.js";
import { grid, search } from "./results.js";
import { showTerms } from "./searchbox.js";
import { Selection, copyPaths } from "./selection.js";
import { change, connect, placeInUrl, question } from "./state.js";
import { showSwitches } from "./toolbar.js";

const UNSCROLLED = 200; // pixels

const selection = new Selection(() => {
  byId("selection").hidden = !selection.size;
  byId("selection-count").textContent = `${number(selection.size)} selected`;
  grid.render();
});

function select(n, extend = false) {
  selection.toggle(grid.items.map(({ photo }) => photo), n, extend);
  grid.moveTo(n, false);
}

// The selected photos, or else the current one.
function copyChosen() {
  const current = grid.items[grid.current]?.photo;
  if (viewer.isOpen) copyPaths([viewer.photo]);
  else if (selection.size || current) copyPaths(selection.size ? [...selection.photos.values()] : [current]);
}

function clearSelection() {
  const had = selection.size > 0;
  if (had) selection.clear();
  return had;
}

function showQuestion() {
  showTerms();
  showFilters();
  showSwitches();
  showLabelField();
}

function showResults(how) {
  showQuestion();
  return search(how);
}

Object.assign(grid.on, { open, select, hasSelection: () => selection.size > 0, isSelected: (photo) => selection.has(photo) });
connect({ results: showResults, respelled: showTerms, travelled: openFromUrl }, () => grid.place());
listen({
  grid, viewer, select, clearSelection,
  searchBy: (n, kind) => searchBy(viewer.isOpen ? viewer.photo : grid.items[n].photo, kind),
  copy: copyChosen,
});

byId("home").addEventListener("click", (event) => {
  event.preventDefault();
  change(fromUrl(""));
  byId("text").focus();
});
byId("copy-paths").addEventListener("click", copyChosen);
byId("clear-selection").addEventListener("click", clearSelection);
byId("help-button").addEventListener("click", () => byId("help").showModal());

// The heights that sticky parts and messages keep clear of.
for (const part of ["header", "footer"]) {
  const element = document.querySelector(part);
  new ResizeObserver(() => document.documentElement.style.setProperty(`--${part}`, `${element.offsetHeight}px`)).observe(element);
}

if (question.labels.length) toggle("labels", true, false);
const isUntouched = () => scrollY < UNSCROLLED && !viewer.isOpen && !selection.size && !grid.hasFocus;
await Promise.all([follow(isUntouched), showResults({ place: placeInUrl() })]);
if (question.photo) await openFromUrl();
else if (document.activeElement === document.body) byId("text").focus({ preventScroll: true });
document.body.dataset.ready = "";
