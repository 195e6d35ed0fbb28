// The map of the photos that match the question. The URL has what it shows: "LATITUDE,LONGITUDE,ZOOM", or "all" for
// all photos.

import { filterValues, searchParams, withFilters } from "./address.js";
import { byId, count, element, number } from "./dom.js";
import { showError, succeeded } from "./feedback.js";
import { MapView } from "./mapview.js";
import { MAX_ZOOM, project } from "./mercator.js";
import { toggle } from "./panels.js";
import { get, thumbnailUrl } from "./server.js";
import { change, question } from "./state.js";

const CELL = 88; // pixels: a cell of the grid has one cluster
const SIZES = { one: 36, some: 44, many: 52 }, MANY = 100; // pixels, as in the stylesheet; photos
const FEW = 12; // photos of a cluster that are listed at once; more are spread out first
const CLOSEST = 10; // the zoom for a single place: 200 km are in the window
const MARGIN = 0.2; // of the window, which is loaded around it
const DIGITS = 5; // of degrees; 1 m
const ALL = "all";
const SHORT = new Intl.NumberFormat("en", { notation: "compact" });

const panel = byId("map"), stage = byId("map-stage"), note = byId("map-note");
let view = null, shown = "", nodes = new Map(), turn = 0, timer = 0;

const isOpen = () => !panel.hidden;
const rounded = (degrees, digits = DIGITS) => Number(degrees.toFixed(digits));

// ---------------------------------------------------------------------------------- the URL

// Show the part of the map in the URL, or no map.
export function showMap() {
  if (isOpen() !== Boolean(question.map)) toggle("map", Boolean(question.map), false);
  if (question.map && question.map !== shown) travel();
}

// Open the map at a place.
export function openMapAt({ latitude, longitude }) {
  change({ ...question, map: spelled(latitude, longitude, CLOSEST) });
  showMap();
  stage.focus({ preventScroll: true });
  panel.scrollIntoView({ block: "nearest" });
}

const spelled = (latitude, longitude, zoom) => [rounded(latitude), rounded(longitude), rounded(zoom, 2)].join(",");

function travel() {
  const numbers = question.map.split(",").map(Number);
  shown = question.map;
  view ??= new MapView(stage, { moved: () => keep(true), failed: (error) => showError("map", error) });
  view.resize();
  if (numbers.length === 3 && numbers.every(Number.isFinite)) view.camera.lookAt(...numbers);
  view.draw();
  refreshMap();
}

// Keep what the map shows in the URL. `replace`: as in `change`.
function keep(replace) {
  const { latitude, longitude, zoom } = view.camera;
  shown = spelled(latitude, longitude, zoom);
  if (!isOpen()) return;
  change({ ...question, map: shown }, replace);
  refreshMap();
}

function fit(box, zoom = CLOSEST, replace = false) {
  view.camera.fit(box, zoom);
  view.draw();
  keep(replace);
}

// ---------------------------------------------------------------------------------- clusters

// Load the clusters again, after a delay: for another question, or another part of the map.
export function refreshMap(delay = 0) {
  clearTimeout(timer);
  timer = setTimeout(load, delay);
}

async function load() {
  if (!isOpen() || !view) return;
  const ownTurn = turn += 1, { camera } = view, columns = Math.max(1, Math.round(camera.scale / CELL));
  try {
    const found = await get("/places", [...searchParams(question), ["box", camera.box(MARGIN).join(",")], ["columns", columns]]);
    succeeded("map");
    if (ownTurn !== turn || !isOpen()) return;
    if (question.map === ALL && found.bounds) return fit(found.bounds, CLOSEST, true);
    note.textContent = noteOf(found);
    byId("map-all").disabled = !found.bounds;
    byId("map-all").onclick = () => fit(found.bounds);
    view.boxes = filterValues(question, "within").map((box) => box.split(",").map(Number));
    view.show(found.clusters.map((cluster) => marker(cluster, columns)), found.towns);
    nodes = new Map(view.markers.map(({ key, node }) => [key, node]));
  } catch (error) {
    showError("map", error);
  }
}

function noteOf({ photos, located }) {
  if (!located) return "None of these photos has a place";
  return located === photos ? `${count(photos, "photo")}, all with a place` : `${number(located)} of ${count(photos, "photo")} have a place`;
}

// The circle of a cluster. It stays inside its cell, so that circles do not cover each other.
function marker(cluster, columns) {
  const key = [...cluster.box, cluster.count].join(), { x, y } = project(cluster.latitude, cluster.longitude);
  const kind = cluster.count === 1 ? "one" : cluster.count < MANY ? "some" : "many", size = SIZES[kind];
  const inside = (value) => {
    const cell = Math.min(Math.floor(value * columns), columns - 1), room = size / CELL / 2;
    return (cell + Math.min(1 - room, Math.max(room, value * columns - cell))) / columns;
  };
  return { key, node: nodes.get(key) ?? circle(cluster, kind), x: inside(x), y: inside(y), size };
}

function circle(cluster, kind) {
  const name = `${count(cluster.count, "photo")} ${cluster.place ? `near ${cluster.place}` : `at ${cluster.latitude.toFixed(2)}, ${cluster.longitude.toFixed(2)}`}`;
  return element("button", { type: "button", class: `cluster ${kind}`, "aria-label": name, title: name, onclick: () => enter(cluster) },
    cluster.photo && element("img", { src: thumbnailUrl(cluster.photo), alt: "", draggable: "false", onerror: ({ target }) => target.remove() }),
    cluster.count > 1 ? element("span", {}, cluster.count < 10_000 ? number(cluster.count) : SHORT.format(cluster.count)) : null);
}

// Spread out the photos of a cluster, or list them below if they are few or at one place.
function enter({ count: photos, box }) {
  if (photos <= FEW || view.camera.zoomFor(box) >= MAX_ZOOM) return search(box);
  stage.focus({ preventScroll: true }); // the circle goes
  fit(box, MAX_ZOOM);
}

function search([south, west, north, east]) {
  const unit = 10 ** DIGITS, down = (degrees) => Math.floor(degrees * unit) / unit, up = (degrees) => Math.ceil(degrees * unit) / unit;
  change(withFilters(question, { within: [down(south), down(west), up(north), up(east)].join(",") }));
}

// ---------------------------------------------------------------------------------- controls

panel.addEventListener("toggle", () => {
  if (isOpen() && !question.map) change({ ...question, map: shown || ALL });
  else if (!isOpen() && question.map) change({ ...question, map: "" });
  if (!isOpen()) return;
  travel();
  panel.scrollIntoView({ block: "nearest" });
});
byId("map-in").addEventListener("click", () => view.by(2));
byId("map-out").addEventListener("click", () => view.by(0.5));
byId("map-search").addEventListener("click", () => search(view.camera.box()));
