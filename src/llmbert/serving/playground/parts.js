// Small pieces that several parts of the page are made of.
import { post } from "./api.js";
import { say } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function tell(sentence) {
  const notice = $("notice");
  notice.hidden = !sentence;
  notice.textContent = sentence ?? "";
}

// What went wrong, unless somebody only broke off.
export const complain = (error) => {
  if (error.name !== "AbortError") tell(error.message);
};

export const runs = { all: [], feedback: false };
export const find = (name) => runs.all.find((run) => run.id === name);
export const able = (verb) => runs.all.filter((run) => run.llmbert.verbs.includes(verb));

export function fill(select, names) {
  const before = select.value;
  select.replaceChildren(...names.map(([value, text]) => make("option", { value, text })));
  if (names.some(([value]) => String(value) === before)) select.value = before;
  select.disabled = names.length === 0;
}

export const fillRuns = (select, verb) => fill(select, able(verb).map((run) => [run.id, run.id]));

// White space and line ends that a reader should see.
export const visible = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "␣") || "∅";

const SVG = "http://www.w3.org/2000/svg";

export function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function thumb() {
  const picture = draw("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
  picture.append(draw("path", { d: "M2 10h4v11H2zM8 10l5-8c2 0 3 1 2.5 3L14.500 9H20c1.500 0 2.300 1 2 2.500l-1.500 7.500c-.3 1.300-1 2-2.500 2H8z" }));
  return picture;
}

// Thumbs for an answer; a thumb down asks what would have been better.
export function thumbs(id) {
  const box = make("span", { class: "thumbs" });
  if (!runs.feedback) return box;
  const rate = async (good, better) => {
    try {
      await post("/v1/feedback", { id, good, ...(better ? { better } : {}) });
      up.setAttribute("aria-pressed", good);
      down.setAttribute("aria-pressed", !good);
      told.textContent = say("thanks");
    } catch (error) {
      complain(error);
    }
  };
  const up = make("button", { type: "button", class: "up", "aria-pressed": "false" }, thumb(), say("good"));
  const down = make("button", { type: "button", class: "down", "aria-pressed": "false" }, thumb(), say("bad"));
  const told = make("span", { class: "hint", role: "status" });
  const better = make("input", { type: "text", placeholder: say("better"), "aria-label": say("better") });
  const keep = make("button", { type: "button", class: "keep", text: say("keep") });
  const correction = make("span", { class: "thumbs", hidden: true }, better, keep);
  up.addEventListener("click", () => {
    correction.hidden = true;
    rate(true);
  });
  down.addEventListener("click", () => {
    correction.hidden = false;
    rate(false);
  });
  const send = () => rate(false, better.value.trim());
  keep.addEventListener("click", send);
  better.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      send();
    }
  });
  box.append(up, down, correction, told);
  return box;
}
