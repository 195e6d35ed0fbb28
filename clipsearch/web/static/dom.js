// Elements, made of texts that are never markup: names of files are anybody's.

export const by = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function icon(name) {
  return drawn("svg", { class: "icon", "aria-hidden": "true" }, drawn("use", { href: `#i-${name}` }));
}

export function button(name, text, action, attributes = {}) {
  const shown = attributes["aria-label"] ? [] : [element("span", {}, text)];
  return element("button", { type: "button", onclick: action, title: shown.length ? null : text, ...attributes }, icon(name), ...shown);
}

let hiding = 0;

export function toast(message) {
  const place = by("toast");
  place.textContent = message;
  place.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => place.classList.remove("shown"), 2500);
}

export async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed, or a page of another machine, where there is no clipboard
    const area = element("textarea", { class: "unseen", readonly: true });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(said);
}

// A line for a shell, with a button that copies it.
export function commandLine(command) {
  return element("p", { class: "command" }, element("span", { class: "prompt", "aria-hidden": "true" }, "$"),
    element("code", { tabindex: "0", role: "textbox", "aria-readonly": "true", "aria-label": "Command for a shell" }, command),
    button("copy", "Copy", () => copy(command, "The command is copied"), { class: "quiet" }));
}

export const number = (value) => value.toLocaleString("en");
export const percent = (value) => value > 0 && value < 0.005 ? "<1%" : `${Math.round(100 * value)}%`;
export const count = (value, word) => `${number(value)} ${word}${value === 1 ? "" : "s"}`;

export function bytes(size) {
  const units = ["B", "KB", "MB", "GB"];
  let unit = 0;
  for (; size >= 1000 && unit < 3; unit += 1) size /= 1000;
  return `${size >= 10 || !unit ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

export function moment(iso) {
  return iso.startsWith("0000") ? "unknown" : iso.slice(0, 16).replace("T", " ");
}

export function bars(shares) {
  const most = Math.max(...shares.map(([, share]) => share), 1e-9);
  return shares.map(([name, share, shown]) => {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${(100 * share) / most}%`;
    return element("p", { class: "share" }, element("span", { class: "name" }, name), element("span", { class: "track" }, fill), element("span", { class: "value" }, shown));
  });
}
