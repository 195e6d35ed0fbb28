// The search field: its text, and the terms as chips.

import { allTerms } from "./address.js";
import { showChips } from "./chips.js";
import { byId } from "./dom.js";
import { grid } from "./results.js";
import { change, question } from "./state.js";
import { close, onKey, suggest } from "./suggest.js";

const SAME_ENTRY_MS = 2000; // pauses in typing that are shorter make no new entry in the browser's history
const text = byId("text");
let lastTyped = 0;

export function showTerms() {
  showChips(question.terms, (terms) => { change({ ...question, terms }); text.focus(); }, editTerm);
  if (text.value !== question.draft) text.value = question.draft;
  text.placeholder = question.terms.length ? "and …" : "Describe the photo";
  document.title = allTerms(question).filter(({ kind }) => kind === "text").map(({ value }) => value).join(", ") || "clipsearch";
}

// Make the typed text a term.
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
  suggest();
});

text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (onKey(event)) {
    event.preventDefault();
    event.stopPropagation(); // Escape would close more
  } else if (event.key === "Enter") {
    event.preventDefault();
    close();
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

byId("search").addEventListener("submit", (event) => event.preventDefault());
byId("field").addEventListener("click", (event) => event.target === byId("field") && text.focus());
