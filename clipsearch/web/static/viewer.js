// The large view: a photo or video, its facts beside it, and the way to the next.

import { Detections } from "./detections.js";
import { byId } from "./dom.js";
import { Facts } from "./facts.js";
import { showError, succeeded } from "./feedback.js";
import { Film } from "./film.js";
import { listen } from "./gestures.js";
import { FacesInPhoto } from "./photofaces.js";
import { get, heatMapUrl, largeUrl, originalUrl, thumbnailUrl } from "./server.js";
import { Slides } from "./slides.js";
import { isAllowed as mayDelete } from "./trash.js";
import { Zoom } from "./zoom.js";

const ZOOM_STEP = 1.5, PAN_STEP = 80; // pixels, for keys
const DIRECTIONS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const dialog = byId("viewer"), stage = byId("stage"), image = byId("large"), panel = byId("details");

export class Viewer {
  // `on` has the callbacks: step(by), which promises whether there is such a photo, closed(), searchBy(photo, kind),
  // searchNear(photo), showOnMap(photo), showFolder(event, question), trash(photo), and getters: labels(), firstText(), and
  // terms(), the search parameters that the heat map shows.
  constructor(on) {
    this.on = on;
    this.showsWhere = false; // also of the photos that are shown next
    const stop = () => this.film.stop().id;
    this.detections = new Detections(stage, image, { stop, pictureId: () => this.film.current.id, changed: () => { if (this.film.isPlayable) this.showPicture(); } });
    this.facts = new Facts({ ...on, stop, showsWhere: () => this.showsWhere, toggleWhere: (toggle) => this.toggleWhere(toggle), detectionForm: () => this.detections.form(on.firstText()) });
    this.film = new Film(() => this.showPicture());
    this.slides = new Slides(() => on.step(1));
    this.faces = new FacesInPhoto(stage, image, { changed: () => this.refresh(), chosen: () => toggleFacts(true) });
    this.zoom = new Zoom(stage, image, { pixels: () => this.photo.width, changed: () => this.zoomed() });
    listen(stage, image, this.zoom, { beside: () => this.close(), swiped: (x, y) => this.swiped(x, y) }, this.faces.boxes.layer);
    image.addEventListener("error", () => { if (image.getAttribute("src")) this.showMissing(); });
    image.addEventListener("load", () => {
      image.style.backgroundImage = "";
      this.setSize(image.naturalWidth, image.naturalHeight, this.photo.width); // the file may have changed since it was indexed
      this.slides.restart();
    });
    dialog.addEventListener("close", () => this.closed());
    dialog.addEventListener("cancel", (event) => {
      if (!this.slides.isOn) return;
      event.preventDefault(); // Esc closes one thing
      this.slides.toggle(false);
    });
    const actions = { previous: () => on.step(-1), next: () => on.step(1), close: () => this.close(), zoom: () => this.zoom.toggle(), "full-screen": toggleFullScreen, "show-facts": () => toggleFacts() };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
    byId("full-screen").hidden = !document.fullscreenEnabled;
  }

  get isOpen() {
    return dialog.open;
  }

  close() {
    if (dialog.open) dialog.close();
  }

  closed() {
    this.slides.toggle(false);
    this.film.show(false);
    if (document.fullscreenElement) document.exitFullscreen();
    this.on.closed();
  }

  // What a key does; undefined for other keys.
  action(key) {
    if (this.zoom.isZoomed && key in DIRECTIONS) return () => this.zoom.pan(...DIRECTIONS[key].map((sign) => sign * PAN_STEP));
    return {
      ArrowLeft: () => this.on.step(-1), ArrowRight: () => this.on.step(1),
      "+": () => this.zoom.by(ZOOM_STEP), "=": () => this.zoom.by(ZOOM_STEP), "-": () => this.zoom.by(1 / ZOOM_STEP), 0: () => this.zoom.reset(),
      f: toggleFullScreen, i: () => toggleFacts(), " ": () => this.slides.toggle(),
      Delete: mayDelete ? () => this.on.trash(this.photo) : undefined,
    }[key];
  }

