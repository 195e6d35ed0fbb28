// The form with the filters, and the filters in use as chips.

import { filterValues, withFilters } from "./address.js";
import { byId, element, icon } from "./dom.js";
import { monthBefore, monthTitle } from "./months.js";
import { change, question } from "./state.js";

const all = [...document.querySelectorAll("#filters [data-filter]")];
const fields = all.filter((field) => field.matches("input, select"));
const labels = Object.fromEntries(all.map(({ dataset }) => [dataset.filter, dataset.label]));

// What people call a filter.
export const filterLabel = (name) => labels[name];

export function showFilters() {
  for (const field of fields) {
    const value = filterValues(question, field.dataset.filter).join(", ");
    if (field.dataset.month) showMonth(field, value); else field.value = value;
    field.dataset.shown = field.value;
  }
  const chips = question.filters.map(([name, value]) => element("span", { class: "filter" },
    element("span", {}, `${labels[name]}: `, element("bdi", {}, valueTitle(name, value))),
    element("button", { type: "button", "aria-label": `Remove filter ${labels[name]}: ${valueTitle(name, value)}`, onclick: () => change({ ...question, filters: question.filters.filter(([n, v]) => n !== name || v !== value) }) }, icon("close"))));
  byId("active-filters").replaceChildren(...chips);
  byId("filters-button").classList.toggle("on", Boolean(chips.length));
}

// A month reads better by its name. The first day that is too late is that of the next month.
function valueTitle(name, value) {
  if (name === "after") return monthTitle(value) ?? value;
  if (name === "before") return monthTitle(monthBefore(value)) ?? `before ${value}`;
  return value;
}

// Select a date that need not be among the months with photos.
function showMonth(field, value) {
  field.querySelector(".other")?.remove();
  if (![...field.options].some((option) => option.value === value)) {
    field.options[0].after(element("option", { class: "other", value }, valueTitle(field.dataset.filter, value)));
  }
  field.value = value;
}

// The question with the filters in the form. Unedited fields keep their values: a field cannot show the difference
// between two folders and one with a comma in its name.
function withFormFilters() {
  const edited = fields.filter(({ value, dataset }) => value !== dataset.shown);
  return withFilters(question, Object.fromEntries(edited.map(({ value, dataset }) =>
    [dataset.filter, "commas" in dataset ? value.split(",").map((part) => part.trim()) : value.trim()])));
}

byId("filters").addEventListener("change", ({ target }) => fields.includes(target) && change(withFormFilters()));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", (event) => { event.preventDefault(); change({ ...question, filters: [] }); });
