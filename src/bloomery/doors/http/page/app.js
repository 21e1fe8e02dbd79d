// The page: which view is shown, keys, and what stands around it.

import { onUnknown } from "./api.js";
import { signIn, told } from "./dialogs.js";
import { fill, h, isMarked } from "./dom.js";
import { administers, fleet, mayChange, start, underWay } from "./fleet.js";
import { deploy } from "./views/deploy.js";
import { consoleOf } from "./views/console.js";
import { events } from "./views/events.js";
import { instance } from "./views/instance.js";
import { instanceList, nodeList } from "./views/lists.js";
import { node } from "./views/node.js";
import { operation, operations } from "./views/operations.js";
import { overview } from "./views/overview.js";
import { service, webhook } from "./views/service.js";
import { themeSwitch } from "./views/parts.js";
import { duration } from "./words.js";

const main = document.getElementById("main");
const search = document.getElementById("search");
const banner = document.getElementById("banner");
const NAVIGATION = [["", "Fleet"], ["instances", "Instances"], ["nodes", "Nodes"], ["operations", "Operations"], ["events", "Events"], ["service", "Service"], ["deploy", "Deploy"]];
const TICK_MS = 1_000;

let view = null;

function viewAt(place, name, part, given) {
  if (place === "instances" && part === "console") return consoleOf(name);
  if (place === "instances") return name ? instance(name, go) : instanceList(given, go);
  if (place === "nodes") return name ? node(name) : nodeList(given, go);
  if (place === "operations") return name ? operation(name) : operations();
  if (place === "events") return events();
  if (place === "service") return name ? webhook(name) : service();
  if (place === "deploy") return deploy(given, go);
  return overview();
}

function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [place = "", name = "", part = ""] = path.split("/").map(decodeURIComponent);
  return { place, name, part, given: new URLSearchParams(query) };
}

/** Another view is shown, or, silently, the same one under another address. */
function go(hash, { silently = false } = {}) {
  if (silently) history.replaceState(null, "", hash);
  else location.hash = hash;
}

function show() {
  const { place, name, part, given } = here();
  view?.leave?.();
  view = viewAt(place, name, part, given);
  fill(main, view.element);
  main.className = view.isFull ? "full" : "";
  main.scrollTop = 0;
  scrollTo(0, 0);
  if (document.activeElement !== search) search.value = given.get("q") || "";
  const title = NAVIGATION.find(([one]) => one === place)?.[1] || "Fleet";
  document.title = `${name ? `${name} – ` : ""}${title} – Bloomery`;
  draw();
}

function navigate() {
  show();
  if (document.activeElement !== search) main.focus({ preventScroll: true });
}

function draw() {
  const { place } = here();
  const open = underWay().length;
  fill(document.getElementById("nav"), NAVIGATION.filter(([one]) => (one !== "deploy" || mayChange()) && (one !== "service" || administers())).map(([one, word]) =>
    h("a", { href: `#/${one}`, "aria-current": one === place ? "page" : null }, word,
      one === "operations" && open ? h("span", { class: "count", "aria-label": `, ${open} under way` }, ` ${open}`) : null)));
  const link = document.getElementById("link");
  const words = fleet.linked ? "live" : "not live";
  if (link.textContent !== words) link.textContent = words;
  link.classList.toggle("lost", !fleet.linked);
  sayStale();
  view?.update();
}

function sayStale() {
  const { stale_s: stale, stale_reason: reason, log_reason: log } = fleet.about || {};
  const text = !fleet.known ? "The service does not know you any more. What is shown may be old, until you sign in."
    : !fleet.linked && isStarted ? "The connection to the service is lost. What is shown may be old; it catches up by itself."
    : stale !== null && stale !== undefined ? `This is as it was ${duration(stale)} ago. ${reason || "Ironic cannot be asked"}`
      : log ? `Nothing new can be begun: ${log}. What is under way goes on.` : "";
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = !text;
}
let isStarted = false;

/** Where one types in the search, nodes are searched, unless a list is shown that can be. */
function typed() {
  if (view?.search) view.search(search.value);
  else if (search.value) {
    go(`#/nodes?q=${encodeURIComponent(search.value)}`, { silently: true });
    show();
  }
}

function pressed(event) {
  const isTyping = event.target.matches("input, textarea, select") || document.querySelector("dialog[open]");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.select();
  } else if (event.target === search && event.key === "Escape") {
    event.preventDefault();
    if (search.value) {
      search.value = "";
      view?.search?.("");
    } else main.focus();
  } else if (event.target === search && (event.key === "Enter" || event.key === "ArrowDown")) {
    event.preventDefault();
    view?.focus?.();
  } else if (event.key === "Escape" && !isTyping && !event.shiftKey && here().name) {
    const { place, name, part } = here();
    go(part ? `#/${place}/${name}` : `#/${place}`);
  }
}

async function begin() {
  themeSwitch(document.getElementById("theme"));
  search.addEventListener("input", typed);
  document.addEventListener("keydown", pressed);
  onUnknown(signIn);
  let isDue = false;
  fleet.onChange = () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      if (view) draw();
    });
  };
  fleet.onEvent = (event) => view?.happened?.(event);
  try {
    await start();
  } catch (problem) {
    fill(main, h("div", { class: "warn", role: "alert" }, told(problem)), h("button", { type: "button", onclick: () => location.reload() }, "Try again"));
    return;
  }
  setTimeout(() => { isStarted = true; sayStale(); }, 3_000);
  addEventListener("hashchange", navigate);
  show();
  setInterval(() => !document.hidden && underWay().length && !isMarked(main) && draw(), TICK_MS);
}

begin();
