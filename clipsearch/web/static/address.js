// The question, and how the address holds it. `terms` keep their order; `draft` is what is being typed, `cut` the
// least confidence: "" for none, "1" for the usual one.

export const KINDS = ["text", "not", "like", "unlike"];
export const FILTERS = ["under", "after", "before", "camera", "near", "size", "orientation", "type", "name", "reads", "keyword"];

export function read(address) {
  const pairs = [...new URLSearchParams(address)];
  const terms = pairs.filter(([name]) => KINDS.includes(name)).map(([kind, value]) => ({ kind, value }));
  const filters = pairs.filter(([name, value]) => FILTERS.includes(name) && value);
  const of = (name) => pairs.find(([other]) => other === name)?.[1] ?? "";
  return {
    terms, filters, draft: of("q"), photo: of("photo"),
    cut: of("cut"), unique: of("unique") === "1",
    labels: pairs.filter(([name]) => name === "label").map(([, value]) => value),
  };
}

export function write(question) {
  const pairs = question.terms.map(({ kind, value }) => [kind, value]);
  if (question.draft.trim()) pairs.push(["q", question.draft]);
  pairs.push(...question.filters);
  if (question.cut) pairs.push(["cut", question.cut]);
  if (question.unique) pairs.push(["unique", "1"]);
  pairs.push(...question.labels.map((label) => ["label", label]));
  if (question.photo) pairs.push(["photo", question.photo]);
  const address = new URLSearchParams(pairs).toString();
  return address ? `/?${address}` : "/";
}

// The term that a text means: a minus before it leads away.
export function term(text) {
  const words = text.trim();
  const away = /^-\s*(?=\S)/.exec(words);
  return away ? { kind: "not", value: words.slice(away[0].length) } : { kind: "text", value: words };
}

export function allTerms(question) {
  return question.draft.trim() ? [...question.terms, term(question.draft)] : question.terms;
}

// What the server is asked.
export function asked(question) {
  const pairs = allTerms(question).map(({ kind, value }) => [kind, value]);
  pairs.push(...question.filters);
  if (question.cut) pairs.push(["cut", question.cut]);
  if (question.unique) pairs.push(["unique", "1"]);
  return pairs;
}

export function filter(question, name) {
  return question.filters.filter(([other]) => other === name).map(([, value]) => value);
}

export function withFilter(question, changes) {
  const rest = question.filters.filter(([name]) => !(name in changes));
  const fresh = Object.entries(changes).flatMap(([name, values]) => [values].flat().filter(Boolean).map((value) => [name, value]));
  return { ...question, filters: [...rest, ...fresh] };
}

// "2:golden retriever" and "2:ID" to their weight and the rest.
export function weighed(value) {
  const match = /^(\d+(?:\.\d*)?|\.\d+):(?!\d)([^]*)$/.exec(value) ?? /^(\d+(?:\.\d*)?|\.\d+):([0-9a-f]{32})$/.exec(value);
  return match ? [Number(match[1]), match[2]] : [1, value];
}
