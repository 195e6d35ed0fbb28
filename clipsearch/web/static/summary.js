// The sentence above the results. All counts of the page come from here, so that they agree with the numbers beside the
// photos: it knows the filter, the fold, the threshold and the order.

import { termParams } from "./address.js";
import { count, number, percent } from "./dom.js";

const ORDERS = { "-date": "newest first", date: "oldest first", name: "by name", path: "by path", "-size": "largest first", size: "smallest first" };

// `answer` is that of a search for `question`, and `cut` its minimum confidence: null for none, or for the usual one.
export function summary(question, answer, cut) {
  const order = ORDERS[question.sort];
  if (!termParams(question).length) return `${listed(question, answer)}, ${order ?? "newest first"}`;
  const closest = order ? `the ${number(answer.ranked)} closest, ${order}` : "closest first";
  if (!answer.asks_for_text) return `${searched(answer)}, ${closest}`;
  const { count: n, exact } = answer.matches, kind = cut === null ? "confident " : "", least = cut === null ? "" : ` of at least ${percent(cut)}`;
  const matches = `${kind}${n === 1 ? "match" : "matches"}${least}`;
  if (!n) return `No ${matches} in ${searched(answer)}${question.cut ? "" : `; ${closest}`}`;
  return `${exact ? "" : "More than "}${number(n)} ${matches}${question.unique ? ", duplicates grouped," : ""} in ${searched(answer)}${order ? `, ${order}` : ""}`;
}

// What the label counts are about.
export function labelNote({ among, counts }) {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const what = among === "matches" ? count(total, "match", "matches") : among === "closest" ? `the ${number(total)} closest photos` : count(total, "photo");
  return `The most likely label of ${what}`;
}

// The photos that pass the filters, of all.
function searched({ passing, photos }) {
  return passing === photos ? count(photos, "photo") : `${number(passing)} of ${count(photos, "photo")}`;
}

// The photos that are listed where there is nothing to look for: with duplicates grouped, they are fewer.
function listed(question, answer) {
  if (!question.unique) return answer.copies ? `${searched(answer)}, ${count(answer.copies, "identical copy", "identical copies")} folded` : searched(answer);
  return answer.complete ? `${number(answer.ranked)} without duplicates, of ${searched(answer)}` : `${searched(answer)}, duplicates grouped`;
}
