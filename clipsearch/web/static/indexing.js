// Follows the index while it is created and changed, and the server while it is away.

import { loadPeople } from "./circles.js";
import { byId, count, number } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { showNoPhotos } from "./messages.js";
import { forget } from "./pickers.js";
import { clear, grid, search, timeline } from "./results.js";
import { get } from "./server.js";
import { question } from "./state.js";

const EVERY_MS = 2000;
let version = null, isAway = false; // the version of the index whose results are shown

// `isUntouched()`: new results would lose no place, photo or selection.
export async function follow(isUntouched) {
  const again = () => poll(isUntouched);
  setInterval(again, EVERY_MS);
  document.addEventListener("visibilitychange", again);
  byId("refresh").addEventListener("click", () => { byId("refresh").hidden = true; search({ place: grid.place() }); });
  await again();
}

async function poll(isUntouched) {
  if (document.hidden && version !== null) return;
  let status;
  try {
    status = await get("/status");
    succeeded("status");
  } catch (error) {
    isAway = true;
    return showError("status", error);
  }
  byId("indexing").hidden = !status.writing;
  byId("indexing-text").textContent = status.total ? `Indexing: ${number(status.done)} of ${count(status.total, "photo")}` : `Indexing: ${count(status.photos, "photo")} so far`;
  document.body.classList.toggle("no-photos", status.state !== "ready");
  const isNew = status.version !== version, isFirst = version === null, wasEmpty = !version;
  version = status.state === "ready" ? status.version : "";
  if (status.state !== "ready") {
    clear();
    showNoPhotos(status);
    byId("timeline").hidden = true;
  } else if (isNew) {
    await showChanged();
    if (isFirst) return; // the page searches by itself
    loadPeople();
    if (wasEmpty || isUntouched()) await search();
    else byId("refresh").hidden = false; // results must not move under the reader
  } else if (isAway) {
    await search({ place: grid.place() });
  }
  isAway = false;
}

async function showChanged() {
  const otherFilters = question.filters.filter(([name]) => name !== "after" && name !== "before");
  try {
    timeline.setAll(await get("/months", otherFilters));
    forget();
  } catch (error) {
    showError("status", error);
  }
}
