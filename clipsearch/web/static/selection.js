// The selected photos themselves, not their positions: they stay selected when other results are shown.

import { copy } from "./clipboard.js";
import { count } from "./dom.js";

export class Selection {
  // `onChange()` is called after each change.
  constructor(onChange) {
    this.onChange = onChange;
    this.photos = new Map(); // by file
    this.command = ""; // that finds exactly these photos, if all matches of a question are selected
    this.anchor = this.end = null; // the files at the ends of the range
    this.kept = new Map(); // what was selected besides the range
  }

  get size() {
    return this.photos.size;
  }

  has(photo) {
    return this.photos.has(photo.file);
  }

  // Select or deselect a photo.
  toggle(photo) {
    const isNew = !this.has(photo);
    this.startAt(photo);
    if (isNew) this.photos.set(photo.file, photo); else this.photos.delete(photo.file);
    this.kept = new Map(this.photos);
    this.end = this.anchor;
    this.changed();
  }

  // Let the next range begin at a photo.
  startAt(photo) {
    this.anchor = photo.file;
    this.kept = new Map(this.photos);
  }

  // Select a range of photos, and not those that the range had before. `end` is the one that it was extended to.
  extendTo(range, end) {
    this.photos = new Map(this.kept);
    for (const photo of range) this.photos.set(photo.file, photo);
    this.end = end.file;
    this.changed();
  }

  // Select these photos only, which `command` finds.
  replace(photos, command) {
    this.photos = new Map(photos.map((photo) => [photo.file, photo]));
    this.kept = new Map(this.photos);
    this.changed(command);
  }

  // Deselect photos.
  remove(photos) {
    for (const { file } of photos) {
      this.photos.delete(file);
      this.kept.delete(file);
    }
    this.changed();
  }

  clear() {
    this.photos.clear();
    this.kept.clear();
    this.anchor = this.end = null;
    this.changed();
  }

  changed(command = "") {
    this.command = command;
    this.onChange();
  }
}

// Copy paths, one per line. If one has a line break or is not UTF-8, all are quoted, since plain text cannot represent it.
export function copyPaths(photos) {
  const isOdd = photos.some(({ shell }) => shell.startsWith("$'"));
  const lines = photos.map(({ path, shell }) => isOdd ? shell : path);
  copy(lines.join("\n"), `${count(photos.length, "path")} copied${isOdd ? ", quoted for a shell" : ""}`);
}
