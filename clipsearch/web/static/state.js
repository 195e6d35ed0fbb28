// What the page shows: the question, and the place in its results. The URL has both, so that a reload, Back, a bookmark
// and a link show the same again.

import { fromUrl, haveSameResults, toUrl } from "./address.js";

history.scrollRestoration = "manual"; // the browser's own comes before the results

export let question = fromUrl(location.search);
let readPlace = () => null, listener = {};

// `on` has the callbacks: results({ place, isTyping }), when other results are to be shown; respelled(), when the terms
// must be shown again; and travelled(), after Back or Forward, when the photo in the large view may be another. `place()`
// is where the reader is, as in `Grid`.
export function connect(on, place) {
  listener = on;
  readPlace = place;
}

// Show another question. `replace`: no new entry in the browser's history, as during typing or dragging.
export function change(changed, replace = false) {
  const isSame = haveSameResults(changed, question), isTyping = changed.draft !== question.draft && changed.draft !== "";
  if (!replace) rememberPlace();
  question = { ...changed, at: isSame ? question.at : "" };
  const url = toUrl(question);
  if (url !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](isSame ? history.state : null, "", url);
  if (!isSame) listener.results({ place: null, isTyping });
}

// Spell the terms as the server has understood them.
export function respell(terms) {
  const spelled = { ...question, terms };
  if (toUrl(spelled) === toUrl(question)) return;
  question = spelled;
  history.replaceState(history.state, "", toUrl(question));
  listener.respelled();
}

// Keep the place in the URL: the photo in it, and its number and how much of it is hidden in the state that
// goes with it.
export function rememberPlace() {
  if (document.body.classList.contains("searching")) return; // what is shown belongs to another question
  const place = readPlace();
  if (place && !place.name) return; // not loaded yet
  question = { ...question, at: place?.name ?? "" };
  history.replaceState({ share: place?.share ?? 0, n: place?.n }, "", toUrl(question));
}

export function placeInUrl() {
  return question.at ? { name: question.at, n: history.state?.n ?? -1, share: history.state?.share ?? 0 } : null;
}

// Show another question at the place in it.
export function visit(other) {
  rememberPlace();
  history.pushState(null, "", toUrl(other));
  return travel();
}

async function travel() {
  const previous = question;
  question = fromUrl(location.search);
  if (!haveSameResults(previous, question)) await listener.results({ place: placeInUrl(), isTyping: false });
  listener.travelled();
}

addEventListener("popstate", travel);
