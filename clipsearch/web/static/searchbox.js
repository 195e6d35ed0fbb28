// The search field: its text, the terms as chips, and names of concepts.

import { allTerms } from "./address.js";
import { showChips } from "./chips.js";
import { byId, element } from "./dom.js";
import { grid } from "./results.js";
import { change, question } from "./state.js";

const SAME_ENTRY_MS = 2000; // pauses in typing that are shorter make no new entry in the browser's history
const text = byId("text");
let lastTyped = 0, concepts = [];

export function setConcepts(names) {
  concepts = names;
}

export function showTerms() {
  showChips(question.terms, (terms) => { change({ ...question, terms }); text.focus(); }, editTerm);
  if (text.value !== question.draft) text.value = question.draft;
  text.placeholder = question.terms.length ? "and …" : "Describe the photo";
  document.title = allTerms(question).filter(({ kind }) => kind === "text").map(({ value }) => value).join(", ") || "clipsearch";
  showConcepts();
}

// What was typed becomes a term.
const commit = () => allTerms(question);

function editTerm(n) {
  const { kind, value } = question.terms[n];
  change({ ...question, terms: commit().toSpliced(n, 1), draft: kind === "not" ? `-${value}` : value });
  text.focus();
}

text.addEventListener("input", () => {
  const now = Date.now(), replace = now - lastTyped < SAME_ENTRY_MS;
  lastTyped = now;
  change({ ...question, draft: text.value }, replace);
});

text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter") {
    event.preventDefault();
    if (text.value.trim()) change({ ...question, terms: commit(), draft: "" }, true);
    else grid.moveTo(grid.current);
  } else if (event.key === "ArrowDown" && grid.length) {
    event.preventDefault();
    grid.moveTo(grid.current);
  } else if (event.key === "Backspace" && !text.value && question.terms.length) {
    event.preventDefault();
    const last = question.terms.length - 1;
    if (question.terms[last].kind.endsWith("like")) change({ ...question, terms: question.terms.toSpliced(last, 1) });
    else editTerm(last);
  } else if (event.key === "Escape" && text.value) {
    event.stopPropagation(); // it would close more
    change({ ...question, draft: "" });
  }
});

// Complete "@gr" to the names of concepts.
function showConcepts() {
  const typed = /(?:^|\s)@([\w.-]*)$/.exec(question.draft), box = byId("concepts");
  const matching = typed && document.activeElement === text ? concepts.filter((name) => name.startsWith(typed[1]) && name !== typed[1]) : [];
  box.hidden = !matching.length;
  box.replaceChildren(...matching.slice(0, 12).map((name) => element("button", { type: "button", class: "quiet", onclick: () => {
    change({ ...question, draft: `${question.draft.slice(0, typed.index)}${typed.index ? " " : ""}@${name} ` }, true);
    text.focus();
  } }, `@${name}`)));
}

byId("search").addEventListener("submit", (event) => event.preventDefault());
byId("field").addEventListener("click", (event) => event.target === byId("field") && text.focus());
