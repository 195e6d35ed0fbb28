// The people as a row of circles: on the search page, a click filters by them.

import { filterValues, termParams, withFilters } from "./address.js";
import { byId, count, element, icon, number } from "./dom.js";
import { faceImage, fetchPeople } from "./faces.js";
import { showError } from "./feedback.js";
import { change, question } from "./state.js";

let hasFaces = false;

// Fetch the people, and show them. Without an index or faces there are none.
export async function loadPeople() {
  try {
    const { people, unnamed, advice } = await fetchPeople();
    hasFaces = !advice && people.length + unnamed.length > 0;
    byId("people").firstElementChild.replaceChildren(...people.map(circle), namingLink(unnamed.length));
  } catch (error) {
    if (error.status !== 404) showError("people", error);
    hasFaces = false;
  }
  showPeople();
}

// Show the row unless something is searched for, and who is chosen.
export function showPeople() {
  const chosen = filterValues(question, "person");
  byId("people").hidden = !hasFaces || termParams(question).length > 0;
  for (const button of byId("people").querySelectorAll("button")) button.setAttribute("aria-pressed", String(chosen.includes(button.dataset.name)));
}

function circle(person) {
  const { name, photos } = person;
  return element("li", {}, element("button", { type: "button", class: "circle", "data-name": name, "aria-label": `${name}, ${count(photos, "photo")}`, title: `${name}: ${count(photos, "photo")}`, onclick: () => toggle(name) },
    faceImage(person), element("bdi", {}, name)));
}

function namingLink(groups) {
  return element("li", {}, element("a", { class: "circle", href: "/people", title: "Name people, and check their faces" },
    element("span", { class: "sign" }, icon("person")), element("span", {}, groups ? `Who is this? (${number(groups)})` : "Check faces")));
}

// Filter by a person too, or no longer.
function toggle(name) {
  const chosen = filterValues(question, "person");
  change(withFilters(question, { person: chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name] }));
}
