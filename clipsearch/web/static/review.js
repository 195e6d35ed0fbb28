// Reviewing duplicates: one group after the other, then a plan of what to move. Nothing changes before it is carried out.

import { count, byId, bytes, element, number, sentence } from "./dom.js";
import { showError, succeeded, toast } from "./feedback.js";
import { Comparison } from "./review-comparison.js";
import { Group } from "./review-group.js";
import { Plan } from "./review-plan.js";
import { get, largeUrl } from "./server.js";
import { connect as connectUndo } from "./undo.js";

const PART = 20; // groups that are loaded at a time
const query = new URLSearchParams(location.search), kind = query.get("kind") ?? "copies";
const decisions = new Map(); // of a group, by its number: the files, and the positions of those to keep
let review = null, parts = new Map(), current = 0, kept = new Set();

const group = new Group(byId("files"), { toggle, compare: (n) => compare(n) });
const comparison = new Comparison({ keepOnly });
const plan = new Plan({ left: () => show(current), moved });

// ---------------------------------------------------------------------------------- groups

async function start() {
  decisions.clear();
  parts = new Map();
  showMessage("Comparing files …", "Pictures are compared by their pixels. In a large library this takes minutes.");
  try {
    review = await get("/duplicates/groups", [...query, ...(query.has("kind") ? [] : [["kind", kind]])]);
    succeeded("review");
  } catch (error) {
    showMessage(error.status === 404 || error.status === 400 ? sentence(error.message) : "The groups could not be loaded.");
    if (error.status !== 404 && error.status !== 400) showError("review", error);
    return;
  }
  for (const [n, { files, kept: stay, isMoved }] of JSON.parse(sessionStorage.getItem(review.review) ?? "[]")) decisions.set(n, { files, kept: new Set(stay), isMoved });
  const filters = [...query].filter(([name]) => name !== "kind").map(([name, value]) => `${name} ${value}`);
  byId("about").textContent = [filters.length ? `Only photos that pass the filters: ${filters.join(", ")}.` : "", kind === "similar" ? "These only look alike and may show different things. All stay unless you choose." : "", ...review.left_out].join(" ");
  const first = neighbour(-1, 1);
  if (first >= 0) await show(first);
  else showMessage(kind === "similar" ? "No photos look alike" : "No duplicates", review.left_out.join(" "));
}

async function groupAt(n) {
  const number = Math.floor(n / PART);
  if (!parts.has(number)) parts.set(number, get(`/duplicates/${review.review}/groups`, [["first", number * PART], ["count", PART]]));
  try {
    return (await parts.get(number)).groups[n % PART];
  } catch (error) {
    parts.delete(number);
    throw error;
  }
}

// The next group in a direction that has not been moved away; -1 if there is none.
function neighbour(from, by) {
  for (let n = from + by; n >= 0 && n < review.groups; n += by) if (!decisions.get(n)?.isMoved) return n;
  return -1;
}

async function show(n) {
  current = n;
  let files;
  try {
    files = await groupAt(n);
    succeeded("group");
  } catch (error) {
    return showError("group", error);
  }
  if (n !== current) return;
  kept = new Set(decisions.get(n)?.kept ?? suggested(files));
  showSection("group");
  group.show(files, kept);
  byId("group").setAttribute("aria-label", `Group ${n + 1} of ${review.groups}: ${count(files.length, "file")}`);
  showState();
  byId("group").focus({ preventScroll: true });
  scrollTo(0, 0);
  const next = neighbour(n, 1);
  if (next >= 0) groupAt(next).then((others) => { for (const { id } of others) new Image().src = largeUrl(id); }, () => {}); // prefetch
}

// The positions of the files to keep before a decision: of copies the best, of look-alikes all.
const suggested = (files) => kind === "similar" ? files.keys() : [0];

function showState() {
  const moving = planned().flatMap(({ files, kept: stay }) => files.filter((_, n) => !stay.has(n)));
  byId("progress").textContent = `Group ${number(current + 1)} of ${number(review.groups)}${decisions.has(current) ? ", decided" : ""}`;
  byId("plan-button").hidden = false;
  byId("plan-button").textContent = moving.length ? `Plan: ${count(moving.length, "file")}, ${bytes(moving.reduce((sum, { size }) => sum + size, 0))}` : "Plan";
  byId("previous-group").disabled = neighbour(current, -1) < 0;
}

