// Moving photos to the system's trash, where the server allows it.

import { photoName } from "./address.js";
import { byId, count } from "./dom.js";
import { clearError, showError, succeeded } from "./feedback.js";
import { act } from "./server.js";
import { moved } from "./undo.js";

export const isAllowed = "allowDelete" in document.documentElement.dataset;
const SIDECARS = "Sidecars (XMP, AAE, Google Takeout JSON) go along; RAW files and videos of the same shot stay.";

// What is about to happen to a number of photos.
export const note = (photos) => `Moves ${count(photos, "photo")} to the system's trash. ${SIDECARS}`;

// Ask, then move one photo. Promises whether it was moved.
export async function trash(photo) {
  if (!await confirmed(photo)) return false;
  clearError("trash");
  try {
    const done = await act("trash", { photos: [photoName(photo)], value: "" });
    succeeded("trash");
    await moved(done, [photo]);
    return true;
  } catch (error) {
    showError("trash", error);
    return false;
  }
}

let settle = () => {}; // the question that is open

function confirmed({ name }) {
  const dialog = byId("confirm-trash");
  settle(false); // the "close" event of an earlier question may still be queued
  byId("confirm-trash-name").textContent = name;
  byId("confirm-trash-note").textContent = SIDECARS;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => { settle = resolve; });
}

byId("confirm-trash")?.addEventListener("close", ({ target }) => { if (!target.open) settle(target.returnValue === "trash"); });
