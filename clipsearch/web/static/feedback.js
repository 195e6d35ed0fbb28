// What the page says about what happens: short confirmations, and errors that stay until their cause is gone. Both are
// visible wherever the page is scrolled to, and in front of an open dialog.

import { byId, sentence } from "./dom.js";

const TOAST_MS = 2500, RESTARTED = 401, NO_ANSWER = 0; // statuses
const errors = new Map(); // a sentence by its source
let toastTimer = 0;

export function toast(message) {
  const box = byId("toast");
  toFront();
  box.textContent = message;
  box.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.classList.remove("shown"), TOAST_MS);
}

// `source` is what failed: the next success of the same clears it. A server that does not answer is one source for all.
export function showError(source, error) {
  const isServer = error.status === NO_ANSWER || error.status === RESTARTED;
  const message = error.status === RESTARTED ? "Your access has ended. Open the address that clipsearch serve printed" : error.message;
  errors.set(isServer ? "server" : source, sentence(message));
  showErrors();
}

export function clearError(source) {
  if (errors.delete(source)) showErrors();
}

// `source` has succeeded, so the server answers, too.
export function succeeded(source) {
  clearError(source);
  clearError("server");
}

function showErrors() {
  toFront();
  byId("error-text").textContent = [...new Set(errors.values())].join(" ");
  byId("error").hidden = !errors.size;
}

// An open dialog makes everything outside it inert.
export function toFront() {
  const place = document.querySelector("dialog[open]") ?? document.querySelector("footer"), notices = byId("notices");
  if (notices.parentElement !== place) place.append(notices);
}

byId("dismiss-error").addEventListener("click", () => { errors.clear(); showErrors(); });
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("close", toFront);
