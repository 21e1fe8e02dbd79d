// Elements. Whatever is given as a child becomes text, never markup: all of it may come from outside.

/**
 * An element with these properties and children. A property is set as an attribute; one that begins with `on` is a
 * listener; false, null and undefined leave it, or the child, out.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  fill(element, children);
  return element;
}

/** The element has these children and no others. What had the focus in it has it again, if it is still there. */
export function fill(element, ...children) {
  const found = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  const focused = document.activeElement;
  const isInside = focused !== element && element.contains(focused);
  element.replaceChildren(...found.map((child) => (child instanceof Node ? child : String(child))));
  if (isInside && !element.contains(document.activeElement)) {
    const isSame = (one) => ["id", "href", "aria-label"].every((name) => one.getAttribute(name) === focused.getAttribute(name))
      && one.textContent === focused.textContent;
    [...element.querySelectorAll(focused.tagName)].find(isSame)?.focus({ preventScroll: true });
  }
  return element;
}

/** Whether somebody has marked text in it, which drawing it anew would undo. */
export const isMarked = (element) => {
  const selection = getSelection();
  return !selection.isCollapsed && element.contains(selection.anchorNode);
};

/** Names and values; what is unknown is left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A part of a view under a heading. */
export function section(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), ...children);
}

const WIDE = 4;

/**
 * A table; one of many columns is a list of names and values where there is no room for them side by side.
 *
 * It says by its roles that it is a table, because it does not look like one everywhere, and browsers go by that.
 */
export function table(names, rows) {
  const isWide = names.length >= WIDE;
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": names.filter(Boolean).join(", ") },
    h("table", { role: "table", class: isWide ? "wide" : null },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, names.map((name) => (name ? h("th", { scope: "col", role: "columnheader" }, name) : h("td", { role: "cell" }))))),
      h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, row.map((cell, at) =>
        h("td", { role: "cell", "data-name": names[at], class: isNothing(cell) ? "nothing" : null }, cell)))))));
}

const isNothing = (cell) => cell === "" || cell === null || cell === undefined;

/** What stands where there is nothing. */
export const empty = (text) => h("p", { class: "empty" }, text);

/** A labelled input, with a hint below it if there is one. */
export const field = (label, one, hint = null) =>
  h("div", { class: "field" }, h("label", { for: one.id }, label), one, hint ? h("p", { class: "hint" }, hint) : null);

/** Something to type in that nobody completes or corrects. */
export const input = (id, options = {}) => h("input", { id, autocomplete: "off", spellcheck: "false", ...options });
