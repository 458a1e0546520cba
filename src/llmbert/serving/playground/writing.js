// Write: tokens as they come, each with its probability and what else could have stood there; two runs side by side.
import { post, stream } from "./api.js";
import { $, complain, fillRuns, find, make, tell, thumbs, visible } from "./parts.js";
import { say } from "./words.js";

const SETTINGS = ["max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty"];
const ALTERNATIVES = 8;
const END = "<end>"; // the server's word for the token that ends a text
const PAUSE = 120; // ms that a pointer rests on a token before it is told of, so that one can pass over others
let breakOff = null;
let panes = [];

export const bits = (logprob) => (logprob === null ? Infinity : -logprob / Math.LN2);
const grade = (value) => (value < 1 ? 0 : value < 3 ? 1 : value < 6 ? 2 : value < 10 ? 3 : 4);
const share = (logprob) => (100 * Math.exp(logprob)).toPrecision(3);

function settings() {
  const found = Object.fromEntries(SETTINGS.map((name) => [name, Number($(name).value)]));
  if ($("seed").value !== "") found.seed = Math.max(0, Math.floor(Number($("seed").value)));
  return found;
}

// One run's text: the versions that were branched off, and the one that is shown.
class Pane {
  constructor(name) {
    this.name = name;
    this.run = find(name);
    this.versions = [];
    this.at = -1;
    this.title = make("h2", { text: name });
    this.tabs = make("div", { class: "versions", role: "group", "aria-label": say("version", "") });
    this.text = make("div", { class: "written", role: "group", "aria-label": name });
    this.told = make("p", { class: "hint", role: "status" });
    this.rating = make("div");
    this.element = make("div", { class: "card" }, this.title, this.tabs, this.text, this.told, this.rating);
    this.text.addEventListener("keydown", (event) => this.move(event));
  }

  get version() {
    return this.versions[this.at];
  }

  // Write on behind `kept` tokens of what there is: from the prompt alone, or from a branch.
  async write(prompt, kept, signal) {
    const version = { prompt, tokens: [...kept], id: null };
    this.versions.push(version);
    this.at = this.versions.length - 1;
    this.draw();
    const began = performance.now();
    let first = null;
    try {
      for await (const event of stream("/v1/completions", await this.asked(version), signal)) {
        version.id ??= event.id;
        const choice = event.choices[0];
        if (!choice) continue;
        if (choice.text && first === null) first = performance.now() - began;
        this.take(version, choice);
        if (choice.finish_reason) version.finish = choice.finish_reason;
      }
      version.whole = true;
    } catch (error) {
      complain(error);
      version.finish = say(error.name === "AbortError" ? "stopped" : "failed");
    }
    const seconds = (performance.now() - began) / 1000;
    const count = version.tokens.length - kept.length;
    version.times = say("times", Math.round(first ?? 1000 * seconds), count, (count / seconds).toFixed(1));
    this.draw();
  }

  async asked(version) {
    const { prompt, tokens } = version;
    const asked = { model: this.name, ...settings() };
    if (this.run.llmbert.likelihood !== "pseudo") asked.logprobs = ALTERNATIVES; // what fills gaps has no next token
    if (!tokens.length) return { ...asked, prompt };
    const ids = tokens.map((token) => token.id);
    if (this.run.llmbert.reads_source) return { ...asked, source: prompt, prompt: ids };
    const looked = await post("/v1/distribution", { model: this.name, prompt, count: 1 });
    return { ...asked, prompt: [...looked.prompt_ids, ...ids] };
  }

  take(version, choice) {
    const told = choice.logprobs;
    const new_ = told
      ? told.tokens.map((text, i) => ({ text, id: told.token_ids[i], logprob: told.token_logprobs[i], top: told.top_ids[i] }))
      : choice.text ? [{ text: choice.text, id: null, logprob: undefined, top: [] }] : [];
    version.tokens.push(...new_);
    if (this.version === version) for (const token of new_) this.text.append(this.span(token, version.tokens.indexOf(token)));
  }

  span(token, at) {
    const plain = token.logprob === undefined;
    const value = plain ? 0 : bits(token.logprob);
    const span = make("span", { class: `token ${plain ? "" : `s${grade(value)}`}`, text: token.text });
    if (!plain) {
      span.tabIndex = at === 0 ? 0 : -1;
      span.dataset.at = at;
      span.setAttribute("role", "button");
      span.setAttribute("aria-haspopup", "dialog");
      span.setAttribute("aria-label", `${visible(token.text)}: ${say("token_told", share(token.logprob ?? -Infinity), value.toFixed(1))}`);
      for (const kind of ["focus", "click"]) span.addEventListener(kind, () => this.open(span, token, at));
      let resting = null;
      span.addEventListener("mouseenter", () => {
        resting = setTimeout(() => this.open(span, token, at), PAUSE);
      });
      span.addEventListener("mouseleave", () => clearTimeout(resting));
    }
    return span;
  }

  draw() {
    hidePopover();
    const version = this.version;
    this.text.replaceChildren();
    if (!this.run.llmbert.reads_source) this.text.append(make("span", { class: "prompt", text: version.prompt }));
    version.tokens.forEach((token, at) => this.text.append(this.span(token, at)));
    this.tabs.replaceChildren(
      ...(this.versions.length > 1 ? this.versions : []).map((each, at) =>
        make("button", {
          type: "button", text: say("version", at + 1), "aria-pressed": String(at === this.at),
          onclick: () => { this.at = at; this.draw(); },
        })),
    );
    this.told.textContent = version.finish ? `${say("ended", version.finish)}; ${version.times}` : say("wait");
    if (version.whole) version.rating ??= thumbs(version.id); // what was stopped, the server has not taken down
    this.rating.replaceChildren(...(version.rating ? [version.rating] : []));
    $("surprise-legend").hidden = false;
  }

