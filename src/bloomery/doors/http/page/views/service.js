// What is the service's own: who is told of events, and who called what. For administrators.

import { ask } from "../api.js";
import { confirmed, dialogue, told } from "../dialogs.js";
import { empty, facts, field, fill, h, input, section, table } from "../dom.js";
import { fleet, leftIn } from "../fleet.js";
import { badge, clock, duration } from "../words.js";

const PAGE = 50;
const LOOK_MS = 5_000;
const SOON_MS = 1_000;
const words = (text) => text.split(/[\s,]+/).filter(Boolean);
const markerOf = (next) => next && new URL(next, location.origin).searchParams.get("marker");

/** The janitor, webhooks, and the audit. */
export function service() {
  const hooks = h("div", {}, empty("Reading …"));
  const calls = h("div", {}, empty("Reading …"));
  const more = h("button", { type: "button", hidden: true, onclick: () => readCalls() }, "Older ones");
  const actor = input("actor", { type: "search", placeholder: "anybody", onchange: () => { rows = []; marker = null; readCalls(); } });
  let rows = [];
  let marker = null;

  async function readHooks() {
    try {
      const { webhooks } = await ask("GET /v1/webhooks");
      fill(hooks, webhooks.length
        ? table(["Sent to", "Events", "Since", "By", ""], webhooks.map((hook) => [
          h("a", { class: "mono", href: `#/service/${hook.id}` }, hook.url), hook.kinds.join(", ") || "all", clock(hook.created_at), hook.created_by,
          h("button", { type: "button", class: "small danger", "aria-label": `Remove ${hook.url}`, onclick: () => remove(hook) }, "Remove …")]))
        : empty("Nobody is told of events."));
    } catch (problem) {
      fill(hooks, told(problem));
    }
  }

  async function remove(hook) {
    await confirmed({
      title: `Tell ${hook.url} no more?`, yes: "Remove", isDanger: true,
      says: "It is told of nothing from now on, and the log of what was sent to it is lost. What is due and not delivered yet is not sent.",
      asks: "DELETE /v1/webhooks/{webhook_id}", names: { webhook_id: hook.id },
    });
    readHooks();
  }

  async function add() {
    const url = input("url", { type: "url", required: true, placeholder: "https://…" });
    const kinds = input("kinds", { placeholder: "node.*, operation.failed" });
    const hook = await dialogue({
      title: "Tell somebody of events", yes: "Add",
      content: [h("p", {}, "Each event from now on is posted there, signed, until it is taken."), field("Address", url), field("Events", kinds, "All, if nothing is named.")],
      accept: () => ask("POST /v1/webhooks", {}, { body: { url: url.value, kinds: words(kinds.value) } }),
    });
    if (!hook) return;
    readHooks();
    await dialogue({
      title: "The secret", yes: "I have it", no: null, accept: () => true,
      content: [h("p", {}, "Events are signed with it. It is shown here, and never again."), h("pre", {}, hook.secret)],
    });
  }

  async function readCalls() {
    try {
      const page = await ask("GET /v1/audit", {}, { query: { limit: PAGE, marker, actor: actor.value.trim() } });
      rows.push(...page.calls);
      marker = markerOf(page.next);
      more.hidden = !marker;
      fill(calls, rows.length
        ? table(["When", "Who", "What", "Answer", "From", "Request id"], rows.map((call) => [
          clock(call.at), call.actor, h("span", { class: "mono" }, `${call.method} ${call.path}`),
          badge(String(call.status), call.status < 400 ? "good" : call.status < 500 ? "busy" : "bad"),
          h("span", { class: "mono" }, call.address || ""), h("span", { class: "mono soft" }, call.request_id)]))
        : empty("Nothing was changed, and nobody turned away."));
    } catch (problem) {
      fill(calls, told(problem));
    }
  }

  const janitor = keeper();
  readHooks();
  readCalls();
  return {
    element: [
      h("div", { class: "head" }, h("h1", {}, "Service")),
      janitor.element,
      section("Webhooks", hooks, h("p", { class: "below" }, h("button", { type: "button", onclick: add }, "Tell somebody …"))),
      section("Audit", h("p", { class: "hint" }, "All calls that were to change something, all consoles that were opened, and whoever was turned away."),
        field("Who", actor), calls, more)],
    update: () => {},
    happened: janitor.happened,
    leave: janitor.leave,
  };
}

const VERDICTS = { left: ["certainly left", "bad"], unproven: ["may be left", "busy"], "not ours": ["not ours", "idle"] };

