// Actions on the selected photos. Each action shows the shell command that does the same.

import { photoName } from "./address.js";
import { copy } from "./clipboard.js";
import { byId, bytes, element, icon, number, sentence } from "./dom.js";
import { clearError, showError, succeeded } from "./feedback.js";
import { act, downloadUrl, get } from "./server.js";
import { copyPaths } from "./selection.js";
import { isAllowed as mayDelete, note as trashNote } from "./trash.js";
import { moved, offer } from "./undo.js";

// `field` is what the user types, `verb` starts the action, `note(count)` says what it does, `moves` that the photos go away. An
// action without a verb is done at once, by the page.
const ACTIONS = [
  { name: "paths", icon: "copy", label: "Copy paths" },
  { name: "copy", icon: "folder", label: "Copy to folder", field: "Folder", example: "~/Pictures/best", verb: "Copy" },
  { name: "link", icon: "link", label: "Link to folder", field: "Folder", example: "~/Pictures/best", verb: "Link" },
  { name: "zip", icon: "download", label: "Download ZIP", verb: "Download" },
  { name: "concept", icon: "star", label: "Name as concept", field: "Name of the concept", example: "grandma", verb: "Name" },
  { name: "person", icon: "person", label: "Name as person", field: "Name of the person in each photo", example: "Anna", verb: "Name", note: () => "Photos with exactly one face are used." },
  { name: "keywords", icon: "tag", label: "Add keywords", field: "Keywords, separated by commas", example: "beach, summer", verb: "Add" },
  ...mayDelete ? [{ name: "trash", icon: "trash", label: "Move to trash", verb: "Move to trash", note: trashNote, moves: true }] : [],
];
const DELAY_MS = 150, MOST_SHOWN = 400; // characters of a command; the whole of it is copied
const form = byId("action"), field = byId("action-value"), start = byId("start-action");
let selection = null, current = null, command = "", timer = 0, turn = 0;

export function connectActions(selected) {
  selection = selected;
}

// Show the bar, if photos are selected.
export function showSelection() {
  const photos = [...selection.photos.values()];
  byId("selection").hidden = !photos.length;
  byId("selection-count").textContent = `${number(photos.length)} selected`;
  byId("selection-size").textContent = bytes(photos.reduce((sum, { size }) => sum + size, 0));
  if (!photos.length) close();
  else if (current) showCommand();
}

// Do what needs no text, or ask for it.
export function choose(name) {
  const action = ACTIONS.find((one) => one.name === name);
  if (current === action) return close();
  current = action;
  if (!action.verb) copyPaths([...selection.photos.values()]);
  for (const button of byId("action-buttons").children) button.setAttribute("aria-expanded", String(button.dataset.action === name));
  form.hidden = false;
  form.setAttribute("aria-label", action.label);
  byId("action-label").hidden = !action.field;
  byId("action-label-text").textContent = action.field ?? "";
  field.placeholder = action.example ?? "";
  field.value = "";
  start.hidden = !action.verb;
  start.textContent = action.verb ?? "";
  showCommand();
  if (action.field) field.focus({ preventScroll: true });
}

// Close the form. Returns whether it was open.
export function close() {
  if (!current) return false;
  const button = byId("action-buttons").querySelector(`[data-action=${current.name}]`), hadFocus = form.contains(document.activeElement);
  current = null;
  turn += 1; // an answer that comes now is dropped
  form.hidden = true;
  button.setAttribute("aria-expanded", "false");
  if (hadFocus) button.focus({ preventScroll: true });
  return true;
}

// ---------------------------------------------------------------------------------- the command

// What prints the selected paths, each ended by `end`.
function paths(end) {
  if (selection.command) return end === "\\0" ? `${selection.command} -0` : selection.command;
  return `printf '%s${end}' ${[...selection.photos.values()].map(({ shell }) => shell).join(" ")}`;
}

function showCommand() {
  const ownTurn = turn += 1, action = current;
  clearTimeout(timer);
  byId("action-note").textContent = action.note?.(selection.size) ?? "";
  byId("action-note").hidden = !action.note;
  if (!action.verb) return setCommand(paths("\\n"));
  setCommand("");
  showProblem("");
  if (action.field && !field.value.trim()) return;
  timer = setTimeout(async () => {
    try {
      const answer = await get(`/action/${action.name}`, [["value", field.value], ["count", selection.size]]);
      if (ownTurn === turn) setCommand(`${paths("\\0")} | ${answer.command}`);
    } catch (error) {
      if (ownTurn === turn) showProblem(error.message);
    }
  }, DELAY_MS);
}

function setCommand(text) {
  command = text;
  byId("action-command").textContent = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN / 2)} … ${text.slice(-MOST_SHOWN / 2)}` : text;
  byId("action-line").hidden = !text;
}

function showProblem(message) {
  byId("action-problem").textContent = message && sentence(message);
}

// ---------------------------------------------------------------------------------- doing it

async function run() {
  const action = current, chosen = [...selection.photos.values()], photos = chosen.map(photoName);
  if (action.field && !field.value.trim()) return field.focus();
  start.disabled = true;
  form.setAttribute("aria-busy", "true");
  clearError("action");
  try {
    const done = await act(action.name, { photos, value: field.value }), { download } = done;
    succeeded("action");
    if (action.moves && done.undo) await moved(done, chosen); else offer(done);
    if (download) element("a", { href: downloadUrl(download), download: "photos.zip" }).click();
    if (current === action) close();
  } catch (error) {
    if (error.status === 400) showProblem(error.message); else showError("action", error);
  } finally {
    start.disabled = false;
    form.removeAttribute("aria-busy");
  }
}

byId("action-buttons").append(...ACTIONS.map((action) => element("button", {
  type: "button", "data-action": action.name, title: action.label, "aria-expanded": "false", "aria-controls": "action", onclick: () => choose(action.name),
}, icon(action.icon), element("span", {}, action.label))));
field.addEventListener("input", showCommand);
form.addEventListener("submit", (event) => { event.preventDefault(); if (current.verb) run(); });
byId("copy-action-command").addEventListener("click", () => copy(command, "Command copied"));