// Keep the decisions, so that a reload does not lose them.
function remember() {
  const entries = [...decisions].map(([n, { files, kept: stay, isMoved }]) => [n, { files, kept: [...stay], isMoved }]);
  try {
    sessionStorage.setItem(review.review, JSON.stringify(entries));
  } catch {} // full: they last as long as the page
}

// The decided groups of which a file is to move.
const planned = () => [...decisions.values()].filter(({ files, kept: stay, isMoved }) => !isMoved && stay.size < files.length);

// ---------------------------------------------------------------------------------- deciding

function decide(stay) {
  kept = stay;
  decisions.set(current, { files: group.files, kept: new Set(stay) });
  group.mark(kept);
  remember();
  showState();
}

// Keep a file or not; one always stays.
function toggle(n) {
  const changed = new Set(kept);
  if (!changed.delete(n)) changed.add(n);
  if (changed.size) return decide(changed);
  group.mark(kept);
  toast("One file of each group stays");
}

function keepOnly(n) {
  if (n < group.files.length) decide(new Set([n]));
}

function accept() {
  decide(kept);
  step(1);
}

function keepAll() {
  decide(new Set(group.files.keys()));
  step(1);
}

function step(by) {
  const n = neighbour(current, by);
  if (n >= 0) show(n); else if (by > 0) openPlan();
}

// ---------------------------------------------------------------------------------- plan and comparison

function openPlan() {
  const undecided = review.groups - decisions.size;
  showSection("plan");
  byId("progress").textContent = "Plan";
  plan.show(review.review, planned(), undecided);
}

// The groups of a plan were carried out.
function moved() {
  for (const decision of planned()) decision.isMoved = true;
  remember();
  const next = neighbour(-1, 1);
  if (next >= 0) return show(next);
  showMessage("All groups are done", "Moved files stay in their folder until you delete it.");
}

function compare(n = 0) {
  comparison.open(group.files, n);
}

// Show one of the sections.
function showSection(name) {
  for (const one of ["message", "group", "plan"]) byId(one).hidden = one !== name;
  byId("steps").hidden = document.querySelector(".shortcuts").hidden = name !== "group";
  byId("plan-button").hidden = name !== "group";
}

function showMessage(title, text = "") {
  showSection("message");
  byId("progress").textContent = "";
  byId("message").replaceChildren(element("h2", {}, title), element("p", {}, text));
}

// ---------------------------------------------------------------------------------- buttons and keys

const ACTIONS = { "previous-group": () => step(-1), "keep-all": keepAll, compare: () => compare(), "next-group": accept, "plan-button": openPlan };
for (const [id, action] of Object.entries(ACTIONS)) byId(id).addEventListener("click", action);
for (const link of document.querySelectorAll("[data-kind]")) {
  const other = new URLSearchParams(location.search);
  other.set("kind", link.dataset.kind);
  link.href = `/duplicates?${other}`;
  if (link.dataset.kind === kind) link.setAttribute("aria-current", "page");
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]") || byId("group").hidden) return;
  if (event.target.closest("input:not([type=checkbox])")) return;
  if (event.key === "Enter" && event.target.closest("button, a")) return; // what browsers do themselves
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1] ?? (/^[1-9]$/.test(event.key) ? event.key : null);
  const action = digit ? () => event.shiftKey ? digit <= group.files.length && toggle(digit - 1) : keepOnly(digit - 1)
    : { Enter: accept, s: keepAll, c: () => compare(group.focused), p: openPlan, ArrowLeft: () => group.focusOn(-1), ArrowRight: () => group.focusOn(1), ArrowUp: () => step(-1), ArrowDown: () => neighbour(current, 1) >= 0 && step(1) }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

connectUndo((gone) => gone.length ? null : start()); // files that came back are searched again
await start();
document.body.dataset.ready = "";
