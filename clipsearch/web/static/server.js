// Requests to the server, and the URLs of images.

export class RequestError extends Error {
  constructor(message, status) { // status 0: no response
    super(message);
    this.status = status;
  }
}

async function request(path, options, read = (response) => response.json()) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("no response from clipsearch serve; is it still running?", 0);
  }
  if (response.status === 204) return null;
  if (response.ok) return read(response);
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  const message = isJson ? (await response.json()).error : await response.text();
  throw new RequestError(message || `the server responded with status ${response.status}`, response.status);
}

export async function get(path, pairs = [], signal = undefined) {
  const query = new URLSearchParams(pairs).toString();
  return request(query ? `${path}?${query}` : path, { signal });
}

export async function getBytes(path) {
  return request(path, {}, (response) => response.arrayBuffer());
}

export async function upload(file) {
  const name = new URLSearchParams({ name: file.name || "pasted.png" });
  const body = await file.arrayBuffer();
  const headers = { "Content-Type": "application/octet-stream" };
  return request(`/upload?${name}`, { method: "POST", body, headers });
}

export const thumbnailUrl = (id) => `/photo/${id}/small.jpg`;
export const faceUrl = ({ photo, box }) => `/photo/${photo}/face.jpg?box=${box.join(",")}`;
export const largeUrl = (id) => `/photo/${id}/large.jpg`;
export const heatMapUrl = (id, pairs) => `/photo/${id}/where.jpg?${new URLSearchParams(pairs)}`;
export const originalUrl = (id) => `/photo/${id}/original`;
export const downloadUrl = (ticket) => `/download/${ticket}/photos.zip`;

// Carry out an action on photos; see `actions.js`.
export async function act(name, body) {
  return request(`/action/${name}`, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

// Move duplicates to a folder; see `review-plan.js`.
export async function moveCopies(review, body) {
  return request(`/duplicates/${review}/move`, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

// Change the names of faces: `what` is name, hide, confirm or reject; see `faces.js`.
export async function changePeople(what, body) {
  return request(`/people/${what}`, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

// Undo an action, by the ticket that it gave.
export async function undo(ticket) {
  return request(`/undo/${ticket}`, { method: "POST" });
}

// The answer of a vision-language model to a question about a photo.
export async function ask(id, question) {
  return request(`/photo/${id}/answer?${new URLSearchParams({ question })}`, { method: "POST" });
}

// What a detector finds in a photo for a text.
export async function detect(id, text) {
  return request(`/photo/${id}/detections?${new URLSearchParams({ text })}`, { method: "POST" });
}

// Save a question under a name, or delete the one that has it; both return the saved searches.
export async function save(name, pairs) {
  return request(`/saved?${new URLSearchParams([...pairs, ["as", name]])}`, { method: "POST" });
}

export async function unsave(name) {
  return request(`/saved?${new URLSearchParams({ as: name })}`, { method: "DELETE" });
}