  // `hit` is null for a photo that is not among the results; `neighbours` are those beside it that are loaded.
  show(photo, hit, { hasPrevious, hasNext, neighbours }) {
    this.photo = photo;
    this.isFull = false;
    this.setSize(photo.width, photo.height, photo.width);
    image.style.backgroundImage = `url("${thumbnailUrl(photo.id)}")`;
    this.film.open(photo);
    this.showPicture();
    dialog.setAttribute("aria-label", `Photo ${photo.name}`);
    byId("previous").disabled = !hasPrevious;
    byId("next").disabled = !hasNext;
    for (const neighbour of neighbours) new Image().src = largeUrl(neighbour.id); // prefetch
    this.facts.show(photo, hit);
    this.faces.show([], this.facts.faces);
    if (!dialog.open) {
      dialog.showModal();
      dialog.focus(); // otherwise the browser focuses the first button
    }
    this.zoom.reset();
    this.slides.restart();
    this.showMore();
  }

  // Update what may have changed: the names of faces.
  refresh() {
    if (dialog.open) return this.showMore();
  }

  // Show what takes longer than the results: exposure, text, faces, the frames of a video.
  async showMore() {
    const { photo } = this;
    try {
      const more = await get(`/photo/${photo.id}/more`);
      succeeded("more");
      if (this.photo !== photo) return; // another one is shown by now
      this.facts.add(more);
      this.faces.show(more.faces, this.facts.faces, !photo.is_video);
      this.film.setFrames(more.frames);
    } catch (error) {
      showError("more", error);
    }
  }

  showMissing() {
    image.hidden = true;
    byId("large-missing").hidden = false;
  }

  // The space of the picture before it is loaded: as large as the window allows, but small originals are not blown up.
  setSize(width, height, pixels) {
    stage.style.setProperty("--ratio", width / height || 1);
    stage.style.setProperty("--pixels", `${pixels}px`);
  }

  get isMarked() {
    return this.showsWhere && this.on.terms().length > 0;
  }

  showPicture() {
    const { isMarked, photo, film, detections } = this, { id } = film.current;
    detections.clear(id);
    const isPlayed = film.isPlayable && !isMarked && !detections.isOn;
    byId("large-missing").hidden = true;
    film.show(isPlayed);
    image.hidden = isPlayed;
    byId("zoom").disabled = isPlayed;
    this.isFull = false;
    if (isPlayed) return;
    image.src = isMarked ? heatMapUrl(id, this.on.terms()) : largeUrl(id);
    const described = photo.generated_caption ? `${photo.name}: ${photo.generated_caption}` : photo.name;
    image.alt = isMarked ? `${described}, with the matching part highlighted` : described;
    this.zoomed();
  }

  toggleWhere(toggle) {
    this.showsWhere = !this.showsWhere;
    toggle.setAttribute("aria-pressed", String(this.showsWhere));
    this.showPicture();
  }

  zoomed() {
    stage.classList.toggle("zoomed", this.zoom.isZoomed);
    byId("zoom").setAttribute("aria-pressed", String(this.zoom.isZoomed));
    this.faces.boxes.place();
    this.detections.boxes.place();
    this.showAllPixels();
  }

  // Replace the preview by the original once it is enlarged beyond its own pixels.
  async showAllPixels() {
    const { photo } = this, preview = image.naturalWidth;
    if (!photo || this.isFull || this.isMarked || photo.is_video || !this.zoom.isZoomed || preview >= photo.width || this.zoom.width <= preview) return;
    this.isFull = true;
    const original = new Image();
    original.src = originalUrl(photo.id);
    try {
      await original.decode();
    } catch {
      return; // the preview has to do
    }
    if (this.photo === photo && this.isFull) image.src = original.src;
  }

  swiped(x, y) {
    if (x) this.on.step(-x);
    else if (y > 0) this.close();
    else toggleFacts(true); // on phones, they are below
  }
}

function toggleFullScreen() {
  // A dialog cannot be full screen; it stays in front of the page, which can.
  if (document.fullscreenElement) document.exitFullscreen(); else document.documentElement.requestFullscreen?.();
}

function toggleFacts(isShown = panel.hidden) {
  panel.hidden = !isShown;
  byId("show-facts").setAttribute("aria-pressed", String(!panel.hidden));
}
