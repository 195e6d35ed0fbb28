// Builds elements. Text is always added as text nodes, never as markup: file names are untrusted.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

export function button(iconName, text, action, attributes = {}) {
  const caption = attributes["aria-label"] ? [] : [element("span", {}, text)];
  return element("button", { type: "button", onclick: action, title: caption.length ? null : text, ...attributes }, icon(iconName), ...caption);
}

// A message of the server as a sentence.
export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
export const number = (value) => value.toLocaleString("en");
export const percent = (value) => value > 0 && value < 0.005 ? "<1%" : `${Math.round(100 * value)}%`;
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

export function bytes(size) {
  const units = ["B", "KB", "MB", "GB"];
  let unit = 0;
  for (; size >= 1000 && unit < 3; unit += 1) size /= 1000;
  return `${size >= 10 || !unit ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

export function dateTime(iso) {
  return iso.startsWith("0000") ? "unknown" : iso.slice(0, 16).replace("T", " ");
}

// A time in a video, such as 0:07 or 1:02:03.
export function clock(seconds) {
  const whole = Math.floor(seconds), minutes = Math.floor(whole / 60) % 60, rest = String(whole % 60).padStart(2, "0");
  return whole < 3600 ? `${minutes}:${rest}` : `${Math.floor(whole / 3600)}:${String(minutes).padStart(2, "0")}:${rest}`;
}

// The length of a video, rounded to a second; null for a still.
export function videoLength({ is_video: isVideo, duration }) {
  return !isVideo ? null : duration === null ? "video" : clock(Math.max(1, Math.round(duration)));
}

// A horizontal bar for each [name, value, caption]; the longest fills the width. With `search(name)`, names are buttons.
export function bars(rows, search = null) {
  const largest = Math.max(...rows.map(([, value]) => value), 1e-9);
  return rows.map(([name, value, caption]) => {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${(100 * value) / largest}%`;
    return element("p", { class: "bar-row" }, search ? element("button", { type: "button", class: "name quiet", title: `Search for ${name}`, onclick: () => search(name) }, name) : element("span", { class: "name" }, name), element("span", { class: "track" }, fill), element("span", { class: "value" }, caption));
  });
}
