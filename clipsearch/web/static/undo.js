// What can be undone: the latest is offered until it is undone or dismissed, also after a reload.

import { byId, sentence } from "./dom.js";
import { clearError, showError, succeeded, toFront, toast } from "./feedback.js";
import { undo } from "./server.js";

const KEY = "clipsearch-undo";
const entries = JSON.parse(sessionStorage.getItem(KEY) ?? "[]"); // the latest last
const bar = byId("undo");
let changed = () => {};

// `onChange(photos)` is called when files were moved: `photos` are those that went away, none when they came back. Undoing
// anything else calls it without photos, too.
export function connect(onChange) {
  changed = onChange;
  show();
}

// Say what was done, and offer to undo it.
export function offer({ message, undo: ticket }) {
  if (!ticket) return toast(sentence(message));
  entries.push({ message: sentence(message), ticket });
  show();
}

// As `offer`, of photos that were moved. Promises what `onChange` does.
export function moved(done, photos) {
  offer(done);
  return changed(photos);
}

function show() {
  sessionStorage.setItem(KEY, JSON.stringify(entries));
  bar.hidden = !entries.length;
  byId("undo-text").textContent = entries.at(-1)?.message ?? "";
  if (entries.length) toFront();
}

// Undo the latest that can be undone.
export async function undoLatest() {
  const entry = entries.at(-1), button = byId("undo-button");
  if (!entry) return;
  button.disabled = true;
  clearError("undo");
  try {
    const { message } = await undo(entry.ticket);
    succeeded("undo");
    toast(sentence(message));
    await changed([]);
  } catch (error) {
    showError("undo", error);
    if (error.status !== 400) return; // it may work later
  } finally {
    button.disabled = false;
  }
  entries.splice(entries.indexOf(entry), 1);
  show();
}

byId("undo-button").addEventListener("click", undoLatest);
byId("dismiss-undo").addEventListener("click", () => { entries.pop(); show(); });
