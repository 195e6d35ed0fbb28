// The form with the filters, and the filters in use as chips.

import { filterValues, withFilters } from "./address.js";
import { byId, element, icon } from "./dom.js";
import { change, question } from "./state.js";

const fields = [...byId("filters").elements].filter(({ name }) => name);

export function showFilters() {
  for (const field of fields) {
    field.value = filterValues(question, field.name).join(", ");
    field.dataset.shown = field.value;
  }
  const labels = Object.fromEntries(fields.map(({ name, dataset }) => [name, dataset.label]));
  const chips = question.filters.map(([name, value]) => element("span", { class: "filter" },
    element("span", {}, `${labels[name]}: `, element("bdi", {}, value)),
    element("button", { type: "button", "aria-label": `Remove filter ${labels[name]}: ${value}`, onclick: () => change({ ...question, filters: question.filters.filter(([n, v]) => n !== name || v !== value) }) }, icon("close"))));
  byId("active-filters").replaceChildren(...chips);
  byId("filters-button").classList.toggle("on", Boolean(chips.length));
}

// The question with the filters in the form. Unedited fields keep their values: a field cannot show the difference
// between two folders and one with a comma in its name.
function withFormFilters() {
  const edited = fields.filter(({ value, dataset }) => value !== dataset.shown);
  return withFilters(question, Object.fromEntries(edited.map(({ name, value, dataset }) =>
    [name, "commas" in dataset ? value.split(",").map((part) => part.trim()) : value.trim()])));
}

export function showChoices({ folders, cameras }) {
  const options = (values) => values.map((value) => element("option", { value }));
  byId("folders").replaceChildren(...options(folders));
  byId("cameras").replaceChildren(...options(cameras));
}

byId("filters").addEventListener("change", () => change(withFormFilters()));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", (event) => { event.preventDefault(); change({ ...question, filters: [] }); });
