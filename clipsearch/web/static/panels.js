// The panels under the search field, and the map, which can be opened and closed.

import { byId } from "./dom.js";

const PANELS = ["filters", "labels", "command-line", "map"];
const openerOf = (name) => byId(`${name}-button`);

// Open or close a panel. `focus`: move the focus into it, or back to the button that opens it.
export function toggle(name, open = byId(name).hidden, focus = true) {
  const panel = byId(name);
  panel.hidden = !open;
  openerOf(name).setAttribute("aria-expanded", String(open));
  if (focus) (open ? panel.querySelector("input, select, summary, [tabindex='0']") : openerOf(name)).focus({ preventScroll: true });
  panel.dispatchEvent(new Event("toggle"));
}

// Close a panel, the one with the focus first. Returns whether one was open.
export function closeOne() {
  const open = PANELS.filter((name) => !byId(name).hidden);
  const name = open.find((name) => byId(name).contains(document.activeElement)) ?? open.at(-1);
  if (name) toggle(name, false);
  return Boolean(name);
}

for (const name of PANELS) openerOf(name).addEventListener("click", () => toggle(name));
