// Chat: a conversation with a run, its replies as they come, each to be rated.
import { stream } from "./api.js";
import { $, complain, fillRuns, make, tell, thumbs } from "./parts.js";
import { say } from "./words.js";

let messages = [];
let breakOff = null;

function show(role, who, text) {
  const words = make("span", { class: "words", text });
  const turn = make("div", { class: `turn ${role === "user" ? "own" : ""}` }, make("span", { class: "who", text: who }), words);
  $("chat-log").append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return { turn, words };
}

async function send() {
  const text = $("chat-text").value.trim();
  const model = $("chat-run").value;
  if (!text || !model || breakOff) return;
  tell("");
  $("chat-text").value = "";
  const talk = messages; // a new conversation, begun meanwhile, is not this one's
  talk.push({ role: "user", content: text });
  show("user", say("you"), text);
  const { turn, words } = show("assistant", model, "");
  const system = $("chat-system").value.trim();
  const asked = { model, messages: [...(system ? [{ role: "system", content: system }] : []), ...talk], max_tokens: 128 };
  const own = (breakOff = new AbortController());
  $("chat-stop").disabled = false;
  let id = null;
  try {
    for await (const event of stream("/v1/chat/completions", asked, own.signal)) {
      id ??= event.id;
      words.textContent += event.choices[0]?.delta.content ?? "";
      $("chat-log").scrollTop = $("chat-log").scrollHeight;
    }
    turn.append(make("div", {}, thumbs(id)));
  } catch (error) {
    complain(error);
    if (!words.textContent && talk === messages) {
      turn.remove();
      talk.pop();
      $("chat-text").value = text;
    }
  } finally {
    if (words.textContent) talk.push({ role: "assistant", content: words.textContent });
    if (breakOff === own) {
      breakOff = null;
      $("chat-stop").disabled = true;
    }
  }
}

function begin() {
  breakOff?.abort();
  breakOff = null;
  $("chat-stop").disabled = true;
  messages = [];
  $("chat-log").replaceChildren();
}

export function setUp() {
  $("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  $("chat-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  $("chat-stop").addEventListener("click", () => breakOff?.abort());
  $("chat-new").addEventListener("click", begin);
  $("chat-run").addEventListener("change", begin);
}

export function refresh() {
  fillRuns($("chat-run"), "chat");
  $("chat-go").disabled = !$("chat-run").value;
  $("chat-log").setAttribute("aria-label", say("chat"));
}
