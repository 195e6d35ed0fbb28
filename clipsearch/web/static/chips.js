// The terms of the question, each with its weight and its direction.

import { weighed } from "./address.js";
import { by, element, icon } from "./dom.js";
import { small } from "./server.js";

const AWAY = { text: "not", not: "text", like: "unlike", unlike: "like" };
const WEIGHTS = [1, 2, 3, 0.5];
export const names = new Map(); // of images, by their ids

// `change(terms)` takes the new list; `edit(index)` puts a text back to where it is typed.
export function showChips(terms, change, edit) {
  by("chips").replaceChildren(...terms.map((term, index) => chip(term, (fresh) => {
    change(fresh ? terms.with(index, fresh) : terms.toSpliced(index, 1));
  }, () => edit(index))));
}

function chip(term, replace, edit) {
  const [weight, content] = weighed(term.value);
  const isImage = term.kind === "like" || term.kind === "unlike", away = term.kind === "not" || term.kind === "unlike";
  const name = isImage ? names.get(content) ?? "image" : content;
  const spelt = (value) => ({ ...term, value: value === 1 ? content : `${value}:${content}` });
  const what = element("button", { type: "button", class: "what", "aria-label": isImage ? `${away ? "Unlike" : "Like"} ${name}` : `Edit ${name}`, onclick: isImage ? () => replace({ ...term, kind: AWAY[term.kind] }) : edit });
  if (isImage) what.append(element("img", { src: small(content), alt: "" }), element("bdi", {}, away ? "unlike" : "like this"));
  else what.append(element("bdi", {}, content));
  return element("li", { class: away ? "chip away" : "chip" },
    element("button", { type: "button", class: "sign", title: away ? "Leads away from this" : "Leads to this", "aria-label": `${away ? "Not" : "With"} ${name}: turn round`, onclick: () => replace({ ...term, kind: AWAY[term.kind] }) }, away ? "not" : "+"),
    what,
    element("button", { type: "button", class: "weight", title: "Weight", "aria-label": `Weight of ${name}: ${weight}; change`, onclick: () => replace(spelt(WEIGHTS[(WEIGHTS.indexOf(weight) + 1) % WEIGHTS.length])) }, `×${weight}`),
    element("button", { type: "button", class: "remove", "aria-label": `Remove ${name}`, onclick: () => replace(null) }, icon("close")));
}
