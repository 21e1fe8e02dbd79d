// Everything that happens, as it happens.

import { ask } from "../api.js";
import { told } from "../dialogs.js";
import { empty, fill, h } from "../dom.js";
import { timeline } from "./parts.js";

const PAGE = 100;
const KEPT = 1000;
const KINDS = { "": "everything", "node.*": "nodes", "operation.*": "operations", "ironic.*": "Ironic itself", "node.provision_state": "provision states", "node.power_state": "power" };

export function events() {
  let rows = [];
  let marker = null;
  let kind = "";
  const shown = h("div", {}, empty("Reading …"));
  const more = h("button", { type: "button", hidden: true, onclick: () => read() }, "Older ones");
  const choose = h("select", {
    "aria-label": "Which", onchange: () => { kind = choose.value; rows = []; marker = null; read(); },
  }, Object.entries(KINDS).map(([value, word]) => h("option", { value }, word)));

  async function read() {
    const wanted = kind;
    try {
      const page = await ask("GET /v1/events", {}, { query: { order: "newest", limit: PAGE, kind, marker } });
      if (wanted !== kind) return;
      const known = new Set(rows.map((row) => row.number));
      rows.push(...page.events.filter((row) => !known.has(row.number)));
      marker = page.next && new URL(page.next, location.origin).searchParams.get("marker");
      draw();
    } catch (problem) {
      fill(shown, told(problem));
    }
  }

  function draw() {
    fill(shown, timeline(rows, { withNode: true }));
    more.hidden = !marker;
  }

  const isWanted = (event) => (kind.endsWith("*") ? event.kind.startsWith(kind.slice(0, -1)) : !kind || event.kind === kind);

  read();
  return {
    element: h("div", {}, h("div", { class: "head" }, h("h1", {}, "Events"), choose),
      h("section", { class: "card" }, shown, more)),
    update: () => {},
    happened(event) {
      if (!isWanted(event) || rows.some((row) => row.number === event.number)) return;
      rows = [event, ...rows].slice(0, KEPT);
      draw();
    },
  };
}
