// The screen of a machine, by noVNC.

import RFB from "./vendor/novnc/core/rfb.js";

/** The screen within the element, as large as there is room. Shift and Escape leave it. */
export function screenIn(element, stream, { label, onOpen, onLeave }) {
  const screen = new RFB(element, stream, { shared: true });
  screen.scaleViewport = true;
  screen.background = "transparent";
  const picture = element.querySelector("canvas");
  picture.setAttribute("role", "application");
  picture.setAttribute("aria-label", label);
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !event.shiftKey) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    onLeave();
  }, { capture: true });
  screen.addEventListener("connect", () => {
    onOpen();
    screen.focus();
  });
  return screen;
}
