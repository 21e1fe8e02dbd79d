// What is attached to an instance: interfaces with their security groups, and volumes.

import { ask } from "../api.js";
import { confirmed, told } from "../dialogs.js";
import { empty, field, h, input, table } from "../dom.js";

const button = (name, onclick, { isBusy, label = null }) =>
  h("button", { type: "button", class: "small", disabled: isBusy, onclick, "aria-label": label }, name);
const words = (text) => text.split(/[\s,]+/).filter(Boolean);
const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value.length));

/** Where the instance is on the network. */
export function interfaces(one, may) {
  const vifs = one.vifs || [];
  return [
    vifs.length
      ? table(["Address", "Network", "MAC", "On", ...(may.change ? [""] : [])], vifs.map((vif) => [
        h("span", { class: "mono" }, vif.addresses.join(", ") || "none"), vif.network || vif.network_id || "",
        h("span", { class: "mono" }, vif.mac || ""), vif.on || "",
        ...(may.change ? [button("Detach …", () => detach(one, vif), { ...may, label: `Detach ${vif.addresses[0] || vif.vif_id}` })] : [])]))
      : empty(one.vifs === null ? "They are not known while Ironic is away." : "It is on no network."),
    may.change ? h("p", { class: "below" }, button("Attach an interface …", () => attach(one), may)) : null,
  ];
}

const nameOf = (vif) => vif.addresses[0] || vif.name || vif.vif_id;

function detach(one, vif) {
  return confirmed({
    title: `Detach ${nameOf(vif)} from ${one.name}?`, yes: "Detach", isDanger: true,
    says: `It is unplugged: what goes over it breaks off at once. ${vif.created
      ? "It was created for this instance, so it is deleted, and its address is free for others."
      : "It was not created here, so it stays, and can be plugged in again."}`,
    asks: "DELETE /v1/instances/{instance}/interfaces/{vif}", names: { instance: one.uuid, vif: vif.vif_id },
  });
}

async function attach(one) {
  const known = await ask("GET /v1/networks").catch(() => ({ networks: [] }));
  const network = h("select", { id: "network" }, h("option", { value: "" }, "none: a VIF that exists"),
    known.networks.map((found) => h("option", { value: found.id }, found.name || found.id)));
  if (known.networks.length) network.value = known.networks[0].id;
  const vif = input("vif", { placeholder: "name or id" });
  const address = input("address", { placeholder: "any that is free" });
  const groups = input("groups", { placeholder: "the project's default" });
  const on = input("on", { placeholder: "any that is free" });
  return confirmed({
    title: `Attach an interface to ${one.name}?`, yes: "Attach",
    says: "A VIF is created on the network and plugged into a NIC of the machine. Nothing that is attached changes; the system on it has to take the new one up.",
    fields: [field("Network", network), field("VIF", vif, "One that exists, instead of a network."), field("Address", address),
      field("Security groups", groups), field("NIC", on, "Name, UUID or MAC address of the NIC or bond.")],
    asks: "POST /v1/instances/{instance}/interfaces", names: { instance: one.uuid },
    body: () => given({
      network: vif.value ? "" : network.value, vif: vif.value, fixed_ip: address.value,
      security_groups: words(groups.value), on: on.value,
    }),
  });
}

/** What is let through to each of its VIFs. */
export function securityGroups(one, found, may) {
  if (found instanceof Error) return h("div", { class: "soft" }, told(found));
  if (!found) return empty("Asking Neutron …");
  return [
    found.vifs.length
      ? h("ul", { class: "lines" }, found.vifs.map((vif) => h("li", {}, h("div", { class: "of" }, h("span", { class: "soft" }, vif.name || vif.vif_id)),
        vif.groups.length
          ? h("ul", { class: "chips" }, vif.groups.map((group) => h("li", { class: "chip" }, group.name || group.id,
            may.change ? h("button", {
              type: "button", class: "cross", disabled: may.isBusy, "aria-label": `Take ${group.name || group.id} from ${vif.name || vif.vif_id}`,
              onclick: () => takeGroup(one, vif, group),
            }, "×") : null)))
          : empty("None: whatever its network lets through."))))
      : empty("It has no VIF."),
    may.change && found.vifs.length ? h("p", { class: "below" }, button("Add a security group …", () => addGroup(one, found.vifs), may)) : null,
  ];
}

