// What is asked before something is done, and what is said afterwards.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { fleet, keepOperation } from "./fleet.js";
import { many } from "./words.js";

const REFUSALS = 200;

/** Something is said for a while, at the edge of the page. */
export function toast(text) {
  const note = h("div", { class: "toast" }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 7_000);
}

/** What a problem says, and what to do next. */
export function told(problem) {
  return [
    h("p", {}, problem.title ? h("b", {}, `${problem.title}: `) : null, problem.detail || problem.message),
    problem.advice ? h("p", { class: "soft" }, problem.advice, ".") : null,
    problem.left?.length ? h("ul", {}, problem.left.map((one) => h("li", {}, one))) : null,
    problem.refusals ? refusals(Object.entries(problem.refusals)) : null,
  ];
}

function refusals(nodes) {
  const line = ([node, reasons]) => h("li", {}, h("b", {}, node), `: ${reasons.join("; ")}`);
  return h("details", {}, h("summary", {}, `Why each of ${many(nodes.length, "node")} does not fit`), h("ul", {}, nodes.slice(0, REFUSALS).map(line)),
    nodes.length > REFUSALS ? h("p", {}, `and ${(nodes.length - REFUSALS).toLocaleString()} more`) : null);
}

/**
 * A dialogue, and what comes of it: `accept()`'s value, or null if it was left.
 *
 * While `accept` fails with an error, that is shown and the dialogue stays.
 */
export function dialogue({ title, content, yes, no = "Cancel", isDanger = false, accept }) {
  return new Promise((resolve) => {
    const wrong = h("div", { class: "warn", role: "alert", hidden: true });
    const button = h("button", { type: "submit", class: isDanger ? "main danger" : "main" }, yes);
    const leave = no ? h("button", { type: "button", onclick: () => element.close() }, no) : null;
    let found = null;
    const form = h("form", {
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        try {
          found = await accept();
          element.close();
        } catch (problem) {
          wrong.replaceChildren(...told(problem).filter(Boolean));
          wrong.hidden = false;
        }
        button.disabled = false;
      },
    }, h("h2", { id: "dialogue" }, title), wrong, content, h("div", { class: "buttons" }, leave, button));
    const element = h("dialog", { "aria-labelledby": "dialogue", onclose: () => { element.remove(); resolve(found); } }, form);
    document.body.append(element);
    element.showModal();
  });
}

/**
 * Something is asked for once somebody has read what it does and confirmed it; the operation, or null.
 *
 * `says` is what it does and what is lost by it; `typed`, if given, has to be typed; `fields` are asked for in between, and
 * `body()` is what they come to.
 */
export async function confirmed({ title, says, yes, isDanger = false, typed = null, fields = null, asks, names, query, body }) {
  const name = h("input", { id: "typed", autocomplete: "off", spellcheck: "false" });
  const found = await dialogue({
    title, yes, isDanger,
    content: [
      h("p", {}, says), fields,
      typed ? h("div", { class: "field" }, h("label", { for: "typed" }, `Type “${typed}” to confirm`), name) : null,
    ],
    accept: () => {
      if (typed && name.value !== typed) throw new Error(`what is typed is not “${typed}”`);
      return ask(asks, names, { query, ...(body ? { body: body() } : {}) });
    },
  });
  if (found?.kind) {
    keepOperation(found);
    fleet.onChange();
    toast(`${found.kind} of ${found.instance_name || found.instance_uuid} has begun`);
  }
  return found;
}

/** Somebody says who he is; the headers that show it, or null. */
export function signIn(kind, why) {
  const name = h("input", { id: "who", autocomplete: "username", required: true });
  const password = h("input", { id: "password", type: "password", autocomplete: "current-password", required: true });
  const field = (label, input) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);
  const isToken = kind === "keystone";
  return dialogue({
    title: "Sign in",
    yes: "Sign in",
    content: [
      why ? h("p", { class: "soft" }, why) : null,
      isToken ? null : field("Name", name),
      field(isToken ? "Keystone token" : "Password", password),
      h("p", { class: "soft" }, "Kept by this page until it is closed, and nowhere else."),
    ],
    accept: () => (isToken ? { "X-Auth-Token": password.value } : { Authorization: `Basic ${encoded(name.value, password.value)}` }),
  });
}

function encoded(name, password) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(`${name}:${password}`)));
}
