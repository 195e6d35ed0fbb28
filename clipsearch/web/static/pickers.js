// The filters whose values are chosen from lists: values with counts, folders as a tree, and months.

import { filterValues, withFilters } from "./address.js";
import { byId, count, element, icon, number } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { showFilters } from "./filters.js";
import { monthAfter, monthTitle } from "./months.js";
import { get } from "./server.js";
import { change, question } from "./state.js";

const MOST = 200; // values that a list shows at once
const SEARCHED = 12; // a list that is longer has a field to find values in
const RATINGS = ["5", "4+", "3+", "2+", "1+", "none", "rejected"]; // in order
const WITHOUT_STARS = { none: "Unrated", rejected: "Rejected" };
const pickers = [...document.querySelectorAll("#filters .picker")];
const optionOf = (picker) => picker.dataset.filter;
const bodyOf = (picker) => picker.querySelector(".values");
let choices = null;

// ---------------------------------------------------------------------------------- loading

// The index has changed: load the values again when they are next looked at.
export function forget() {
  choices = null;
  if (!byId("filters").hidden) load();
}

async function load() {
  if (choices || byId("filters").hidden) return;
  try {
    choices = await get("/choices");
    succeeded("choices");
  } catch (error) {
    return showError("choices", error);
  }
  for (const field of document.querySelectorAll("#filters [data-month]")) fillMonths(field);
  showFilters();
  for (const picker of pickers) if (picker.open) fill(picker);
  showPickers();
}

function fillMonths(field) {
  const groups = new Map();
  for (const [month, photos] of choices.months) {
    const title = monthTitle(month), year = month.slice(0, 4);
    if (!title) continue; // of a file without a proper date
    if (!groups.has(year)) groups.set(year, element("optgroup", { label: year }));
    groups.get(year).prepend(element("option", { value: field.dataset.month === "first" ? month : monthAfter(month) }, `${title} (${number(photos)})`));
  }
  field.replaceChildren(element("option", { value: "" }, "Any"), ...[...groups.values()].reverse());
}

// ---------------------------------------------------------------------------------- lists

function fill(picker) {
  if (!choices) return;
  const body = bodyOf(picker), kind = picker.dataset.kind;
  if (kind === "folders") body.replaceChildren(folderList(picker, choices.folders));
  else {
    const values = choices.values[optionOf(picker)] ?? [];
    if (kind === "stars") values.sort(([one], [other]) => RATINGS.indexOf(one) - RATINGS.indexOf(other));
    const list = element("ul", { role: "list" }), more = element("p", { class: "note", hidden: true });
    const narrow = (words) => {
      const found = values.filter(([value]) => value.toLowerCase().includes(words.trim().toLowerCase()));
      list.replaceChildren(...found.slice(0, MOST).map(([value, photos]) => row(picker, value, photos)));
      more.hidden = values.length > 0 && found.length > 0 && found.length <= MOST;
      more.textContent = !values.length ? "No photo has one." : found.length ? `${number(found.length - MOST)} more. Type to find them.` : "None found.";
      showPicker(picker);
    };
    const find = values.length > SEARCHED ? [element("input", { class: "find", "aria-label": `Find: ${picker.dataset.label}`, placeholder: "Find", spellcheck: "false", oninput: ({ target }) => narrow(target.value) })] : [];
    body.replaceChildren(...find, list, more);
    narrow("");
  }
  showPicker(picker);
}

// A value with its count of photos; null for a value that is not among those of the index.
function row(picker, value, photos, title = value) {
  const box = element("input", { type: "checkbox", value: value ?? "", disabled: value === null, onchange: ({ target }) => choose(picker, value, target.checked) });
  return element("li", {}, element("label", { title: value === null ? "A URL cannot name this folder: its name is not UTF-8" : value }, box, ...nameOf(picker, title),
    photos === null ? null : element("span", { class: "count", "aria-label": count(photos, "photo") }, number(photos))));
}

