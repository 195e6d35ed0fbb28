// Suggestions below the search field: what parts of the text could mean. The field is a combobox, and these its listbox.

import { TERM_KINDS, withFilters } from "./address.js";
import { byId, count, element, number } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { filterLabel } from "./filters.js";
import { get } from "./server.js";
import { change, question } from "./state.js";

const DELAY_MS = 120; // results come first
const RANGE = ["after", "before"]; // a date replaces the one before; other filters are added
const KINDS = { after: "Date", text: "Concept", not: "Steer away from" };
const field = byId("text"), list = byId("suggestions");
let offered = [], active = -1, timer = 0, controller = null;

// Offer what the text in the field could mean, soon.
export function suggest() {
  clearTimeout(timer);
  controller?.abort();
  const text = field.value;
  if (!text.trim()) return close();
  timer = setTimeout(async () => {
    controller = new AbortController();
    try {
      const { suggestions } = await get("/suggest", [["text", text]], controller.signal);
      succeeded("suggest");
      if (field.value === text && document.activeElement === field) show(suggestions);
    } catch (error) {
      if (error.name !== "AbortError") showError("suggest", error);
    }
  }, DELAY_MS);
}

// Have the server collect what it offers, which takes a second where there are many photos.
export function prepare() {
  get("/suggest", [["text", ""]]).catch(() => {}); // typing says what is wrong
}

// Close the list. Returns whether it was open.
export function close() {
  clearTimeout(timer);
  controller?.abort();
  const wasOpen = !list.hidden;
  show([]);
  return wasOpen;
}

// Handle a key in the field. Returns whether it was for the list.
export function onKey({ key }) {
  if (list.hidden) return false;
  const isInside = active >= 0, last = offered.length - 1;
  if (key === "Escape") close();
  else if (key === "Enter" && isInside) choose(offered[active]);
  else if ((key === "ArrowDown" || (key === "ArrowRight" && isInside)) && active < last) activate(active + 1);
  else if ((key === "ArrowUp" || key === "ArrowLeft") && isInside) activate(active - 1);
  else return key === "ArrowRight" && isInside;
  return true;
}

function show(suggestions) {
  offered = suggestions;
  list.replaceChildren(...offered.map(option));
  list.hidden = !offered.length;
  field.setAttribute("aria-expanded", String(!list.hidden));
  activate(-1);
  byId("suggestion-status").textContent = offered.length ? `${count(offered.length, "suggestion")}. Press the down arrow to choose.` : "";
}

function option(one, n) {
  const kind = KINDS[one.pairs[0][0]] ?? filterLabel(one.pairs[0][0]);
  return element("li", { role: "option", id: `suggestion-${n}`, onclick: () => choose(one) },
    element("span", { class: "kind" }, `${kind} `), element("bdi", {}, one.label),
    one.detail ? element("span", { class: "detail" }, ` ${one.detail}`) : null,
    one.photos === null ? null : element("span", { class: "count", "aria-label": count(one.photos, "photo") }, ` ${number(one.photos)}`));
}

function activate(n) {
  active = n;
  [...list.children].forEach((node, index) => node.setAttribute("aria-selected", String(index === n)));
  if (n < 0) field.removeAttribute("aria-activedescendant");
  else {
    field.setAttribute("aria-activedescendant", `suggestion-${n}`);
    list.children[n].scrollIntoView({ block: "nearest" });
  }
}

// Make a suggestion a filter or a term, in place of the words that were read as it.
function choose({ pairs, rest }) {
  close();
  const terms = pairs.filter(([name]) => TERM_KINDS.includes(name)).map(([kind, value]) => ({ kind, value }));
  const filters = pairs.filter(([name]) => !TERM_KINDS.includes(name));
  const isRange = filters.some(([name]) => RANGE.includes(name));
  const kept = isRange ? withFilters(question, { after: "", before: "" }).filters : question.filters;
  const added = filters.filter(([name, value]) => !kept.some(([other, present]) => other === name && present === value));
  change({ ...question, terms: [...question.terms, ...terms], filters: [...kept, ...added], draft: rest });
  field.focus();
}

list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
field.addEventListener("blur", close);
