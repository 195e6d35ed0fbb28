// Ties the parts of the page together. The URL has the question, and everything else follows from it.

import { close as closeAction, connectActions, showSelection } from "./actions.js";
import { fileOf, fromUrl } from "./address.js";
import { loadPeople, showPeople } from "./circles.js";
import { byId } from "./dom.js";
import { showError } from "./feedback.js";
import { showFilters } from "./filters.js";
import "./images.js";
import { follow } from "./indexing.js";
import { listen } from "./keyboard.js";
import { showLabelField } from "./labels.js";
import { open, openFromUrl, searchBy, viewer } from "./opened.js";
import { toggle } from "./panels.js";
import { showPickers } from "./pickers.js";
import { allMatches, grid, photosBetween, search } from "./results.js";
import { showTerms } from "./searchbox.js";
import { close as closeSearches } from "./searches.js";
import { showMap } from "./photomap.js";
import { Selection, copyPaths } from "./selection.js";
import { change, connect, placeInUrl, question } from "./state.js";
import { prepare } from "./suggest.js";
import { sweep } from "./sweep.js";
import { showSwitches } from "./toolbar.js";
import { connect as connectUndo } from "./undo.js";
import "./view.js";

const UNSCROLLED = 200; // pixels

const selection = new Selection(() => {
  showSelection();
  grid.render();
});
connectActions(selection);
connectUndo((gone) => {
  if (gone.length) selection.remove(gone);
  if (gone.some(({ file }) => file === fileOf(question.photo))) change({ ...question, photo: "" }, true);
  viewer.refresh();
  return search({ place: grid.place() });
});
let extending = 0; // numbers the extensions of a range: the last one counts

// Select or deselect a photo; with `extend`, all from the last one to this.
function select(n, extend = false) {
  const item = grid.item(n);
  if (!item) return; // not loaded yet
  if (extend) extendTo(n); else selection.toggle(item.photo);
  grid.moveTo(n, false);
}

async function extendTo(n) {
  const ownTurn = extending += 1;
  const anchor = grid.indexOf(selection.anchor), from = anchor < 0 ? n : anchor;
  const range = await photosBetween(Math.min(n, from), Math.max(n, from));
  if (!range || ownTurn !== extending) return;
  const end = range[n < from ? 0 : range.length - 1];
  if (anchor < 0) selection.startAt(end);
  selection.extendTo(range, end);
}

// Select from the current photo to another, and go there.
function selectTo(n) {
  const photo = grid.item(grid.current)?.photo;
  if (!photo) return;
  if (selection.end !== photo.file) selection.startAt(photo);
  const target = Math.min(Math.max(0, n), grid.length - 1);
  extendTo(target);
  grid.moveTo(target);
}

async function selectAll() {
  try {
    const found = await allMatches();
    if (found) selection.replace(found.photos, found.command);
  } catch (error) {
    showError("selection", error);
  }
}

// The paths of the selected photos, or else of the current one.
function copyChosen() {
  const current = grid.item(grid.current)?.photo;
  if (viewer.isOpen) copyPaths([viewer.photo]);
  else if (selection.size) copyPaths([...selection.photos.values()]);
  else if (current) copyPaths([current]);
}

// Close the form of an action, or else clear the selection. Returns whether there was anything.
function clearSelection() {
  if (closeAction()) return true;
  const had = selection.size > 0;
  if (had) selection.clear();
  return had;
}

function showQuestion() {
  showTerms();
  showFilters();
  showPickers();
  showPeople();
  showSwitches();
  showLabelField();
  showMap();
  byId("duplicates-link").href = question.filters.length ? `/duplicates?${new URLSearchParams(question.filters)}` : "/duplicates";
}

function travelled() {
  showMap();
  return openFromUrl();
}

function showResults(how) {
  showQuestion();
  return search(how);
}

Object.assign(grid.on, { open, select, hasSelection: () => selection.size > 0, isSelected: (photo) => selection.has(photo) });
connect({ results: showResults, respelled: showTerms, travelled }, () => grid.place());
listen({
  grid, viewer, select, selectTo, selectAll, clearSelection, closeSearches,
  searchBy: (n, kind) => searchBy(viewer.isOpen ? viewer.photo : grid.item(n).photo, kind),
  copy: copyChosen,
});

byId("home").addEventListener("click", (event) => {
  event.preventDefault();
  change(fromUrl(""));
  showMap();
  byId("text").focus();
});
byId("select-all").addEventListener("click", selectAll);
byId("clear-selection").addEventListener("click", () => selection.clear());
sweep(byId("photos"), {
  start: (n) => { if (grid.item(n)) selection.startAt(grid.item(n).photo); select(n, true); },
  extend: (n) => select(n, true),
});
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
loadPeople(); // photos come first
prepare();
