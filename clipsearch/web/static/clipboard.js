// Copies texts.

import { button, element } from "./dom.js";
import { toast } from "./feedback.js";

export async function copy(text, confirmation) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or no HTTPS, where browsers hide the clipboard
    const area = element("textarea", { class: "visually-hidden", readonly: true });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(confirmation);
}

// A shell command with a button that copies it.
export function commandLine(command) {
  return element("p", { class: "command" }, element("span", { class: "prompt", "aria-hidden": "true" }, "$"),
    element("code", { tabindex: "0", role: "textbox", "aria-readonly": "true", "aria-label": "Shell command" }, command),
    button("copy", "Copy", () => copy(command, "Command copied"), { class: "quiet" }));
}
