// One instance: how it stands, what happened to it, and what can be done with it.

import { ask } from "../api.js";
import { dialogue, toast, told } from "../dialogs.js";
import { empty, facts, fill, h, section, table } from "../dom.js";
import { fleet, keepOperation, mayChange, underWay } from "../fleet.js";
import { badge, clock, duration, power, since } from "../words.js";
import { progressLine, timeline } from "./parts.js";

const EVENTS = 100;

/** What can be done, and what is lost by it. */
const ACTIONS = [
  {
    name: "Power on", asks: "POST /v1/instances/{instance}/power", body: () => ({ target: "on" }),
    if: (one) => one.power_state !== "power on" && one.state === "active", says: "The machine is started. Nothing is lost.",
  },
  {
    name: "Power off", asks: "POST /v1/instances/{instance}/power", isDanger: true,
    body: (form) => ({ target: "off", ...soft(form) }), soft: true,
    if: (one) => one.power_state === "power on" && one.state === "active",
    says: "Whoever is logged in is thrown out, and what runs on it stops. Its disks stay as they are; what its system has not written to them yet is lost if it does not shut down in time.",
  },
  {
    name: "Reboot", asks: "POST /v1/instances/{instance}/power", isDanger: true,
    body: (form) => ({ target: "reboot", ...soft(form) }), soft: true,
    if: (one) => one.power_state === "power on" && one.state === "active",
    says: "What runs on it stops, and it starts again. Its disks stay as they are; what its system has not written to them yet is lost if it does not shut down in time.",
  },
  {
    name: "Rescue", asks: "POST /v1/instances/{instance}/rescue", body: () => ({}), isDanger: true,
    if: (one) => one.state === "active",
    says: "It restarts into the rescue ramdisk: what runs on it stops. Its disks stay as they are. The password is shown once.",
  },
  {
    name: "Unrescue", asks: "POST /v1/instances/{instance}/unrescue", body: () => ({}),
    if: (one) => ["rescue", "rescue failed", "unrescue failed"].includes(one.state), says: "It restarts into its own system. What is in the rescue ramdisk's memory is lost.",
  },
  {
    name: "Crash dump", asks: "POST /v1/instances/{instance}/crash-dump", body: () => ({}), isDanger: true,
    if: (one) => one.power_state === "power on" && one.state === "active",
    says: "Its kernel is interrupted, writes a dump if it is set up to, and usually stops or restarts: what runs on it ends, and what is not on its disks yet is lost.",
  },
  {
    name: "Rebuild", asks: "POST /v1/instances/{instance}/rebuild", isDanger: true, typed: true,
    body: (form) => (form.image.value ? { image: { source: form.image.value, ...(form.checksum.value ? { checksum: form.checksum.value } : {}) } } : {}),
    image: true, if: (one) => ["active", "error", "deploy failed"].includes(one.state),
    says: "Everything on its root disk is lost: the image is written anew. Its node, VIFs and addresses stay.",
  },
  {
    name: "Destroy", asks: "DELETE /v1/instances/{instance}", isDanger: true, typed: true, if: () => true,
    says: "Everything on it is lost, for good: Ironic takes it down and cleans the node's disks. VIFs and addresses that were created for it go, too; others are only unplugged.",
  },
];

const START_CONSOLE = {
  name: "Start console", asks: "POST /v1/instances/{instance}/console", body: () => ({}),
  says: "Ironic opens a console to the machine, until it is stopped. Nothing on it changes.",
};
const STOP_CONSOLE = {
  name: "Stop console", asks: "DELETE /v1/instances/{instance}/console", isDanger: true,
  says: "Ironic closes the console, unless somebody uses it. Nothing on the machine changes.",
};

const soft = (form) => (form.soft.checked ? { soft_s: 120 } : {});

const ADOPT = {
  name: "Adopt", asks: "POST /v1/instances/{instance}/adopt", body: () => ({}), if: () => true,
  says: "From now on it is managed here. Nothing on it changes, but whoever deployed it, such as Nova, should forget it first: two managers of one machine undo each other's work.",
};

async function perform(action, one, go) {
  const name = h("input", { id: "typed", autocomplete: "off", spellcheck: "false" });
  const form = {
    soft: h("input", { type: "checkbox", id: "soft", checked: true }),
    image: h("input", { id: "image", placeholder: one.image || "", spellcheck: "false" }),
    checksum: h("input", { id: "checksum", placeholder: "sha256:…", spellcheck: "false" }),
  };
  const field = (input, label, hint) =>
    h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint ? h("p", { class: "hint" }, hint) : null);
  const operation = await dialogue({
    title: `${action.name} ${one.name}?`,
    yes: action.name,
    isDanger: action.isDanger,
    content: [
      h("p", {}, action.says),
      action.soft ? h("div", { class: "choices" }, h("label", {}, form.soft, "Let its system shut down first, for up to two minutes")) : null,
      action.image ? [field(form.image, "Image", "Empty keeps the one that it has."), field(form.checksum, "Checksum", "Of an image at a URL.")] : null,
      action.typed ? field(name, `Type “${one.name}” to confirm`) : null,
    ],
    accept: () => {
      if (action.typed && name.value !== one.name) throw new Error(`what is typed is not “${one.name}”`);
      return ask(action.asks, { instance: one.uuid }, action.body ? { body: action.body(form) } : {});
    },
  });
  if (operation === null) return;
  keepOperation(operation);
  fleet.onChange();
  toast(`${operation.kind} of ${one.name} has begun`);
  if (operation.password) {
    await dialogue({
      title: "The rescue password", yes: "I have it", no: null, accept: () => true,
      content: [h("p", {}, "It is shown here, and never again."), h("pre", {}, operation.password)],
    });
  }
  if (action.name === "Destroy") go(`#/operations/${operation.id}`);
}

