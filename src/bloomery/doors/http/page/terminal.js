// A terminal of xterm.js, under a content security policy that allows no inline style.

import { FitAddon } from "./vendor/xterm/addon-fit.mjs";
import { Terminal } from "./vendor/xterm/xterm.mjs";

const SCROLLBACK_LINES = 10_000;
const DARK = { background: "#14171a", foreground: "#e7eaed", cursor: "#ff9350", selectionBackground: "#4a5561" };

// xterm.js writes some styles as an attribute, which the policy forbids; the same by the object model is allowed.
const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function set(name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

/** What xterm.js takes for a style element; its text is a sheet that the document has adopted. */
function styleElement(create) {
  const element = create("data");
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

/**
 * A terminal within the element, as large as there is room. What is typed goes to `onType` as bytes, what is pressed to
 * leave it, Shift and Escape, to `onLeave`.
 */
export function terminalIn(element, { label, onType, onLeave }) {
  const terminal = new Terminal({
    scrollback: SCROLLBACK_LINES, theme: DARK, screenReaderMode: true, cursorBlink: false,
    fontFamily: 'ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace', fontSize: 14,
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  const create = document.createElement.bind(document);
  document.createElement = (tag, options) => (tag === "style" ? styleElement(create) : create(tag, options));
  try {
    terminal.open(element);
  } finally {
    delete document.createElement;
  }
  terminal.textarea.setAttribute("aria-label", label);
  const encoder = new TextEncoder();
  terminal.onData((text) => onType(encoder.encode(text)));
  terminal.onBinary((text) => onType(Uint8Array.from(text, (character) => character.charCodeAt(0))));
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type !== "keydown" || event.key !== "Escape" || !event.shiftKey) return true;
    event.preventDefault();
    onLeave();
    return false;
  });
  const resized = new ResizeObserver(() => element.clientWidth && fit.fit());
  resized.observe(element);
  return {
    write: (bytes) => terminal.write(bytes),
    focus: () => terminal.focus(),
    reset: () => terminal.reset(),
    mayType: (may) => { terminal.options.disableStdin = !may; },
    text: () => {
      const buffer = terminal.buffer.active;
      return Array.from({ length: buffer.length }, (_, line) => buffer.getLine(line).translateToString(true)).join("\n");
    },
    close() {
      resized.disconnect();
      terminal.dispose();
    },
  };
}
