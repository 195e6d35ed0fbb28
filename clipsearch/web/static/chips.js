// The search terms as chips, each with its sign, content and weight.

import { splitWeight } from "./address.js";
import { byId, element, icon } from "./dom.js";
import { thumbnailUrl } from "./server.js";

const OPPOSITE = { text: "not", not: "text", like: "unlike", unlike: "like" };
const WEIGHTS = [1, 2, 3, 0.5];
export const imageNames = new Map(); // by id

// `change(terms)` gets the new list; `edit(index)` moves a text back to the search field.
export function showChips(terms, change, edit) {
  byId("chips").replaceChildren(...terms.map((term, index) => chip(term, (replacement) => {
    change(replacement ? terms.with(index, replacement) : terms.toSpliced(index, 1));
  }, () => edit(index))));
}

function chip(term, replace, edit) {
  const [weight, content] = splitWeight(term.value);
  const isImage = term.kind === "like" || term.kind === "unlike", isNegative = term.kind === "not" || term.kind === "unlike";
  const name = isImage ? imageNames.get(content) ?? "image" : content;
  const weighted = (value) => ({ ...term, value: value === 1 ? content : `${value}:${content}` });
  const flip = () => replace({ ...term, kind: OPPOSITE[term.kind] });
  const body = element("button", { type: "button", class: "content", "aria-label": isImage ? `${isNegative ? "Unlike" : "Like"} ${name}` : `Edit ${name}`, onclick: isImage ? flip : edit });
  if (isImage) body.append(element("img", { src: thumbnailUrl(content), alt: "" }), element("bdi", {}, isNegative ? "unlike" : "like this"));
  else body.append(element("bdi", {}, content));
  return element("li", { class: isNegative ? "chip negative" : "chip" },
    element("button", { type: "button", class: "sign", title: isNegative ? "Steers away from this" : "Searches for this", "aria-label": `${isNegative ? "Not" : "With"} ${name}: reverse`, onclick: flip }, isNegative ? "not" : "+"),
    body,
    element("button", { type: "button", class: "weight", title: "Weight", "aria-label": `Weight of ${name}: ${weight}; change`, onclick: () => replace(weighted(WEIGHTS[(WEIGHTS.indexOf(weight) + 1) % WEIGHTS.length])) }, `×${weight}`),
    element("button", { type: "button", class: "remove", "aria-label": `Remove ${name}`, onclick: () => replace(null) }, icon("close")));
}
