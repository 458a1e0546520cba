// Runs: what each is, how it learned, and its report.
import { get, getText } from "./api.js";
import { $, complain, draw, fill, find, make, runs } from "./parts.js";
import { say } from "./words.js";

async function show() {
  const run = find($("runs-run").value);
  if (!run) return;
  const known = run.llmbert;
  const number = (value) => value?.toLocaleString() ?? "–";
  const languages = known.languages ? `${known.languages.source ?? "?"} → ${known.languages.target ?? "?"}` : null;
  const facts = [
    ["family", known.family],
    ["parameters", number(known.parameters)],
    ["context", known.context === null ? say("any") : number(known.context)],
    ["vocabulary", `${number(known.vocabulary)} (${known.tokeniser})`],
    ["likelihood", known.likelihood],
    ["verbs", known.verbs.map((verb) => say(`can_${verb}`)).join(", ")],
    ...(languages ? [["languages", languages]] : []),
  ];
  $("runs-facts").tBodies[0].replaceChildren(
    ...facts.map(([name, value]) => make("tr", {}, make("th", { scope: "row", text: say(name) }), make("td", { text: value }))));
  const path = `/v1/models/${encodeURIComponent(run.id)}`;
  try {
    curve((await get(`${path}/curve`)).data);
    $("runs-none").hidden = known.report;
    $("runs-report").hidden = !known.report;
    if (known.report) $("runs-report").srcdoc = await getText(`${path}/report`);
  } catch (error) {
    complain(error);
  }
}

function curve(lines) {
  const of = (name) => lines.filter((line) => line[name] !== undefined).map((line) => [line.step, line[name]]);
  const [train, valid] = [of("loss"), of("valid")];
  const all = [...train, ...valid];
  if (all.length < 2) {
    $("runs-curve").replaceChildren(make("p", { class: "hint", text: say("no_curve") }));
    return;
  }
  const width = Math.max(280, Math.min(640, document.documentElement.clientWidth - 80)); // so that words stay as large
  const [height, left, bottom] = [260, 46, 28];
  const xs = all.map(([x]) => x), ys = all.map(([, y]) => y);
  const most = Math.max(...xs), low = Math.min(...ys), high = Math.max(...ys);
  const x = (value) => left + ((width - left - 10) * value) / (most || 1);
  const y = (value) => 10 + ((height - bottom - 10) * (high - value)) / (high - low || 1);
  const points = (line) => line.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ");
  const last = (line) => (line.length ? line.at(-1)[1].toFixed(3) : "–");
  const told = say("curve_told", last(train), last(valid));
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told });
  for (let i = 0; i <= 4; i++) {
    const value = low + ((high - low) * i) / 4;
    picture.append(draw("line", { x1: left, x2: width - 10, y1: y(value), y2: y(value) }),
      draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)),
      draw("text", { x: x((most * i) / 4), y: height - 8, "text-anchor": "middle" }, Math.round((most * i) / 4).toLocaleString()));
  }
  picture.append(draw("polyline", { class: "train", points: points(train) }), draw("polyline", { class: "valid", points: points(valid) }));
  for (const [a, b] of valid) picture.append(draw("circle", { class: "dot", cx: x(a), cy: y(b), r: 3 }));
  $("runs-curve").replaceChildren(make("p", { class: "hint", text: told }), picture);
}

export function setUp() {
  $("runs-run").addEventListener("change", show);
}

export function refresh() {
  fill($("runs-run"), runs.all.map((run) => [run.id, run.id]));
  $("runs-report").title = say("report");
  show();
}
