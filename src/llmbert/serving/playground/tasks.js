// Translate, summarise, classify, and trace to the training text.
import { post } from "./api.js";
import { $, able, complain, fill, fillRuns, make, tell, thumbs } from "./parts.js";
import { say } from "./words.js";

const VERBS = ["translate", "summarise", "classify", "trace"];

async function answer() {
  const verb = $("tasks-verb").value;
  const input = $("tasks-text").value;
  if (!verb || !input.trim()) return;
  tell("");
  $("tasks-go").disabled = true;
  $("tasks-answer").textContent = say("wait");
  $("tasks-thumbs").replaceChildren();
  try {
    const found = await post(`/v1/${verb}`, { model: $("tasks-run").value, input });
    show(found.data[0]);
    if (found.data[0].text !== undefined) $("tasks-thumbs").replaceChildren(thumbs(found.id));
  } catch (error) {
    $("tasks-answer").textContent = "";
    complain(error);
  } finally {
    $("tasks-go").disabled = false;
  }
}

// A traced text with its spans marked (of two that overlap the first ends where the second begins), then where they stand.
function showTrace(found) {
  const letters = Array.from(found.text); // the server counts characters, JavaScript half of some
  const marked = [];
  let place = 0;
  found.spans.forEach(({ start, length }, at) => {
    marked.push(letters.slice(place, start).join(""));
    place = Math.min(start + length, found.spans[at + 1]?.start ?? letters.length);
    marked.push(make("mark", { text: letters.slice(start, place).join("") }), make("sup", { text: at + 1 }));
  });
  marked.push(letters.slice(place).join(""));
  const sources = found.spans.map(({ count, documents }) => make("li", {
    text: documents.map(({ id, character }) => say("stands_at", id, character.toLocaleString())).join(", ")
      + (count > documents.length ? say("and_more", (count - documents.length).toLocaleString()) : ""),
  }));
  $("tasks-answer").replaceChildren(make("p", { class: "traced" }, ...marked),
    make("p", { class: "hint", text: say("verbatim", (100 * found.verbatim).toFixed(1)) }), make("ol", {}, ...sources));
}

function show(found) {
  if (found.spans !== undefined) {
    showTrace(found);
    return;
  }
  if (found.text !== undefined) {
    $("tasks-answer").textContent = found.text;
    return;
  }
  const labels = found.labels ?? [found.label];
  const ranked = Object.entries(found.probabilities ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 10);
  const rows = ranked.map(([label, p]) => {
    const bar = make("div", { class: "bar sampled" });
    bar.style.width = `${100 * p}%`;
    return make("tr", {}, make("th", { scope: "row", text: label }), make("td", {}, bar),
      make("td", { class: "share", text: `${(100 * p).toFixed(1)} %` }));
  });
  $("tasks-answer").replaceChildren(make("strong", { text: labels.join(", ") || say("nothing") }),
    make("table", { class: "bars" }, make("caption", { class: "unseen", text: say("classify") }), make("tbody", {}, ...rows)));
}

export function setUp() {
  $("tasks-form").addEventListener("submit", (event) => {
    event.preventDefault();
    answer();
  });
  $("tasks-verb").addEventListener("change", () => fillRuns($("tasks-run"), $("tasks-verb").value));
}

export function refresh() {
  fill($("tasks-verb"), VERBS.filter((verb) => able(verb).length).map((verb) => [verb, say(verb)]));
  fillRuns($("tasks-run"), $("tasks-verb").value);
  $("tasks-go").disabled = !$("tasks-run").value;
  if (!$("tasks-run").value) $("tasks-answer").textContent = say("no_run");
  $("tasks-answer").setAttribute("aria-label", say("answer"));
}
