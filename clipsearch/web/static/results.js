// Fetches the results of the question and shows them in the grid.

import { fileOf, haveSameResults, photoName, searchParams, termParams, toUrl, withFilters } from "./address.js";
import { byId, sentence } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { Grid } from "./grid.js";
import { isDated } from "./items.js";
import { countLabels } from "./labels.js";
import { showExamples, showMessage, showNoMatches } from "./messages.js";
import { PhotoList } from "./photolist.js";
import { refreshMap } from "./photomap.js";
import { Ranking } from "./ranking.js";
import { Scrubber } from "./scrubber.js";
import { rememberSearch } from "./searches.js";
import { get } from "./server.js";
import { change, question, rememberPlace, respell } from "./state.js";
import { summary } from "./summary.js";
import { Timeline } from "./timeline.js";
import { onAnswer, thresholdOf } from "./toolbar.js";

const PAGE_SIZE = 60, COUNT_DELAY_MS = 300; // typing goes on first
const MAX_SELECTED = 25_000; // as on the server
const TAB = crypto.getRandomValues(new Uint32Array(2)).join("-");

let turn = 0, controller = null, countTimer = 0, running = 0; // `turn` numbers the searches
let answered = null, answer = null; // `answered` is the question of the answer
let expanded = new Set(); // the files in a ranking whose copies are shown

export const grid = new Grid(byId("photos"), {
  toggleGroup: (n) => grid.moveTo(grid.results.toggle(n)),
  moved: rememberPlace,
  laidOut: () => scrubber.update(),
  scrolled: () => scrubber.follow(),
  url: (photo) => toUrl({ ...question, at: "", photo: photoName(photo) }),
  isBusy: () => document.body.classList.contains("searching"),
});
const scrubber = new Scrubber(byId("scrubber"), grid);
export const timeline = new Timeline(byId("timeline"), (after, before, done) => change(withFilters(question, { after, before }), !done));

// ---------------------------------------------------------------------------------- searching

// Search for the question. `place`, as in `Grid`, is where to scroll to; by default, to the first results. `isTyping`:
// the text may be incomplete, so a problem with it is no error yet.
export async function search({ place = null, isTyping = false } = {}) {
  const ownTurn = turn += 1, asked = question;
  const through = [place?.name, asked.photo].filter(Boolean).map((name) => ["through", name]);
  controller?.abort();
  controller = new AbortController();
  clearTimeout(countTimer);
  document.body.classList.add("searching");
  try {
    const found = await request("/search", asked, [["first", 0], ["count", PAGE_SIZE], ["layout", 1], ...through]);
    if (ownTurn !== turn || !found) return;
    succeeded("search");
    if (!answered || !haveSameResults(asked, answered)) expanded = new Set();
    [answered, answer] = [asked, found];
    if (!question.draft.trim()) respell(found.terms.map(([kind, value]) => ({ kind, value })));
    grid.show(found.layout ? photoList(found) : ranking(found));
    showAnswer();
    const n = placeOf(place, found);
    if (n < 0 || !grid.goTo({ ...place, n })) grid.goToTop();
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

// The number of the photo at a place, or of the one that has its place since it was deleted; -1 if it is not known.
function placeOf(place, found) {
  if (!place) return -1;
  const n = place.name ? found.positions?.[place.name] ?? grid.indexOf(fileOf(place.name)) : -1;
  return n < 0 ? place.n : n;
}

function photoList(found) {
  return new PhotoList(found, { isDated: isDated(answered, true) }, {
    fetch: async (first, count, through) => {
      const part = await fetchPart([["first", first], ["count", count], ["list", found.list], ...(through ? [["through", through]] : [])]);
      if (!part || (part.list === found.list && part.ranked === found.ranked)) return part;
      search({ place: grid.place() }); // files were deleted, or the server has forgotten this list
      return null;
    },
    changed: (isMoved) => grid.update(isMoved),
  });
}

function ranking(found) {
  const hasTerms = termParams(answered).length > 0;
  return new Ranking(found, { isDated: isDated(answered, !hasTerms), hasDivider: hasTerms && !answered.cut, expanded }, {
    fetch: async (first) => {
      const part = await fetchPart([["first", first], ["count", PAGE_SIZE]]);
      if (!part) return null;
      // A lower bound of the count must not grow during scrolling.
      answer = part.matches.exact ? part : { ...part, matches: answer.matches };
      showAnswer();
      return part;
    },
    changed: (isMoved) => grid.update(isMoved),
  });
}

// Promises a part of the results; null if it failed or another question was asked meanwhile.
async function fetchPart(pairs) {
  const ownTurn = turn;
  document.body.classList.toggle("fetching", Boolean(running += 1));
  try {
    const part = await request("/search", answered, pairs);
    if (ownTurn !== turn || !part) return null;
    succeeded("search");
    return part;
  } catch (error) {
    if (error.name !== "AbortError") showError("search", error);
    return null;
  } finally {
    document.body.classList.toggle("fetching", Boolean(running -= 1));
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

// Promises the photos from one place to another; null if there are too many, or they are no longer wanted.
export async function photosBetween(from, to) {
  if (to - from < MAX_SELECTED) return grid.results.photos(from, to);
  showError("selection", new Error(`at most ${MAX_SELECTED.toLocaleString("en")} photos can be selected`));
  return null;
}

// ---------------------------------------------------------------------------------- showing

// Show what an answer says about all results: everything but the grid.
function showAnswer() {
  const hasTerms = termParams(answered).length > 0;
  byId("command").textContent = answer.command;
  byId("summary").textContent = summary(answered, answer, thresholdOf(answered));
  timeline.setFound(hasTerms ? answer.months : null, answer.range);
  showAdvice(answer.advice.join(". "));
  onAnswer(answer);
  if (!answer.ranked) showNoMatches(answered, change);
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
  answer = answered = null;
  grid.show(null);
}
