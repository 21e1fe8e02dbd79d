// What can be said of a deploy: each field, the body's part that it becomes, and the command's option that says the same.

const words = (text) => text.split(/[\s,]+/).filter(Boolean);
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** `name=value`, as often as wanted. */
function pairs(text) {
  return Object.fromEntries(words(text).map((word) => {
    const at = word.indexOf("=");
    if (at < 1) throw new Error(`“${word}” is no name=value`);
    return [word.slice(0, at), word.slice(at + 1)];
  }));
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`it is no JSON: ${error.message}`);
  }
}

const NIC_WORDS = { network: "network", subnet: "subnet", vif: "vif", ip: "fixed_ip", on: "on", "security-group": "security_groups" };

/** A NIC as `--nic` has it. */
function nic(line) {
  const found = {};
  for (const [name, value] of Object.entries(pairs(line))) {
    if (!NIC_WORDS[name]) throw new Error(`a NIC has no “${name}”; it has ${Object.keys(NIC_WORDS).join(", ")}`);
    found[NIC_WORDS[name]] = name === "security-group" ? [value] : value;
  }
  return found;
}

/** A volume as `--volume` has it. */
function volume(line) {
  const [id, ...rest] = words(line);
  const { type, "boot-index": index, ...properties } = pairs(rest.join(" "));
  return {
    volume_id: id, ...(type ? { volume_type: type } : {}), ...(index ? { boot_index: Number(index) } : {}),
    ...(Object.keys(properties).length ? { properties } : {}),
  };
}

const each = (option) => (value) => value.map((one) => [option, one]);
const one = (option) => (value) => [[option, String(value)]];
const flag = (option) => () => [[option]];
const file = (option, name) => () => [[option, name]];
const named = (option) => (value) => Object.entries(value).map(([name, said]) => [option, `${name}=${said}`]);

/**
 * Fields, by what the service calls them: `kind` is how it is typed, `of` what the text becomes, `as` the command's options,
 * and `isSecret` keeps it out of what is shown.
 */
export const FIELDS = [
  { where: "name", label: "Name", placeholder: "web-1", hint: "A host name. Without one, it goes by its UUID." },
  { where: "image.source", label: "Image", list: "images", placeholder: "https://… or Glance's name or id", hint: "One that is known, or any URL.", as: one("--image") },
  { where: "image.checksum", label: "Checksum", placeholder: "sha256:… or the URL of SHA256SUMS", hint: "Of an image at a URL. Glance has its own.", as: one("--checksum") },
  { where: "wanted.resource_class", label: "Resource class", list: "classes", hint: "What kind of node it is to run on; not needed where a node is named.", as: one("--resource-class") },
  { where: "wanted.traits", label: "Traits", placeholder: "CUSTOM_GPU", hint: "All of which the node has; spaces between them.", of: words, as: each("--trait") },
  { where: "node", label: "Node", list: "free", hint: "Only to name one; otherwise Ironic chooses among those that fit.", as: one("--node") },
  { where: "networks", label: "Networks", kind: "networks", hint: "A VIF is created on each, and goes with the instance.", as: each("--network") },
  { where: "guest.ssh_keys", label: "SSH keys", kind: "lines", rows: 3, placeholder: "ssh-ed25519 AAAA… you", hint: "Public keys, one a line.", of: lines, as: file("--ssh-key", "keys.pub") },
  { where: "guest.user_data", label: "User data", kind: "lines", rows: 4, placeholder: "#cloud-config", hint: "What cloud-init or Ignition is told. It is kept nowhere but on the config drive.", isSecret: true, of: (text) => text, as: file("--user-data", "user-data") },
];

