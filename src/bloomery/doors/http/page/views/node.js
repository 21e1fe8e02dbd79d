// One node: its hardware, what is on it, and why it cannot be had.

import { ask } from "../api.js";
import { told } from "../dialogs.js";
import { empty, facts, fill, h, section, table } from "../dom.js";
import { fleet, underWay } from "../fleet.js";
import { badge, clock, duration, power, since } from "../words.js";
import { progressLine, timeline } from "./parts.js";

const EVENTS = 100;
const PARTS = {
  nics: "GET /v1/nodes/{node}/nics",
  validation: "GET /v1/nodes/{node}/validation",
  inventory: "GET /v1/nodes/{node}/inventory",
  firmware: "GET /v1/nodes/{node}/firmware",
  history: "GET /v1/nodes/{node}/history",
};

/** Without these nothing can be deployed. */
const NEEDED = ["boot", "deploy", "management", "network", "power", "storage"];

/** Without an instance, these cannot be fine. */
const NEED_AN_IMAGE = ["boot", "deploy"];

const gib = (mib) => (mib ? `${(mib / 1024).toLocaleString(undefined, { maximumFractionDigits: 1 })} GiB` : null);
const bytes = (size) => (size ? gib(size / 2 ** 20) : "");

/** What an interface says of itself. */
function said(interfaceName, { result, reason }, hasInstance) {
  if (result === null) return h("span", { class: "soft" }, "none");
  if (result) return badge("fine", "good");
  const isWaiting = !hasInstance && NEED_AN_IMAGE.includes(interfaceName);
  return [badge(isWaiting ? "not yet" : "no", isWaiting || !NEEDED.includes(interfaceName) ? "idle" : "bad"), " ", reason];
}

