// The fleet as it is now: read once, then kept up by the event stream.

import { all, ask, listen } from "./api.js";

const FIELDS = [
  "uuid", "name", "state", "target_state", "since", "power_state", "target_power_state", "resource_class", "traits",
  "instance_uuid", "instance_name", "manager", "maintenance", "health", "owner", "lessee", "step", "step_number",
  "step_count", "why_not",
].join(",");
const GATHER_MS = 400;
const ONE_BY_ONE = 20;
const PROGRESS_MS = 3_000;
const KEPT_OPERATIONS = 200;

/** What there is. Views read it, and draw again when `onChange` says so. */
export const fleet = {
  about: null,
  nodes: new Map(),
  operations: new Map(),
  inTrouble: [],
  left: 0,
  linked: false,
  known: true,
  onChange: () => {},
  onEvent: () => {},
};

const byName = new Intl.Collator(undefined, { numeric: true });
let ordered = null;

/** What a node is called. */
export const nameOf = (node) => node.name || node.uuid;

/** The nodes, by name. */
export function nodes() {
  ordered ??= [...fleet.nodes.values()].sort((a, b) => byName.compare(nameOf(a), nameOf(b)));
  return ordered;
}

/** Instances are nodes that carry one. */
export const instances = () => nodes().filter((node) => node.instance_uuid !== null);

/** Operations that have not ended. */
export const underWay = () => [...fleet.operations.values()].filter((one) => one.ended_at === null);

/** Whether the caller may change something. */
export const mayChange = () => fleet.about?.me.role !== "reader";

/** Whether the caller administers the service itself. */
export const administers = () => fleet.about?.me.role === "admin" && fleet.about.me.project_id === null;

function keep(node) {
  const words = [node.name, node.uuid, node.state, node.resource_class, node.owner, node.lessee, node.instance_uuid,
    node.instance_name, node.manager, node.maintenance ? "maintenance" : null, node.health, ...node.traits];
  node.words = words.filter(Boolean).join(" ").toLowerCase();
  fleet.nodes.set(node.uuid, node);
  ordered = null;
}

/** The rows that have all these words somewhere. */
export function found(rows, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return words.length ? rows.filter((row) => words.every((word) => row.words.includes(word))) : rows;
}

/** How much the janitor's last look has found and left alone. */
export const leftIn = (janitor) => (janitor?.last ? Object.values(janitor.last.found).reduce((sum, one) => sum + one, 0) - janitor.last.mended : 0);

/** Everything is read. */
export async function load() {
  const operations = (query) => ask("GET /v1/operations", {}, { query }).catch(unlessLogIsAway);
  const [rows, view, recent, open, janitor] = await Promise.all([
    all("GET /v1/nodes", "nodes", { fields: FIELDS }),
    ask("GET /v1/fleet"),
    operations({ limit: 50 }),
    operations({ limit: KEPT_OPERATIONS, state: ["queued", "running"] }),
    administers() ? ask("GET /v1/janitor").catch(() => null) : null,
  ]);
  fleet.left = leftIn(janitor);
  fleet.nodes.clear();
  ordered = null;
  rows.forEach(keep);
  fleet.inTrouble = view.in_trouble;
  fleet.operations.clear();
  for (const one of [...open.operations, ...recent.operations]) fleet.operations.set(one.id, one);
  fleet.onChange();
}

/** Without the service's log its operations are not known; the fleet is, and the banner says what is missing. */
function unlessLogIsAway(problem) {
  if (problem.title !== "StoreUnavailable") throw problem;
  return { operations: [...fleet.operations.values()] };
}

/** The fleet is read, and kept up from now on. */
export async function start() {
  fleet.about = await ask("GET /v1");
  await load();
  listen(fleet.about.last_event, { onEvent: happened, onLink: linked });
  setInterval(progress, PROGRESS_MS);
}

function linked(isLinked, isKnown = true) {
  if (fleet.linked === isLinked && fleet.known === isKnown) return;
  fleet.linked = isLinked;
  fleet.known = isKnown;
  fleet.onChange();
}

// Events gather for a moment, so that a hundred of them lead to one look.

const changed = { nodes: new Set(), operations: new Set(), all: false };
let gathering = 0;

function happened(kind, event) {
  if (kind === "hello") return;
  if (kind === "gap" || kind === "log") changed.all = true;
  else fleet.onEvent(event);
  if (kind === "node.gone") {
    fleet.nodes.delete(event.node_uuid);
    ordered = null;
  } else if (kind.startsWith("node.")) changed.nodes.add(event.node_uuid);
  if (kind.startsWith("operation.")) {
    changed.operations.add(event.operation_id);
    if (event.node_uuid) changed.nodes.add(event.node_uuid);
  }
  if (kind.startsWith("ironic.")) changed.all = true;
  gathering ||= setTimeout(look, GATHER_MS);
}

async function look() {
  const uuids = [...changed.nodes];
  const ids = [...changed.operations];
  const isAll = changed.all || uuids.length > ONE_BY_ONE || ids.length > ONE_BY_ONE;
  changed.nodes.clear();
  changed.operations.clear();
  changed.all = false;
  try {
    if (isAll) {
      fleet.about = await ask("GET /v1");
      await load();
    } else {
      await Promise.all([
        ...uuids.map((node) => ifThere(ask("GET /v1/nodes/{node}", { node }, { query: { fields: FIELDS } }), keep)),
        ...ids.map((operation_id) => ifThere(ask("GET /v1/operations/{operation_id}", { operation_id }), keepOperation)),
        uuids.length ? ask("GET /v1/fleet").then((view) => { fleet.inTrouble = view.in_trouble; }) : null,
      ]);
    }
  } catch (error) {
    // The stream says that the connection is lost, and what was missed is read once it is back.
    changed.all = true;
    console.info("what changed could not be read:", error.message);
  }
  gathering = 0;
  if (changed.nodes.size || changed.operations.size || changed.all) gathering = setTimeout(look, changed.all ? 5_000 : GATHER_MS);
  fleet.onChange();
}

async function ifThere(asked, then) {
  try {
    then(await asked);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

/** The operation is known as it stands now. */
export function keepOperation(operation) {
  fleet.operations.set(operation.id, operation);
  const ended = [...fleet.operations.values()].filter((one) => one.ended_at !== null);
  if (ended.length > KEPT_OPERATIONS) {
    ended.sort((a, b) => a.created_at.localeCompare(b.created_at));
    fleet.operations.delete(ended[0].id);
  }
}

// Within a step, and while Ironic is away, there are no events: how far it is, and how old, has to be asked.
async function progress() {
  const isStale = fleet.about.stale_s !== null;
  if (!fleet.linked || document.hidden || (underWay().length === 0 && !isStale)) return;
  try {
    const query = { limit: KEPT_OPERATIONS, state: ["queued", "running"] };
    const { operations } = await ask("GET /v1/operations", {}, { query });
    operations.forEach(keepOperation);
    if (isStale) fleet.about = await ask("GET /v1");
    fleet.onChange();
  } catch (error) {
    console.info("progress could not be read:", error.message);
  }
}