/** Further ones, in groups, which most deploys do without. */
export const MORE = {
  "The image": [
    { where: "image.kernel", label: "Kernel", placeholder: "https://…", hint: "Of a partition image, or to be run from memory.", as: one("--kernel") },
    { where: "image.ramdisk", label: "Ramdisk", placeholder: "https://…", hint: "Goes with the kernel.", as: one("--ramdisk") },
    { where: "image.is_partition", label: "The file system of one partition, not a whole disk", kind: "check", as: flag("--partition-image") },
    { where: "image.iso", label: "ISO", placeholder: "https://…", hint: "To boot from virtual media; no disk is written.", as: one("--iso") },
    { where: "deploy_steps", label: "Deploy steps", kind: "lines", rows: 2, placeholder: '[{"interface": "bios", "step": "apply_configuration", "args": {}, "priority": 150}]', hint: "JSON; in addition to Ironic's own. For administrators.", of: json, as: file("--deploy-step", "@steps.json") },
  ],
  "The node": [
    { where: "wanted.candidates", label: "Candidates", placeholder: "node-1 node-2", hint: "One of these nodes.", of: words, as: each("--candidate") },
    { where: "wanted.capabilities", label: "Capabilities", placeholder: "cpu_vt=true", hint: "All of which the node has.", of: pairs, as: named("--capability") },
    { where: "wanted.owner", label: "Owner", hint: "The project that owns the node.", as: one("--owner") },
    { where: "wanted.conductor_group", label: "Conductor group", hint: "The group that serves the node.", as: one("--conductor-group") },
    { where: "instance_capabilities", label: "Instance capabilities", placeholder: "boot_mode=uefi secure_boot=true", hint: "What the deploy has to do.", of: pairs, as: named("--instance-capability") },
  ],
  "NICs and volumes": [
    { where: "nics", label: "Further NICs", kind: "lines", rows: 2, placeholder: "network=private,ip=192.0.2.7,on=eth1,security-group=web", hint: "One a line: network, subnet or vif, and ip, on (a NIC or bond), security-group.", of: (text) => lines(text).map(nic), as: (_, text) => lines(text).map((line) => ["--nic", line]) },
    { where: "volumes", label: "Volumes", kind: "lines", rows: 2, placeholder: "5ce1…,type=iscsi,boot-index=0,target_portal=192.0.2.1:3260,target_iqn=iqn.…,target_lun=1", hint: "One a line: the storage's id, type, boot-index, and how to reach it.", isSecret: true, of: (text) => lines(text).map(volume), as: (value) => value.map((found) => ["--volume", `${found.volume_id},type=${found.volume_type || "iscsi"},boot-index=${found.boot_index || 0}${found.properties ? ",properties=volume.json" : ""}`]) },
  ],
  "What it is told": [
    { where: "guest.meta", label: "Properties", placeholder: "role=web", hint: "The instance's own, as name=value.", of: pairs, as: named("--meta") },
    { where: "guest.files", label: "Files", kind: "lines", rows: 2, placeholder: '{"/etc/motd": "hello"}', hint: "JSON: content by absolute path.", isSecret: true, of: json, as: (value) => Object.keys(value).map((path) => ["--file", `${path}=file`]) },
    { where: "guest.vendor_data", label: "Vendor data", kind: "lines", rows: 2, placeholder: "{}", hint: "JSON.", of: json, as: file("--vendor-data", "vendor-data.json") },
    { where: "guest.admin_password", label: "Admin password", type: "password", hint: "For guests that take one from here.", isSecret: true, as: file("--admin-password-file", "password") },
    { where: "guest.gzip_user_data", label: "Compress the user data", kind: "check", as: flag("--gzip-user-data") },
    { where: "guest.as_image", label: "Build the config drive here, for an Ironic that cannot", kind: "check", as: flag("--config-drive-image") },
    { where: "guest.dhcp", label: "Write down every address, also where a subnet has DHCP", kind: "check", checked: false, as: flag("--static-addresses") },
    { where: "guest.config_drive", label: "No config drive at all", kind: "check", checked: false, as: flag("--no-config-drive") },
  ],
  Disks: [
    { where: "root_gib", label: "Root GiB", type: "number", hint: "Of a partition image.", of: Number, as: one("--root-gib") },
    { where: "swap_mib", label: "Swap MiB", type: "number", hint: "A swap partition.", of: Number, as: one("--swap-mib") },
    { where: "ephemeral_gib", label: "Ephemeral GiB", type: "number", hint: "A partition whose data a rebuild can keep.", of: Number, as: one("--ephemeral-gib") },
    { where: "ephemeral_format", label: "Its file system", placeholder: "ext4", hint: "Of the ephemeral partition.", as: one("--ephemeral-format") },
    { where: "root_device", label: "Root disk", placeholder: "serial=…", hint: "Which disk is the root disk: Ironic's hints.", of: pairs, as: named("--root-device") },
  ],
  "If it takes long, or fails": [
    { where: "timeout_s", label: "Seconds that it may take", type: "number", placeholder: "3600", hint: "Undoing comes on top.", of: Number, as: one("--timeout") },
    { where: "keep_failed", label: "Leave a failed deploy as it is, to be looked at", kind: "check", as: flag("--keep-failed") },
  ],
};

/** The body that the fields come to. `said` gives a field's text, whether it is checked, or the networks. */
export function bodyOf(fields, said) {
  const body = {};
  const wrong = {};
  for (const field of fields) {
    const text = said(field);
    if (text === "" || text === false || (Array.isArray(text) && text.length === 0)) continue;
    try {
      if (field.kind === "networks") body.nics = text.map((network) => ({ network }));
      else if (field.kind === "check") put(body, field.where, field.checked ?? true);
      else if (field.where === "nics") body.nics = [...(body.nics || []), ...field.of(text)];
      else put(body, field.where, field.of ? field.of(text) : text);
    } catch (error) {
      wrong[field.where] = error.message;
    }
  }
  return { body, wrong };
}

function put(body, where, value) {
  const path = where.split(".");
  const last = path.pop();
  path.reduce((part, name) => (part[name] ??= {}), body)[last] = value;
}

/** The body as it may be shown: what is secret in it is there, but not what it is. */
export function shownOf(body, fields) {
  const shown = structuredClone(body);
  for (const { where } of fields.filter((field) => field.isSecret)) {
    const path = where.split(".");
    const last = path.pop();
    const part = path.reduce((found, name) => found?.[name], shown);
    if (part?.[last] === undefined) continue;
    if (last === "volumes") part[last].forEach((found) => { if (found.properties) found.properties = "…"; });
    else part[last] = typeof part[last] === "string" ? "…" : Object.fromEntries(Object.keys(part[last]).map((name) => [name, "…"]));
  }
  return shown;
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The command that asks for the same. */
export function commandOf(fields, said) {
  const options = [];
  let name = null;
  for (const field of fields) {
    const text = said(field);
    if (text === "" || text === false || (Array.isArray(text) && text.length === 0)) continue;
    if (field.where === "name") name = text;
    else {
      try {
        options.push(...field.as(field.of ? field.of(text) : text, text));
      } catch {
        // What is wrong with it stands beside the field.
      }
    }
  }
  return [`bloomery deploy${name ? ` ${quoted(name)}` : ""}`, ...options.map((words) => words.map(quoted).join(" "))].join(" \\\n  ");
}
