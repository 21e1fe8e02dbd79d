"""A real Ironic and a real Neutron that ask who is there, and by their policies what he may do.

Both check tokens with keystonemiddleware, as they do in a cloud; who issues them is a stand-in for Keystone. The nodes are of
fake hardware: rights are the API's matter.
"""

from __future__ import annotations

import configparser
import contextlib
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import requests
import yaml
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from bloomery import Bloomery, connect
from bloomery.lab import Kind, Options, ironic, neutron
from bloomery.lab.enrol import enrol, plan
from bloomery.lab.service import RunningService, Service, start, stop, tail
from nova_site.neighbours import Identity, Volumes, application, project_id

UP_S = 180.0
ROLE = "bloomery"
PROJECT = "ops"
_SERVICES = {"ironic": ("admin", "service"), "neutron": ("admin", "service"), "admin": ("admin", "member", "reader")}


class Keystone(Identity):
    """Tokens for the services and an administrator; whoever else comes has one role, and no right but what policies give it."""

    def _token(self, token: str) -> dict[str, Any]:
        answer = super()._token(token)
        roles = _SERVICES.get(answer["token"]["user"]["name"], (ROLE,))
        answer["token"]["roles"] = [{"id": role, "name": role} for role in roles]
        return answer


class _Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *_args: Any) -> None:
        pass


@dataclass(frozen=True)
class GuardedSite:
    """The two services, and what their policies say.

    Attributes:
        urls: where everything is: `ironic`, `neutron`, `identity`.
        folder: everything's files.
        nodes: the nodes' UUIDs.
        rules: by service, every right that it knows.
    """

    urls: Mapping[str, str]
    folder: Path
    nodes: tuple[str, ...]
    rules: Mapping[str, frozenset[str]]

    def allow(self, service: str, rules: Iterable[str]) -> None:
        """The role may do this, and nothing else, at the service: `ironic` or `neutron`."""
        allowed = set(rules)
        assert allowed <= self.rules[service], allowed - self.rules[service]
        policy = {
            rule: f"role:admin or role:service{f' or role:{ROLE}' if rule in allowed else ''}"
            for rule in self.rules[service]
        }
        text, file = yaml.safe_dump(policy), self.folder / service / "policy.yaml"
        if file.exists() and file.read_text() == text:
            return  # with another date, it would take the service half a second to read it again
        draft = self.folder / service / "policy.draft"
        draft.write_text(text)
        # In one piece, and with another date than before: the services look at it before each decision.
        draft.rename(file)

    def session(self, user: str) -> Session:
        """A session of that user, in the project."""
        auth = Password(
            auth_url=self.urls["identity"], username=user, password="any", project_name=PROJECT,
            user_domain_id="default", project_domain_id="default",
        )  # fmt: skip
        return Session(auth, timeout=60)

    def api(self, user: str = "ada") -> Bloomery:
        """What that user has of Bloomery."""
        return connect(session=self.session(user), timeout_s=60.0)

    def ask(self, service: str, path: str) -> Any:
        """What an administrator is told."""
        version = {"X-OpenStack-Ironic-API-Version": "1.104"} if service == "ironic" else {}
        reply = self.session("admin").get(f"{self.urls[service]}{path}", headers=version)
        return reply.json()

    def change(self, node_uuid: str, *patch: Mapping[str, object]) -> None:
        """An administrator has changed the node so."""
        version = {"X-OpenStack-Ironic-API-Version": "1.104"}
        self.session("admin").patch(f"{self.urls['ironic']}/v1/nodes/{node_uuid}", json=list(patch), headers=version)

    def remains(self) -> list[str]:
        """What is on the nodes, or in Neutron, that was not there before any instance."""
        found: list[str] = []
        for uuid in self.nodes:
            node = self.ask("ironic", f"/v1/nodes/{uuid}")
            names = ("instance_uuid", "instance_info", "extra", "maintenance", "lessee")
            found += [f"{node['name']} has {name} {node[name]}" for name in names if node[name]]
            if node["provision_state"] != "available":
                found.append(f"{node['name']} is {node['provision_state']}")
        found += [f"{node_uuid} has VIF {vif}" for node_uuid, vif in self.plugged()]
        found += [f"allocation {one['uuid']}" for one in self.ask("ironic", "/v1/allocations")["allocations"]]
        targets = self.ask("ironic", "/v1/volume/targets")["targets"]
        ports = self.ask("neutron", "/v2.0/ports?device_owner=baremetal:none")["ports"]
        return found + [f"volume target {one['uuid']}" for one in targets] + [f"port {one['id']}" for one in ports]

    def plugged(self) -> list[tuple[str, str]]:
        """Node and VIF of every VIF that is plugged, from lists of all nodes: asked for its VIFs, a node takes half a second."""
        nics = [nic for kind in ("ports", "portgroups") for nic in self.ask("ironic", f"/v1/{kind}/detail")[kind]]
        found = ((nic["node_uuid"], nic["internal_info"].get("tenant_vif_port_id")) for nic in nics)
        return sorted((node_uuid, vif) for node_uuid, vif in found if vif is not None)

    def await_nothing(self) -> None:
        """Nothing of any instance is left, at the latest when the nodes are clean."""
        deadline = time.monotonic() + UP_S
        while found := self.remains():
            assert time.monotonic() < deadline, found
            time.sleep(0.2)


_NAMES = {
    "ironic": "from ironic.common.policy import list_policies as rules",
    "neutron": "from neutron.conf.policies import list_rules as rules",
}


