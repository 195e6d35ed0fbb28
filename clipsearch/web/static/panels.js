// What is beside the photos: the filters, the labels, and the page's first words where there is nothing to show.

import { filter, withFilter } from "./address.js";
import { bars, button, by, commandLine, count, element, icon, number } from "./dom.js";

const WORDS = { under: "in", after: "from", before: "before", camera: "camera", near: "around", size: "size", orientation: "", type: "", name: "named", reads: "with the words", keyword: "tagged" };
const EXAMPLES = ["a dog on a beach", "sunset over the sea", "a birthday cake", "children playing", "a street at night", "a red car -people"];

export function toggle(panel, opener, open = panel.hidden) {
  panel.hidden = !open;
  opener.setAttribute("aria-expanded", String(open));
  if (open) panel.querySelector("input").focus();
  else opener.focus();
}

export function showFilters(question, change) {
  const form = by("filters");
  for (const field of form.elements) if (field.name) {
    field.value = filter(question, field.name).join(", ");
    field.dataset.shown = field.value;
  }
  const chips = question.filters.map(([name, value]) => element("span", { class: "filter" },
    element("span", {}, `${WORDS[name]} `, element("bdi", {}, value)),
    element("button", { type: "button", "aria-label": `Remove the filter ${WORDS[name]} ${value}`, onclick: () => change({ ...question, filters: question.filters.filter(([n, v]) => n !== name || v !== value) }) }, icon("close"))));
  by("active").replaceChildren(...chips);
  by("filters-button").classList.toggle("on", Boolean(chips.length));
}

// The question with what the fields say now. A field that was left as it is keeps its values: one line cannot tell
// two folders from one with a comma in its name.
export function filtered(question) {
  const fields = [...by("filters").elements].filter(({ name }) => name);
  const edited = fields.filter(({ value, dataset }) => value !== dataset.shown);
  return withFilter(question, Object.fromEntries(edited.map(({ name, value }) =>
    [name, ["size", "type", "keyword"].includes(name) ? value.split(",").map((part) => part.trim()) : value.trim()])));
}

export function showChoices(choices) {
  const options = (values) => values.map((value) => element("option", { value }));
  by("folders").replaceChildren(...options(choices.folders));
  by("cameras").replaceChildren(...options(choices.cameras));
}

export function showCounts(answer) {
  const all = Object.values(answer.counts).reduce((sum, n) => sum + n, 0);
  const sorted = Object.entries(answer.counts).sort((a, b) => b[1] - a[1]);
  by("label-counts").replaceChildren(...bars(sorted.map(([name, n]) => [name, n, number(n)])), element("p", { class: "note" }, `the likeliest of these for each of ${count(all, "photo")}`));
  by("label-command").textContent = answer.command;
  by("label-line").hidden = false;
}

export function showNoCounts(message = "") {
  by("label-counts").replaceChildren(...(message ? [element("p", { class: "note" }, message)] : []));
  by("label-line").hidden = true;
}

// `state` is the index's: "none", "empty" or "ready"; nothing is said where there are photos to see.
export function welcome({ state, writing, command }, ask) {
  const place = by("welcome");
  place.hidden = false;
  if (state === "none" || (state === "empty" && !writing)) {
    place.replaceChildren(element("h2", {}, state === "none" ? "There is no index yet" : "The index is empty"),
      element("p", {}, "Say in a terminal where your photos are. They are only read, nothing leaves this machine, and this page fills by itself as soon as the first are known."),
      commandLine(command),
      element("p", { class: "note" }, "To try it at once with the small model that needs no download:"),
      commandLine(`${command} --model mini`));
  } else if (state === "empty") {
    place.replaceChildren(element("h2", {}, "Photos are being indexed"), element("p", {}, "The first ones will be here in a moment."));
  } else {
    place.replaceChildren(element("p", { class: "examples" }, element("span", {}, "Try"), ...EXAMPLES.map((text) => element("button", { type: "button", class: "quiet", onclick: () => ask(text) }, text))));
  }
}

export function nothingFound(question, change) {
  const place = by("welcome");
  place.hidden = false;
  const offers = [];
  if (question.cut) offers.push(button("close", "Show also what is less sure", () => change({ ...question, cut: "" })));
  if (question.filters.length) offers.push(button("close", "Without the filters", () => change({ ...question, filters: [] })));
  place.replaceChildren(element("h2", {}, "No photo fits"), element("p", {}, question.cut ? "None shows surely enough what you asked for." : "None passes what you asked for."), element("div", { class: "actions" }, ...offers));
}
