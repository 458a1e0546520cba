// Look inside: where the heads of a Transformer look.
import { post } from "./api.js";
import { $, complain, fill, fillRuns, find, make, tell, visible } from "./parts.js";
import { say } from "./words.js";

let parts = [];

async function look() {
  const model = $("inside-run").value;
  const input = $("inside-text").value;
  if (!model || !input.trim()) return;
  tell("");
  const target = find(model).llmbert.reads_source ? { target: $("inside-target").value } : {};
  try {
    parts = (await post("/v1/attention", { model, input, ...target })).parts;
    fill($("inside-part"), parts.map((part, at) => [at, say(part.kind)]));
    if (parts.length > 1) $("inside-part").value = "2";
    choosePart();
  } catch (error) {
    complain(error);
  }
}

function choosePart() {
  const part = parts[Number($("inside-part").value)];
  fill($("inside-layer"), part.layers.map((layer) => [layer.layer, layer.layer + 1]));
  const heads = part.layers[0].weights.map((_, at) => [at, at + 1]);
  fill($("inside-head"), [["mean", say("mean")], ...heads]);
  draw();
}

function draw() {
  const part = parts[Number($("inside-part").value)];
  if (!part) return;
  const heads = part.layers[Number($("inside-layer").value)].weights;
  const head = $("inside-head").value;
  const weights = head === "mean"
    ? heads[0].map((row, i) => row.map((_, j) => heads.reduce((sum, each) => sum + each[i][j], 0) / heads.length))
    : heads[Number(head)];
  const top = make("tr", {}, make("td"), ...part.keys.map((key) => make("th", { scope: "col", text: visible(key) })));
  const rows = weights.map((row, i) => make("tr", {}, make("th", { scope: "row", text: visible(part.queries[i]) }),
    ...row.map((weight, j) => {
      const told = say("looks_at", visible(part.queries[i]), visible(part.keys[j]), (100 * weight).toFixed(1));
      const cell = make("td", { title: told, "aria-label": told });
      cell.style.opacity = Math.sqrt(Math.max(weight, 0)).toFixed(3);
      return cell;
    })));
  $("inside-map").replaceChildren(make("table", { class: "map" },
    make("caption", { class: "unseen", text: say("attention") }), make("thead", {}, top), make("tbody", {}, ...rows)));
  $("inside-told").textContent = say("map_told", Number($("inside-layer").value) + 1,
    head === "mean" ? say("mean") : `${say("head")} ${Number(head) + 1}`, part.queries.length, part.keys.length);
}

function chooseRun() {
  const run = find($("inside-run").value);
  $("inside-target-part").hidden = !run?.llmbert.reads_source;
}

export function setUp() {
  $("inside-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  $("inside-run").addEventListener("change", chooseRun);
  $("inside-part").addEventListener("change", choosePart);
  for (const id of ["inside-layer", "inside-head"]) $(id).addEventListener("change", draw);
}

export function refresh() {
  fillRuns($("inside-run"), "attention");
  $("inside-go").disabled = !$("inside-run").value;
  $("inside-map").setAttribute("aria-label", say("attention"));
  chooseRun();
  if (parts.length) choosePart();
}
