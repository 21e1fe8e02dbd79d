"""`serve`: the HTTP service, until it is told to end."""

from __future__ import annotations

import logging
import os
import socket
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

import typer

from bloomery.bus import TOPIC, BusAddress
from bloomery.doors.cli.cloud import invocation_of
from bloomery.doors.cli.output import note
from bloomery.errors import InvalidRequest, NotSupported
from bloomery.secret import Secret

app = typer.Typer()

_WHO = "Who may"
_LOG = "Log"
_HOW = "How"


@app.command()
def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="The port; 0 takes a free one.", min=0, max=65535)] = 8780,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A further name under which it is reached, such as a proxy's; may be repeated.",
                     show_default=False),
    ] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option("--proxy", metavar="CIDR", show_default=False,
                     help="Where proxies in front are, whose X-Forwarded-For is believed; may be repeated."),
    ] = None,
    state: Annotated[
        Path, typer.Option("--state", help="Folder for its log, which nobody else may read.", rich_help_panel=_LOG)
    ] = Path(".bloomery"),
    database: Annotated[
        str | None,
        typer.Option(
            "--database", envvar="BLOOMERY_DATABASE", metavar="URL", show_default=False, show_envvar=True,
            help="postgresql://... instead, shared by replicas; better in the variable, where other users cannot see it.",
            rich_help_panel=_LOG,
        ),
    ] = None,
    keep_days: Annotated[
        float, typer.Option("--keep-days", help="How long events and the audit are kept.", rich_help_panel=_LOG)
    ] = 90,
    keep_rows: Annotated[
        int, typer.Option("--keep-rows", help="And so many of each at most.", min=1000, rich_help_panel=_LOG)
    ] = 1_000_000,
    keep_mib: Annotated[
        int, typer.Option("--keep-mib", help="And so much of all of it; the oldest go first.", min=16, rich_help_panel=_LOG)
    ] = 4096,
    auth: Annotated[
        str, typer.Option("--auth", help="none (loopback only), basic or keystone.", rich_help_panel=_WHO)
    ] = "none",
    users: Annotated[
        Path | None,
        typer.Option("--users", metavar="FILE", help="For basic: names and bcrypt hashes, as Ironic has them.",
                     show_default=False, rich_help_panel=_WHO),
    ] = None,
    roles: Annotated[
        Path | None,
        typer.Option("--roles", metavar="FILE", show_default=False, rich_help_panel=_WHO,
                     help="For basic: lines `name: role [project]`; without it every user is an administrator."),
    ] = None,
    keystone_config: Annotated[
        Path | None,
        typer.Option("--keystone-config", metavar="FILE", help="For keystone: a file with [keystone_authtoken].",
                     show_default=False, rich_help_panel=_WHO),
    ] = None,
    admin_projects: Annotated[
        list[str] | None,
        typer.Option("--admin-project", metavar="ID", show_default=False, rich_help_panel=_WHO,
                     help="For keystone: a project whose administrators administer the whole; may be repeated."),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option("--tls-certificate", metavar="FILE", help="Serve HTTPS with this certificate.",
                     show_default=False, rich_help_panel=_WHO),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="And this key.", show_default=False, rich_help_panel=_WHO),
    ] = None,
    open_metrics: Annotated[
        bool, typer.Option("--open-metrics", help="Ask nobody who he is at /metrics.", rich_help_panel=_WHO)
    ] = False,
    rate: Annotated[
        float, typer.Option("--rate", help="Requests a second for each caller, on average.", rich_help_panel=_WHO)
    ] = 100,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FILE", help="A YAML list of images to offer: name, source, checksum.",
                     show_default=False, rich_help_panel=_HOW),
    ] = None,
    ironic_networks: Annotated[
        list[str] | None,
        typer.Option("--ironic-network", metavar="NETWORK", show_default=False, rich_help_panel=_HOW,
                     help="One that Ironic deploys, cleans or rescues on, which is not offered; may be repeated."),
    ] = None,
    bus: Annotated[
        str | None,
        typer.Option(
            "--bus", envvar="BLOOMERY_BUS", metavar="URL", show_default=False, show_envvar=True, rich_help_panel=_HOW,
            help="rabbit://...: listen to Ironic's notifications; better in the variable, where other users cannot see it.",
        ),
    ] = None,
    bus_pool: Annotated[
        str | None,
        typer.Option("--bus-pool", metavar="QUEUE", show_default=False, rich_help_panel=_HOW,
                     help="The queue of this process for them; bloomery-serve-HOST-PORT if not given."),
    ] = None,
    bus_topic: Annotated[
        str, typer.Option("--bus-topic", help="Ironic's versioned_notifications_topics.", rich_help_panel=_HOW)
    ] = TOPIC,
    refresh: Annotated[
        float, typer.Option("--refresh", metavar="SECONDS", help="How often Ironic is asked what has changed.",
                            rich_help_panel=_HOW)
    ] = 2,
    at_once: Annotated[
        int, typer.Option("--at-once", help="How many operations are worked on at a time.", min=1, rich_help_panel=_HOW)
    ] = 32,
    janitor: Annotated[
        bool,
        typer.Option("--janitor/--no-janitor", rich_help_panel=_HOW,
                     help="Clean what is certainly left of instances and operations that are gone, in the background."),
    ] = True,
    janitor_every: Annotated[
        float, typer.Option("--janitor-every", metavar="SECONDS", help="From one of its looks to the next.", min=1,
                            rich_help_panel=_HOW)
    ] = 300,
    janitor_rate: Annotated[
        float, typer.Option("--janitor-rate", metavar="N", help="What it asks of the services in a second at most.",
                            min=0.1, rich_help_panel=_HOW)
    ] = 5,
    webhook_networks: Annotated[
        list[str] | None,
        typer.Option("--webhook-network", metavar="CIDR", show_default=False, rich_help_panel=_HOW,
                     help="Loopback or link-local addresses that webhooks may go to all the same; may be repeated."),
    ] = None,
) -> None:  # fmt: skip
    """Serve instances over HTTP: an API, a page, events, webhooks and metrics. Logs are JSON on stderr."""
    try:
        from bloomery.doors.http.logs import log_as_json
        from bloomery.doors.http.server import serve as serve_http
        from bloomery.doors.http.settings import Auth, Settings
    except ModuleNotFoundError as missing:
        raise NotSupported(
            "the service's packages are not installed",
            reason=f"there is no {missing.name}",
            advice="`pip install 'bloomery[http]'` installs them",
        ) from None
    if auth not in list(Auth):
        raise InvalidRequest(f"--auth {auth!r} is none of {', '.join(Auth)}")
    pool = bus_pool or f"bloomery-serve-{socket.gethostname()}-{port}"
    settings = Settings(
        host=host,
        port=port,
        hosts=tuple(names or ()),
        proxies=_networks("--proxy", proxies),
        state=state,
        database=Secret(database) if database is not None else None,
        auth=Auth(auth),
        users=users,
        roles=roles,
        keystone=keystone_config,
        admin_projects=tuple(admin_projects or ()),
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        open_metrics=open_metrics,
        images=images,
        ironic_networks=tuple(ironic_networks or ()),
        bus=BusAddress.of(bus, pool=pool, topic=bus_topic) if bus is not None else None,
        refresh_s=refresh,
        at_once=at_once,
        rate_per_s=rate,
        burst=max(1, int(4 * rate)),
        keep_days=keep_days,
        keep_rows=keep_rows,
        keep_mib=keep_mib,
        webhook_networks=_networks("--webhook-network", webhook_networks),
        janitor=janitor,
        janitor_every_s=janitor_every,
        janitor_requests_per_s=janitor_rate,
    )
    # Not in its children's environment, nor in what a crash would show.
    for name in ("BLOOMERY_DATABASE", "BLOOMERY_BUS"):
        os.environ.pop(name, None)
    invocation = invocation_of(ctx)
    log_as_json(logging.DEBUG if invocation.is_debugging else logging.INFO)
    serve_http(lambda: invocation.api, settings, lambda url: note(f"serving on {url}"))


def _networks(option: str, given: list[str] | None) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(text) for text in given or ())
    except ValueError as problem:
        raise InvalidRequest(
            f"{option} is no network", reason=str(problem), advice="127.0.0.0/8 would be one"
        ) from None