def _rules_of(service: str) -> frozenset[str]:
    """Every right that the service knows; its rules that only others refer to left out."""
    # In a process of its own: no process can have the options of both.
    program = (
        f"{_NAMES[service]}; print(*[rule.name for rule in rules() if type(rule).__name__ == 'DocumentedRuleDefault'])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, timeout=UP_S
    )
    return frozenset(done.stdout.splitlines()[-1].split())


@contextmanager
def guarded_site(folder: Path) -> Iterator[GuardedSite]:
    """The site is up within the block."""
    ports = dict(zip(("ironic", "neutron", "identity", "images"), _free_ports(4), strict=True))
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    urls = {**at, "identity": f"{at['identity']}/identity/v3"}
    (folder / "logs").mkdir(parents=True)
    options = Options(nodes=2, kind=Kind.FAKE)
    nodes = plan(options)
    services = {
        "neutron": neutron.prepare(folder, port=ports["neutron"]),
        "ironic": ironic.prepare(
            folder,
            port=ports["ironic"],
            options=options,
            images_folder=folder,
            images_url=urls["images"],
            neutron_url=urls["neutron"],
        ),
    }
    running: list[RunningService] = []
    catalog = {"identity": urls["identity"], "baremetal": urls["ironic"], "network": urls["neutron"]}
    keystone = make_server(
        "127.0.0.1",
        ports["identity"],
        application(
            Keystone(catalog),
            Volumes({}),
        ),
        server_class=_Threads,
        handler_class=_Silent,
    )
    threading.Thread(target=keystone.serve_forever, daemon=True).start()
    try:
        # Filled while anybody may come in, then shut.
        running += _started(services, folder)
        networks = neutron.networks(urls["neutron"])
        for name in ("private", "storage"):
            _change(urls["neutron"], "PUT", f"networks/{networks.tenant[name]}", {"network": {"shared": True}})
        _change(
            urls["neutron"],
            "POST",
            "security-groups",
            {"security_group": {"name": "web", "project_id": project_id(PROJECT)}},
        )
        enrol(
            nodes,
            ironic_url=urls["ironic"],
            bmc_url=None,
            serial_port=None,
            images={},
            networks=networks,
            timeout_s=UP_S,
        )
        for node in nodes:
            # Ironic gives a project's users only nodes of theirs where it chooses.
            values = {"storage_interface": "external", "owner": project_id(PROJECT)}
            patch: list[dict[str, object]] = [
                {"op": "add", "path": f"/{name}", "value": value} for name, value in values.items()
            ]
            _patch(urls["ironic"], node.uuid, patch)
        stop(running, grace_s=5.0)
        running.clear()
        _shut(folder / "ironic" / "ironic.conf", "ironic", urls)
        _shut(folder / "neutron" / "neutron.conf", "neutron", urls)
        site = GuardedSite(
            urls,
            folder,
            tuple(node.uuid for node in nodes),
            {service: _rules_of(service) for service in _NAMES},
        )
        for service in ("ironic", "neutron"):
            site.allow(service, ())
        running += _started(services, folder)
        yield site
    finally:
        stop(running, grace_s=5.0)
        keystone.shutdown()
        keystone.server_close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        opened = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for candidate in opened:
            candidate.bind(("127.0.0.1", 0))
        return [candidate.getsockname()[1] for candidate in opened]


def _started(services: Mapping[str, Service], folder: Path) -> list[RunningService]:
    running = [start(service, logs=folder / "logs") for service in services.values()]
    deadline = time.monotonic() + UP_S
    for one in running:
        while not _answers(one.service):
            assert time.monotonic() < deadline, tail(one.log, lines=20)
            assert not one.has_ended(), tail(one.log, lines=20)
            time.sleep(0.2)
    return running


def _answers(service: Service) -> bool:
    """Whether the service says anything, be it that it does not know us."""
    url = service.is_ready.args[0]  # type: ignore[attr-defined]
    try:
        return requests.get(url, timeout=10).status_code < 500
    except requests.RequestException:
        return False


def _change(url: str, method: str, path: str, body: object) -> None:
    reply = requests.request(method, f"{url}/v2.0/{path}", json=body, timeout=60)
    assert reply.ok, reply.text


def _patch(url: str, node_uuid: str, patch: list[dict[str, object]]) -> None:
    reply = requests.patch(
        f"{url}/v1/nodes/{node_uuid}", json=patch, headers={"X-OpenStack-Ironic-API-Version": "1.104"}, timeout=60
    )
    assert reply.ok, reply.text


def _shut(config: Path, name: str, urls: Mapping[str, str]) -> None:
    """The service asks everybody for a token, and its policy file what the token's owner may do."""
    parser = configparser.RawConfigParser()
    parser.read(config)
    own = {
        "auth_type": "password",
        "auth_url": urls["identity"],
        "username": name,
        "password": "any",
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    more: dict[str, dict[str, str]] = {
        "DEFAULT": {"auth_strategy": "keystone"},
        "keystone_authtoken": {**own, "www_authenticate_uri": urls["identity"], "token_cache_time": "-1"},
        "oslo_policy": {"policy_file": str(config.parent / "policy.yaml"), "enforce_scope": "false"},
    }
    if name == "ironic":
        more["neutron"] = {**own, "auth_type": "password", "endpoint_override": urls["neutron"]}
    for section, values in more.items():
        if section != "DEFAULT" and not parser.has_section(section):
            parser.add_section(section)
        for key, value in values.items():
            parser.set(section, key, value)
    with config.open("w") as file:
        parser.write(file)