export function node(name) {
  const element = h("div", {}, empty("Reading …"));
  const parts = {};
  let one = null;
  let gone = null;
  let events = [];
  let seen = "";

  async function read() {
    const [row, happened] = await Promise.all([
      ask("GET /v1/nodes/{node}", { node: name }).catch((problem) => problem),
      ask("GET /v1/events", {}, { query: { node: name, order: "newest", limit: EVENTS, kind: ["node.*", "operation.accepted", "operation.succeeded", "operation.failed", "operation.cancelled"] } })
        .catch(() => ({ events })),
    ]);
    gone = row instanceof Error ? row : null;
    if (!gone) one = row;
    events = happened.events;
    draw();
  }

  // Ironic itself is asked for these, and need not answer: the rest does not wait for them.
  async function readParts() {
    await Promise.all(Object.entries(PARTS).map(async ([part, route]) => {
      parts[part] = await ask(route, { node: name }).catch((problem) => problem);
      draw();
    }));
  }

  function part(title, found, drawn) {
    if (found === undefined) return section(title, empty("Asking Ironic …"));
    if (found instanceof Error) return section(title, h("div", { class: "soft" }, told(found)));
    return section(title, drawn(found));
  }

  function draw() {
    if (gone) {
      fill(element, h("div", { class: "head" }, h("h1", {}, one?.name || name)), h("div", { class: "note" }, told(gone)),
        section("What happened", timeline(events)));
      return;
    }
    if (!one) return;
    const trouble = fleet.inTrouble.find((row) => row.uuid === one.uuid);
    const open = underWay().filter((operation) => operation.node_uuid === one.uuid);
    const hasInstance = one.instance_uuid !== null;
    const step = one.step ? `${one.step}${one.step_count ? ` (${one.step_number} of ${one.step_count})` : ""}` : null;
    fill(element,
      h("div", { class: "head" },
        h("h1", {}, one.name || one.uuid), badge(one.state), one.maintenance ? badge("maintenance", "bad") : null,
        h("span", { class: "soft" }, power(one)),
        one.since ? h("span", { class: "soft" }, `for ${duration(since(one.since))}`) : null,
        one.why_not.length === 0
          ? h("div", { class: "right" }, h("a", { class: "button main", href: `#/deploy?node=${encodeURIComponent(one.name || one.uuid)}` }, "Deploy on it")) : null),
      trouble ? h("div", { class: "warn" }, "It needs a hand:", h("ul", {}, trouble.reasons.map((text) => h("li", {}, text)))) : null,
      hasInstance
        ? h("div", { class: "note" }, "It runs ", h("a", { href: `#/instances/${one.instance_uuid}` }, one.instance_name || one.instance_uuid), one.manager ? `, deployed by ${one.manager}` : "", ".")
        : one.why_not.length
          ? h("div", { class: "note" }, "It cannot be had now:", h("ul", {}, one.why_not.map((text) => h("li", {}, text))))
          : h("div", { class: "note" }, "It is free: a deploy can have it now."),
      open.length ? section("Under way", h("ul", { class: "lines" }, open.map(progressLine))) : null,
      h("div", { class: "columns" },
        h("div", {},
          section("Hardware", facts([
            ["Class", one.resource_class], ["CPUs", one.cpus], ["Architecture", one.cpu_arch], ["Memory", gib(one.memory_mib)],
            ["Disk", one.local_gib ? `${one.local_gib.toLocaleString()} GiB` : null], ["Health", one.health], ["Fault", one.fault],
            ["Boot mode", one.boot_mode], ["Secure boot", one.secure_boot === null ? null : one.secure_boot ? "on" : "off"],
            ["Driver", one.driver]]),
          inventory()),
          part("NICs", parts.nics, ({ nics }) => (nics.length
            ? table(["NIC", "MAC", "Network", "PXE", "VIF"], nics.map((nic) => [
              nic.is_bond ? `${nic.name || "bond"} (bond)` : nic.name || (nic.bond ? "in a bond" : "NIC"), h("span", { class: "mono" }, nic.mac || ""),
              nic.physical_network || "", nic.pxe_enabled ? "yes" : "", nic.vif_id ? h("span", { class: "mono" }, nic.vif_id) : "free"]))
            : empty("Ironic knows of none."))),
          section("What happened", timeline(events))),
        h("div", {},
          section("Node", facts([
            ["Ironic is at", step], ["Going to", one.target_state], ["Busy with it", one.reservation],
            ["Maintenance", one.maintenance ? one.maintenance_reason || "no reason is given" : null],
            ["Retired", one.retired ? one.retired_reason || "yes" : null], ["Protected", one.protected ? "yes" : null],
            ["Owner", one.owner], ["Lessee", one.lessee], ["Conductor group", one.conductor_group], ["Shard", one.shard],
            ["In this state since", one.since ? clock(one.since) : null], ["UUID", h("span", { class: "mono" }, one.uuid)]])),
          section("Traits", one.traits.length
            ? h("ul", { class: "chips" }, one.traits.map((trait) => h("li", {}, h("a", { class: "chip", href: `#/nodes?q=${encodeURIComponent(trait)}` }, trait))))
            : empty("It has none."),
          Object.keys(one.capabilities).length ? facts(Object.entries(one.capabilities)) : null),
          part("Interfaces", parts.validation, ({ interfaces }) => [
            hasInstance ? null : h("p", { class: "hint" }, "Boot and deploy can be fine only once there is an image to deploy."),
            table(["Interface", "Says"], Object.entries(interfaces).map(([interfaceName, verdict]) => [interfaceName, said(interfaceName, verdict, hasInstance)]))]),
          part("Firmware", parts.firmware, ({ firmware }) => (firmware.length
            ? table(["Part", "Version", "Before", "Noted"], firmware.map((one) => [
              one.component, one.current_version || "unknown", one.initial_version === one.current_version ? "" : one.initial_version || "", one.updated_at ? clock(one.updated_at) : ""]))
            : empty("Ironic has noted none."))),
          part("Ironic's own history", parts.history, ({ history }) => (history.length
            ? h("ul", { class: "lines" }, history.map((noted) => h("li", {}, h("div", { class: "of" }, noted.at ? clock(noted.at) : null, h("span", { class: "soft" }, noted.event_type)), h("p", {}, noted.event))))
            : empty("It noted nothing."))))));
  }

  function inventory() {
    const found = parts.inventory?.inventory;
    if (!found) return null;
    const cpu = found.cpu || {};
    const disks = Array.isArray(found.disks) ? found.disks : [];
    return [
      facts([["CPU", cpu.model_name], ["Cores", cpu.count], ["Memory found", gib(found.memory?.physical_mb)],
        ["Vendor", found.system_vendor?.manufacturer], ["Product", found.system_vendor?.product_name], ["Serial number", found.system_vendor?.serial_number]]),
      disks.length ? table(["Disk", "Size", "Model"], disks.map((disk) => [disk.name || "", bytes(disk.size), disk.model || ""])) : null,
    ];
  }

  function update() {
    const row = fleet.nodes.get(name) || [...fleet.nodes.values()].find((known) => known.name === name);
    const now = JSON.stringify([row, fleet.inTrouble.find((known) => known.uuid === row?.uuid)]);
    if (now !== seen) {
      const isFirst = seen === "";
      seen = now;
      read();
      if (isFirst) readParts();
    } else if (underWay().length) draw();
  }
  return { element, update };
}
