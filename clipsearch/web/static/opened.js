// Which photo is in the large view: one of the results, or one that the URL names.

import { allTerms, fileOf, filterValues, idOf, photoName, termParams, withFilters } from "./address.js";
import { imageNames } from "./chips.js";
import { byId } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { openMapAt } from "./photomap.js";
import { grid } from "./results.js";
import { get } from "./server.js";
import { change, question, visit } from "./state.js";
import { Viewer } from "./viewer.js";

export const viewer = new Viewer({
  step,
  closed,
  labels: () => question.labels,
  terms: () => [...termParams(question), ...filterValues(question, "reads").map((words) => ["reads", words])],
  searchBy,
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

// Show a photo. Promises whether there is one.
export async function open(n, replace = false) {
  if (n >= grid.items.length) await grid.on.loadMore();
  if (n < 0 || n >= grid.items.length) return false;
  grid.moveTo(n, false);
  grid.scrollIntoView(n);
  const { photo, hit } = grid.items[n];
  shown = photo.file;
  change({ ...question, photo: photoName(photo) }, replace || viewer.isOpen);
  viewer.show(photo, hit, { previous: grid.items[n - 1]?.photo, next: grid.items[n + 1]?.photo });
  if (n > grid.items.length - 5) grid.on.loadMore();
  return true;
}

async function step(by) {
  const n = grid.indexOf(shown);
  return n >= 0 && open(n + by, true);
}

function closed() {
  if (question.photo) change({ ...question, photo: "" });
  const n = grid.indexOf(shown);
  if (n >= 0) grid.moveTo(n); // the browser restores the focus to the photo that was opened first
}

// Show the photo in the URL, which need not be among the results.
export async function openFromUrl() {
  if (!question.photo) return viewer.close();
  const n = grid.indexOf(fileOf(question.photo));
  if (n >= 0) return open(n, true);
  try {
    const { photos: [photo] } = await get(`/photo/${encodeURIComponent(idOf(question.photo))}`, [["file", fileOf(question.photo)]]);
    succeeded("photo");
    shown = photo.file;
    viewer.show(photo, null, {});
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
