// A video in the large view: the browser plays it, or its indexed frames show it.

import { byId, clock, element } from "./dom.js";
import { largeUrl, originalUrl, thumbnailUrl } from "./server.js";

const video = byId("film"), strip = byId("frames");

export class Film {
  // `changed()` is called when another frame is to be shown, or when the browser turns out not to play the video.
  constructor(changed) {
    Object.assign(this, { changed, isPlayable: false, frames: [], current: null });
    const refuse = () => {
      if (!video.hasAttribute("src")) return;
      this.isPlayable = false;
      video.removeAttribute("src");
      changed();
    };
    video.addEventListener("error", refuse);
    video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) refuse(); }); // it plays the sound alone
    video.addEventListener("timeupdate", () => this.markPlayed());
    strip.addEventListener("keydown", (event) => {
      const n = this.frames.indexOf(this.current);
      const target = { ArrowLeft: n - 1, ArrowRight: n + 1, Home: 0, End: this.frames.length - 1 }[event.key];
      if (target === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation(); // elsewhere, these keys show another photo
      if (this.frames[target]) this.choose(this.frames[target]);
      strip.children[this.frames.indexOf(this.current)].focus();
    });
  }

  // Show a video; a photo ends the one before.
  open(photo) {
    video.pause();
    video.removeAttribute("src");
    video.load(); // ends the download
    this.isPlayable = photo.is_video;
    this.setFrames([]);
    this.current = { id: photo.id, time: photo.time };
    if (!photo.is_video) return;
    video.poster = largeUrl(photo.id);
    video.src = `${originalUrl(photo.id)}#t=${photo.time ?? 0}`;
    video.setAttribute("aria-label", `Video ${photo.name}`);
  }

  // `isShown`: the video itself, not a picture of it.
  show(isShown) {
    video.hidden = !isShown;
    if (!isShown) video.pause();
  }

  setFrames(frames) {
    this.frames = frames;
    strip.hidden = frames.length < 2;
    strip.replaceChildren(...frames.map((frame) => element("button", { type: "button", "aria-label": `Frame at ${clock(frame.time)}`, tabindex: "-1", onclick: () => this.choose(frame) },
      element("img", { loading: "lazy", src: thumbnailUrl(frame.id), alt: "" }), element("span", { "aria-hidden": "true" }, clock(frame.time)))));
    this.mark(frames.find(({ id }) => id === this.current?.id) ?? frames[0]);
  }

  // Stop the video, and return the frame that is shown.
  stop() {
    if (!video.paused) {
      video.pause();
      this.markPlayed();
    }
    return this.current;
  }

  markPlayed() {
    this.mark(this.frames.findLast(({ time }) => time <= video.currentTime + 0.05));
  }

  choose(frame) {
    this.mark(frame);
    if (this.isPlayable) video.currentTime = frame.time;
    this.changed();
  }

  // Mark the current frame in the strip.
  mark(frame) {
    if (!frame) return;
    this.current = frame;
    this.frames.forEach((other, n) => {
      const button = strip.children[n], isCurrent = other === frame;
      button.tabIndex = isCurrent ? 0 : -1;
      button.setAttribute("aria-current", String(isCurrent));
      if (isCurrent) strip.scrollLeft = button.offsetLeft - (strip.clientWidth - button.offsetWidth) / 2;
    });
  }
}
