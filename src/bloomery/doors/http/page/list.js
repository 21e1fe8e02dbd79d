// A list of any length, of which only the rows in sight exist.

import { fill, h } from "./dom.js";

const MARGIN = 8;
const narrow = matchMedia("(max-width: 700px)");
let lists = 0;

/**
 * A list whose rows are drawn by `draw(row)` and opened by `open(row)`: with a click, or the arrow keys and Enter.
 *
 * Returns its element, and `show(rows)`.
 */
export function virtualList({ label, draw, open, keyOf }) {
  const id = `list-${(lists += 1)}`;
  const body = h("div", { class: "rows", role: "presentation" });
  const element = h("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": label }, body);
  let rows = [];
  let at = -1;
  let key = null;

  const height = () => (narrow.matches ? 62 : 40);

  function paint() {
    const size = height();
    body.style.height = `${rows.length * size}px`;
    const first = Math.max(0, Math.floor(element.scrollTop / size) - MARGIN);
    const last = Math.min(rows.length, Math.ceil((element.scrollTop + element.clientHeight) / size) + MARGIN);
    fill(body, rows.slice(first, last).map((row, index) => {
      const position = first + index;
      const isCurrent = position === at;
      const line = h("div", {
        id: `${id}-${position}`, class: isCurrent ? "row current" : "row", role: "option",
        "aria-selected": String(isCurrent), "aria-setsize": rows.length, "aria-posinset": position + 1,
      }, draw(row));
      line.style.transform = `translateY(${position * size}px)`;
      return line;
    }));
    const isDrawn = at >= first && at < last;
    if (isDrawn) element.setAttribute("aria-activedescendant", `${id}-${at}`);
    else element.removeAttribute("aria-activedescendant");
  }

  function moveTo(position) {
    if (rows.length === 0) return;
    at = Math.min(rows.length - 1, Math.max(0, position));
    key = keyOf(rows[at]);
    const size = height();
    if (at * size < element.scrollTop) element.scrollTop = at * size;
    const below = (at + 1) * size - element.clientHeight;
    if (below > element.scrollTop) element.scrollTop = below;
    paint();
  }

  // Rows are drawn anew at any time, also between a press and its end: what counts is where both were, not on which element.
  let pressed = null;
  const positionAt = (event) => Math.floor((event.clientY - body.getBoundingClientRect().top) / height());
  body.addEventListener("pointerdown", (event) => { pressed = event.button === 0 ? positionAt(event) : null; });
  body.addEventListener("pointercancel", () => { pressed = null; });
  body.addEventListener("pointerup", (event) => {
    if (pressed !== null && pressed === positionAt(event) && rows[pressed]) open(rows[pressed]);
    pressed = null;
  });
  // Without a pointer: what helps people to read presses the row itself.
  body.addEventListener("click", (event) => {
    const row = event.detail === 0 ? rows[Number(event.target.closest("[aria-posinset]")?.getAttribute("aria-posinset")) - 1] : null;
    if (row) open(row);
  });

  element.addEventListener("scroll", paint, { passive: true });
  element.addEventListener("focus", () => at < 0 && moveTo(0));
  element.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(element.clientHeight / height()) - 1);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length };
    if (event.key in moves) moveTo(moves[event.key]);
    else if (event.key === "Enter" && rows[at]) open(rows[at]);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(paint).observe(element);

  return {
    element,
    focus: () => element.focus(),
    show(wanted) {
      rows = wanted;
      at = key === null ? -1 : rows.findIndex((row) => keyOf(row) === key);
      paint();
    },
  };
}
