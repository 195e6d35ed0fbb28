// Fetches the results of the question and shows them in the grid.

import { fileOf, haveSameResults, photoName, searchParams, termParams, toUrl, withFilters } from "./address.js";
import { byId, sentence } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { Grid } from "./grid.js";
import { countLabels } from "./labels.js";
import { showExamples, showMessage, showNoMatches } from "./messages.js";
import { refreshMap } from "./photomap.js";
import { rememberSearch } from "./searches.js";
import { get } from "./server.js";
import { change, question, rememberPlace, respell } from "./state.js";
import { summary } from "./summary.js";
import { Timeline } from "./timeline.js";
import { onAnswer, thresholdOf } from "./toolbar.js";

const PAGE_SIZE = 60, COUNT_DELAY_MS = 300; // typing goes on first
const TAB = crypto.getRandomValues(new Uint32Array(2)).join("-");

let turn = 0, controller = null, loading = null; // `turn` numbers the searches
let hits = [], answered = null, answer = null; // `answered` is the question of the answer
let expanded = new Set(), countTimer = 0; // the files whose copies are shown

export const grid = new Grid(byId("photos"), {
  loadMore, toggleGroup,
  moved: rememberPlace,
  url: (photo) => toUrl({ ...question, at: "", photo: photoName(photo) }),
  isBusy: () => document.body.classList.contains("searching"),
});
export const timeline = new Timeline(byId("timeline"), (after, before, done) => change(withFilters(question, { after, before }), !done));

// ---------------------------------------------------------------------------------- searching

// Search for the question. `place`, as in `Grid`, is where to scroll to; by default, to the first results. `isTyping`:
// the text may be incomplete, and what is wrong with it no error yet.
export async function search({ place = null, isTyping = false } = {}) {
  const ownTurn = turn += 1, asked = question;
  const through = [place?.file, fileOf(asked.photo)].filter(Boolean).map((file) => ["through", file]);
  controller?.abort();
  controller = new AbortController();
  clearTimeout(countTimer);
  document.body.classList.add("searching");
  try {
    const found = await request("/search", asked, [["first", 0], ["count", PAGE_SIZE], ...through]);
    if (ownTurn !== turn || !found) return;
    succeeded("search");
    loading = null;
    if (!answered || !haveSameResults(asked, answered)) expanded = new Set();
    hits = found.hits;
    [answered, answer] = [asked, found];
    if (!question.draft.trim()) respell(found.terms.map(([kind, value]) => ({ kind, value })));
    showAnswer();
    grid.reset(items(), dividers(), total());
    if (!place || !grid.goTo(place)) grid.goToTop();
    document.body.dataset.turn = ownTurn;
    countMatches();
    countLabels();
    refreshMap(COUNT_DELAY_MS);
    rememberSearch(question);
  } catch (error) {
    if (error.name !== "AbortError" && ownTurn === turn) await showFailure(error, isTyping);
  } finally {
    if (ownTurn === turn) {
      document.body.classList.remove("searching", "loading");
      grid.loadQueued();
    }
  }
}

function request(path, about, more) {
  return get(path, [...searchParams(about), ...more, ["tab", TAB], ["turn", turn]], controller.signal);
}

// Count all matches, if the first part of the ranking has nothing else.
function countMatches() {
  if (answer.matches.exact || !answer.asks_for_text) return;
  const ownTurn = turn;
  countTimer = setTimeout(async () => {
    try {
      const found = await request("/count", answered, []);
      if (ownTurn !== turn || !found) return;
      Object.assign(answer, found);
      showAnswer();
    } catch (error) {
      if (error.name !== "AbortError") showError("search", error);
    }
  }, COUNT_DELAY_MS);
}

// All matches of the question, not only those that are loaded, and the command that finds them. Null if another question
// was asked meanwhile.
export async function allMatches() {
  const found = answered && await request("/matches", answered, []);
  succeeded("selection");
  return found;
}

// Load the next part; callers meanwhile wait for the same.
function loadMore() {
  if (isComplete() || !hits.length) return Promise.resolve();
  const ownLoading = loading ??= loadPart().finally(() => { if (loading === ownLoading) loading = null; });
  return ownLoading;
}

async function loadPart() {
  const ownTurn = turn;
  try {
    const found = await request("/search", answered, [["first", hits.length], ["count", PAGE_SIZE]]);
    if (ownTurn !== turn || !found) return;
    succeeded("search");
    hits = hits.concat(found.hits);
    if (!found.hits.length) found.complete = true;
    // A lower bound of the count must not grow while one scrolls.
    answer = found.matches.exact ? found : { ...found, matches: answer.matches };
    showAnswer();
    loading = null;
    grid.set(items(), dividers(), total());
  } catch (error) {
    if (error.name !== "AbortError") showError("search", error);
  }
}

const isComplete = () => !answer || (answer.complete && hits.length >= answer.ranked);
const total = () => isComplete() ? hits.length : -1;

// ---------------------------------------------------------------------------------- showing

// Show what an answer says about all results: everything but the grid.
function showAnswer() {
  const hasTerms = termParams(answered).length > 0;
  byId("command").textContent = answer.command;
  byId("summary").textContent = summary(answered, answer, thresholdOf(answered));
  timeline.setFound(hasTerms ? answer.months : null, answer.range);
  showAdvice(answer.advice.join(". "));
  onAnswer(answer);
  if (!hits.length) showNoMatches(answered, change);
  else if (!hasTerms && !answered.filters.length) showExamples((example) => { change({ ...question, draft: example }); byId("text").focus(); });
  else showMessage();
}

function showAdvice(sentence) {
  byId("advice").textContent = sentence;
  byId("advice").hidden = !sentence;
}

async function showFailure(error, isTyping) {
  if (error.status === 404) clear();
  else if (error.status === 400 && isTyping) showAdvice(sentence(error.message));
  else {
    showAdvice("");
    showError("search", error);
  }
}

// Show no results, where there is no index.
export function clear() {
  hits = [];
  answer = answered = null;
  grid.reset([], [], 0);
}

function dividers() {
  const { confident } = answer;
  if (confident === null || answered.cut || !termParams(answered).length || confident >= hits.length) return [];
  return [[itemIndex(confident), confident ? "Less certain" : "None of these is a confident match"]];
}

// The index of a hit among the items, which include the copies of expanded groups.
function itemIndex(rank) {
  return hits.slice(0, rank).reduce((sum, hit) => sum + 1 + (expanded.has(hit.file) ? hit.similar.length : 0), 0);
}

function items() {
  return hits.flatMap((hit) => {
    const isExpanded = expanded.has(hit.file), copies = hit.similar.length;
    const first = { tileKey: `${hit.file}\n${hit.id}\n${hit.confidence}\n${copies}\n${isExpanded}`, photo: hit, hit, copies, isExpanded };
    return isExpanded ? [first, ...hit.similar.map((photo) => ({ tileKey: `${photo.file}\n${photo.id}\ncopy`, photo, hit, isCopy: true }))] : [first];
  });
}

function toggleGroup(n) {
  const { hit } = grid.items[n];
  if (!expanded.delete(hit.file)) expanded.add(hit.file);
  grid.set(items(), dividers(), total());
  grid.moveTo(grid.items.findIndex((item) => item.hit === hit));
}
