// Which photo is in the large view: one of the results, or one that the URL names.

import { allTerms, fileOf, filterValues, idOf, photoName, termParams, withFilters } from "./address.js";
import { imageNames } from "./chips.js";
import { byId } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { openMapAt } from "./photomap.js";
import { grid } from "./results.js";
import { get } from "./server.js";
import { change, question, visit } from "./state.js";
import { trash } from "./trash.js";
import { Viewer } from "./viewer.js";

export const viewer = new Viewer({
  step,
  closed,
  labels: () => question.labels,
  terms: () => [...termParams(question), ...filterValues(question, "reads").map((words) => ["reads", words])],
  firstText: () => allTerms(question).find(({ kind }) => kind === "text")?.value ?? "",
  searchBy,
  trash: trashShown,
  searchNear: (photo) => { viewer.close(); change(withFilters(question, { near: `${photo.latitude},${photo.longitude}` })); },
  showOnMap: (photo) => {
    byId("viewer").addEventListener("close", () => openMapAt(photo), { once: true });
    viewer.close();
  },
  showFolder: (event, folder) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window
    event.preventDefault();
    viewer.close();
    visit(folder);
  },
});
let shown = ""; // the file in the large view

// Show a photo. Promises whether it exists.
export async function open(n, replace = false) {
  const item = await grid.results.load(n);
  if (!item) return false;
  const { photo, hit } = item;
  grid.moveTo(n, false);
  grid.scrollIntoView(n);
  shown = photo.file;
  change({ ...question, photo: photoName(photo) }, replace || viewer.isOpen);
  const neighbours = [n - 1, n + 1].map((other) => grid.item(other)?.photo).filter(Boolean);
  viewer.show(photo, hit, { hasPrevious: n > 0, hasNext: n + 1 < grid.length || grid.results.total < 0, neighbours });
  return true;
}

async function step(by) {
  const n = grid.indexOf(shown);
  return n >= 0 && open(n + by, true);
}

// Move the photo in the large view to the trash, and show the next one, or else the one before.
async function trashShown(photo) {
  const n = grid.indexOf(photo.file);
  const other = n < 0 ? undefined : (grid.item(n + 1) ?? grid.item(n - 1))?.photo; // its number changes when the results do
  if (!await trash(photo) || !viewer.isOpen) return;
  if (!other || !await open(grid.indexOf(other.file), true)) viewer.close();
}

function closed() {
  if (question.photo) change({ ...question, photo: "" });
  const n = grid.indexOf(shown);
  if (n >= 0) grid.moveTo(n); // the browser restores the focus to the photo that was opened first
}

// Show the photo in the URL, which need not be among the results.
export async function openFromUrl() {
  if (!question.photo) return viewer.close();
  const n = await grid.results?.find(question.photo, fileOf(question.photo)) ?? -1;
  if (n >= 0 && await open(n, true)) return;
  try {
    const { photos: [photo] } = await get(`/photo/${encodeURIComponent(idOf(question.photo))}`, [["file", fileOf(question.photo)]]);
    succeeded("photo");
    shown = photo.file;
    viewer.show(photo, null, { hasPrevious: false, hasNext: false, neighbours: [] });
  } catch (error) {
    change({ ...question, photo: "" }, true);
    showError("photo", error);
  }
}

// "More like this" starts a new search; "less like this" narrows the current one.
export function searchBy(photo, kind) {
  imageNames.set(photo.id, photo.name);
  viewer.close();
  const terms = kind === "like" ? [{ kind, value: photo.id }] : [...allTerms(question), { kind, value: photo.id }];
  change({ ...question, terms, draft: "", photo: "" });
}
