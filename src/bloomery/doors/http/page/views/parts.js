// What several views show.

import { empty, fill, h } from "../dom.js";
import { badge, clock, duration, sentence, since, toneOfEvent } from "../words.js";

/** How far an operation is, and when it will probably end. */
export function progressLine(one) {
  const elapsed = one.started_at ? since(one.started_at) : 0;
  const left = one.expected_s ? one.expected_s - elapsed : null;
  const end = left === null ? "" : left > 0 ? `about ${duration(left)} left` : `${duration(-left)} longer than usual`;
  const what = one.progress;
  return h("li", {},
    h("div", { class: "of" },
      h("a", { href: `#/operations/${one.id}` }, `${one.kind} ${one.instance_name || one.instance_uuid || ""}`),
      one.node_uuid ? h("a", { class: "soft", href: `#/nodes/${one.node_uuid}` }, `on ${one.node_name || one.node_uuid}`) : null,
      h("span", { class: "right soft" }, one.started_at ? `${duration(elapsed)}${end ? `, ${end}` : ""}` : "queued")),
    h("progress", { max: 1, value: what?.fraction ?? 0, "aria-label": `${one.kind} ${one.instance_name || ""}` }),
    h("p", { class: "soft" }, what
      ? `${what.undoing ? "undoing" : "step"} ${what.index} of ${what.total}: ${what.step}${what.detail ? ` (${what.detail})` : ""}`
      : "waiting for its turn",
    one.cancelling ? ", being cancelled" : ""));
}

/** What happened, one after the other. */
export function timeline(events, { withNode = false } = {}) {
  if (events.length === 0) return empty("Nothing has been seen yet.");
  return h("ol", { class: "timeline" }, events.map((event) => h("li", { class: toneOfEvent(event) },
    h("span", { class: "text" },
      withNode && event.node_uuid ? [h("a", { href: `#/nodes/${event.node_uuid}` }, event.node_name || event.node_uuid), " "] : null,
      sentence(event),
      event.data.took_s ? h("span", { class: "took" }, ` after ${duration(event.data.took_s)}`) : null),
    clock(event.at),
    event.actor ? h("span", { class: "under" }, `${event.kind === "leak.mended" ? "" : "asked for "}by ${event.actor}`,
      event.operation_id ? [", ", h("a", { href: `#/operations/${event.operation_id}` }, "operation")] : null) : null)));
}

/** Operations that are over, or not, a line each. */
export function operationLine(one) {
  return h("li", {}, h("div", { class: "of" },
    badge(one.state),
    h("a", { href: `#/operations/${one.id}` }, `${one.kind} ${one.instance_name || one.instance_uuid || ""}`),
    one.node_uuid ? h("a", { class: "soft", href: `#/nodes/${one.node_uuid}` }, `on ${one.node_name || one.node_uuid}`) : null,
    h("span", { class: "right soft" }, one.elapsed_s === null ? "" : `${duration(one.elapsed_s)}, `, clock(one.created_at))),
  one.problem ? h("p", { class: "soft" }, `${one.problem.title}: ${one.problem.detail}`) : null);
}

/** The button's text is the theme; a click has the next one. */
export function themeSwitch(button) {
  const themes = { system: "◐ System", light: "☀ Light", dark: "☾ Dark" };
  const names = Object.keys(themes);
  const show = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    fill(button, themes[name]);
    button.setAttribute("aria-label", `Colours: ${name}`);
  };
  let now = names.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system";
  button.addEventListener("click", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    localStorage.setItem("theme", now);
    show(now);
  });
  show(now);
}