  // Arrow keys go from token to token; Enter goes to what else could have stood there.
  move(event) {
    const here = event.target.closest(".token[data-at]");
    if (!here) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const next = this.text.querySelector(`.token[data-at="${Number(here.dataset.at) + step}"]`);
      if (next) {
        here.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      }
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      $("popover").querySelector("button")?.focus();
    }
  }

  open(span, token, at) {
    for (const other of document.querySelectorAll(".token.chosen")) other.classList.remove("chosen");
    span.classList.add("chosen");
    const popover = $("popover");
    const told = token.logprob === null ? "0" : share(token.logprob);
    popover.replaceChildren(
      make("p", { text: `${visible(token.text)}  ${say("token_told", told, bits(token.logprob).toFixed(1))}` }),
      make("p", { class: "hint", text: say("go_on") }),
      make("ol", {}, ...token.top.map(([text, id, logprob]) =>
        make("li", {}, make("button", { type: "button", disabled: text === END, onclick: () => this.branch(at, { text, id, logprob, top: token.top }) },
          make("span", { text: visible(text) }), make("span", { text: `${share(logprob)} %` }))))),
    );
    popover.hidden = false;
    const box = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - popover.offsetWidth - 8);
    popover.style.left = `${Math.max(8, left) + scrollX}px`;
    popover.style.top = `${box.bottom + scrollY + 4}px`;
    popover.returnTo = span;
  }

  branch(at, token) {
    const { prompt, tokens } = this.version;
    busy((signal) => this.write(prompt, [...tokens.slice(0, at), token], signal));
  }
}

export function hidePopover() {
  const popover = $("popover");
  if (popover.contains(document.activeElement)) popover.returnTo?.focus();
  popover.hidden = true;
  for (const other of document.querySelectorAll(".token.chosen")) other.classList.remove("chosen");
}

// Do something that can be stopped.
async function busy(work) {
  breakOff?.abort();
  const own = (breakOff = new AbortController());
  $("write-stop").disabled = false;
  tell("");
  try {
    await work(own.signal);
  } catch (error) {
    complain(error);
  } finally {
    if (breakOff === own) {
      breakOff = null;
      $("write-stop").disabled = true;
    }
  }
}

function go() {
  const names = [$("write-run").value, ...($("write-two").checked ? [$("write-other").value] : [])].filter(Boolean);
  panes = names.map((name) => new Pane(name));
  $("outputs").replaceChildren(...panes.map((pane) => pane.element));
  $("outputs").scrollIntoView({ block: "nearest" });
  const prompt = $("write-prompt").value;
  busy((signal) => Promise.all(panes.map((pane) => pane.write(prompt, [], signal))));
}

// ---- the next token ------------------------------------------------------------------------------------------------

let waiting = null;
let looked = 0;

function namePrompt(run) {
  $("write-prompt-label").textContent = say(run?.llmbert.reads_source ? "source" : "prompt");
}

function lookSoon() {
  namePrompt(find($("write-run").value));
  clearTimeout(waiting);
  waiting = setTimeout(look, 150);
}

async function look() {
  const run = find($("write-run").value);
  if (!run) return;
  const number = ++looked;
  const { max_tokens: _, seed: __, ...sampling } = settings();
  const prompt = $("write-prompt").value;
  namePrompt(run);
  if (run.llmbert.likelihood === "pseudo" || (run.llmbert.reads_source && !prompt.trim())) {
    $("next").tBodies[0].replaceChildren();
    $("next-told").textContent = run.llmbert.reads_source ? "" : say("both_ways");
    return;
  }
  try {
    const found = await post("/v1/distribution", { model: run.id, prompt, count: 12, ...sampling });
    if (number === looked) drawNext(found, run);
  } catch (error) {
    if (number === looked) complain(error);
  }
}

function drawNext(found, run) {
  const most = Math.max(...found.tokens.map((token) => Math.max(token.p, token.sampled)), 1e-9);
  const bar = (kind, value) => {
    const element = make("div", { class: `bar ${kind}` });
    element.style.width = `${(100 * value) / most}%`;
    return element;
  };
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  $("next").tBodies[0].replaceChildren(...found.tokens.map((token) => make("tr", {},
    make("th", { scope: "row", text: visible(token.text), title: visible(token.text) }),
    make("td", {}, bar("model", token.p), bar("sampled", token.sampled)),
    make("td", { class: "share", text: `${percent(token.p)} / ${percent(token.sampled)}` }))));
  $("next-told").textContent = (run.llmbert.reads_source ? `${say("from_source")} ` : "")
    + say("entropy", found.entropy.toFixed(2), found.kept.toLocaleString());
}

export function setUp() {
  for (const name of SETTINGS) {
    const show = () => {
      $(name).nextElementSibling.textContent = $(name).value;
    };
    $(name).addEventListener("input", () => {
      show();
      lookSoon();
    });
    show();
  }
  $("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    go();
  });
  $("write-stop").addEventListener("click", () => breakOff?.abort());
  $("write-prompt").addEventListener("input", lookSoon);
  $("write-prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      go();
    }
  });
  $("write-run").addEventListener("change", lookSoon);
  $("write-two").addEventListener("change", () => {
    $("write-other-label").hidden = !$("write-two").checked;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (!$("popover").hidden) hidePopover();
    else breakOff?.abort();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".token, #popover")) hidePopover();
  });
}

export function refresh() {
  fillRuns($("write-run"), "completions");
  fillRuns($("write-other"), "completions");
  if ($("write-other").value === $("write-run").value && $("write-other").options.length > 1) $("write-other").selectedIndex = 1;
  for (const pane of panes) pane.draw();
  lookSoon();
}
