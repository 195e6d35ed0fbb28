// Faces: their pictures, how certain their names are, and changes to them.

import { byId, element, percent } from "./dom.js";
import { clearError, showError, succeeded } from "./feedback.js";
import { changePeople, faceUrl, get } from "./server.js";
import { offer } from "./undo.js";

const WORDS = [[0.97, "almost certain"], [0.85, "likely"], [0, "not sure"]]; // from which probability

export const faceImage = (face) => element("img", { src: faceUrl(face), alt: "", loading: "lazy", decoding: "async", draggable: "false" });

// How certain the name of a face is: "confirmed", "likely, 91%", or "" without a name.
export function sureness({ name, confirmed, confidence }) {
  if (!name) return "";
  if (confirmed) return "confirmed";
  if (confidence === null) return "not confirmed";
  const shown = confidence > 0.995 ? "over 99%" : percent(confidence); // 100% is for confirmed ones
  return `${WORDS.find(([least]) => confidence >= least)[1]}, ${shown}`;
}

// Change the names of faces, as `changePeople`. Promises whether it was recorded.
export async function say(what, body) {
  clearError("people");
  try {
    offer(await changePeople(what, body));
    succeeded("people");
    return true;
  } catch (error) {
    showError("people", error);
    return false;
  }
}

export async function fetchPeople() {
  const found = await get("/people/groups");
  succeeded("people");
  byId("known-people").replaceChildren(...found.people.map(({ name }) => element("option", { value: name })));
  return found;
}

// A field for a name, with the known ones as suggestions, and a button. `named(name)` gets what was entered.
export function nameForm(label, named, placeholder = "Name") {
  const field = element("input", { list: "known-people", maxlength: "100", autocomplete: "off", spellcheck: "false", "aria-label": label, placeholder });
  return element("form", { class: "name-form", onsubmit: (event) => { event.preventDefault(); named(field.value.trim()); } },
    field, element("button", {}, "Save"));
}
