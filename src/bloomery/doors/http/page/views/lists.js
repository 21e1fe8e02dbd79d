// All nodes, and all instances: filtered as one types.

import { h } from "../dom.js";
import { fleet, found, instances, nameOf, nodes } from "../fleet.js";
import { virtualList } from "../list.js";
import { badge, duration, many, power, since } from "../words.js";

const age = (node) => (node.since ? duration(since(node.since)) : "");

const NODES = {
  title: "Nodes",
  word: "node",
  kind: "nodes",
  names: ["Name", "State", "Power", "Class", "Instance", "For"],
  rows: nodes,
  address: (node) => `#/nodes/${node.uuid}`,
  only: {
    free: ["free now", (node) => node.why_not.length === 0],
    used: ["with an instance", (node) => node.instance_uuid !== null],
    maintenance: ["in maintenance", (node) => node.maintenance],
    trouble: ["that need a hand", (node) => fleet.inTrouble.some((one) => one.uuid === node.uuid)],
  },
  draw: (node) => [
    h("b", {}, nameOf(node)),
    node.maintenance ? badge(`${node.state}, maintenance`, "bad") : badge(node.state),
    h("span", { class: "soft" }, power(node)),
    h("span", {}, node.resource_class || ""),
    h("span", { class: "less" }, node.instance_name || node.instance_uuid || ""),
    h("span", { class: "soft less" }, age(node)),
  ],
};

const INSTANCES = {
  title: "Instances",
  word: "instance",
  kind: "machines",
  names: ["Name", "State", "Power", "Node", "Manager", "For"],
  rows: instances,
  address: (node) => `#/instances/${node.instance_uuid}`,
  only: {
    bloomery: ["deployed here", (node) => node.manager === "bloomery"],
    nova: ["Nova's", (node) => node.manager === "nova"],
    others: ["others'", (node) => !["bloomery", "nova"].includes(node.manager)],
  },
  draw: (node) => [
    h("b", {}, node.instance_name || node.instance_uuid),
    badge(node.state),
    h("span", { class: "soft" }, power(node)),
    h("span", {}, nameOf(node)),
    h("span", { class: "less" }, node.manager),
    h("span", { class: "soft less" }, age(node)),
  ],
};

export const nodeList = (given, go) => list(NODES, given, go);
export const instanceList = (given, go) => list(INSTANCES, given, go);

function list(kind, given, go) {
  const count = h("span", { class: "count", role: "status" });
  const rows = virtualList({
    label: kind.title, draw: kind.draw, open: (row) => go(kind.address(row)), keyOf: (row) => row.uuid,
  });
  rows.element.classList.add(kind.kind);
  const state = h("select", { "aria-label": "State", onchange: () => choose("state", state.value) });
  const only = h("select", { "aria-label": "Which", onchange: () => choose("only", only.value) },
    h("option", { value: "" }, `all ${kind.word}s`),
    Object.entries(kind.only).map(([name, [word]]) => h("option", { value: name }, word)));
  only.value = given.get("only") || "";
  let states = "";

  function choose(name, value) {
    if (value) given.set(name, value);
    else given.delete(name);
    go(`#/${kind.title.toLowerCase()}${given.size ? `?${given}` : ""}`, { silently: true });
    update();
  }

  function update() {
    const every = kind.rows();
    const known = [...new Set([...every.map((row) => row.state), given.get("state") || []].flat())].sort();
    if (states !== known.join()) {
      states = known.join();
      state.replaceChildren(h("option", { value: "" }, "any state"), ...known.map((one) => h("option", { value: one }, one)));
      state.value = given.get("state") || "";
    }
    const isWanted = kind.only[given.get("only")]?.[1] || (() => true);
    const wanted = found(every, given.get("q") || "")
      .filter((row) => isWanted(row) && (!given.get("state") || row.state === given.get("state")));
    rows.show(wanted);
    count.textContent = wanted.length === every.length ? many(every.length, kind.word) : `${wanted.length.toLocaleString()} of ${many(every.length, kind.word)}`;
  }

  const element = [
    h("div", { class: "head" }, h("h1", {}, kind.title)),
    h("div", { class: "filters" }, only, state, count),
    h("div", { class: `columnsof ${kind.kind}`, "aria-hidden": "true" }, kind.names.map((name) => h("span", {}, name))),
    rows.element,
  ];
  return { element, update, isFull: true, search: (text) => choose("q", text), focus: rows.focus };
}
