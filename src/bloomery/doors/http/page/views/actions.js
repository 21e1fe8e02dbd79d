// What can be done with a whole instance, and what is lost by it.

import { confirmed, dialogue } from "../dialogs.js";
import { field, h, input } from "../dom.js";

const POWER = "POST /v1/instances/{instance}/power";
const SOFT_S = 120;
const isOn = (one) => one.power_state === "power on" && one.state === "active";
const isOnDisk = "Its disks stay as they are; what its system has not written to them yet is lost if it does not shut down in time.";

/** Whether its system may shut down first: a choice, and what it comes to. */
function softly(target) {
  const box = h("input", { type: "checkbox", id: "soft", checked: true });
  return {
    fields: h("div", { class: "choices" }, h("label", {}, box, "Let its system shut down first, for up to two minutes")),
    body: () => ({ target, ...(box.checked ? { soft_s: SOFT_S } : {}) }),
  };
}

function rebuilt(one, images) {
  const image = input("image", { list: "known-images", placeholder: one.image || "" });
  const checksum = input("checksum", { placeholder: "sha256:…" });
  const keep = h("input", { type: "checkbox", id: "preserve" });
  image.addEventListener("input", () => {
    const known = images.find((found) => found.source === image.value);
    if (known) checksum.value = known.checksum || "";
  });
  return {
    fields: [
      field("Image", image, "Empty keeps the one that it has."), field("Checksum", checksum, "Of an image at a URL."),
      h("div", { class: "choices" }, h("label", {}, keep, "Keep the data on its ephemeral partition, if it has one")),
      h("datalist", { id: "known-images" }, images.map((found) => h("option", { value: found.source }, found.name))),
    ],
    body: () => ({
      ...(image.value ? { image: { source: image.value, ...(checksum.value ? { checksum: checksum.value } : {}) } } : {}),
      ...(keep.checked ? { preserve_ephemeral: true } : {}),
    }),
  };
}

const LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const LENGTH = 20;

/** A password made here: what the service makes is in its first answer only, which may be lost on the way. */
function withPassword() {
  const limit = 256 - (256 % LETTERS.length);
  let password = "";
  while (password.length < LENGTH) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    if (byte < limit) password += LETTERS[byte % LETTERS.length];
  }
  return { password, body: () => ({ password }) };
}

const ACTIONS = [
  { name: "Power on", asks: POWER, if: (one) => !isOn(one) && one.state === "active", form: () => ({ body: () => ({ target: "on" }) }),
    says: "The machine is started. Nothing is lost." },
  { name: "Power off", asks: POWER, isDanger: true, if: isOn, form: () => softly("off"),
    says: `Whoever is logged in is thrown out, and what runs on it stops. ${isOnDisk}` },
  { name: "Reboot", asks: POWER, isDanger: true, if: isOn, form: () => softly("reboot"),
    says: `What runs on it stops, and it starts again. ${isOnDisk}` },
  { name: "Rescue", asks: "POST /v1/instances/{instance}/rescue", isDanger: true, if: (one) => one.state === "active", form: withPassword,
    says: "It restarts into the rescue ramdisk: what runs on it stops. Its disks stay as they are. The password is shown once." },
  { name: "Unrescue", asks: "POST /v1/instances/{instance}/unrescue",
    if: (one) => ["rescue", "rescue failed", "unrescue failed"].includes(one.state),
    says: "It restarts into its own system. What is in the rescue ramdisk's memory is lost." },
  { name: "Crash dump", asks: "POST /v1/instances/{instance}/crash-dump", isDanger: true, if: isOn,
    says: "Its kernel is interrupted, writes a dump if it is set up to, and usually stops or restarts: what runs on it ends, and what is not on its disks yet is lost." },
  { name: "Rebuild", asks: "POST /v1/instances/{instance}/rebuild", isDanger: true, isTyped: true,
    if: (one) => ["active", "error", "deploy failed"].includes(one.state), form: rebuilt,
    says: "Everything on its root disk is lost: the image is written anew. Its node, VIFs and addresses stay." },
  { name: "Destroy", asks: "DELETE /v1/instances/{instance}", isDanger: true, isTyped: true, hasNoBody: true, if: () => true,
    says: "Everything on it is lost, for good: Ironic takes it down and cleans the node's disks. VIFs and addresses that were created for it go, too; others are only unplugged." },
];

const ADOPT = {
  name: "Adopt", asks: "POST /v1/instances/{instance}/adopt", if: () => true,
  says: "From now on it is managed here. Nothing on it changes, but whoever deployed it, such as Nova, should forget it first: two managers of one machine undo each other's work.",
};

/** A button for each thing that can be done with the instance as it stands. */
export function actionButtons(one, { isBusy, mayAdopt, images, go }) {
  const actions = one.manager === "bloomery" ? ACTIONS.filter((action) => action.if(one)) : mayAdopt ? [ADOPT] : [];
  return actions.map((action) => h("button", {
    type: "button", class: action.isTyped ? "danger" : "", disabled: isBusy && action.name !== "Destroy",
    title: isBusy ? "An operation is under way" : null, onclick: () => perform(action, one, images, go),
  }, `${action.name} …`));
}

async function perform(action, one, images, go) {
  const form = action.form?.(one, images) || {};
  const operation = await confirmed({
    title: `${action.name} ${one.name}?`, yes: action.name, says: action.says, isDanger: action.isDanger,
    typed: action.isTyped ? one.name : null, fields: form.fields,
    asks: action.asks, names: { instance: one.uuid }, body: action.hasNoBody ? null : form.body || (() => ({})),
  });
  if (operation && form.password) {
    await dialogue({
      title: "The rescue password", yes: "I have it", no: null, accept: () => true,
      content: [h("p", {}, "It is shown here, and never again."), h("pre", {}, form.password)],
    });
  }
  if (operation && action.name === "Destroy") go(`#/operations/${operation.id}`);
}
