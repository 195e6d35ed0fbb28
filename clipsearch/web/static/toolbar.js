// The switches above the results: the minimum confidence, groups of copies, the order, and what counts as a match.

import { allTerms } from "./address.js";
import { copy } from "./clipboard.js";
import { byId } from "./dom.js";
import { change, question } from "./state.js";

const CUT = Number(document.documentElement.dataset.cut), STRICT = Number(document.documentElement.dataset.strict);
const DEFAULT_CUT = "1", STRICT_CUT = "strict"; // in the URL
const NAMED_CUTS = { [DEFAULT_CUT]: CUT, [STRICT_CUT]: STRICT };

// The minimum confidence of a question; null for none, or the one that makes a match confident.
export const thresholdOf = ({ cut }) => !cut || cut === DEFAULT_CUT ? null : NAMED_CUTS[cut] ?? Number(cut);

export function showSwitches() {
  const { cut } = question;
  byId("cut").checked = cut !== "";
  byId("min-confidence-label").hidden = byId("strict-label").hidden = !cut;
  byId("min-confidence").value = Math.round(100 * (NAMED_CUTS[cut] ?? cut));
  byId("strict").checked = cut === STRICT_CUT;
  byId("unique").checked = question.unique;
  const [byDefault, newest] = byId("sort").options, hasTerms = allTerms(question).length > 0;
  byDefault.textContent = hasTerms ? "best first" : "newest first";
  newest.hidden = !hasTerms; // else it is the default
  byId("sort").value = question.sort;
  byId("only").value = question.only;
  if (!hasTerms) onAnswer({ asks_for_text: false });
}

// Only a text has a confidence, and can be in a photo or its tags.
export function onAnswer({ asks_for_text: asksForText }) {
  for (const id of ["cut", "min-confidence", "strict", "only"]) {
    byId(id).disabled = !asksForText;
    byId(id).closest("label").title = asksForText ? "" : "Needs a text to look for";
  }
}

byId("cut").addEventListener("change", ({ target }) => change({ ...question, cut: target.checked ? DEFAULT_CUT : "" }));
byId("strict").addEventListener("change", ({ target }) => change({ ...question, cut: target.checked ? STRICT_CUT : DEFAULT_CUT }));
byId("min-confidence").addEventListener("change", ({ target }) => {
  const minimum = Math.min(99, Math.max(1, Math.round(target.value))) / 100;
  change({ ...question, cut: !minimum || minimum === CUT ? DEFAULT_CUT : minimum === STRICT ? STRICT_CUT : String(minimum) });
  target.value = Math.round(100 * (minimum || CUT));
});
byId("unique").addEventListener("change", ({ target }) => change({ ...question, unique: target.checked }));
byId("sort").addEventListener("change", ({ target }) => change({ ...question, sort: target.value }));
byId("only").addEventListener("change", ({ target }) => change({ ...question, only: target.value }));
byId("copy-command").addEventListener("click", () => copy(byId("command").textContent, "Command copied"));
