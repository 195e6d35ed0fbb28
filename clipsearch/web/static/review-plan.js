// The decisions as one move into a folder: how much, where to, and the shell command that does the same.

import { photoName } from "./address.js";
import { commandLine } from "./clipboard.js";
import { byId, bytes, count, element, number, sentence } from "./dom.js";
import { clearError, showError, succeeded } from "./feedback.js";
import { get, moveCopies, thumbnailUrl } from "./server.js";
import { moved } from "./undo.js";

const DELAY_MS = 150, MOST_SHOWN = 120; // files to move
const folder = byId("folder"), start = byId("start-move");

export class Plan {
  // `on` has the callbacks: left(), and moved(), after the plan was carried out.
  constructor(on) {
    Object.assign(this, { on, kept: [], moving: [], timer: 0, turn: 0 });
    byId("leave-plan").addEventListener("click", () => on.left());
    byId("move").addEventListener("submit", (event) => { event.preventDefault(); this.run(); });
    folder.addEventListener("input", () => this.showCommand());
    byId("plan").addEventListener("keydown", (event) => { if (event.key === "Escape") on.left(); });
  }

  // `groups` have `files`, and the positions in them of those that are `kept`; `undecided` is the number of the others.
  show(review, groups, undecided) {
    this.review = review;
    this.kept = groups.flatMap(({ files, kept }) => files.filter((_, n) => kept.has(n)));
    this.moving = groups.flatMap(({ files, kept }) => files.filter((_, n) => !kept.has(n)));
    const hasAny = this.moving.length > 0;
    byId("plan-title").textContent = hasAny ? `Move ${count(this.moving.length, "file")}, ${bytes(this.moving.reduce((sum, { size }) => sum + size, 0))}` : "Nothing to move";
    byId("undecided").textContent = undecided ? `${count(undecided, "undecided group stays as it is", "undecided groups stay as they are")}.` : "";
    byId("move").querySelector("label").hidden = start.hidden = byId("move-line").hidden = !hasAny;
    byId("moving").replaceChildren(...this.moving.slice(0, MOST_SHOWN).map(({ id, name, folder: place }) => element("li", { title: `${place}/${name}` }, element("img", { src: thumbnailUrl(id), alt: name, loading: "lazy" }))));
    byId("more-moving").textContent = this.moving.length > MOST_SHOWN ? `and ${number(this.moving.length - MOST_SHOWN)} more` : "";
    this.showCommand();
    byId("plan-title").focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  showCommand() {
    const ownTurn = this.turn += 1;
    clearTimeout(this.timer);
    byId("folder-problem").textContent = "";
    if (!this.moving.length || !folder.value.trim()) return byId("move-line").replaceChildren();
    this.timer = setTimeout(async () => {
      try {
        const { command } = await get(`/duplicates/${this.review}/move`, [["value", folder.value]]);
        if (ownTurn === this.turn) byId("move-line").replaceChildren(commandLine(`${command} ${this.kept.map(({ shell }) => `--keep ${shell}`).join(" ")}`));
      } catch (error) {
        if (ownTurn === this.turn) this.showProblem(error);
      }
    }, DELAY_MS);
  }

  async run() {
    if (!folder.value.trim()) return folder.focus();
    start.disabled = true;
    byId("plan").setAttribute("aria-busy", "true");
    clearError("move");
    try {
      const done = await moveCopies(this.review, { photos: this.kept.map(photoName), value: folder.value });
      succeeded("move");
      await moved(done, this.moving);
      await this.on.moved();
    } catch (error) {
      this.showProblem(error);
    } finally {
      start.disabled = false;
      byId("plan").removeAttribute("aria-busy");
    }
  }

  showProblem(error) {
    byId("move-line").replaceChildren();
    if (error.status === 400) byId("folder-problem").textContent = sentence(error.message); else showError("move", error);
  }
}
