// Naming people: the unnamed groups of faces one after the other, and the unconfirmed faces of a person.

import { button, byId, count, element, icon, number, sentence } from "./dom.js";
import { faceImage, fetchPeople, nameForm, say, sureness } from "./faces.js";
import { showError, succeeded } from "./feedback.js";
import { get } from "./server.js";
import { connect as connectUndo, undoLatest } from "./undo.js";

const SHOWN = 12, CHECKED = 200; // faces of a group, and of a person
const person = new URLSearchParams(location.search).get("person");
const skipped = new Set(); // numbers of groups
const decided = { confirm: [], reject: [] }; // cards whose decision is to be recorded
let people = null, cards = [], current = 0;
let queue = Promise.resolve(), running = 0; // one change after the other: each takes seconds where there are many faces

async function load() {
  try {
    people = await fetchPeople();
    showNavigation();
    if (people.advice) return showMessage("No faces yet", sentence(people.advice));
    await (person === null ? showGroup() : showFaces());
    succeeded("people");
  } catch (error) {
    if (error.status !== 400 && error.status !== 404) return showError("people", error);
    showMessage("Nothing to show", sentence(error.message));
  }
}

function showNavigation() {
  byId("photos-of").hidden = person === null;
  byId("photos-of").href = `/?${new URLSearchParams({ person: person ?? "" })}`;
  const link = (href, isCurrent, picture, ...caption) => element("li", {}, element("a", { class: "circle", href, "aria-current": isCurrent ? "page" : null }, picture, ...caption));
  byId("people").firstElementChild.replaceChildren(
    link("/people", person === null, element("span", { class: "sign" }, icon("person")), element("span", {}, "Who is this?")),
    ...people.people.map((one) => link(`/people?${new URLSearchParams({ person: one.name })}`, one.name === person, faceImage(one), element("bdi", {}, one.name))));
}

function showMessage(title, text = "") {
  showSection("message");
  byId("progress").textContent = "";
  byId("message").replaceChildren(element("h2", {}, title), element("p", {}, text));
}

function showSection(name) {
  for (const one of ["message", "who", "check"]) byId(one).hidden = one !== name;
}

const facesOf = (who, most) => get("/people/faces", [["who", who], ["count", most]]);
const photoUrl = ({ of }) => `/?${new URLSearchParams({ photo: `${of.id}.${of.file}` })}`;
const photoLink = (face) => element("a", { class: "face-picture", href: photoUrl(face), target: "_blank", rel: "noopener", "aria-label": `Open ${face.of.name}`, title: face.of.name }, faceImage(face));

// ---------------------------------------------------------------------------------- unnamed groups

const leftOut = () => [[people.single, "group has a single photo", "groups have a single photo"], [people.hidden, "group is hidden", "groups are hidden"]]
  .filter(([amount]) => amount).map(([amount, one, many]) => `${count(amount, one, many)}.`).join(" ");

// The largest group that was not skipped.
async function showGroup() {
  const waiting = people.unnamed.filter(({ number: group }) => !skipped.has(group)), [group] = waiting;
  if (!group) return showMessage(skipped.size ? "The other groups were skipped" : "Every group has a name", `${leftOut()} Reload the page to see what you skipped; clipsearch people --all lists everything.`);
  const { faces } = await facesOf(String(group.number), SHOWN);
  showSection("who");
  byId("progress").textContent = `${count(waiting.length, "group")} to name`;
  byId("group-size").textContent = `${count(group.faces, "face")} in ${count(group.photos, "photo")}. ${leftOut()}`;
  byId("group-faces").replaceChildren(...faces.map((face) => element("li", {}, photoLink(face))));
  const skip = () => { skipped.add(group.number); showGroup().catch((error) => showError("people", error)); };
  const tell = (what, name) => enqueue(async () => { if (await say(what, { group: String(group.number), name })) await load(); });
  const form = nameForm("Name", (name) => name ? tell("name", name) : skip());
  form.append(button("right", "Skip", skip), button("close", "Hide", () => tell("hide", "")));
  byId("group-form").replaceChildren(form);
  form.querySelector("input").focus();
}

// ---------------------------------------------------------------------------------- faces of a person

