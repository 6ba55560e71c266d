// Requests to the service that served the page, and to no other host.

const KEY = "ionpath-key";
const FIRST_WAIT_MS = 120;
const LONGEST_WAIT_MS = 1000;

/** A problem reported by the service (RFC 9457), or a failed request. */
export class Problem extends Error {
  constructor(body, status = 0) {
    super(body.detail ?? body.title ?? "The service gave no reason.");
    this.body = body;
    this.status = status;
  }
}

export const keptKey = () => sessionStorage.getItem(KEY) ?? "";

export function keepKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export async function ask(path, options = {}) {
  const key = keptKey();
  const headers = { ...(key ? { "X-API-Key": key } : {}), ...options.headers };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No answer", detail: `The service did not answer: ${error.message}` });
  }
  if (!response.ok) throw new Problem(await problemOf(response), response.status);
  return response;
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return { title: `The service answered ${response.status}`, detail: response.statusText };
  }
}

/** Sends files to be predicted later; returns the prediction's id. */
export async function submit(form, query) {
  const headers = { Prefer: "respond-async" };
  // The answer of /predict/barrier, with the conductivity of a crystal where it is known.
  const response = await ask(`/classify/good-conductor?${query}`, { method: "POST", headers, body: form });
  return (await response.json()).prediction_id;
}

/** Waits until a prediction is done and returns it; `onProgress` is called with its status meanwhile. */
export async function finished(id, onProgress, signal) {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(1.5 * wait, LONGEST_WAIT_MS)) {
    const stored = await (await ask(`/predictions/${encodeURIComponent(id)}`, { signal })).json();
    if (stored.status === "done") return stored;
    if (stored.status === "failed") throw new Problem(stored.error ?? {}, stored.error?.status);
    onProgress(stored);
    await pause(wait, signal);
  }
}

/** A promise that is rejected when the signal aborts. */
export const stopped = (signal) =>
  new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
  });

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}

export const forget = (id) => ask(`/predictions/${encodeURIComponent(id)}`, { method: "DELETE" });

export const models = async () => (await ask("/models")).json();

/** Whether this service can give a second opinion by bond valence. */
export async function hasSecondOpinion() {
  const document = await (await ask("/openapi.json")).json();
  const parameters = document.paths["/predict/barrier"].post.parameters ?? [];
  return parameters.some((parameter) => parameter.name === "second_opinion");
}

/** Fetches a file with the key and saves it through the browser. */
export async function download(path) {
  const response = await ask(path);
  const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  save(await response.blob(), named?.[1] ?? `ionpath-${path.split("/").pop().split("?")[0]}.json`);
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