/** The janitor: what it found, whether it is at work, and what can be done by hand about what it leaves alone. */
function keeper() {
  const content = h("div", {}, empty("Reading …"));
  let timer = 0;
  let awaited = null;

  const act = (word, what) => h("button", { type: "button", onclick: async () => {
    clearTimeout(timer);
    try {
      awaited = what === "look" ? shown?.last?.at ?? "" : null;
      draw(await ask("POST /v1/janitor", {}, { body: { do: what } }));
    } catch (problem) {
      awaited = null;
      fill(content, told(problem));
    }
  } }, word);
  let shown = null;

  function draw(row) {
    shown = row;
    fleet.left = leftIn(row);
    if (awaited !== null && (row.last?.at ?? "") !== awaited) awaited = null;
    const { last } = row;
    const found = last ? Object.entries(VERDICTS).filter(([verdict]) => last.found[verdict]).map(([verdict, [words]]) => `${last.found[verdict]} ${words}`) : [];
    fill(content,
      h("p", { class: "hint" }, row.state === "off"
        ? "This service was started without it. What is left of instances that are gone stays until somebody looks."
        : `What instances and operations have left behind is looked for every ${duration(row.every_s).replace(/ 0 \w+$/, "")}, with at most ${row.requests_per_s} requests a second. `
          + "What is ours and certainly left is cleaned; the rest is shown here."),
      facts([
        ["State", badge({ on: "on", paused: "paused", off: "off" }[row.state], { on: "good", paused: "busy", off: "idle" }[row.state])],
        ["Changed by", row.changed_by && [row.changed_by, ", ", clock(row.changed_at)]],
        ["Last look", last && [clock(last.at), `, in ${duration(last.took_s)}`]],
        ["It found", last && (last.problem ? "nothing: see below" : found.join(", ") || "nothing")],
        ["Cleaned", last && last.found.left ? `${last.mended} of ${last.found.left}` : null]]),
      last?.problem ? h("div", { class: "warn" }, told(last.problem)) : null,
      last?.blind.length ? h("div", { class: "warn" }, last.blind.map((one) => h("p", {}, `It could not look at ${one}.`))) : null,
      last?.leaks.length ? table(["What", "Name", "Node", "Stands", "Why, and what to do"], last.leaks.map((leak) => [
        leak.kind, h("span", { class: "mono" }, leak.name),
        leak.node_uuid ? h("a", { href: `#/nodes/${leak.node_uuid}` }, leak.node || leak.node_uuid) : "",
        badge(...VERDICTS[leak.verdict]), [leak.reason, leak.advice ? h("p", { class: "soft" }, leak.advice) : null]])) : null,
      row.state === "off" ? null : h("p", { class: "below" },
        row.state === "on" ? [act("Look now", "look"), act("Pause", "pause")] : act("Let it go on", "go on"),
        awaited === null ? null : h("span", { class: "soft", role: "status" }, "It looks …")));
    clearTimeout(timer);
    if (awaited !== null) timer = setTimeout(read, SOON_MS);
  }

  async function read() {
    try {
      draw(await ask("GET /v1/janitor"));
    } catch (problem) {
      fill(content, told(problem));
    }
  }

  read();
  return {
    element: section("Janitor", content),
    happened: (event) => { if (event.kind === "leak.mended") read(); },
    leave: () => clearTimeout(timer),
  };
}

/** One webhook: what was sent to it, what came back, and once more. */
export function webhook(id) {
  const element = h("div", {}, empty("Reading …"));
  let timer = 0;

  async function read() {
    clearTimeout(timer);
    try {
      const [hook, { deliveries }] = await Promise.all([
        ask("GET /v1/webhooks/{webhook_id}", { webhook_id: id }),
        ask("GET /v1/webhooks/{webhook_id}/deliveries", { webhook_id: id }, { query: { limit: PAGE } })]);
      fill(element,
        h("div", { class: "head" }, h("h1", { class: "mono" }, hook.url)),
        section("Webhook", facts([["Events", hook.kinds.join(", ") || "all"], ["Since", clock(hook.created_at)], ["By", hook.created_by], ["Id", h("span", { class: "mono" }, hook.id)]])),
        section("Deliveries", deliveries.length
          ? table(["Number", "Event", "State", "Answer", "Attempts", "Tried", ""], deliveries.map((one) => [
            one.number, `${one.kind} (${one.event_number})`, badge(one.state, { delivered: "good", failed: "bad", due: "busy" }[one.state]),
            one.reason || (one.status ?? ""), one.attempts, clock(one.due_at),
            h("button", { type: "button", class: "small", "aria-label": `Send ${one.number} again`, onclick: () => replay(one) }, "Send again …")]))
          : empty("Nothing was sent yet.")));
      if (deliveries.some((one) => one.state === "due")) timer = setTimeout(read, LOOK_MS);
    } catch (problem) {
      fill(element, h("div", { class: "note" }, told(problem)));
    }
  }

  async function replay(one) {
    await confirmed({
      title: `Send delivery ${one.number} again?`, yes: "Send again",
      says: "The receiver gets the same event once more, under the same number, by which it can tell.",
      asks: "POST /v1/webhooks/{webhook_id}/deliveries/{number}/replay", names: { webhook_id: id, number: one.number },
    });
    read();
  }

  read();
  return { element, update: () => {}, leave: () => clearTimeout(timer) };
}
