// How things are said: states, times, events.

import { h } from "./dom.js";

const UNDER_WAY = /ing$|^wait call-back$| wait$| hold$/;

/** What a provision state means at a glance: `good`, `free`, `busy`, `bad` or `idle`. */
export function toneOf(state) {
  if (!state) return "idle";
  if (state === "active" || state === "succeeded" || state === "rescue") return "good";
  if (state === "available") return "free";
  if (state === "error" || state.endsWith("failed") || state.endsWith("fail")) return "bad";
  return UNDER_WAY.test(state) || state === "queued" ? "busy" : "idle";
}

/** A state, in its colour. */
export const badge = (state, tone = toneOf(state)) => h("span", { class: `badge ${tone}` }, state || "unknown");

/** A power state, or where it is going. */
export function power(row) {
  if (row.target_power_state) return `→ ${row.target_power_state}`;
  return row.power_state || "power unknown";
}

/** So many seconds: `4.2 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** Seconds since that moment. */
export const since = (moment) => Math.max(0, (Date.now() - new Date(moment).getTime()) / 1000);

/** A moment: the time of day, with the date if that is not today's. */
export function clock(moment) {
  const at = new Date(moment);
  const isToday = at.toDateString() === new Date().toDateString();
  const text = isToday ? at.toLocaleTimeString() : at.toLocaleString();
  return h("time", { datetime: at.toISOString(), title: at.toISOString() }, text);
}

/** So many of something: `1 node`, `2 nodes`. */
export const many = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;

const shown = (value) => (value === null || value === undefined || value === "" ? "none" : String(value));

/** What happened, in a sentence. */
export function sentence(event) {
  const { kind, data } = event;
  const what = kind.slice(kind.indexOf(".") + 1);
  if (kind === "node.step") return `Ironic is at ${shown(data.step)}${data.of ? ` (${data.number} of ${data.of})` : ""}`;
  if (kind === "node.appeared") return `appeared, ${shown(data.provision_state ?? "available")}`;
  if (kind === "node.gone") return "is gone from Ironic";
  if (kind.startsWith("node.")) {
    const reason = data.reason || data.last_error;
    return `${what.replaceAll("_", " ")}: ${shown(data.was)} → ${shown(data.now)}${reason ? ` (${reason})` : ""}`;
  }
  if (kind === "ironic.away") return `Ironic cannot be reached: ${shown(data.reason)}`;
  if (kind === "ironic.back") return `Ironic is back after ${duration(data.away_s)}`;
  if (kind === "leak.mended") return `what was left is cleaned: ${shown(data.kind)} ${shown(data.name)} (${shown(data.reason)})`;
  if (kind === "operation.step") return `${data.undoing ? "undoes" : "step"} ${data.index} of ${data.total}: ${shown(data.step)}`;
  const verb = data.kind || data.operation || "operation";
  return `${verb} ${what}${data.detail ? `: ${data.detail}` : ""}`;
}

/** How an event looks at a glance. */
export function toneOfEvent({ kind, data }) {
  if (kind === "node.provision_state") return toneOf(data.now ?? "available");
  if (kind === "operation.failed" || kind === "ironic.away" || (kind === "node.last_error" && data.now)) return "bad";
  if (kind === "operation.succeeded" || kind === "leak.mended" || kind === "ironic.back") return "good";
  return kind.startsWith("operation.") ? "busy" : "idle";
}
