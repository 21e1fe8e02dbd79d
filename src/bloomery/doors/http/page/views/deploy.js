// A deploy: while one types, how many nodes fit and why others do not, and the same as a command and as JSON.

import { ask } from "../api.js";
import { told } from "../dialogs.js";
import { empty, fill, h, section } from "../dom.js";
import { fleet, keepOperation } from "../fleet.js";
import { many } from "../words.js";

const PAUSE_MS = 250;
const SHOWN = 12;

const words = (text) => text.split(/[\s,]+/).filter(Boolean);
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

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

  /** A field; `where` is what the service calls it when it says that it is wrong. */
  function field(where, label, input, hint) {
    const id = where.replaceAll(".", "-");
    const wrong = h("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
    const explains = h("p", { class: "hint", id: `${id}-hint` }, hint);
    input.id ||= id;
    input.setAttribute("aria-describedby", `${id}-hint ${id}-wrong`);
    inputs[where] = input;
    wrongs[where] = wrong;
    const isGroup = input === networks;
    return h("div", { class: "field" },
      h(isGroup ? "div" : "label", isGroup ? { class: "label", id: "networks-label" } : { for: input.id }, label), input, explains, wrong);
  }
  const text = (options = {}) => h("input", { autocomplete: "off", spellcheck: "false", ...options });

  const form = h("form", { oninput: changed, onsubmit: submit, novalidate: true },
    overall,
    field("name", "Name", text({ placeholder: "web-1" }), "A host name. Without one, it goes by its UUID."),
    field("image.source", "Image", text({ list: "images", placeholder: "https://… or Glance's name or id" }), "One that is known, or any URL."),
    field("image.checksum", "Checksum", text({ placeholder: "sha256:… or the URL of SHA256SUMS" }), "Of an image at a URL. Glance has its own."),
    field("wanted.resource_class", "Resource class", text({ list: "classes" }), "What kind of node it is to run on."),
    field("wanted.traits", "Traits", text({ placeholder: "CUSTOM_GPU" }), "All of which the node has; spaces between them."),
    field("node", "Node", text({ list: "free", value: given.get("node") || "" }), "Only to name one; otherwise Ironic chooses among those that fit."),
    field("nics", "Networks", networks, "A VIF is created on each, and goes with the instance."),
    field("guest.ssh_keys", "SSH keys", h("textarea", { rows: 3, spellcheck: "false", placeholder: "ssh-ed25519 AAAA… you" }), "Public keys, one a line."),
    field("guest.user_data", "User data", h("textarea", { rows: 4, spellcheck: "false", placeholder: "#cloud-config" }), "What cloud-init or Ignition is told. It is kept nowhere but on the config drive."),
    choices.images, choices.classes, choices.nodes,
    button);

  const value = (where) => inputs[where].value.trim();
  const picked = () => [...networks.querySelectorAll("input:checked")].map((box) => box.value);

  function body() {
    const found = {};
    const image = { source: value("image.source"), checksum: value("image.checksum") };
    const wanted = { resource_class: value("wanted.resource_class"), traits: words(value("wanted.traits")) };
    const guest = { ssh_keys: lines(value("guest.ssh_keys")), user_data: inputs["guest.user_data"].value };
    if (value("name")) found.name = value("name");
    if (image.source || image.checksum) found.image = filled(image);
    if (value("node")) found.node = value("node");
    if (Object.keys(filled(wanted)).length) found.wanted = filled(wanted);
    if (picked().length) found.nics = picked().map((network) => ({ network }));
    if (Object.keys(filled(guest)).length) found.guest = filled(guest);
    return found;
  }
  const filled = (values) => Object.fromEntries(Object.entries(values).filter(([, one]) => one.length));

  function commandOf(wanted) {
    const parts = ["bloomery deploy", wanted.name && quoted(wanted.name)];
    const option = (name, one) => one && parts.push(`${name} ${quoted(one)}`);
    option("--image", wanted.image?.source);
    option("--checksum", wanted.image?.checksum);
    option("--resource-class", wanted.wanted?.resource_class);
    wanted.wanted?.traits?.forEach((trait) => option("--trait", trait));
    option("--node", wanted.node);
    picked().forEach((network) => option("--network", network));
    option("--ssh-key", wanted.guest?.ssh_keys && "keys.pub");
    option("--user-data", wanted.guest?.user_data && "user-data");
    return parts.filter(Boolean).join(" \\\n  ");
  }

  function changed(event) {
    if (event?.target === inputs["image.source"]) {
      const image = catalogue.find((one) => one.source === value("image.source"));
      if (image) inputs["image.checksum"].value = image.checksum || "";
    }
    if (event) accuse(Object.keys(inputs).find((where) => inputs[where].contains(event.target)), null);
    const wanted = body();
    command.textContent = commandOf(wanted);
    json.textContent = JSON.stringify(wanted.guest?.user_data ? { ...wanted, guest: { ...wanted.guest, user_data: "…" } } : wanted, null, 2);
    clearTimeout(asked);
    asked = setTimeout(() => count(wanted), event ? PAUSE_MS : 0);
  }

  async function count(wanted) {
    const query = { resource_class: wanted.wanted?.resource_class, trait: wanted.wanted?.traits, candidate: wanted.node, limit: 200 };
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
    return known.find((one) => path === one || path.startsWith(`${one}.`)) || known.find((one) => one.startsWith(`${path}.`));
  }

  const sayingOf = (problem) => `${problem.detail}${problem.advice ? `. ${problem.advice}` : ""}`;

  /** What core refuses names no field, but begins with what it is about. */
  const ABOUT = [
    [/checksum/i, "image.checksum"], [/image/i, "image.source"], [/network|subnet|vif/i, "nics"], [/trait/i, "wanted.traits"],
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
    const first = Object.keys(inputs).find((one) => inputs[one].hasAttribute("aria-invalid"));
    if (first) (inputs[first] === networks ? networks.querySelector("input") : inputs[first])?.focus();
    else overall.focus();
  }

  async function submit(event) {
    event.preventDefault();
    overall.hidden = true;
    Object.keys(inputs).forEach((where) => accuse(where, null));
    button.disabled = true;
    try {
      const operation = await ask("POST /v1/instances", {}, { body: body() });
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
    fill(choices.images, catalogue.map((image) => h("option", { value: image.source }, image.name)));
    if (found instanceof Error) fill(networks, h("div", { class: "soft" }, told(found)));
    else fill(networks, found.networks.length
      ? found.networks.map((network) => h("label", {}, h("input", { type: "checkbox", value: network.name || network.id }), network.name || network.id))
      : empty("There are none."));
    changed();
  }

  const free = [...fleet.nodes.values()].filter((node) => node.why_not.length === 0);
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
