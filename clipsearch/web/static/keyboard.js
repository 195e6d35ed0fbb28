// Keyboard shortcuts, outside of what a single part of the page handles.

import { byId } from "./dom.js";
import { closeOne, toggle } from "./panels.js";

const VIEWER_SHORTCUTS = "mlc";
const text = byId("text");

// `on` has the grid, the viewer, and the callbacks select(index), selectTo(index), selectAll(), searchBy(index, kind),
// copy(), and closeSearches() and clearSelection(), which return whether there was anything.
export function listen({ grid, viewer, ...on }) {
  const shortcuts = {
    "/": () => { text.focus(); text.select(); },
    "?": () => byId("help").showModal(),
    f: () => toggle("filters"),
    x: () => grid.length && on.select(grid.current),
    m: () => grid.item(grid.current) && on.searchBy(grid.current, "like"),
    l: () => grid.item(grid.current) && on.searchBy(grid.current, "unlike"),
    c: on.copy,
  };

  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "a" && !viewer.isOpen && (grid.hasFocus || document.activeElement === document.body)) {
      event.preventDefault();
      return on.selectAll();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]:not(#viewer)")) return;
    const typingIn = event.target.closest?.("input:not([type=checkbox], [type=range]), textarea, select, [contenteditable]");
    if (event.key === "Escape" && !viewer.isOpen) return escape(typingIn);
    if (typingIn && !(event.key === "?" && typingIn === text && !text.value)) return;
    if (isNative(event)) return;
    const target = grid.target(event.key);
    const action = viewer.isOpen ? viewer.action(event.key) ?? (VIEWER_SHORTCUTS.includes(event.key) ? shortcuts[event.key] : undefined) : shortcuts[event.key];
    if (!viewer.isOpen && target !== undefined && (grid.hasFocus || document.activeElement === document.body)) {
      event.preventDefault();
      if (event.shiftKey) on.selectTo(target);
      else if (event.key === "ArrowUp" && target === grid.current && grid.isInFirstRow) text.focus();
      else grid.moveTo(grid.hasFocus ? target : grid.current);
    } else if (action) {
      event.preventDefault();
      action();
    }
  });

  // What browsers do with a key themselves: buttons, checkboxes, links and videos take the space bar, videos the arrows, too.
  function isNative({ key, target }) {
    const isOn = (selector) => target.closest?.(selector) !== null;
    return (key === " " && isOn("button, input, a, summary, video")) || (key.startsWith("Arrow") && isOn("video"));
  }

  // Close one thing: the list of searches, a panel, the form of an action, or else the selection, or else leave the field.
  function escape(typingIn) {
    if (!on.closeSearches() && !closeOne() && !on.clearSelection()) typingIn?.blur();
  }
}
