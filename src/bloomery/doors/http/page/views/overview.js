// The fleet at a glance.

import { empty, fill, h, section } from "../dom.js";
import { fleet, instances, underWay } from "../fleet.js";
import { badge, many, toneOf } from "../words.js";
import { operationLine, progressLine } from "./parts.js";

const TROUBLE = 30;
const TONES = ["good", "free", "busy", "idle", "bad"];

function counted(rows, of) {
  const counts = new Map();
  for (const row of rows) counts.set(of(row), (counts.get(of(row)) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

const tile = (count, word, href, tone = "") =>
  h("a", { class: `tile ${count ? tone : ""}`, href }, h("b", {}, count.toLocaleString()), h("span", {}, word));

const leftLine = () => (fleet.left
  ? h("li", {}, h("a", { href: "#/service" }, many(fleet.left, "leftover")),
    h("p", { class: "soft" }, "of instances that are gone, or of others, which the janitor leaves to you"))
  : null);

export function overview() {
  const element = h("div");

  function update() {
    const all = [...fleet.nodes.values()];
    const open = underWay();
    const states = counted(all, (node) => node.state);
    const strip = h("div", { class: "strip", role: "presentation" },
      TONES.flatMap((tone) => states.filter(([state]) => toneOf(state) === tone)).map(([state, count]) => {
        const part = h("i", { class: toneOf(state), title: `${state}: ${count}` });
        part.style.flexGrow = String(count);
        return part;
      }));
    const recent = [...fleet.operations.values()].filter((one) => one.ended_at !== null)
      .sort((a, b) => b.created_at.localeCompare(a.created_at)).slice(0, 8);
    fill(element,
      h("div", { class: "head" }, h("h1", {}, "The fleet")),
      h("div", { class: "tiles" },
        tile(all.length, "nodes", "#/nodes"),
        tile(instances().length, "instances", "#/instances"),
        tile(all.filter((node) => node.why_not.length === 0).length, "free now", "#/nodes?only=free"),
        tile(open.length, "under way", "#/operations", "work"),
        tile(fleet.inTrouble.length, fleet.inTrouble.length === 100 ? "or more need a hand" : "need a hand", "#/nodes?only=trouble", "alarm")),
      section("Nodes by state", strip,
        h("ul", { class: "counts" }, states.map(([state, count]) => h("li", {},
          h("a", { href: `#/nodes?state=${encodeURIComponent(state)}` }, badge(state), h("b", {}, count.toLocaleString())))))),
      h("div", { class: "columns" },
        h("div", {},
          section("Under way", open.length
            ? h("ul", { class: "lines" }, open.map(progressLine))
            : empty("Nothing. Deploy something, or look at what was done below.")),
          section("Done lately", recent.length ? h("ul", { class: "lines" }, recent.map(operationLine)) : empty("Nothing yet."))),
        h("div", {},
          section("Needs a hand", fleet.inTrouble.length || fleet.left
            ? h("ul", { class: "lines" }, leftLine(), fleet.inTrouble.slice(0, TROUBLE).map((one) => h("li", {},
              h("a", { href: `#/nodes/${one.uuid}` }, one.name), h("p", { class: "soft" }, one.reasons.join("; ")))),
            fleet.inTrouble.length > TROUBLE ? h("li", {}, h("a", { href: "#/nodes?only=trouble" }, "all of them")) : null)
            : empty("No node does.")),
          section("Nodes by class", h("ul", { class: "counts" }, counted(all, (node) => node.resource_class || "no class").map(
            ([name, count]) => h("li", {}, h("a", { href: `#/nodes?q=${encodeURIComponent(name)}` }, h("span", { class: "chip" }, name), h("b", {}, count.toLocaleString())))))))),
    );
    element.setAttribute("aria-label", many(all.length, "node"));
  }
  return { element, update };
}
