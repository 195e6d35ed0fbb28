// The question that the page shows, and its URL: `terms` in order, `draft` (the text in the search field), `filters` as
// [name, value] pairs, `cut`, the minimum confidence: "" for none, "1" for --cut, "strict" for --strict, `sort`, the
// order: "" for the best first or, without terms, the newest, and `only`: "" or one of look, text, tags and captions,
// which counts as a match. `photo` is the one in the large view, as "ID.FILE", `at` the file at the top of the window,
// and `map` what the map shows, as in `photomap.js`; "" if it is closed.

export const TERM_KINDS = ["text", "not", "like", "unlike"];
const FILTERS = [...document.querySelectorAll("#filters [data-filter]")].map(({ dataset }) => dataset.filter);

export function fromUrl(query) {
  const pairs = [...new URLSearchParams(query)];
  const first = (name) => pairs.find(([other]) => other === name)?.[1] ?? "";
  return {
    terms: pairs.filter(([name]) => TERM_KINDS.includes(name)).map(([kind, value]) => ({ kind, value })),
    filters: pairs.filter(([name, value]) => FILTERS.includes(name) && value),
    draft: first("q"), cut: first("cut"), unique: first("unique") === "1", sort: first("sort"), only: first("only"),
    labels: pairs.filter(([name]) => name === "label").map(([, value]) => value),
    photo: first("photo"), at: first("at"), map: first("map"),
  };
}

export function toUrl(question) {
  const pairs = [...searchParams(question), ...question.labels.map((label) => ["label", label])];
  if (question.photo) pairs.push(["photo", question.photo]);
  if (question.at) pairs.push(["at", question.at]);
  if (question.map) pairs.push(["map", question.map]);
  const query = new URLSearchParams(pairs).toString();
  return query ? `/?${query}` : "/";
}

// The parameters of a search request.
export function searchParams(question) {
  const pairs = [...termParams(question), ...question.filters];
  if (question.cut) pairs.push(["cut", question.cut]);
  if (question.unique) pairs.push(["unique", "1"]);
  if (question.sort) pairs.push(["sort", question.sort]);
  if (question.only) pairs.push(["only", question.only]);
  return pairs;
}

// The parameters of the terms, with the text that is being typed.
export function termParams(question) {
  const pairs = question.terms.map(({ kind, value }) => [kind, value]);
  return question.draft.trim() ? [...pairs, ["q", question.draft]] : pairs;
}

// Whether two questions have the same results, wherever the window is in them.
export function haveSameResults(one, other) {
  const url = (question) => toUrl({ ...question, photo: "", at: "", map: "", labels: [] });
  return url(one) === url(other);
}

// The terms with the text that is being typed as the last. The server splits and reads them: "a car -people" is two.
export function allTerms(question) {
  return question.draft.trim() ? [...question.terms, { kind: "text", value: question.draft.trim() }] : question.terms;
}

export function filterValues(question, name) {
  return question.filters.filter(([other]) => other === name).map(([, value]) => value);
}

// The question with the values of some filters replaced: `changes` maps a name to a value or a list of values.
export function withFilters(question, changes) {
  const kept = question.filters.filter(([name]) => !(name in changes));
  const added = Object.entries(changes).flatMap(([name, values]) => [values].flat().filter(Boolean).map((value) => [name, value]));
  return { ...question, filters: [...kept, ...added] };
}

// Splits "2:golden retriever" or "2:ID" into weight and content.
export function splitWeight(value) {
  const match = /^(\d+(?:\.\d*)?|\.\d+):(?!\d)([^]*)$/.exec(value) ?? /^(\d+(?:\.\d*)?|\.\d+):([0-9a-f]{32})$/.exec(value);
  return match ? [Number(match[1]), match[2]] : [1, value];
}

// The question of all photos in the folder of a photo, at its place. Null if the URL cannot name the folder: not UTF-8.
export function folderQuestion(photo) {
  const { path, path_b64: bytes } = photo;
  const folder = path.slice(0, path.lastIndexOf("/")) || "/";
  return bytes === undefined ? { ...withFilters(fromUrl(""), { under: folder }), at: photoName(photo) } : null;
}

// How the URL names a photo: by its contents and, as identical files share those, by its file.
export const photoName = (photo) => `${photo.id}.${photo.file}`;
export const idOf = (name) => name.split(".")[0];
export const fileOf = (name) => name.split(".").at(-1);