export function instance(uuid, go) {
  const element = h("div", {}, empty("Reading …"));
  let one = null;
  let problems = [];
  let events = [];
  let consoleView = null;
  let gone = null;
  let seen = "";

  async function read() {
    const [row, happened, said] = await Promise.all([
      ask("GET /v1/instances/{instance}", { instance: uuid }).catch((problem) => problem),
      ask("GET /v1/events", {}, { query: { instance: uuid, order: "newest", limit: EVENTS, kind: ["node.*", "operation.accepted", "operation.succeeded", "operation.failed", "operation.cancelled", "operation.taken over"] } })
        .catch(() => ({ events })),
      ask("GET /v1/instances/{instance}/problems", { instance: uuid }).catch(() => ({ problems: [] })),
    ]);
    gone = row instanceof Error ? row : null;
    if (!gone) one = row;
    consoleView = one?.console_enabled ? await ask("GET /v1/instances/{instance}/console", { instance: uuid }).catch(() => null) : null;
    events = happened.events;
    problems = said.problems;
    draw();
  }

  function buttons(open) {
    if (!mayChange()) return null;
    const isOurs = one.manager === "bloomery";
    const isBusy = open.length > 0;
    const actions = isOurs ? ACTIONS.filter((action) => action.if(one)) : fleet.about.me.role === "admin" ? [ADOPT] : [];
    return h("div", { class: "right", role: "group", "aria-label": "Actions" }, actions.map((action) => h("button", {
      type: "button", class: action.isDanger && action.typed ? "danger" : "", disabled: isBusy && action.name !== "Destroy",
      title: isBusy ? "An operation is under way" : null, onclick: () => perform(action, one, go),
    }, action.name, action === ADOPT || action.name === "Power on" ? "" : " …")));
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
    const vifs = one.vifs || [];
    fill(element,
      h("div", { class: "head" },
        h("h1", {}, one.name), badge(one.state), h("span", { class: "soft" }, power(one)),
        one.since ? h("span", { class: "soft" }, `for ${duration(since(one.since))}`) : null, buttons(open)),
      one.manager === "bloomery" ? null : h("div", { class: "note" },
        one.manager === "nova" ? "Nova deployed it, and it is Nova's to change." : "It was not deployed here, and is shown only."),
      one.last_error ? h("div", { class: "warn" }, h("b", {}, "Ironic says: "), one.last_error) : null,
      problems.length ? h("div", { class: "warn" }, "It does not fit its node:", h("ul", {}, problems.map((text) => h("li", {}, text)))) : null,
      isBusy ? section("Under way", h("ul", { class: "lines" }, open.map(progressLine))) : null,
      h("div", { class: "columns" },
        h("div", {}, section("What happened", timeline(events))),
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
            ["UUID", h("span", { class: "mono" }, one.uuid)],
          ])),
          section("Addresses", vifs.length
            ? table(["Address", "Network", "MAC", "On"], vifs.map((vif) => [
              h("span", { class: "mono" }, vif.addresses.join(", ") || "none"), vif.network || vif.network_id || "",
              h("span", { class: "mono" }, vif.mac || ""), vif.on || ""]))
            : empty(one.vifs === null ? "They are not known while Ironic is away." : "It is on no network.")),
          section("Console", consoleOf(isBusy)))));
  }

  function consoleOf(isBusy) {
    const action = one.console_enabled ? STOP_CONSOLE : START_CONSOLE;
    const may = mayChange() && one.manager === "bloomery";
    return [
      one.console_enabled
        ? facts([["Kind", consoleView?.kind || "not known"], ["Where Ironic offers it", consoleView?.url ? h("span", { class: "mono" }, consoleView.url) : null]])
        : empty("None runs."),
      may ? h("p", {}, h("button", { type: "button", disabled: isBusy, onclick: () => perform(action, one, go) }, `${action.name} …`)) : null,
    ];
  }

  /** It is read again where it, or what is done with it, has changed. */
  function update() {
    const row = [...fleet.nodes.values()].find((node) => node.instance_uuid === uuid);
    const open = [...fleet.operations.values()].filter((operation) => operation.instance_uuid === uuid);
    const now = JSON.stringify([row, open.map((operation) => [operation.state, operation.progress?.index])]);
    if (now !== seen) {
      seen = now;
      read();
    } else if (open.some((operation) => operation.ended_at === null)) draw();
  }
  return { element, update };
}