function nameOf(picker, title) {
  const name = element("bdi", { class: "name" }, title);
  if (picker.dataset.kind === "colors") return [element("span", { class: `swatch ${title.toLowerCase()}`, "aria-hidden": "true" }), name];
  const stars = picker.dataset.kind === "stars" && /^([1-5])(\+?)$/.exec(title);
  if (picker.dataset.kind === "stars" && !stars) name.textContent = WITHOUT_STARS[title] ?? title;
  if (stars) return [element("span", { class: "stars", "aria-hidden": "true" }, "★".repeat(stars[1]) + "☆".repeat(5 - stars[1])), element("span", { class: "name" }, stars[2] ? "or more" : "", element("span", { class: "visually-hidden" }, ` ${count(Number(stars[1]), "star")}`))];
  return [name];
}

function choose(picker, value, isChosen) {
  const option = optionOf(picker), others = "single" in picker.dataset ? [] : filterValues(question, option).filter((other) => other !== value);
  change(withFilters(question, { [option]: isChosen ? [...others, value] : others }));
}

// ---------------------------------------------------------------------------------- folders

function folderList(picker, folders) {
  return element("ul", { role: "list", class: "tree" }, ...folders.map((folder) => folderRow(picker, folder)));
}

function folderRow(picker, { name, value, photos, has_folders: hasFolders }) {
  const item = row(picker, value, photos, name);
  if (hasFolders && value !== null) item.prepend(element("button", { type: "button", class: "expand quiet", "aria-expanded": "false", "aria-label": `Folders in ${name}`, onclick: () => expand(picker, item, value) }, icon("right")));
  return item;
}

async function expand(picker, item, folder) {
  const opener = item.querySelector(".expand"), inside = item.querySelector("ul"), isOpen = opener.getAttribute("aria-expanded") === "true";
  opener.setAttribute("aria-expanded", String(!isOpen));
  if (inside) inside.hidden = isOpen;
  if (isOpen || inside) return;
  try {
    const { folders } = await get("/folders", [["in", folder]]);
    succeeded("folders");
    if (!item.querySelector("ul")) item.append(folderList(picker, folders));
    showPicker(picker);
  } catch (error) {
    opener.setAttribute("aria-expanded", "false");
    showError("folders", error);
  }
}

// ---------------------------------------------------------------------------------- what is chosen

export function showPickers() {
  pickers.forEach(showPicker);
}

function showPicker(picker) {
  const chosen = filterValues(question, optionOf(picker)), body = bodyOf(picker);
  picker.querySelector(".chosen").textContent = chosen.join(", ") || "Any";
  picker.classList.toggle("on", chosen.length > 0);
  body.querySelector(".others")?.remove();
  if (!body.children.length) return;
  const boxes = [...body.querySelectorAll("[type=checkbox]")];
  for (const box of boxes) box.checked = chosen.includes(box.value) && !box.disabled;
  const others = chosen.filter((value) => !boxes.some((box) => box.value === value));
  if (!others.length) return;
  const rows = others.map((value) => row(picker, value, null));
  for (const item of rows) item.querySelector("input").checked = true;
  body.prepend(element("ul", { role: "list", class: "others" }, ...rows));
}

// Up and down move between the values, right and left open and close a folder.
function onKey(picker, event) {
  if (!event.key.startsWith("Arrow") || !event.target.matches("[type=checkbox], .find, .expand")) return;
  const boxes = [...bodyOf(picker).querySelectorAll("[type=checkbox]:not(:disabled)")].filter((box) => box.checkVisibility());
  const opener = event.target.closest("li")?.querySelector(":scope > .expand");
  const isOpen = opener?.getAttribute("aria-expanded") === "true";
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const box = event.target.matches(".expand") ? event.target.parentElement.querySelector("[type=checkbox]") : event.target;
    event.preventDefault();
    boxes[boxes.indexOf(box) + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
  } else if (!event.target.matches(".find") && opener && isOpen === (event.key === "ArrowLeft")) {
    event.preventDefault();
    opener.click();
  }
}

for (const picker of pickers) {
  picker.addEventListener("toggle", () => picker.open && fill(picker));
  bodyOf(picker).addEventListener("keydown", (event) => onKey(picker, event));
}
byId("filters").addEventListener("toggle", load);
