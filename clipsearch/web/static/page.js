// The page: one question, which the address holds, and everything that follows from it.

import { allTerms, asked, filter, read, term, withFilter, write } from "./address.js";
import { names, showChips } from "./chips.js";
import { by, copy, count, element, number, toast } from "./dom.js";
import { Grid } from "./grid.js";
import { filtered, nothingFound, showChoices, showCounts, showFilters, showNoCounts, toggle, welcome } from "./panels.js";
import { get, upload } from "./server.js";
import { Timeline } from "./timeline.js";
import { Viewer } from "./viewer.js";

const PART = 60, CUT = Number(document.documentElement.dataset.cut), TAB = crypto.getRandomValues(new Uint32Array(2)).join("-");
const text = by("text"), problem = by("problem");

let question = read(location.search);
let turn = 0, asking = null, loading = false, hits = [], whole = true, line = null;
let index = { state: "ready", writing: false, photos: 0, version: null }, all = {}, concepts = [];
let unfolded = new Set(), typedAt = 0, anchor = 0, shown = 0;

const grid = new Grid(by("photos"), {
  near: more, open: (n) => open(n), pick, unfold,
  address: (photo) => write({ ...question, photo: photo.id }),
  busy: () => document.body.classList.contains("asking"),
});
const timeline = new Timeline(by("timeline"), (after, before, done) => change(withFilter(question, { after, before }), !done));
const viewer = new Viewer({
  step: (by) => open(grid.current + by, true),
  closed: closePhoto,
  labels: () => question.labels,
  asked: () => [...allTerms(question).map(({ kind, value }) => [kind, value]), ...filter(question, "reads").map((words) => ["reads", words])],
  more: (photo, kind) => alike(photo, kind),
  near: (photo) => { viewer.close(); change(withFilter(question, { near: `${photo.latitude},${photo.longitude}` })); },
});

// ---------------------------------------------------------------------------------- the question

