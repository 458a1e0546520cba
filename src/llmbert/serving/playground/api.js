// The server's protocol: JSON, and events as they come.
import { say } from "./words.js";

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const headers = () => {
  const key = sessionStorage.getItem("key");
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
};

async function answer(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers() });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, say("offline"));
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    if (response.status === 401) document.dispatchEvent(new CustomEvent("key-needed"));
    throw new Refusal(response.status, told.error?.message ?? `${response.status} ${response.statusText}`);
  }
  return response;
}

export const get = async (path) => (await answer(path)).json();
export const getText = async (path) => (await answer(path)).text();
export const post = async (path, body, signal) =>
  (await answer(path, { method: "POST", body: JSON.stringify(body), signal })).json();

// The events of a streamed answer, one object each; breaks off with the signal.
export async function* stream(path, body, signal) {
  const response = await answer(path, { method: "POST", body: JSON.stringify({ ...body, stream: true }), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const told = JSON.parse(data);
      if (told.error) throw new Refusal(500, told.error.message);
      yield told;
    }
  }
}
