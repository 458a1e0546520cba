// The page: its parts, its tabs, its language, its colours, and the key where the server asks for one.
import { get } from "./api.js";
import * as chatting from "./chatting.js";
import * as inside from "./inside.js";
import { $, complain, runs } from "./parts.js";
import * as shelf from "./shelf.js";
import * as tasks from "./tasks.js";
import { say, speak, spoken } from "./words.js";
import * as writing from "./writing.js";

const PARTS = { write: writing, chat: chatting, tasks, inside, runs: shelf };

const store = {
  get: (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // where storage is forbidden the page works without a memory
    }
  },
  set: (name, value) => {
    try {
      localStorage.setItem(name, value);
    } catch {
      // as above
    }
  },
};

function useLanguage(language) {
  speak(language);
  store.set("language", language);
  const other = language === "zh" ? ["en", "English"] : ["zh-Hans", "中文"];
  [$("language").lang, $("language").textContent] = other;
  labelTheme();
  for (const part of Object.values(PARTS)) part.refresh();
}

function useTheme(theme) {
  document.documentElement.dataset.theme = theme;
  store.set("theme", theme);
  labelTheme();
}

function labelTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  $("theme").dataset.t = next;
  $("theme").textContent = say(next);
}

function openTab(name, focus = false) {
  for (const tab of $("tabs").children) {
    const open = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", open);
    tab.tabIndex = open ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !open;
    if (open && focus) tab.focus();
  }
  writing.hidePopover();
  history.replaceState(null, "", `#${name}`);
}

function setUpTabs() {
  const tabs = [...$("tabs").children];
  for (const tab of tabs) tab.addEventListener("click", () => openTab(tab.id.slice(4)));
  $("tabs").addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    openTab(tabs[(to + tabs.length) % tabs.length].id.slice(4), true);
  });
}

async function loadRuns() {
  try {
    const found = await get("/v1/models");
    runs.all = found.data;
    runs.feedback = found.llmbert.feedback;
    for (const part of Object.values(PARTS)) part.refresh();
  } catch (error) {
    complain(error);
  }
}

for (const part of Object.values(PARTS)) part.setUp();
setUpTabs();
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
useTheme(store.get("theme") ?? (dark ? "dark" : "light"));
useLanguage(store.get("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
$("language").addEventListener("click", () => useLanguage(spoken() === "zh" ? "en" : "zh"));
$("theme").addEventListener("click", () => useTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
document.addEventListener("key-needed", () => {
  $("key-open").hidden = false;
  if (!$("key-dialog").open) $("key-dialog").showModal();
});
$("key-open").addEventListener("click", () => $("key-dialog").showModal());
$("key-form").addEventListener("submit", () => {
  sessionStorage.setItem("key", $("key-value").value.trim());
  $("notice").hidden = true;
  loadRuns();
});
const wanted = location.hash.slice(1);
if (wanted in PARTS) openTab(wanted);
loadRuns();
