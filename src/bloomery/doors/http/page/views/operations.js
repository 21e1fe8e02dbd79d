// Operations: all of them, and one.

import { ask } from "../api.js";
import { dialogue, told } from "../dialogs.js";
import { empty, facts, fill, h, section, table } from "../dom.js";
import { fleet, keepOperation, mayChange, underWay } from "../fleet.js";
import { badge, clock, duration, since } from "../words.js";
import { operationLine, progressLine } from "./parts.js";

export function operations() {
  const element = h("div");

  function update() {
    const open = underWay();
    const ended = [...fleet.operations.values()].filter((one) => one.ended_at !== null)
      .sort((a, b) => b.created_at.localeCompare(a.created_at));
    fill(element,
      h("div", { class: "head" }, h("h1", {}, "Operations")),
      section("Under way", open.length ? h("ul", { class: "lines" }, open.map(progressLine)) : empty("Nothing.")),
      section("Done", ended.length ? h("ul", { class: "lines" }, ended.map(operationLine)) : empty("Nothing yet.")));
  }
  return { element, update };
}

export function operation(id) {
  const element = h("div", {}, empty("Reading …"));
  let failure = null;
  let shown = null;

  function cancel(one) {
    return dialogue({
      title: `Cancel ${one.kind} of ${one.instance_name || one.instance_uuid}?`, yes: "Cancel it", no: "Let it go on", isDanger: true,
      content: h("p", {}, one.kind === "deploy"
        ? "It stops at its next wait, and what it began is undone: the instance is taken down, its VIFs go, and the node is cleaned."
        : "It stops at its next wait, and what it began is undone where that can be done."),
      accept: () => ask("POST /v1/operations/{operation_id}/cancel", { operation_id: one.id }),
    }).then((found) => {
      if (!found) return;
      keepOperation(found);
      fleet.onChange();
    });
  }

  function draw(one) {
    shown = one;
    const isOpen = one.ended_at === null;
    fill(element,
      h("div", { class: "head" },
        h("h1", {}, `${one.kind} ${one.instance_name || one.instance_uuid || ""}`), badge(one.state),
        isOpen && mayChange() ? h("div", { class: "right" }, h("button", { type: "button", class: "danger", disabled: one.cancelling, onclick: () => cancel(one) },
          one.cancelling ? "Being cancelled" : "Cancel …")) : null),
      one.problem ? h("div", { class: "warn", role: "alert" }, told(one.problem)) : null,
      isOpen ? section("Progress", h("ul", { class: "lines" }, progressLine(one))) : null,
      h("div", { class: "columns" },
        section("Steps", one.steps.length
          ? table(["Step", "Began", "Took"], one.steps.map((step) => [
            step.undoing ? `undo: ${step.name}` : step.name, clock(step.began_at),
            h("span", { class: "took" }, step.took_s !== null ? duration(step.took_s) : isOpen ? `${duration(since(step.began_at))} …` : "")]))
          : empty("None has begun.")),
        section("Operation", facts([
          ["Instance", one.instance_uuid ? h("a", { href: `#/instances/${one.instance_uuid}` }, one.instance_name || one.instance_uuid) : null],
          ["Node", one.node_uuid ? h("a", { href: `#/nodes/${one.node_uuid}` }, one.node_name || one.node_uuid) : null],
          ["Asked for by", one.actor], ["Accepted", clock(one.created_at)], ["Began", one.started_at ? clock(one.started_at) : null],
          ["Ended", one.ended_at ? clock(one.ended_at) : null], ["Took", one.ended_at ? duration(one.elapsed_s) : null],
          ["Usually takes", one.expected_s ? duration(one.expected_s) : null],
          ["Request id", one.request_id ? h("span", { class: "mono" }, one.request_id) : null]]))));
  }

  function update() {
    const one = fleet.operations.get(id);
    if (one) {
      if (one !== shown || one.ended_at === null) draw(one);
    } else if (failure) fill(element, h("div", { class: "note" }, told(failure)));
    else {
      ask("GET /v1/operations/{operation_id}", { operation_id: id })
        .then((found) => { keepOperation(found); draw(found); }, (problem) => { failure = problem; update(); });
    }
  }
  return { element, update };
}