function takeGroup(one, vif, group) {
  return confirmed({
    title: `Take ${group.name || group.id} from ${vif.name || vif.vif_id}?`, yes: "Take it", isDanger: true,
    says: "What only its rules let through is let through no more. Connections that are open may break off.",
    asks: "DELETE /v1/instances/{instance}/security-groups/{group}", names: { instance: one.uuid, group: group.id }, query: { vif: vif.vif_id },
  });
}

function addGroup(one, vifs) {
  const group = input("group", { required: true, placeholder: "name or id" });
  const vif = h("select", { id: "vif" }, h("option", { value: "" }, "all of them"),
    vifs.map((found) => h("option", { value: found.vif_id }, found.name || found.vif_id)));
  return confirmed({
    title: `Add a security group to ${one.name}?`, yes: "Add",
    says: "What its rules allow is let through, besides what was before.",
    fields: [field("Security group", group), field("VIF", vif)],
    asks: "POST /v1/instances/{instance}/security-groups", names: { instance: one.uuid },
    body: () => given({ group: group.value, vif: vif.value }),
  });
}

/** Its remote volumes. */
export function volumes(one, found, may) {
  if (found instanceof Error) return h("div", { class: "soft" }, told(found));
  if (!found) return empty("Asking Ironic …");
  const isOff = one.power_state === "power off";
  const mayNow = { ...may, isBusy: may.isBusy || !isOff };
  return [
    found.volumes.length
      ? table(["Volume", "Type", "Boot index", ...(may.change ? [""] : [])], found.volumes.map((volume) => [
        h("span", { class: "mono" }, volume.volume_id), volume.volume_type, volume.boot_index,
        ...(may.change ? [button("Detach …", () => detachVolume(one, volume), { ...mayNow, label: `Detach ${volume.volume_id}` })] : [])]))
      : empty("It has none."),
    may.change ? h("p", { class: "below" }, button("Attach a volume …", () => attachVolume(one, found.volumes), mayNow),
      isOff ? null : h("span", { class: "soft" }, " Only while it is off.")) : null,
  ];
}

function detachVolume(one, volume) {
  return confirmed({
    title: `Detach ${volume.volume_id} from ${one.name}?`, yes: "Detach", isDanger: true,
    says: `The instance does not have it from its next start on. What is on the volume stays.${volume.boot_index === 0 ? " It is what the instance boots from: without it, it does not start." : ""}`,
    asks: "DELETE /v1/instances/{instance}/volumes/{volume_id}", names: { instance: one.uuid, volume_id: volume.volume_id },
  });
}

function attachVolume(one, there) {
  const id = input("volume", { required: true, placeholder: "the storage's id of it" });
  const type = h("select", { id: "volume-type" }, ["iscsi", "fibre_channel", "nvmeof"].map((name) => h("option", { value: name }, name)));
  const index = input("boot-index", { type: "number", min: 0, max: 1000, value: String(Math.max(0, ...there.map((volume) => volume.boot_index + 1))) });
  const properties = h("textarea", { id: "properties", rows: 4, spellcheck: "false", placeholder: '{"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.…", "target_lun": 1}' });
  return confirmed({
    title: `Attach a volume to ${one.name}?`, yes: "Attach",
    says: "The instance has it from its next start on. Nothing on the volume changes by that.",
    fields: [field("Volume", id), field("Type", type), field("Boot index", index, "0 is what it boots from."),
      field("How to reach it", properties, "JSON, as Ironic's volume targets have it. It is kept by Ironic and nowhere else.")],
    asks: "POST /v1/instances/{instance}/volumes", names: { instance: one.uuid },
    body: () => ({
      volume_id: id.value, volume_type: type.value, boot_index: Number(index.value), ...(properties.value ? { properties: parsed(properties.value) } : {}),
    }),
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`how to reach it is no JSON: ${error.message}`);
  }
}
