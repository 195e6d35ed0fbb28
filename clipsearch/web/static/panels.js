// The panels beside the results: filters, labels, and the messages shown when there are no results.

import { filterValues, withFilters } from "./address.js";
import { bars, button, byId, commandLine, count, element, icon, number } from "./dom.js";

const EXAMPLES = ["a dog on a beach", "sunset over the sea", "a birthday cake", "children playing", "a street at night", "a red car -people"];

export function toggle(panel, opener, open = panel.hidden) {
  panel.hidden = !open;
  opener.setAttribute("aria-expanded", String(open));
  if (open) panel.querySelector("input").focus();
  else opener.focus();
}

const filterFields = () => [...byId("filters").elements].filter(({ name }) => name);

export function showFilters(question, change) {
  for (const field of filterFields()) {
    field.value = filterValues(question, field.name).join(", ");
    field.dataset.shown = field.value;
  }
  const labels = Object.fromEntries(filterFields().map(({ name, dataset }) => [name, dataset.label]));
  const chips = question.filters.map(([name, value]) => element("span", { class: "filter" },
    element("span", {}, `${labels[name]}: `, element("bdi", {}, value)),
    element("button", { type: "button", "aria-label": `Remove filter ${labels[name]}: ${value}`, onclick: () => change({ ...question, filters: question.filters.filter(([n, v]) => n !== name || v !== value) }) }, icon("close"))));
  byId("active-filters").replaceChildren(...chips);
  byId("filters-button").classList.toggle("on", Boolean(chips.length));
}

// The question with the filters in the form. Unedited fields keep their values: a field cannot show the difference
// between two folders and one with a comma in its name.
export function withFormFilters(question) {
  const edited = filterFields().filter(({ value, dataset }) => value !== dataset.shown);
  return withFilters(question, Object.fromEntries(edited.map(({ name, value, dataset }) =>
    [name, "commas" in dataset ? value.split(",").map((part) => part.trim()) : value.trim()])));
}

export function showChoices(choices) {
  const options = (values) => values.map((value) => element("option", { value }));
  byId("folders").replaceChildren(...options(choices.folders));
  byId("cameras").replaceChildren(...options(choices.cameras));
}

export function showLabelCounts({ counts, command }) {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const sorted = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  byId("label-counts").replaceChildren(...bars(sorted.map(([name, n]) => [name, n, number(n)])), element("p", { class: "note" }, `The most likely label of ${count(total, "photo")}`));
  byId("label-command").textContent = command;
  byId("label-line").hidden = false;
}

export function hideLabelCounts(message = "") {
  byId("label-counts").replaceChildren(...(message ? [element("p", { class: "note" }, message)] : []));
  byId("label-line").hidden = true;
}

function showMessage(...parts) {
  byId("message").hidden = false;
  byId("message").replaceChildren(...parts);
}

// How to create or fill the index; `state` is "none" or "empty".
export function showNoPhotos({ state, writing, command }) {
  if (state === "empty" && writing) {
    showMessage(element("h2", {}, "Indexing your photos"), element("p", {}, "The first ones will appear in a moment."));
    return;
  }
  showMessage(element("h2", {}, state === "none" ? "There is no index yet" : "The index is empty"),
    element("p", {}, "Create it in a terminal. Photos are only read and nothing leaves this machine. This page updates as soon as the first photos are indexed."),
    commandLine(command),
    element("p", { class: "note" }, "Or start right away with the small bundled model, without a download:"),
    commandLine(`${command} --model mini`));
}

export function showExamples(search) {
  showMessage(element("p", { class: "examples" }, element("span", {}, "Try"), ...EXAMPLES.map((text) => element("button", { type: "button", class: "quiet", onclick: () => search(text) }, text))));
}

export function showNoMatches(question, change) {
  const actions = [];
  if (question.cut) actions.push(button("close", "Show less certain matches", () => change({ ...question, cut: "" })));
  if (question.filters.length) actions.push(button("close", "Clear filters", () => change({ ...question, filters: [] })));
  showMessage(element("h2", {}, "No matches"), element("p", {}, question.cut ? "Nothing is a confident match." : "No photo passes the filters."), element("div", { class: "actions" }, ...actions));
}
