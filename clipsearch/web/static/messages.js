// Messages in place of results, or above them.

import { commandLine } from "./clipboard.js";
import { button, byId, element } from "./dom.js";

const EXAMPLES = ["a dog on a beach", "sunset over the sea", "a birthday cake", "children playing", "a street at night", "a red car -people"];

export function showMessage(...parts) {
  byId("message").hidden = !parts.length;
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
  showMessage(element("h2", {}, "No matches"), element("p", {}, question.cut ? "Nothing is a confident match." : "No photos match the filters."), element("div", { class: "actions" }, ...actions));
}
