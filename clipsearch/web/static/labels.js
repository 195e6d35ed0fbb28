// The panel that counts the most likely labels of the results.

import { allTerms, searchParams } from "./address.js";
import { copy } from "./clipboard.js";
import { bars, byId, element, number } from "./dom.js";
import { get } from "./server.js";
import { change, question } from "./state.js";
import { labelNote } from "./summary.js";

const MOST = 64, DELAY_MS = 250;
const field = byId("label-text");
let timer = 0, turn = 0;

export function showLabelField() {
  if (document.activeElement !== field) field.value = question.labels.join(", ");
}

// Count the labels of the current results, soon.
export function countLabels() {
  clearTimeout(timer);
  if (!question.labels.length) return show([]);
  if (byId("labels").hidden) return;
  const ownTurn = turn += 1;
  timer = setTimeout(async () => {
    try {
      const found = await get("/labels", [...question.labels.map((label) => ["label", label]), ...searchParams(question)]);
      if (ownTurn === turn) showCounts(found);
    } catch (error) {
      if (ownTurn === turn) show([element("p", { class: "note" }, error.message)]);
    }
  }, DELAY_MS);
}

function showCounts(found) {
  const sorted = Object.entries(found.counts).sort((a, b) => b[1] - a[1]);
  const rows = bars(sorted.map(([name, n]) => [name, n, number(n)]), searchFor);
  show([...rows, element("p", { class: "note" }, labelNote(found))], found.command);
}

function searchFor(label) {
  change({ ...question, terms: [...allTerms(question), { kind: "text", value: label }], draft: "" });
}

function show(parts, command = "") {
  byId("label-counts").replaceChildren(...parts);
  byId("label-command").textContent = command;
  byId("label-line").hidden = !command;
}

field.addEventListener("input", () => {
  const labels = field.value.split(",").map((label) => label.trim()).filter(Boolean);
  change({ ...question, labels: [...new Set(labels)].slice(0, MOST) }, true);
  countLabels();
});
byId("labels").addEventListener("toggle", countLabels);
byId("copy-label-command").addEventListener("click", () => copy(byId("label-command").textContent, "Command copied"));
