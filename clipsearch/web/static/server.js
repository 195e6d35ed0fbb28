// The server's answers.

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answer(response) {
  if (response.status === 204) return null;
  if (response.ok) return response.json();
  const said = response.headers.get("content-type")?.startsWith("application/json")
    ? (await response.json()).error : await response.text();
  throw new Problem(said || `the server has answered ${response.status}`, response.status);
}

async function asking(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("clipsearch serve does not answer; was it ended?", 0);
  }
}

export async function get(path, pairs = [], signal = undefined) {
  const parameters = new URLSearchParams(pairs).toString();
  return answer(await asking(parameters ? `${path}?${parameters}` : path, { signal }));
}

export async function upload(file) {
  const name = new URLSearchParams({ name: file.name || "pasted.png" });
  const body = await file.arrayBuffer();
  const headers = { "Content-Type": "application/octet-stream" };
  return answer(await asking(`/upload?${name}`, { method: "POST", body, headers }));
}

export const small = (id) => `/photo/${id}/small.jpg`;
export const large = (id) => `/photo/${id}/large.jpg`;
export const whereIn = (id, pairs) => `/photo/${id}/where.jpg?${new URLSearchParams(pairs)}`;
export const original = (id) => `/photo/${id}/original`;