async function showFaces() {
  const { total, confirmed, faces } = await facesOf(person, CHECKED);
  const unsure = faces.filter((face) => !face.confirmed), left = total - confirmed;
  if (!unsure.length) return showMessage(`All faces of ${person} are confirmed`, count(total, "face"));
  showSection("check");
  byId("check-title").replaceChildren("Is this ", element("bdi", {}, person), "?");
  byId("check-size").textContent = `${number(left)} of ${count(total, "face")} not confirmed, the least certain first${left > unsure.length ? `; the first ${number(unsure.length)} are shown` : ""}.`;
  cards = unsure.map(card);
  byId("check-faces").replaceChildren(...cards.map(({ item }) => item));
  moveTo(0);
}

function card(face, n) {
  const state = element("p", { class: "state", role: "status" }, sureness(face)), picture = photoLink(face);
  const decide = (isPerson) => decideOn(n, isPerson);
  const item = element("li", { class: "face-card", onfocusin: () => mark(n) }, picture, state, element("div", { class: "decisions" },
    element("button", { type: "button", "aria-label": `Yes, face ${n + 1} is ${person}`, title: "Yes (y)", onclick: () => decide(true) }, icon("check")),
    element("button", { type: "button", "aria-label": `No, face ${n + 1} is not ${person}`, title: "No (n)", onclick: () => decide(false) }, icon("close"))));
  picture.setAttribute("aria-label", `Face ${n + 1}, ${sureness(face)}. Open ${face.of.name}`);
  return { face, item, picture, state, decision: null };
}

function mark(n) {
  current = n;
  cards.forEach(({ item }, other) => item.classList.toggle("current", other === n));
  showProgress();
}

function moveTo(n) {
  if (!cards[n]) return;
  mark(n);
  cards[n].picture.focus({ preventScroll: true });
  cards[n].item.scrollIntoView({ block: "nearest" });
}

function showProgress() {
  const open = cards.filter(({ decision }) => decision === null).length;
  byId("progress").textContent = `${number(open)} to check`;
  byId("confirm-all").hidden = !open;
  byId("confirm-all").textContent = `All ${number(open)} are ${person}`;
}

function decideOn(n, isPerson) {
  record([cards[n]], isPerson);
  const next = cards.findIndex(({ decision }, other) => other > n && decision === null);
  moveTo(next < 0 ? n : next);
}

// Show a decision at once, and record it after the changes before it.
function record(chosen, isPerson) {
  const what = isPerson ? "confirm" : "reject";
  show(chosen, isPerson);
  decided[what].push(...chosen);
  enqueue(async () => {
    // Includes later decisions, and leaves out those that were changed.
    const now = [...new Set(decided[what].splice(0))].filter(({ decision }) => decision === isPerson);
    if (now.length && !await say(what, { faces: now.map(({ face }) => face.id), name: person })) show(now, null);
  });
}

function show(chosen, decision) {
  for (const one of chosen) {
    one.decision = decision;
    one.item.classList.toggle("yes", decision === true);
    one.item.classList.toggle("no", decision === false);
    one.state.textContent = decision === null ? sureness(one.face) : decision ? "confirmed" : `not ${person}`;
  }
  showProgress();
}

const columns = () => cards.findIndex(({ item }) => item.offsetTop > cards[0].item.offsetTop);

// ---------------------------------------------------------------------------------- keys

// Do something after the changes before it.
function enqueue(work) {
  running += 1;
  queue = queue.then(work).catch((error) => showError("people", error)).finally(() => { running -= 1; });
}

addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); }); // a decision would be lost

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.target.closest("input")) return;
  const isChecking = !byId("check").hidden, row = Math.max(1, columns());
  const action = event.key === "u" ? () => enqueue(undoLatest)
    : isChecking ? { y: () => decideOn(current, true), n: () => decideOn(current, false), ArrowLeft: () => moveTo(current - 1), ArrowRight: () => moveTo(current + 1), ArrowUp: () => moveTo(current - row), ArrowDown: () => moveTo(current + row) }[event.key] : null;
  if (!action) return;
  event.preventDefault();
  action();
});

byId("confirm-all").addEventListener("click", () => record(cards.filter(({ decision }) => decision === null), true));
connectUndo(load);
await load();
document.body.dataset.ready = "";
