// Images to search by: chosen, dropped or pasted.

import { imageNames } from "./chips.js";
import { byId } from "./dom.js";
import { showError, succeeded, toast } from "./feedback.js";
import { upload } from "./server.js";
import { change, question } from "./state.js";

const MOST = 8; // at a time

async function addImages(files) {
  for (const file of [...files].slice(0, MOST)) {
    try {
      toast(`Uploading ${file.name || "the image"} …`);
      const { id } = await upload(file);
      succeeded("upload");
      imageNames.set(id, file.name || "pasted image");
      change({ ...question, terms: [...question.terms, { kind: "like", value: id }] });
    } catch (error) {
      showError("upload", error);
    }
  }
}

byId("pick-image").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", ({ target }) => { addImages(target.files); target.value = ""; });
addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  if (!files.length) return;
  event.preventDefault();
  addImages(files);
});
const hasFiles = (event) => [...event.dataTransfer.types].includes("Files");
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").hidden = false;
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("drop").hidden = true; });
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").hidden = true;
  addImages(event.dataTransfer.files);
});
