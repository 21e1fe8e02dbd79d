// The console of an instance: who is on it, who types, and what the machine says or shows.

import { ask, openStream } from "../api.js";
import { confirmed, told } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { fleet, keepOperation, mayChange } from "../fleet.js";
import { screenIn } from "../screen.js";
import { terminalIn } from "../terminal.js";
import { badge } from "../words.js";

const AGAIN_MS = 2_000;
const HINT = "Shift and Esc leave the terminal for the buttons.";

export function consoleOf(uuid) {
  const head = h("div", { class: "head" });
  const people = h("div", { class: "people", role: "status" });
  const place = h("div", { class: "screen" });
  const status = h("p", { class: "hint", role: "status" });
  const element = [head, people, place, status];
  let one = null;
  let starting = null;
  let stream = null;
  let screen = null;
  let line = null;
  let picture = null;
  let standing = "closed";
  let isLeft = false;
  let again = 0;

  const isTypist = () => line !== null && line.typist === line.you;
  const isOpen = () => line?.standing === "open";

  async function begin() {
    let found;
    try {
      [one, found] = await Promise.all([
        ask("GET /v1/instances/{instance}", { instance: uuid }), ask("GET /v1/instances/{instance}/console", { instance: uuid })]);
    } catch (problem) {
      say(told(problem));
      return;
    }
    if (isLeft) return;
    if (!found.enabled) offer();
    else if (found.kind === "socat") connect();
    else if (found.kind === "vnc" && mayChange()) show();
    else refer(found);
  }

  /** It is none that can be shown as text: where Ironic itself shows it is told to those who may know. */
  function refer({ kind, url }) {
    line = null;
    draw();
    const isWeb = /^https?:$/.test(url ? new URL(url).protocol : "");
    say(h("p", {}, `Its console is of the kind ${kind}, which this page does not show: Ironic shows it itself.`),
      isWeb ? h("a", { class: "button", href: url, target: "_blank", rel: "noreferrer noopener" }, "Open it there")
        : h("p", { class: "soft" }, url ? `It is at ${url}.` : "An administrator of the service can see where."));
  }

  /** None runs: it can be started. */
  function offer(why = "No console runs.") {
    line = null;
    draw();
    say(h("p", {}, why), mayStart()
      ? h("button", { type: "button", class: "main", disabled: starting !== null, onclick: start }, starting ? "Starting …" : "Start the console")
      : h("p", { class: "soft" }, "Somebody who may change the instance can start it."));
  }
  const leaveTerminal = () => head.querySelector("button, a")?.focus();
  const mayStart = () => mayChange() && one?.manager === "bloomery";

  async function start() {
    try {
      starting = await ask("POST /v1/instances/{instance}/console", { instance: uuid }, { body: {} });
      keepOperation(starting);
      fleet.onChange();
      offer();
    } catch (problem) {
      say(told(problem));
    }
  }

  function connect() {
    screen ||= terminalIn(place, {
      label: `Console of ${one.name}`,
      onType: (bytes) => { if (isTypist() && stream?.readyState === WebSocket.OPEN) stream.send(bytes); },
      onLeave: leaveTerminal,
    });
    let isSaid = false;
    stream = openStream("GET /v1/instances/{instance}/console/stream", { instance: uuid });
    stream.onopen = () => screen.reset();
    stream.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        screen.write(new Uint8Array(data));
        return;
      }
      const news = JSON.parse(data);
      if (news.lost) screen.write(`\r\n[${news.lost.toLocaleString()} bytes could not be kept]\r\n`);
      else {
        const wasTypist = isTypist();
        line = news;
        isSaid = news.standing === "ended";
        if (!wasTypist && isTypist()) screen.focus();
        draw();
      }
    };
    stream.onclose = () => {
      stream = null;
      if (isLeft) return;
      if (isSaid) {
        draw();
        return;
      }
      line = null;
      draw("The connection to the service is lost; it is tried again.");
      again = setTimeout(begin, AGAIN_MS);
    };
  }

  /** The screen of the machine: what is seen and typed goes over a connection of one's own. */
  function show() {
    fill(place);
    place.classList.add("picture");
    stream = openStream("GET /v1/instances/{instance}/console/screen", { instance: uuid });
    stream.addEventListener("close", ({ reason }) => {
      stream = null;
      if (isLeft) return;
      picture = null;
      place.classList.remove("picture");
      standing = "ended";
      draw();
      say(h("p", {}, `It has ended: ${reason || "the connection to the service is lost"}.`),
        h("button", { type: "button", class: "main", onclick: begin }, "Open again"));
    });
    picture = screenIn(place, stream, {
      label: `Screen of ${one.name}`,
      onOpen: () => { standing = "open"; draw(); },
      onLeave: leaveTerminal,
    });
    standing = "connecting";
    draw();
  }

  const send = (what) => stream?.send(JSON.stringify({ do: what }));

  async function stop() {
    const operation = await confirmed({
      title: `Stop the console of ${one.name}?`, yes: "Stop", isDanger: true,
      says: "Everybody who is on it is told, and sees nothing more. Nothing on the machine changes.",
      asks: "DELETE /v1/instances/{instance}/console", names: { instance: uuid }, query: { force: true },
    });
    if (operation) draw();
  }

  function say(...words) {
    screen?.close();
    screen = null;
    fill(place, h("div", { class: "said" }, words));
  }

  function draw(trouble = null) {
    const name = one?.name || uuid;
    const now = line?.standing || (trouble ? "lost" : picture || standing === "ended" ? standing : "closed");
    fill(head,
      h("h1", {}, "Console of ", h("a", { href: `#/instances/${uuid}` }, name)),
      badge(now, now === "open" ? "good" : now === "connecting" || trouble ? "busy" : "idle"),
      h("div", { class: "right", role: "group", "aria-label": "Actions" },
        line && isOpen() && mayChange()
          ? isTypist()
            ? h("button", { type: "button", onclick: () => send("watch") }, "Only watch")
            : h("button", { type: "button", class: "main", onclick: () => send("type") }, line.typist === null ? "Type" : "Take over typing")
          : null,
        line?.standing === "ended" ? h("button", { type: "button", class: "main", onclick: begin }, "Open again") : null,
        picture && standing === "open" ? h("button", { type: "button", onclick: () => picture.sendCtrlAltDel() }, "Ctrl Alt Del") : null,
        (picture || (line && line.standing !== "ended")) && mayStart() ? h("button", { type: "button", class: "danger", onclick: stop }, "Stop the console …") : null));
    fill(people, line?.viewers ? line.viewers.map((viewer) => h("span", { class: viewer.number === line.typist ? "chip typist" : "chip" },
      viewer.number === line.you ? "you:" : `${viewer.name}:`, viewer.number === line.typist ? " typing" : " watching")) : null);
    screen?.mayType(isTypist());
    const words = trouble || (picture && standing === "open" ? `What you press goes to the machine. ${HINT}` : line === null ? ""
      : line.standing === "ended" ? `It has ended: ${line.reason}.`
        : line.standing === "connecting" ? `Connecting …${line.reason ? ` (${line.reason})` : ""}`
          : isTypist() ? `What you type goes to the machine; if it is silent, press Enter. ${HINT}`
            : `${typistName()} You watch.`);
    if (status.textContent !== words) status.textContent = words;
  }

  function typistName() {
    const typist = line.viewers.find((viewer) => viewer.number === line.typist);
    return typist ? `${typist.name} types.` : "Nobody types.";
  }

  function update() {
    if (!starting) return;
    const now = fleet.operations.get(starting.id);
    if (!now || now.ended_at === null) return;
    starting = null;
    if (now.state === "succeeded") {
      fill(place);
      begin();
    } else offer(`It could not be started: ${now.problem?.detail || now.state}.`);
  }

  draw();
  begin();
  return {
    element, update, isFull: true,
    leave() {
      isLeft = true;
      clearTimeout(again);
      if (picture) picture.disconnect();
      else stream?.close();
      screen?.close();
    },
  };
}
