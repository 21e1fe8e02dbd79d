// A deploy: while one types, how many nodes fit and why others do not, and the same as a command and as JSON.

import { ask } from "../api.js";
import { told } from "../dialogs.js";
import { empty, fill, h, section } from "../dom.js";
import { fleet, keepOperation } from "../fleet.js";
import { many } from "../words.js";
import { FIELDS, MORE, bodyOf, commandOf, shownOf } from "./deploy_fields.js";

const PAUSE_MS = 250;
const SHOWN = 12;

export function deploy(given, go) {
  const inputs = {};
  const wrongs = {};
  const choices = { images: h("datalist", { id: "images" }), classes: h("datalist", { id: "classes" }), nodes: h("datalist", { id: "free" }) };
  const networks = h("div", { class: "choices", id: "networks", role: "group", "aria-labelledby": "networks-label" }, empty("Reading …"));
  const overall = h("div", { class: "warn", role: "alert", hidden: true, tabindex: "-1" });
  const fits = h("div", { "aria-live": "polite" });
  const command = h("pre", { tabindex: "0", "aria-label": "Command" });
  const json = h("pre", { tabindex: "0", "aria-label": "JSON" });
  const button = h("button", { type: "submit", class: "main" }, "Deploy");
  let catalogue = [];
  let asked = 0;
  let isSuggested = true;

  /** What stands in the field: its text, whether it is checked, or the networks that are ticked. */
  function said({ where, kind }) {
    if (kind === "networks") return [...networks.querySelectorAll("input:checked")].map((box) => box.value);
    if (kind === "check") return inputs[where].checked;
    return kind === "lines" ? inputs[where].value.trimEnd() : inputs[where].value.trim();
  }

  function controlOf({ where, kind, label, rows, hint, ...options }) {
    if (kind === "networks") return networks;
    if (kind === "check") return h("input", { type: "checkbox" });
    const { list, placeholder, type } = options;
    if (kind === "lines") return h("textarea", { rows, spellcheck: "false", placeholder });
    return h("input", { autocomplete: type === "password" ? "new-password" : "off", spellcheck: "false", list, placeholder, type, value: where === "node" ? given.get("node") || "" : "" });
  }

  /** A field; `where` is what the service calls it when it says that it is wrong. */
  function drawn(one) {
    const { where, label, kind, hint } = one;
    const id = where.replaceAll(".", "-");
    const control = controlOf(one);
    const wrong = h("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
    const explains = hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null;
    control.id ||= id;
    control.setAttribute("aria-describedby", `${hint ? `${id}-hint ` : ""}${id}-wrong`);
    inputs[where] = control;
    wrongs[where] = wrong;
    if (kind === "check") return h("div", { class: "field choices" }, h("label", {}, control, label), wrong);
    const isGroup = kind === "networks";
    return h("div", { class: "field" },
      h(isGroup ? "div" : "label", isGroup ? { class: "label", id: "networks-label" } : { for: control.id }, label), control, explains, wrong);
  }

  const ALL = [...FIELDS, ...Object.values(MORE).flat()];
  const form = h("form", { oninput: changed, onsubmit: submit, novalidate: true },
    overall, FIELDS.map(drawn),
    h("details", { class: "more" }, h("summary", {}, "Everything else that can be said"),
      Object.entries(MORE).map(([title, group]) => h("fieldset", {}, h("legend", {}, title), group.map(drawn)))),
    choices.images, choices.classes, choices.nodes,
    button);

  const value = (where) => inputs[where].value.trim();

  function changed(event) {
    if (event?.target === inputs["image.source"]) complete();
    if (event?.target === inputs["wanted.resource_class"]) isSuggested = false;
    if (event?.target === inputs.node) suggest();
    if (event) accuse(Object.keys(inputs).find((where) => inputs[where].contains(event.target)), null);
    const { body } = bodyOf(ALL, said);
    command.textContent = commandOf(ALL, said);
    json.textContent = JSON.stringify(shownOf(body, ALL), null, 2);
    clearTimeout(asked);
    asked = setTimeout(() => count(body), event ? PAUSE_MS : 0);
  }

  /** Ironic chooses within a class, so one has to be said: that with most free nodes, until a node or another class is. */
  function suggest() {
    if (isSuggested) inputs["wanted.resource_class"].value = value("node") ? "" : usual;
  }

  /** What is known of the image that is named stands in its other fields. */
  function complete() {
    const image = catalogue.find((one) => one.source === value("image.source"));
    if (!image) return;
    for (const part of ["checksum", "kernel", "ramdisk"]) inputs[`image.${part}`].value = image[part] || "";
    inputs["image.is_partition"].checked = image.is_partition;
  }

  async function count(wanted) {
    const { resource_class, traits, capabilities, owner, conductor_group, candidates } = wanted.wanted || {};
    const capability = capabilities && Object.entries(capabilities).map((pair) => pair.join(":"));
    const query = { resource_class, trait: traits, capability, owner, conductor_group, candidate: wanted.node || candidates, limit: 200 };
    try {
      const found = await ask("GET /v1/why-not", {}, { query });
      const others = found.nodes.filter((one) => one.reasons.length);
      fill(fits, h("p", { class: "big" }, `${many(found.fitting, "node")} fit${found.fitting === 1 ? "s" : ""}`),
        h("p", { class: "soft" }, `of ${found.total.toLocaleString()}, now`),
        others.length ? h("details", { open: found.fitting === 0 }, h("summary", {}, "Why others do not"),
          h("ul", { class: "lines" }, others.slice(0, SHOWN).map((one) => h("li", {}, h("a", { href: `#/nodes/${one.uuid}` }, one.name), h("p", { class: "soft" }, one.reasons.join("; "))))),
          found.total - found.fitting > SHOWN ? h("p", { class: "soft" }, `and ${(found.total - found.fitting - SHOWN).toLocaleString()} more`) : null) : null);
    } catch (problem) {
      const isTrait = problem.status === 422 && /trait/.test(problem.detail);
      if (isTrait) accuse("wanted.traits", sayingOf(problem));
      fill(fits, isTrait ? empty("This is said once the traits are traits.") : h("div", { class: "soft" }, told(problem)));
    }
  }

  function accuse(where, why) {
    const wrong = wrongs[where];
    if (!wrong) return false;
    wrong.textContent = why || "";
    wrong.hidden = !why;
    if (why) inputs[where].setAttribute("aria-invalid", "true");
    else inputs[where].removeAttribute("aria-invalid");
    return true;
  }

  /** The field that the service means: `body.nics.0.network` is the networks, `body.image` the image. */
  function fieldOf(where) {
    const path = where.replace(/^body\./, "");
    const known = Object.keys(inputs);
    if (path === "nics" || path.startsWith("nics.")) return Number(path.split(".")[1] || 0) < said({ kind: "networks" }).length ? "networks" : "nics";
    return known.find((one) => path === one || path.startsWith(`${one}.`)) || known.find((one) => one.startsWith(`${path}.`));
  }

  const sayingOf = (problem) => `${problem.detail}${problem.advice ? `. ${problem.advice}` : ""}`;

  /** What core refuses names no field, but begins with what it is about. */
  const ABOUT = [
    [/checksum/i, "image.checksum"], [/image/i, "image.source"], [/network|subnet|vif/i, "networks"], [/trait/i, "wanted.traits"],
    [/class/i, "wanted.resource_class"], [/host name|\bname\b/i, "name"], [/ssh|key/i, "guest.ssh_keys"], [/user data/i, "guest.user_data"],
    [/node/i, "node"],
  ];

  function refuse(problem) {
    const where = problem.errors?.length ? problem.errors : [];
    const left = where.filter((one) => !accuse(fieldOf(one.where), one.why.replace(/^Value error, /, "")));
    const about = where.length === 0 && problem.status === 422 ? ABOUT.find(([said]) => said.test(problem.detail))?.[1] : null;
    if (about) accuse(about, sayingOf(problem));
    const isSaid = about || (where.length && left.length === 0);
    overall.hidden = Boolean(isSaid);
    if (!isSaid) fill(overall, told(problem));
    if (!showFirst()) overall.focus();
  }

  /** The first field that is wrong has the focus, if one is. */
  function showFirst() {
    const first = Object.keys(inputs).find((one) => inputs[one].hasAttribute("aria-invalid"));
    if (!first) return false;
    const control = inputs[first] === networks ? networks.querySelector("input") : inputs[first];
    const hidden = control?.closest("details");
    if (hidden) hidden.open = true;
    control?.focus();
    return true;
  }

  async function submit(event) {
    event.preventDefault();
    overall.hidden = true;
    Object.keys(inputs).forEach((where) => accuse(where, null));
    const { body, wrong } = bodyOf(ALL, said);
    Object.entries(wrong).forEach(([where, why]) => accuse(where, why));
    if (Object.keys(wrong).length) {
      showFirst();
      return;
    }
    button.disabled = true;
    try {
      const operation = await ask("POST /v1/instances", {}, { body });
      keepOperation(operation);
      go(`#/operations/${operation.id}`);
    } catch (problem) {
      refuse(problem);
    }
    button.disabled = false;
  }

  async function read() {
    const [images, found] = await Promise.all([
      ask("GET /v1/images").catch(() => ({ images: [] })), ask("GET /v1/networks").catch((problem) => problem)]);
    catalogue = images.images;
    if (!value("image.checksum")) complete();
    fill(choices.images, catalogue.map((image) => h("option", { value: image.source }, image.name)));
    if (found instanceof Error) fill(networks, h("div", { class: "soft" }, told(found)));
    else fill(networks, found.networks.length
      ? found.networks.map((network) => h("label", {}, h("input", { type: "checkbox", value: network.name || network.id }), network.name || network.id))
      : empty("There are none."));
    changed();
  }

  const free = [...fleet.nodes.values()].filter((node) => node.why_not.length === 0);
  const counts = new Map();
  for (const { resource_class: name } of free) if (name) counts.set(name, (counts.get(name) || 0) + 1);
  const [usual] = [...counts].sort(([a, many], [b, few]) => few - many || a.localeCompare(b))[0] || [""];
  suggest();
  fill(choices.nodes, free.slice(0, 1000).map((node) => h("option", { value: node.name || node.uuid })));
  fill(choices.classes, [...new Set([...fleet.nodes.values()].map((node) => node.resource_class).filter(Boolean))].sort().map((name) => h("option", { value: name })));
  read();
  return {
    element: [h("div", { class: "head" }, h("h1", {}, "Deploy an instance")),
      h("div", { class: "columns" }, h("div", { class: "card" }, form),
        h("div", {}, section("Nodes", fits), section("The same as a command", command), section("The same as JSON", json)))],
    update: () => {},
  };
}
