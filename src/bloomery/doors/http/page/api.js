// The API. Every path that is asked for stands in these files after its method, as the OpenAPI document has it.

/** What the service says no with (RFC 9457). */
export class Problem extends Error {
  constructor(said, status) {
    super(said.detail || `the service answered ${status}`);
    Object.assign(this, { title: "", advice: null, errors: [], refusals: null }, said, { status });
  }
}

let shows = {};
let signIn = async () => null;
let signingIn = null;

/** Whoever is not known is asked by this; it gives the headers to show, or null. */
export function onUnknown(asks) {
  signIn = asks;
}

function addressOf(path, names, query) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(names[name]));
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") given.append(name, one);
  }
  return given.size ? `${filled}?${given}` : filled;
}

// Without cookies or the browser's own dialogue: who somebody is, only he says, and only to this page.
const request = (address, options) => fetch(address, { credentials: "omit", redirect: "error", ...options });

async function answered(address, options, { mayAsk = true } = {}) {
  let answer;
  const shown = shows;
  try {
    answer = await request(address, { ...options, headers: { ...options.headers, ...shown } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "Unreachable", detail: "the service cannot be reached", advice: "Look whether it runs" }, 0);
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401 && mayAsk) {
    if (shown === shows) await askWho(answer.headers.get("WWW-Authenticate") || "", said.detail);
    if (shown !== shows) return answered(address, options);
  }
  throw new Problem(said, answer.status);
}

// However many requests find that nobody is known, somebody is asked once.
async function askWho(scheme, why) {
  signingIn ||= signIn(scheme.startsWith("Keystone") ? "keystone" : "basic", why).finally(() => { signingIn = null; });
  const found = await signingIn;
  if (!found) return;
  shows = found;
  waiting.splice(0).forEach((goOn) => goOn());
}

const waiting = [];

/** Somebody has said who he is. */
const untilKnown = () => new Promise((resolve) => { waiting.push(resolve); });

/**
 * What the service answers to "METHOD /path/{name}".
 *
 * A request that changes something has a key, so that it is carried out once, also if its first answer was lost.
 */
export async function ask(route, names = {}, { query = {}, body } = {}) {
  const [method, path] = route.split(" ");
  const headers = {};
  if (method !== "GET") headers["Idempotency-Key"] = newKey();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  const address = addressOf(path, names, query);
  let answer;
  try {
    answer = await answered(address, options);
  } catch (error) {
    if (method === "GET" || error.status !== 0) throw error;
    answer = await answered(address, options);
  }
  return answer.status === 204 ? null : answer.json();
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Every row of a list, page by page. */
export async function all(route, name, query) {
  const rows = [];
  let marker = null;
  do {
    const page = await ask(route, {}, { query: { limit: 1000, ...query, marker } });
    rows.push(...page[name]);
    marker = page.next && new URL(page.next, location.origin).searchParams.get("marker");
  } while (marker);
  return rows;
}

/**
 * A WebSocket where "GET /path/{name}" is one.
 *
 * A browser sends no headers of ours with it, and addresses end up in logs: who somebody is goes with the subprotocols.
 */
export function openStream(route, names) {
  const address = new URL(addressOf(route.split(" ")[1], names, {}), location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const credentials = Object.entries(shows).map(([name, value]) => {
    const bytes = new TextEncoder().encode(`${name}:${value}`);
    return `bloomery.credential.${btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
  });
  const stream = new WebSocket(address, ["bloomery.console", ...credentials]);
  stream.binaryType = "arraybuffer";
  return stream;
}

const QUIET_MS = 40_000;
const AGAIN_MS = 2_000;

/**
 * The event stream, for ever. After a break it goes on after the last event that came.
 *
 * A browser's own EventSource cannot say who somebody is, so this reads the stream itself.
 */
export async function listen(after, { onEvent, onLink }) {
  let last = after;
  for (;;) {
    const stop = new AbortController();
    let isKnown = true;
    let quiet = 0;
    const heard = () => {
      clearTimeout(quiet);
      quiet = setTimeout(() => stop.abort(), QUIET_MS);
    };
    try {
      heard();
      const path = "GET /v1/events/stream".split(" ")[1];
      const answer = await answered(path, { headers: { "Last-Event-ID": String(last) }, signal: stop.signal }, { mayAsk: false });
      onLink(true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard();
        text += value;
        const frames = text.split("\n\n");
        text = frames.pop();
        for (const frame of frames) last = told(frame, last, onEvent);
      }
    } catch (error) {
      isKnown = error.status !== 401;
      console.info("the event stream broke off:", error.message);
    }
    clearTimeout(quiet);
    onLink(false, isKnown);
    if (isKnown) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    else {
      // He is asked once; if he does not say, whatever else he wants asks him again, and nothing is tried in between.
      const known = untilKnown();
      await Promise.race([known, ask("GET /v1").catch(() => known)]);
    }
  }
}

function told(frame, last, onEvent) {
  const lines = Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)));
  if (!lines.event) return last;
  onEvent(lines.event, JSON.parse(lines.data));
  return Number(lines.id);
}
