// The selected photos themselves, not their positions: they stay selected when other results are shown.

import { copy } from "./clipboard.js";
import { count } from "./dom.js";

export class Selection {
  // `onChange()` is called after each change.
  constructor(onChange) {
    this.onChange = onChange;
    this.photos = new Map(); // by file
    this.last = null; // the file that a range begins at
  }

  get size() {
    return this.photos.size;
  }

  has(photo) {
    return this.photos.has(photo.file);
  }

  // Select or deselect photo `n` of `photos`; with `extend`, all from the last one that was selected or deselected.
  toggle(photos, n, extend) {
    const last = extend ? photos.findIndex(({ file }) => file === this.last) : -1, other = last < 0 ? n : last;
    const isNew = !this.has(photos[n]);
    for (const photo of photos.slice(Math.min(n, other), Math.max(n, other) + 1)) {
      if (isNew) this.photos.set(photo.file, photo); else this.photos.delete(photo.file);
    }
    this.last = photos[n].file;
    this.onChange();
  }

  clear() {
    this.photos.clear();
    this.onChange();
  }
}

// Copy paths, one a line. If one has a line break or is not UTF-8, all are quoted, as text could not hold it otherwise.
export function copyPaths(photos) {
  const isOdd = photos.some(({ shell }) => shell.startsWith("$'"));
  const lines = photos.map(({ path, shell }) => isOdd ? shell : path);
  copy(lines.join("\n"), `${count(photos.length, "path")} copied${isOdd ? ", quoted for a shell" : ""}`);
}