// `replace`: the address takes the place of the last one, as while one types or drags.
function change(fresh, replace = false) {
  const photosOnly = write({ ...fresh, photo: "", labels: [] }) === write({ ...question, photo: "", labels: [] });
  question = fresh;
  const address = write(question);
  if (address !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", address);
  if (photosOnly) return;
  unfolded = new Set();
  show();
  ask();
}

function show() {
  showChips(question.terms, (terms) => { change({ ...question, terms }); text.focus(); }, editTerm);
  if (text.value !== question.draft) text.value = question.draft;
  text.placeholder = question.terms.length ? "and …" : "What do the photos show?";
  showFilters(question, change);
  timeline.setRange(filter(question, "after")[0] ?? "", filter(question, "before")[0] ?? "");
  by("cut").checked = question.cut !== "";
  by("sure").hidden = !question.cut;
  by("least").value = Math.round(100 * (question.cut === "1" ? CUT : question.cut));
  by("unique").checked = question.unique;
  by("label-text").value = document.activeElement === by("label-text") ? by("label-text").value : question.labels.join(", ");
  document.title = allTerms(question).filter(({ kind }) => kind === "text").map(({ value }) => value).join(", ") || "clipsearch";
  showConcepts();
}

async function ask() {
  turn += 1;
  const mine = turn;
  asking?.abort();
  asking = new AbortController();
  document.body.classList.add("asking");
  try {
    const answer = await part(0, asking.signal);
    if (mine !== turn || !answer) return;
    loading = false;
    hits = answer.hits;
    scrollUp();
    take(answer);
    grid.start(items(), lines(), total());
    document.body.dataset.turn = mine;
    countLabels();
  } catch (error) {
    if (error.name !== "AbortError" && mine === turn) fail(error);
  } finally {
    if (mine === turn) {
      document.body.classList.remove("asking");
      grid.pump();
    }
  }
}

function part(first, signal) {
  return get("/search", [...asked(question), ["first", first], ["count", PART], ["tab", TAB], ["turn", turn]], signal);
}

async function more() {
  if (loading || whole || !hits.length) return;
  loading = true;
  const mine = turn;
  try {
    const answer = await part(hits.length, asking.signal);
    if (mine !== turn || !answer) return;
    hits = hits.concat(answer.hits);
    if (!answer.hits.length) answer.whole = true;
    take(answer);
    loading = false;
    grid.set(items(), lines(), total());
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    if (mine === turn) loading = false;
  }
}

// What an answer says of all results.
function take(answer) {
  problem.hidden = true;
  whole = answer.whole && hits.length >= answer.ranked;
  line = answer.line;
  by("command").textContent = answer.command;
  timeline.setFound(asksForSomething() ? answer.months : {});
  summarise(answer);
  by("welcome").hidden = true;
  if (!hits.length && index.state === "ready") nothingFound(question, change);
  else if (!asksForSomething() && !question.filters.length) welcome(index, (example) => { text.value = ""; change({ ...question, draft: example }); text.focus(); });
}

function fail(error) {
  if (error.status === 404 || (index.state !== "ready" && error.status !== 0)) {
    hits = [];
    whole = true;
    grid.start([], [], 0);
    poll();
    return;
  }
  problem.textContent = error.status === 401 ? "This page was left open while clipsearch serve was started anew. Open the address that it has printed." : `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
  problem.hidden = false;
}

const asksForSomething = () => allTerms(question).length > 0;

function total() {
  return whole ? hits.length : -1;
}

function summarise(answer) {
  const photos = `${count(index.photos, "photo")}`;
  let said = "";
  if (!asksForSomething()) said = question.filters.length ? `${whole ? count(answer.ranked, "photo") : `the newest of ${photos}`}` : `${photos}, the newest first`;
  else if (question.cut) said = !answer.ranked ? "no photo shows it" : whole || answer.whole ? `${count(answer.ranked, "photo")} that show it` : `more than ${count(answer.ranked, "photo")} show it`;
  else if (answer.line !== null) said = answer.line ? `about ${count(answer.line, "photo")} ${answer.line === 1 ? "shows" : "show"} it, of ${photos}` : `probably none of ${photos} shows it; the nearest:`;
  else said = `the nearest of ${photos}`;
  by("summary").textContent = said[0].toUpperCase() + said.slice(1);
}

function lines() {
  if (line === null || question.cut || !asksForSomething() || line >= hits.length) return [];
  const at = grid.items === null ? line : place(line);
  const what = allTerms(question).filter(({ kind }) => kind === "text").map(({ value }) => `“${value}”`).join(", ");
  return [[at, line ? `From here on, probably not ${what}` : `Probably none of these is ${what}`]];
}

// Where a hit is among the items, of which some are unfolded copies.
function place(rank) {
  return hits.slice(0, rank).reduce((sum, hit) => sum + 1 + (unfolded.has(hit.path) ? hit.similar.length : 0), 0);
}

function items() {
  return hits.flatMap((hit) => {
    const open = unfolded.has(hit.path);
    const folded = hit.similar.length, key = `${hit.path}\n${hit.path_b64 ?? ""}`;
    const first = { key, look: `${key}\n${hit.confidence}\n${folded}\n${open}`, photo: hit, hit, folded, unfolded: open };
    return open ? [first, ...hit.similar.map((photo) => copyOf(photo, hit))] : [first];
  });
}

function copyOf(photo, hit) {
  const key = `${photo.path}\n${photo.path_b64 ?? ""}\ncopy`;
  return { key, look: key, photo, hit, copy: true };
}

function scrollUp() {
  const top = document.querySelector("main").getBoundingClientRect().top;
  if (top < 0) scrollTo({ top: 0, behavior: "instant" });
}

// ---------------------------------------------------------------------------------- typing

function editTerm(n) {
  const { kind, value } = question.terms[n];
  const draft = kind === "not" ? `-${value}` : value;
  const terms = question.terms.toSpliced(n, 1);
  change({ ...question, terms: question.draft.trim() ? [...terms, term(question.draft)] : terms, draft });
  text.focus();
}

text.addEventListener("input", () => {
  const now = Date.now(), replace = now - typedAt < 2000;
  typedAt = now;
  change({ ...question, draft: text.value }, replace);
});

text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter") {
    event.preventDefault();
    if (text.value.trim()) change({ ...question, terms: [...question.terms, term(text.value)], draft: "" }, true);
    else grid.move(grid.current);
  } else if (event.key === "ArrowDown" && grid.items.length) {
    event.preventDefault();
    grid.move(grid.current);
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

function showConcepts() {
  const typed = /(?:^|\s)@([\w.-]*)$/.exec(question.draft), place = by("concepts");
  const fitting = typed && document.activeElement === text ? concepts.filter((name) => name.startsWith(typed[1]) && name !== typed[1]) : [];
  place.hidden = !fitting.length;
  place.replaceChildren(...fitting.slice(0, 12).map((name) => element("button", { type: "button", class: "quiet", onclick: () => {
    change({ ...question, draft: `${question.draft.slice(0, typed.index)}${typed.index ? " " : ""}@${name} ` }, true);
    text.focus();
  } }, `@${name}`)));
}

by("ask").addEventListener("submit", (event) => event.preventDefault());
by("field").addEventListener("click", (event) => event.target === by("field") && text.focus());
by("home").addEventListener("click", (event) => {
  event.preventDefault();
  change(read(""));
  text.focus();
});

// ---------------------------------------------------------------------------------- images

async function addImages(files) {
  for (const file of [...files].slice(0, 8)) {
    try {
      toast(`Looking at ${file.name || "the image"} …`);
      const { id } = await upload(file);
      names.set(id, file.name || "pasted image");
      change({ ...question, terms: [...question.terms, { kind: "like", value: id }] });
    } catch (error) {
      fail(error);
    }
  }
}

function alike(photo, kind) {
  names.set(photo.id, photo.name);
  viewer.close();
  // Of what was asked, an image is the whole of "like this"; what leads away is added.
  const terms = kind === "like" ? [{ kind, value: photo.id }] : [...allTerms(question), { kind, value: photo.id }];
  change({ ...question, terms, draft: "", photo: "" });
}

by("pick-image").addEventListener("click", () => by("file").click());
by("file").addEventListener("change", (event) => { addImages(event.target.files); event.target.value = ""; });
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
  by("drop").hidden = false;
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) by("drop").hidden = true; });
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  by("drop").hidden = true;
  addImages(event.dataTransfer.files);
});

// ---------------------------------------------------------------------------------- panels

by("filters-button").addEventListener("click", () => toggle(by("filters"), by("filters-button")));
by("labels-button").addEventListener("click", () => toggle(by("labels"), by("labels-button")));
by("filters").addEventListener("change", () => change(filtered(question)));
by("filters").addEventListener("submit", (event) => event.preventDefault());
by("filters").addEventListener("reset", (event) => { event.preventDefault(); change({ ...question, filters: [] }); });
by("cut").addEventListener("change", (event) => change({ ...question, cut: event.target.checked ? "1" : "" }));
by("least").addEventListener("change", ({ target }) => {
  const least = Math.min(99, Math.max(1, Math.round(target.value))) / 100;
  change({ ...question, cut: !least || least === CUT ? "1" : String(least) });
  target.value = Math.round(100 * (least || CUT));
});
by("unique").addEventListener("change", (event) => change({ ...question, unique: event.target.checked }));
by("label-text").addEventListener("input", () => {
  const labels = by("label-text").value.split(",").map((label) => label.trim()).filter(Boolean);
  change({ ...question, labels: [...new Set(labels)].slice(0, 64) }, true);
  countLabels();
});

let counting = 0;
function countLabels() {
  clearTimeout(counting);
  if (!question.labels.length || by("labels").hidden) return question.labels.length ? undefined : showNoCounts();
  counting = setTimeout(async () => {
    try {
      showCounts(await get("/labels", [...question.labels.map((label) => ["label", label]), ...asked(question)]));
    } catch (error) {
      showNoCounts(error.message);
    }
  }, 250);
}
by("labels-button").addEventListener("click", countLabels);

// ---------------------------------------------------------------------------------- one photo, some photos

async function open(n, replace = false) {
  if (n < 0) return;
  if (n >= grid.items.length) {
    await more();
    if (n >= grid.items.length) return;
  }
  grid.move(n, false);
  grid.reveal(n);
  const { photo, hit } = grid.items[shown = n];
  change({ ...question, photo: photo.id }, replace || viewer.isOpen);
  viewer.show(photo, hit, [grid.items[n - 1]?.photo.id, grid.items[n + 1]?.photo.id]);
  if (n > grid.items.length - 5) more();
}

function closePhoto() {
  if (question.photo) change({ ...question, photo: "" });
  grid.move(shown); // where the browser goes back to is the photo that was opened first
}

// The photo that the address names, among the results or not.
async function showNamed() {
  if (!question.photo) return viewer.close();
  const n = grid.items.findIndex(({ photo }) => photo.id === question.photo);
  if (n >= 0) return open(n, true);
  try {
    const { photos: [photo] } = await get(`/photo/${encodeURIComponent(question.photo)}`);
    viewer.show(photo, null, []);
  } catch (error) {
    change({ ...question, photo: "" }, true);
    fail(error);
  }
}

function pick(n, toThere) {
  const is = !grid.picked.has(grid.items[n].key);
  const other = toThere ? Math.min(anchor, grid.items.length - 1) : n, from = Math.min(n, other), to = Math.max(n, other);
  anchor = n;
  for (let m = from; m <= to; m += 1) grid.picked[is ? "add" : "delete"](grid.items[m].key);
  grid.move(n, false);
  grid.show();
  showSelection();
}

function selected() {
  return grid.items.filter(({ key }) => grid.picked.has(key)).map(({ photo }) => photo.path);
}

function showSelection() {
  const paths = selected();
  by("selection").hidden = !paths.length;
  by("selected").textContent = `${number(paths.length)} selected`;
}

function unselect() {
  grid.picked.clear();
  grid.show();
  showSelection();
}

function copyPaths() {
  const paths = selected().length ? selected() : grid.items[grid.current] ? [grid.items[grid.current].photo.path] : [];
  if (paths.length) copy(paths.join("\n"), `${count(paths.length, "path")} copied`);
}

function unfold(n) {
  const { hit } = grid.items[n];
  if (!unfolded.delete(hit.path)) unfolded.add(hit.path);
  grid.set(items(), lines(), total());
  grid.move(n);
}

by("copy-paths").addEventListener("click", copyPaths);
by("unselect").addEventListener("click", unselect);
by("copy-command").addEventListener("click", () => copy(by("command").textContent, "The command is copied"));
by("copy-label-command").addEventListener("click", () => copy(by("label-command").textContent, "The command is copied"));
by("help-button").addEventListener("click", () => by("help").showModal());

// ---------------------------------------------------------------------------------- keys

const KEYS = {
  "/": () => { text.focus(); text.select(); },
  "?": () => by("help").showModal(),
  f: () => toggle(by("filters"), by("filters-button")),
  x: () => grid.items.length && pick(grid.current, false),
  m: () => grid.items.length && alike(grid.items[grid.current].photo, "like"),
  l: () => grid.items.length && alike(grid.items[grid.current].photo, "unlike"),
  c: copyPaths,
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const types = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && !types && !document.querySelector("dialog[open]") && grid.picked.size) return unselect();
  if (types || by("help").open) return;
  const to = grid.to(event.key);
  if (viewer.isOpen && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    event.preventDefault();
    open(to, true);
  } else if (!viewer.isOpen && to !== undefined && (grid.hasFocus || document.activeElement === document.body)) {
    event.preventDefault();
    if (event.key === "ArrowUp" && to === grid.current && grid.rows[0]?.to > grid.current) text.focus();
    else grid.move(grid.hasFocus ? to : grid.current);
  } else if (event.key in KEYS && (!viewer.isOpen || "mlc".includes(event.key))) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

// ---------------------------------------------------------------------------------- the index

async function poll() {
  if (document.hidden) return;
  let fresh;
  try {
    fresh = await get("/status");
  } catch (error) {
    return fail(error);
  }
  const changed = fresh.version !== index.version, was = index;
  index = fresh;
  by("indexing").hidden = !fresh.writing;
  by("indexing-text").textContent = `Indexing: ${count(fresh.photos, "photo")} so far`;
  document.body.classList.toggle("nothing", fresh.state !== "ready");
  if (fresh.state !== "ready") {
    welcome(fresh);
    by("timeline").hidden = true;
  } else if (changed) {
    await renew(was);
  }
}

async function renew(was) {
  const quiet = was.state !== "ready" || (scrollY < 200 && !viewer.isOpen && !grid.picked.size && !grid.hasFocus);
  try {
    const rest = question.filters.filter(([name]) => name !== "after" && name !== "before");
    const [choices, { months }] = await Promise.all([get("/choices"), get("/months", rest)]);
    concepts = choices.concepts;
    showChoices(choices);
    timeline.setAll(all = months);
    if (was.version === null) return; // the page asks for the first time
  } catch (error) {
    return fail(error);
  }
  if (quiet) ask();
  else by("renew").hidden = false;
}

by("renew").addEventListener("click", () => { by("renew").hidden = true; ask(); });
setInterval(poll, 2000);
document.addEventListener("visibilitychange", poll);
addEventListener("popstate", async () => {
  const before = write({ ...question, photo: "" });
  question = read(location.search);
  unfolded = new Set();
  show();
  if (write({ ...question, photo: "" }) !== before) await ask();
  showNamed();
});

show();
if (question.labels.length) toggle(by("labels"), by("labels-button"), true);
await poll();
if (index.state === "ready") await ask();
if (question.photo) showNamed();
else if (document.activeElement === document.body) text.focus();
document.body.dataset.ready = CUT;
