// Ties the page together: the URL holds the question, and everything else follows from it.

import { allTerms, filterValues, fromUrl, parseTerm, searchParams, toUrl, withFilters } from "./address.js";
import { imageNames, showChips } from "./chips.js";
import { byId, copy, count, element, number, toast } from "./dom.js";
import { Grid } from "./grid.js";
import { hideLabelCounts, showChoices, showExamples, showFilters, showLabelCounts, showNoMatches, showNoPhotos, toggle, withFormFilters } from "./panels.js";
import { get, upload } from "./server.js";
import { Timeline } from "./timeline.js";
import { Viewer } from "./viewer.js";

const PAGE_SIZE = 60, TAB = crypto.getRandomValues(new Uint32Array(2)).join("-");
const CUT = Number(document.documentElement.dataset.cut), STRICT = Number(document.documentElement.dataset.strict);
const DEFAULT_CUT = "1", STRICT_CUT = "strict"; // in the URL
const NAMED_CUTS = { [DEFAULT_CUT]: CUT, [STRICT_CUT]: STRICT };
const text = byId("text");

let question = fromUrl(location.search);
let turn = 0, controller = null, isLoadingMore = false; // `turn` numbers the searches
let hits = [], isComplete = true, confident = null; // the number of confident hits; null if unknown
let index = { state: "ready", writing: false, photos: 0, version: null }, concepts = [];
let expanded = new Set(), lastTyped = 0, selectionAnchor = 0, openIndex = 0;

const grid = new Grid(byId("photos"), {
  loadMore, open: (n) => openPhoto(n), select, toggleGroup,
  url: (photo) => toUrl({ ...question, photo: photo.id }),
  isBusy: () => document.body.classList.contains("searching"),
});
const timeline = new Timeline(byId("timeline"), (after, before, done) => change(withFilters(question, { after, before }), !done));
const viewer = new Viewer({
  step: (by) => openPhoto(grid.current + by, true),
  closed: closePhoto,
  labels: () => question.labels,
  terms: () => [...allTerms(question).map(({ kind, value }) => [kind, value]), ...filterValues(question, "reads").map((words) => ["reads", words])],
  searchBy: searchByPhoto,
  searchNear: (photo) => { viewer.close(); change(withFilters(question, { near: `${photo.latitude},${photo.longitude}` })); },
});

// ---------------------------------------------------------------------------------- searching

