// The searches to return to: the recent ones of this browser, and those saved in the index.

import { fromUrl, haveSameResults, searchParams, toUrl } from "./address.js";
import { byId, element, icon } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { get, save, unsave } from "./server.js";
import { change, question } from "./state.js";

const KEY = "clipsearch-recent", MOST = 8, SETTLED_MS = 3000; // without a change, a search was not just typed in passing
const panel = byId("searches"), opener = byId("searches-button"), name = byId("search-name");
let saved = [], timer = 0;

// ---------------------------------------------------------------------------------- recent

const bare = (asked) => ({ ...asked, photo: "", at: "", map: "", labels: [] });
const isEmpty = (asked) => !searchParams(asked).length;

function title(asked) {
  const terms = asked.terms.map(({ kind, value }) => ({ text: value, not: `-${value}`, like: "like a photo", unlike: "unlike a photo" })[kind]);
  const limits = [["cut", "confident only"], ["unique", "grouped"]].filter(([key]) => asked[key]).map(([, words]) => words);
  return [...terms, asked.draft.trim(), ...asked.filters.map(([key, value]) => `${key.replace("_", " ")}: ${value}`), ...limits].filter(Boolean).join(", ") || "all photos, in another order";
}

function recent() {
  try {
    return JSON.parse(localStorage.getItem(KEY)).filter((url) => typeof url === "string").slice(0, MOST);
  } catch { // nothing is stored, or something else, or storage is not allowed
    return [];
  }
}

// Remember a question that has results, once it is settled.
export function rememberSearch(asked) {
  clearTimeout(timer);
  if (isEmpty(asked)) return;
  timer = setTimeout(() => {
    const url = toUrl(bare(asked));
    try {
      localStorage.setItem(KEY, JSON.stringify([url, ...recent().filter((other) => other !== url)].slice(0, MOST)));
    } catch { /* storage is not allowed */ }
  }, SETTLED_MS);
}

// ---------------------------------------------------------------------------------- the list

export const isOpen = () => !panel.hidden;

export async function open() {
  panel.hidden = false;
  opener.setAttribute("aria-expanded", "true");
  name.value = "";
  byId("save-search").hidden = isEmpty(question);
  show();
  try {
    ({ saved } = await get("/saved"));
    succeeded("saved");
    show();
  } catch (error) {
    showError("saved", error);
  }
}

// Close the list. Returns whether it was open.
export function close() {
  if (panel.hidden) return false;
  if (panel.contains(document.activeElement)) opener.focus({ preventScroll: true });
  panel.hidden = true;
  opener.setAttribute("aria-expanded", "false");
  return true;
}

function show() {
  const entries = recent().map((url) => fromUrl(url.slice(url.indexOf("?"))));
  showGroup("recent-searches", entries.map((asked) => entry(asked, title(asked), "history")));
  showGroup("saved-searches", saved.map(({ name, pairs }) => {
    const remove = element("button", { type: "button", class: "round", "aria-label": `Delete ${name}`, onclick: () => update(unsave(name)) }, icon("close"));
    return entry(pairs && fromUrl(`?${new URLSearchParams(pairs)}`), name, "star", remove);
  }));
  byId("no-searches").hidden = saved.length + entries.length > 0;
}

function showGroup(id, entries) {
  byId(id).hidden = !entries.length;
  byId(id).querySelector("ul").replaceChildren(...entries);
}

// A search by an image that is not indexed cannot be shown: the server reads no other files.
function entry(asked, label, iconName, ...more) {
  const use = element("button", { type: "button", class: "quiet", disabled: !asked, title: asked ? null : "Its image is not in the index", onclick: () => { close(); change(asked); byId("text").focus(); } }, icon(iconName), element("bdi", {}, label));
  if (asked && haveSameResults(asked, question)) use.setAttribute("aria-current", "true");
  return element("li", {}, use, ...more);
}

// ---------------------------------------------------------------------------------- saving

async function update(answer) {
  try {
    ({ saved } = await answer);
    succeeded("saved");
    name.value = "";
    show();
  } catch (error) {
    showError("saved", error);
  }
}

byId("save-search").addEventListener("submit", (event) => {
  event.preventDefault();
  if (name.value.trim()) update(save(name.value, searchParams(question))); else name.focus();
});
opener.addEventListener("click", () => isOpen() ? close() : open());
byId("text").addEventListener("click", () => { if (!byId("text").value && !isOpen()) open(); });
byId("text").addEventListener("input", close);
addEventListener("pointerdown", ({ target }) => { if (!panel.contains(target) && !byId("field").contains(target)) close(); });
panel.addEventListener("focusout", ({ relatedTarget }) => { if (relatedTarget && !panel.contains(relatedTarget) && !byId("field").contains(relatedTarget)) close(); });
