"""`/v1/instances/{instance}/console/stream` and `…/screen`: consoles as WebSockets, serial and graphical.

What the machine says and what is typed are binary messages. Text messages are JSON: the service tells how the line stands
(`standing`, `reason`, `you`, `typist`, `viewers`, and `lost`: so many bytes could not be kept), and takes `{"do": "type"}`, by
which somebody takes over the typing, and `{"do": "watch"}`, by which he leaves it to others.

A graphical console's messages are RFB's, as noVNC speaks it; each viewer has a connection of his own to Ironic's proxy.

Browsers cannot send headers of their own with a WebSocket, and addresses end up in logs. So who somebody is may be told as a
second subprotocol: `bloomery.credential.` and, in unpadded base64url, the header's name, a colon and its value.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

from anyio import to_thread
from fastapi import APIRouter, WebSocket
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect

from bloomery.doors.http import answers
from bloomery.doors.http.access import Principal, Role
from bloomery.doors.http.answers import Member, Reader
from bloomery.doors.http.consoles import Line, Standing, Viewer
from bloomery.doors.http.instances import Name, find
from bloomery.doors.http.problems import Refusal
from bloomery.doors.http.screens import relay
from bloomery.doors.http.service import Service
from bloomery.errors import BloomeryError
from bloomery.plain import logger

log = logger(__name__)
audit_log = logger("bloomery.audit")

router = APIRouter(prefix="/v1/instances", tags=["instances"])

PROTOCOL = "bloomery.console"
MESSAGE_LIMIT_BYTES = 64 * 1024
_SENT_AT_ONCE_BYTES = 32 * 1024
_LOOK_EVERY_S = 1.0
_LONGEST_REASON = 100
"""Of the 123 bytes that a WebSocket has for it."""
_OVER = 1000
_UPGRADE = 426


@router.get(
    "/{instance}/console/stream", status_code=_UPGRADE, responses=answers.answers(_UPGRADE), response_class=Response
)
def explain_stream(caller: Reader, instance: Name) -> Response:  # noqa: ARG001  as any other request here
    """The serial console as a WebSocket, of the subprotocol `bloomery.console`; docs/http.md has what goes over it."""
    raise Refusal(
        _UPGRADE,
        "UpgradeRequired",
        "a console is a WebSocket",
        advice="Connect with a WebSocket client, and the subprotocol bloomery.console",
        headers={"Upgrade": "websocket", "Connection": "Upgrade"},
    )


@router.get(
    "/{instance}/console/screen", status_code=_UPGRADE, responses=answers.answers(_UPGRADE), response_class=Response
)
def explain_screen(caller: Member, instance: Name) -> Response:
    """The graphical console as a WebSocket, of the subprotocol `bloomery.console`, over which RFB is spoken."""
    return explain_stream(caller, instance)


@router.websocket("/{instance}/console/screen")
async def stream_screen(socket: WebSocket, instance: str) -> None:
    """Somebody sees and uses the screen until he leaves, it ends, or he may no more."""
    service: Service = socket.app.state.service
    caller: Principal = socket.scope["state"]["principal"]
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
    try:
        try:
            reason = await _show(socket, service, caller, instance)
        except (BloomeryError, Refusal) as problem:
            reason = caller.shown(problem.detail if isinstance(problem, Refusal) else problem.message)
        await socket.close(_OVER, reason[:_LONGEST_REASON])
    except (WebSocketDisconnect, RuntimeError) as gone:
        log.debug("somebody left a console: %s", gone)


async def _show(socket: WebSocket, service: Service, caller: Principal, name: str) -> str:
    if not _may_type(caller):
        # Keys and pictures go over one connection, and only the machine tells them apart.
        raise Refusal(403, "Forbidden", "a graphical console is for members: who sees it can type")
    instance_uuid, node_uuid = await _running(service, caller, name)
    address = await to_thread.run_sync(service.api.console, node_uuid)
    if address is None:
        raise Refusal(409, "ConsoleOff", "the console was stopped")

    async def until_over() -> None:
        # review: it is cancelled when either side leaves
        while service.consoles.why_over(instance_uuid, node_uuid) is None:
            await asyncio.sleep(_LOOK_EVERY_S)

    async def until_refused() -> None:
        # review: it is cancelled when either side leaves
        while (now := await _still_there(socket, service, instance_uuid)) is not None and _may_type(now):
            pass
        refused.set()

    refused = asyncio.Event()
    reason = await relay(socket, address.url, until_over, until_refused)
    return _NO_MORE if refused.is_set() else service.consoles.why_over(instance_uuid, node_uuid) or reason


_NO_MORE = "you may not see it any more"


async def _still_there(socket: WebSocket, service: Service, instance_uuid: str) -> Principal | None:
    """Who he is after a while; None: nobody who may see the instance."""
    await asyncio.sleep(answers.BELIEVED_S)
    caller = await answers.still_known(socket.scope)
    if caller is None:
        return None
    try:
        await to_thread.run_sync(find, service, caller, instance_uuid)
    except BloomeryError:
        return None
    return caller


@router.websocket("/{instance}/console/stream")
async def stream_console(socket: WebSocket, instance: str) -> None:
    """Somebody is on the console until he leaves, it ends, or he may be there no more."""
    service: Service = socket.app.state.service
    caller: Principal = socket.scope["state"]["principal"]
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
    try:
        try:
            line, viewer = await _enter(service, caller, instance)
        except (BloomeryError, Refusal) as problem:
            said = problem.detail if isinstance(problem, Refusal) else problem.message
            await socket.send_text(json.dumps({"standing": Standing.ENDED.value, "reason": caller.shown(said)}))
            await socket.close(_OVER)
            return
        try:
            await _attend(socket, service, line, viewer)
        finally:
            line.leave(viewer)
    except (WebSocketDisconnect, RuntimeError) as gone:
        # Starlette raises the latter where something is sent to whoever has just gone.
        log.debug("somebody left a console: %s", gone)


async def _enter(service: Service, caller: Principal, name: str) -> tuple[Line, Viewer]:
    instance_uuid, node_uuid = await _running(service, caller, name)
    return service.consoles.enter(instance_uuid, node_uuid, caller, may_type=_may_type(caller))


async def _running(service: Service, caller: Principal, name: str) -> tuple[str, str]:
    """The instance and the node whose console runs.

    Raises:
        InstanceNotFound: there is none, or it is not his.
        Refusal: its console does not run.
    """
    instance, node = await to_thread.run_sync(lambda: find(service, caller, name, afresh=True))
    if not node.console_enabled:
        # It may have been started a moment ago.
        await to_thread.run_sync(service.following.look, node.uuid)
        instance, node = find(service, caller, instance.uuid)
    if not node.console_enabled:
        raise Refusal(409, "ConsoleOff", "no console runs; start it first")
    return instance.uuid, node.uuid


def _may_type(caller: Principal) -> bool:
    return caller.role >= Role.MEMBER


async def _attend(socket: WebSocket, service: Service, line: Line, viewer: Viewer) -> None:
    """He was told everything, and what he typed was passed on, until one side ended it."""
    tasks = [
        asyncio.create_task(work)
        for work in (
            _tell(socket, line, viewer),
            _hear(socket, line, viewer),
            _keep_checking(socket, service, line, viewer),
        )
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(socket: WebSocket, line: Line, viewer: Viewer) -> None:
    # review: it ends with the line, or is cancelled when the viewer leaves
    while True:
        viewer.rouse.clear()
        lost, said = line.said.after(viewer.place, _SENT_AT_ONCE_BYTES)
        viewer.place += lost + len(said)
        if lost:
            await socket.send_text(json.dumps({"lost": lost}))
        if said:
            await socket.send_bytes(said)
        now = line.shown_to(viewer)
        if now != viewer.told:
            viewer.told = now
            await socket.send_text(json.dumps(now))
        if viewer.place < line.said.end:
            continue
        if line.standing is Standing.ENDED:
            await socket.close(_OVER)
            return
        await viewer.rouse.wait()


async def _hear(socket: WebSocket, line: Line, viewer: Viewer) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if typed := message.get("bytes"):
            await line.type(viewer, typed)
        elif text := message.get("text"):
            _obey(text, line, viewer)


def _obey(text: str, line: Line, viewer: Viewer) -> None:
    """What he wants of the line is done, if he may; what is not understood is passed over."""
    wanted: object = None
    with contextlib.suppress(ValueError, RecursionError):
        wanted = json.loads(text)
    match wanted:
        case {"do": "type"} if _may_type(viewer.principal):
            before = line.typist.principal.name if line.typist is not None else None
            line.give_typing(viewer)
            call = {"actor": viewer.principal.name, "instance": line.instance_uuid, "before": before}
            audit_log.info("%(actor)s types on the console of %(instance)s", call, extra={"call": call})
        case {"do": "watch"} if line.typist is viewer:
            line.give_typing(None)


async def _keep_checking(socket: WebSocket, service: Service, line: Line, viewer: Viewer) -> None:
    """He still is who he was, and may still see the instance; returns when not, having told him."""
    # review: it is cancelled when the viewer leaves
    while (caller := await _still_there(socket, service, line.instance_uuid)) is not None:
        viewer.principal = caller
        if line.typist is viewer and not _may_type(caller):
            line.give_typing(None)
    await socket.send_text(json.dumps({"standing": Standing.ENDED.value, "reason": _NO_MORE}))
    await socket.close(_OVER)
