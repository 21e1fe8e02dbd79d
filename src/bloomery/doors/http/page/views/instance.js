// One instance: how it stands, what happened to it, and what can be done with it.

import { ask } from "../api.js";
import { confirmed, told } from "../dialogs.js";
import { empty, facts, fill, h, section } from "../dom.js";
import { fleet, mayChange, underWay } from "../fleet.js";
import { badge, clock, duration, power, since } from "../words.js";
import { actionButtons } from "./actions.js";
import { interfaces, securityGroups, volumes } from "./attached.js";
import { progressLine, timeline } from "./parts.js";

const EVENTS = 100;
const KINDS = ["node.*", "operation.accepted", "operation.succeeded", "operation.failed", "operation.cancelled", "operation.taken over"];

export function instance(uuid, go) {
  const element = h("div", {}, empty("Reading …"));
  let one = null;
  let problems = [];
  let events = [];
  let images = [];
  let groups = null;
  let targets = null;
  let gone = null;
  let seen = "";
  let ended = "";

  async function read() {
    const [row, happened, said] = await Promise.all([
      ask("GET /v1/instances/{instance}", { instance: uuid }).catch((problem) => problem),
      ask("GET /v1/events", {}, { query: { instance: uuid, order: "newest", limit: EVENTS, kind: KINDS } }).catch(() => ({ events })),
      ask("GET /v1/instances/{instance}/problems", { instance: uuid }).catch(() => ({ problems: [] })),
    ]);
    gone = row instanceof Error ? row : null;
    if (!gone) one = row;
    events = happened.events;
    problems = said.problems;
    draw();
  }

  // Neutron and Ironic are asked for these only at first and when something was done, and the rest does not wait for them.
  async function readAttached() {
    await Promise.all([
      ask("GET /v1/instances/{instance}/security-groups", { instance: uuid }).catch((problem) => problem).then((found) => { groups = found; }),
      ask("GET /v1/instances/{instance}/volumes", { instance: uuid }).catch((problem) => problem).then((found) => { targets = found; }),
      mayChange() ? ask("GET /v1/images").catch(() => ({ images: [] })).then((found) => { images = found.images; }) : null,
    ]);
    draw();
  }

  function draw() {
    if (gone) {
      fill(element, h("div", { class: "head" }, h("h1", {}, one ? one.name : uuid), badge("gone", "idle")),
        h("div", { class: "note" }, told(gone)), section("What happened", timeline(events, { withNode: true })));
      return;
    }
    if (!one) return;
    const open = underWay().filter((operation) => operation.instance_uuid === one.uuid);
    const isBusy = open.length > 0;
    const isOurs = one.manager === "bloomery";
    const may = { change: mayChange() && isOurs, isBusy };
    fill(element,
      h("div", { class: "head" },
        h("h1", {}, one.name), badge(one.state), h("span", { class: "soft" }, power(one)),
        one.since ? h("span", { class: "soft" }, `for ${duration(since(one.since))}`) : null,
        h("div", { class: "right", role: "group", "aria-label": "Actions" },
          h("a", { class: "button", href: `#/instances/${one.uuid}/console` }, "Console"),
          mayChange() ? actionButtons(one, { isBusy, mayAdopt: fleet.about.me.role === "admin", images, go }) : null)),
      isOurs ? null : h("div", { class: "note" },
        one.manager === "nova" ? "Nova deployed it, and it is Nova's to change." : "It was not deployed here, and is shown only."),
      one.last_error ? h("div", { class: "warn" }, h("b", {}, "Ironic says: "), one.last_error) : null,
      problems.length ? h("div", { class: "warn" }, "It does not fit its node:", h("ul", {}, problems.map((text) => h("li", {}, text)))) : null,
      isBusy ? section("Under way", h("ul", { class: "lines" }, open.map(progressLine))) : null,
      h("div", { class: "columns" },
        h("div", {},
          section("Interfaces", interfaces(one, may)),
          section("What happened", timeline(events))),
        h("div", {},
          section("Instance", facts([
            ["Node", h("a", { href: `#/nodes/${one.node_uuid}` }, one.node_name || one.node_uuid)],
            ["Class", one.resource_class],
            ["Image", one.image ? h("span", { class: "mono" }, one.image) : null],
            ["Ironic is at", one.step],
            ["Health", one.health],
            ["Boot mode", one.boot_mode],
            ["Secure boot", one.secure_boot === null ? null : one.secure_boot ? "on" : "off"],
            ["Owner", one.owner],
            ["Lessee", one.lessee],
            ["In this state since", one.since ? clock(one.since) : null],
            ["Console", one.console_enabled ? "runs" : "off"],
            ["UUID", h("span", { class: "mono" }, one.uuid)],
          ]), one.console_enabled && may.change ? h("p", { class: "below" }, h("button", { type: "button", class: "small", disabled: isBusy, onclick: stopConsole }, "Stop console …")) : null),
          section("Security groups", securityGroups(one, groups, may)),
          section("Volumes", volumes(one, targets, may)))));
  }

  const stopConsole = () => confirmed({
    title: `Stop the console of ${one.name}?`, yes: "Stop", isDanger: true,
    says: "Everybody who is on it is told, and sees nothing more. Nothing on the machine changes.",
    asks: "DELETE /v1/instances/{instance}/console", names: { instance: uuid }, query: { force: true },
  });

  /** It is read again where it, or what is done with it, has changed. */
  function update() {
    const row = [...fleet.nodes.values()].find((node) => node.instance_uuid === uuid);
    const known = [...fleet.operations.values()].filter((operation) => operation.instance_uuid === uuid);
    const now = JSON.stringify([row, known.map((operation) => [operation.state, operation.progress?.index])]);
    const done = known.filter((operation) => operation.ended_at !== null).map((operation) => operation.id).sort().join();
    if (now !== seen) {
      const isFirst = seen === "";
      seen = now;
      read();
      if (isFirst || done !== ended) readAttached();
      ended = done;
    } else if (known.some((operation) => operation.ended_at === null)) draw();
  }
  return { element, update };
}