// Show another question. `replace`: no new entry in the browser's history, as during typing or dragging.
function change(changed, replace = false) {
  const sameResults = toUrl({ ...changed, photo: "", labels: [] }) === toUrl({ ...question, photo: "", labels: [] });
  question = changed;
  const url = toUrl(question);
  if (url !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", url);
  if (sameResults) return;
  expanded = new Set();
  showQuestion();
  search();
}

function showQuestion() {
  showChips(question.terms, (terms) => { change({ ...question, terms }); text.focus(); }, editTerm);
  if (text.value !== question.draft) text.value = question.draft;
  text.placeholder = question.terms.length ? "and …" : "Describe the photo";
  showFilters(question, change);
  timeline.setRange(filterValues(question, "after")[0] ?? "", filterValues(question, "before")[0] ?? "");
  byId("cut").checked = question.cut !== "";
  byId("min-confidence-label").hidden = byId("strict-label").hidden = !question.cut;
  byId("min-confidence").value = Math.round(100 * (NAMED_CUTS[question.cut] ?? question.cut));
  byId("strict").checked = question.cut === STRICT_CUT;
  byId("unique").checked = question.unique;
  byId("sort").value = question.sort;
  byId("only").value = question.only;
  byId("label-text").value = document.activeElement === byId("label-text") ? byId("label-text").value : question.labels.join(", ");
  document.title = allTerms(question).filter(({ kind }) => kind === "text").map(({ value }) => value).join(", ") || "clipsearch";
  showConcepts();
}

async function search() {
  turn += 1;
  const ownTurn = turn;
  controller?.abort();
  controller = new AbortController();
  document.body.classList.add("searching");
  try {
    const answer = await fetchHits(0, controller.signal);
    if (ownTurn !== turn || !answer) return;
    isLoadingMore = false;
    hits = answer.hits;
    scrollToTop();
    showAnswer(answer);
    grid.reset(items(), dividers(), total());
    document.body.dataset.turn = ownTurn;
    countLabels();
  } catch (error) {
    if (error.name !== "AbortError" && ownTurn === turn) showError(error);
  } finally {
    if (ownTurn === turn) {
      document.body.classList.remove("searching");
      grid.loadQueued();
    }
  }
}

function fetchHits(first, signal) {
  return get("/search", [...searchParams(question), ["first", first], ["count", PAGE_SIZE], ["tab", TAB], ["turn", turn]], signal);
}

async function loadMore() {
  if (isLoadingMore || isComplete || !hits.length) return;
  isLoadingMore = true;
  const ownTurn = turn;
  try {
    const answer = await fetchHits(hits.length, controller.signal);
    if (ownTurn !== turn || !answer) return;
    hits = hits.concat(answer.hits);
    if (!answer.hits.length) answer.complete = true;
    showAnswer(answer);
    isLoadingMore = false;
    grid.set(items(), dividers(), total());
  } catch (error) {
    if (error.name !== "AbortError") showError(error);
  } finally {
    if (ownTurn === turn) isLoadingMore = false;
  }
}

// Show what an answer says about all results: everything but the grid.
function showAnswer(answer) {
  byId("error").hidden = true;
  isComplete = answer.complete && hits.length >= answer.ranked;
  confident = answer.confident;
  byId("command").textContent = answer.command;
  timeline.setFound(hasTerms() ? answer.months : {});
  byId("summary").textContent = summary(answer);
  byId("advice").textContent = answer.advice.join(". ");
  byId("advice").hidden = !answer.advice.length;
  byId("message").hidden = true;
  if (!hits.length && index.state === "ready") showNoMatches(question, change);
  else if (!hasTerms() && !question.filters.length) {
    if (index.state === "ready") showExamples((example) => { text.value = ""; change({ ...question, draft: example }); text.focus(); });
    else showNoPhotos(index);
  }
}

function showError(error) {
  byId("advice").hidden = true;
  if (error.status === 404 || (index.state !== "ready" && error.status !== 0)) {
    hits = [];
    isComplete = true;
    grid.reset([], [], 0);
    poll();
    return;
  }
  byId("error").textContent = error.status === 401 ? "clipsearch serve was restarted. Open the address that it printed." : `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
  byId("error").hidden = false;
}

const hasTerms = () => allTerms(question).length > 0;

function total() {
  return isComplete ? hits.length : -1;
}

function summary({ ranked, complete, confident }) {
  const photos = count(index.photos, "photo");
  const matches = (n) => count(n, "confident match", "confident matches");
  const isNewest = !question.sort || question.sort === "-date", closest = question.sort ? `the ${number(ranked)} closest` : "closest first";
  if (!hasTerms()) return !question.filters.length ? `${photos}${isNewest ? ", newest first" : ""}` : isComplete ? count(ranked, "photo") : `The ${isNewest ? "newest" : "first"} of ${photos}`;
  if (question.cut) return !ranked ? "No confident matches" : complete ? matches(ranked) : `More than ${matches(ranked)}`;
  if (confident === null) return `${photos}, ${closest}`;
  return confident ? `${matches(confident)} in ${photos}` : `No confident matches in ${photos}; ${closest}`;
}

function dividers() {
  if (confident === null || question.cut || !hasTerms() || confident >= hits.length) return [];
  return [[itemIndex(confident), confident ? "Less certain" : "None of these is a confident match"]];
}

// The index of a hit among the items, which include the copies of expanded groups.
function itemIndex(rank) {
  return hits.slice(0, rank).reduce((sum, hit) => sum + 1 + (expanded.has(hit.path) ? hit.similar.length : 0), 0);
}

function items() {
  return hits.flatMap((hit) => {
    const isExpanded = expanded.has(hit.path);
    const copies = hit.similar.length, key = `${hit.path}\n${hit.path_b64 ?? ""}`;
    const first = { key, tileKey: `${key}\n${hit.confidence}\n${copies}\n${isExpanded}`, photo: hit, hit, copies, isExpanded };
    return isExpanded ? [first, ...hit.similar.map((photo) => copyItem(photo, hit))] : [first];
  });
}

function copyItem(photo, hit) {
  const key = `${photo.path}\n${photo.path_b64 ?? ""}\ncopy`;
  return { key, tileKey: key, photo, hit, isCopy: true };
}

function scrollToTop() {
  const top = document.querySelector("main").getBoundingClientRect().top;
  if (top < 0) scrollTo({ top: 0, behavior: "instant" });
}

// ---------------------------------------------------------------------------------- typing

function editTerm(n) {
  const { kind, value } = question.terms[n];
  const draft = kind === "not" ? `-${value}` : value;
  const terms = question.terms.toSpliced(n, 1);
  change({ ...question, terms: question.draft.trim() ? [...terms, parseTerm(question.draft)] : terms, draft });
  text.focus();
}

text.addEventListener("input", () => {
  const now = Date.now(), replace = now - lastTyped < 2000;
  lastTyped = now;
  change({ ...question, draft: text.value }, replace);
});

text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter") {
    event.preventDefault();
    if (text.value.trim()) change({ ...question, terms: [...question.terms, parseTerm(text.value)], draft: "" }, true);
    else grid.moveTo(grid.current);
  } else if (event.key === "ArrowDown" && grid.items.length) {
    event.preventDefault();
    grid.moveTo(grid.current);
  } else if (event.key === "Backspace" && !text.value && question.terms.length) {
    event.preventDefault();
    const last = question.terms.length - 1;
    if (question.terms[last].kind.endsWith("like")) change({ ...question, terms: question.terms.toSpliced(last, 1) });
    else editTerm(last);
  } else if (event.key === "Escape") {
    if (text.value) change({ ...question, draft: "" });
    else text.blur();
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
byId("home").addEventListener("click", (event) => {
  event.preventDefault();
  change(fromUrl(""));
  text.focus();
});

// ---------------------------------------------------------------------------------- images

async function addImages(files) {
  for (const file of [...files].slice(0, 8)) {
    try {
      toast(`Uploading ${file.name || "the image"} …`);
      const { id } = await upload(file);
      imageNames.set(id, file.name || "pasted image");
      change({ ...question, terms: [...question.terms, { kind: "like", value: id }] });
    } catch (error) {
      showError(error);
    }
  }
}

// "More like this" starts a new search; "less like this" narrows the current one.
function searchByPhoto(photo, kind) {
  imageNames.set(photo.id, photo.name);
  viewer.close();
  const terms = kind === "like" ? [{ kind, value: photo.id }] : [...allTerms(question), { kind, value: photo.id }];
  change({ ...question, terms, draft: "", photo: "" });
}

byId("pick-image").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => { addImages(event.target.files); event.target.value = ""; });
addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  if (!files.length) return;
  event.preventDefault();
  addImages(files);
});
const hasFiles = (event) => [...event.dataTransfer.types].includes("Files");
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").hidden = false;
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("drop").hidden = true; });
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").hidden = true;
  addImages(event.dataTransfer.files);
});

// ---------------------------------------------------------------------------------- panels

byId("filters-button").addEventListener("click", () => toggle(byId("filters"), byId("filters-button")));
byId("labels-button").addEventListener("click", () => toggle(byId("labels"), byId("labels-button")));
byId("filters").addEventListener("change", () => change(withFormFilters(question)));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", (event) => { event.preventDefault(); change({ ...question, filters: [] }); });
byId("cut").addEventListener("change", (event) => change({ ...question, cut: event.target.checked ? DEFAULT_CUT : "" }));
byId("strict").addEventListener("change", (event) => change({ ...question, cut: event.target.checked ? STRICT_CUT : DEFAULT_CUT }));
byId("min-confidence").addEventListener("change", ({ target }) => {
  const minimum = Math.min(99, Math.max(1, Math.round(target.value))) / 100;
  change({ ...question, cut: !minimum || minimum === CUT ? DEFAULT_CUT : minimum === STRICT ? STRICT_CUT : String(minimum) });
  target.value = Math.round(100 * (minimum || CUT));
});
byId("unique").addEventListener("change", (event) => change({ ...question, unique: event.target.checked }));
byId("sort").addEventListener("change", (event) => change({ ...question, sort: event.target.value }));
byId("only").addEventListener("change", (event) => change({ ...question, only: event.target.value }));
byId("label-text").addEventListener("input", () => {
  const labels = byId("label-text").value.split(",").map((label) => label.trim()).filter(Boolean);
  change({ ...question, labels: [...new Set(labels)].slice(0, 64) }, true);
  countLabels();
});

let countTimer = 0;
function countLabels() {
  clearTimeout(countTimer);
  if (!question.labels.length || byId("labels").hidden) return question.labels.length ? undefined : hideLabelCounts();
  countTimer = setTimeout(async () => {
    try {
      showLabelCounts(await get("/labels", [...question.labels.map((label) => ["label", label]), ...searchParams(question)]));
    } catch (error) {
      hideLabelCounts(error.message);
    }
  }, 250);
}
byId("labels-button").addEventListener("click", countLabels);

// ---------------------------------------------------------------------------------- the large view and the selection

async function openPhoto(n, replace = false) {
  if (n < 0) return;
  if (n >= grid.items.length) {
    await loadMore();
    if (n >= grid.items.length) return;
  }
  grid.moveTo(n, false);
  grid.scrollIntoView(n);
  const { photo, hit } = grid.items[openIndex = n];
  change({ ...question, photo: photo.id }, replace || viewer.isOpen);
  viewer.show(photo, hit, [grid.items[n - 1]?.photo.id, grid.items[n + 1]?.photo.id]);
  if (n > grid.items.length - 5) loadMore();
}

function closePhoto() {
  if (question.photo) change({ ...question, photo: "" });
  grid.moveTo(openIndex); // the browser restores the focus to the photo that was opened first
}

// Show the photo in the URL, which need not be among the results.
async function openFromUrl() {
  if (!question.photo) return viewer.close();
  const n = grid.items.findIndex(({ photo }) => photo.id === question.photo);
  if (n >= 0) return openPhoto(n, true);
  try {
    const { photos: [photo] } = await get(`/photo/${encodeURIComponent(question.photo)}`);
    viewer.show(photo, null, []);
  } catch (error) {
    change({ ...question, photo: "" }, true);
    showError(error);
  }
}

// Select or deselect a photo; with `extend`, all from the last one that was selected.
function select(n, extend) {
  const add = !grid.selected.has(grid.items[n].key);
  const other = extend ? Math.min(selectionAnchor, grid.items.length - 1) : n, from = Math.min(n, other), to = Math.max(n, other);
  selectionAnchor = n;
  for (let m = from; m <= to; m += 1) grid.selected[add ? "add" : "delete"](grid.items[m].key);
  grid.moveTo(n, false);
  grid.render();
  showSelection();
}

function selectedPaths() {
  return grid.items.filter(({ key }) => grid.selected.has(key)).map(({ photo }) => photo.path);
}

function showSelection() {
  const paths = selectedPaths();
  byId("selection").hidden = !paths.length;
  byId("selection-count").textContent = `${number(paths.length)} selected`;
}

function clearSelection() {
  grid.selected.clear();
  grid.render();
  showSelection();
}

function copyPaths() {
  const paths = selectedPaths().length ? selectedPaths() : grid.items[grid.current] ? [grid.items[grid.current].photo.path] : [];
  if (paths.length) copy(paths.join("\n"), `${count(paths.length, "path")} copied`);
}

function toggleGroup(n) {
  const { hit } = grid.items[n];
  if (!expanded.delete(hit.path)) expanded.add(hit.path);
  grid.set(items(), dividers(), total());
  grid.moveTo(n);
}

byId("copy-paths").addEventListener("click", copyPaths);
byId("clear-selection").addEventListener("click", clearSelection);
byId("copy-command").addEventListener("click", () => copy(byId("command").textContent, "Command copied"));
byId("copy-label-command").addEventListener("click", () => copy(byId("label-command").textContent, "Command copied"));
byId("help-button").addEventListener("click", () => byId("help").showModal());

// ---------------------------------------------------------------------------------- keyboard

const SHORTCUTS = {
  "/": () => { text.focus(); text.select(); },
  "?": () => byId("help").showModal(),
  f: () => toggle(byId("filters"), byId("filters-button")),
  x: () => grid.items.length && select(grid.current, false),
  m: () => grid.items.length && searchByPhoto(grid.items[grid.current].photo, "like"),
  l: () => grid.items.length && searchByPhoto(grid.items[grid.current].photo, "unlike"),
  c: copyPaths,
};
const VIEWER_SHORTCUTS = "mlc";

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const isTyping = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && !isTyping && !document.querySelector("dialog[open]") && grid.selected.size) return clearSelection();
  if (isTyping || byId("help").open) return;
  const target = grid.target(event.key);
  if (viewer.isOpen && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    event.preventDefault();
    openPhoto(target, true);
  } else if (!viewer.isOpen && target !== undefined && (grid.hasFocus || document.activeElement === document.body)) {
    event.preventDefault();
    if (event.key === "ArrowUp" && target === grid.current && grid.rows[0]?.to > grid.current) text.focus();
    else grid.moveTo(grid.hasFocus ? target : grid.current);
  } else if (event.key in SHORTCUTS && (!viewer.isOpen || VIEWER_SHORTCUTS.includes(event.key))) {
    event.preventDefault();
    SHORTCUTS[event.key]();
  }
});

// ---------------------------------------------------------------------------------- changes of the index

async function poll() {
  if (document.hidden) return;
  let status;
  try {
    status = await get("/status");
  } catch (error) {
    return showError(error);
  }
  const previous = index;
  index = status;
  byId("indexing").hidden = !status.writing;
  byId("indexing-text").textContent = `Indexing: ${count(status.photos, "photo")} so far`;
  document.body.classList.toggle("no-photos", status.state !== "ready");
  if (status.state !== "ready") {
    showNoPhotos(status);
    byId("timeline").hidden = true;
  } else if (status.version !== previous.version) {
    await onIndexChange(previous);
  }
}

async function onIndexChange(previous) {
  const isUntouched = previous.state !== "ready" || (scrollY < 200 && !viewer.isOpen && !grid.selected.size && !grid.hasFocus);
  try {
    const otherFilters = question.filters.filter(([name]) => name !== "after" && name !== "before");
    const [choices, { months }] = await Promise.all([get("/choices"), get("/months", otherFilters)]);
    concepts = choices.concepts;
    showChoices(choices);
    timeline.setAll(months);
    if (previous.version === null) return; // the page is still loading
  } catch (error) {
    return showError(error);
  }
  if (isUntouched) search();
  else byId("refresh").hidden = false; // results must not move under the reader
}

byId("refresh").addEventListener("click", () => { byId("refresh").hidden = true; search(); });
setInterval(poll, 2000);
document.addEventListener("visibilitychange", poll);
addEventListener("popstate", async () => {
  const before = toUrl({ ...question, photo: "" });
  question = fromUrl(location.search);
  expanded = new Set();
  showQuestion();
  if (toUrl({ ...question, photo: "" }) !== before) await search();
  openFromUrl();
});

showQuestion();
if (question.labels.length) toggle(byId("labels"), byId("labels-button"), true);
await poll();
if (index.state === "ready") await search();
if (question.photo) openFromUrl();
else if (document.activeElement === document.body) text.focus();
document.body.dataset.ready = CUT;
