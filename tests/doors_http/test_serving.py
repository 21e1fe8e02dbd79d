"""How it is served: TLS, logs, health, images; and the command that starts it."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bloomery import errors
from bloomery.doors.http.client import connect
from bloomery.doors.http.context import on_behalf_of
from bloomery.doors.http.following import View
from bloomery.doors.http.logs import JsonLines
from bloomery.testing import IronicSimulator, NeutronSimulator
from doors_http.http_site import DEPLOY, IMAGE, Site, cloud, connected, served


def certificate(folder: Path) -> dict[str, Path]:
    """A certificate for loopback that its own owner has signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2999, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = {"tls_certificate": folder / "certificate.pem", "tls_key": folder / "key.pem"}
    files["tls_certificate"].write_bytes(signed.public_bytes(pem))
    files["tls_key"].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_over_tls_it_is_reached_by_those_who_trust_it(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    options = ["--tls-certificate", str(files["tls_certificate"]), "--tls-key", str(files["tls_key"])]
    with cloud() as (ironic, neutron), commanded(ironic, neutron, tmp_path, *options) as (url, _, _lines):
        assert url.startswith("https://")
        trusted = str(files["tls_certificate"])
        client = connect(url, verify=trusted)
        assert client.instances() == []
        client.close()
        answer = requests.get(f"{url}/healthz", verify=trusted, timeout=10)
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        with pytest.raises(errors.ServiceUnavailable, match="not trusted"):
            connect(url)


def test_a_log_line_is_an_object_with_the_requests_id_and_on_one_line() -> None:
    record = logging.LogRecord("bloomery.x", logging.WARNING, "f", 1, "two\nlines of %s", ("x",), None)
    with on_behalf_of("req-1"):
        line = JsonLines().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["message"], found["level"], found["request_id"]) == ("two\nlines of x", "warning", "req-1")


def test_it_says_that_it_lives_and_that_it_can_be_used(site: Site) -> None:
    assert site.ask("GET", "/healthz").text == "ok\n"
    assert site.ask("GET", "/readyz").text == "ready\n"
    # As if nothing had been seen yet.
    site.server.service.following.stop()
    site.server.service.following.view = View()
    assert site.ask("GET", "/readyz").status_code == 503


def test_images_are_those_of_the_catalogue_and_those_that_instances_boot(tmp_path: Path) -> None:
    catalogue = tmp_path / "images.yaml"
    catalogue.write_text(
        "- {name: debian-13, source: https://images.example/d.raw, checksum: https://images.example/S}\n"
        "- {name: debian-fs, source: https://images.example/d.ext4, checksum: https://images.example/S, is_partition: true}\n"
    )
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, images=catalogue) as site:
        site.deployed()
        listed = site.get("/v1/images")["images"]
        assert [row["name"] for row in listed if row["is_partition"]] == ["debian-fs"]
        rows = {row["origin"]: row for row in reversed(listed)}
        assert (rows["catalogue"]["name"], rows["catalogue"]["source"]) == ("debian-13", "https://images.example/d.raw")
        again = {key: rows["instances"][key] for key in ("source", "checksum")}
        assert again == IMAGE
        site.done("POST", "/v1/instances", {**DEPLOY, "name": "web-2", "image": again})


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "- x",
        "- {name: a}",
        "- {name: a, source: b, colour: c}",
        "- {name: a, source: b, is_partition: very}",
        "a: [",
        "\xff",
    ],
)
def test_a_catalogue_that_makes_no_sense_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    catalogue = tmp_path / "images.yaml"
    catalogue.write_bytes(content.encode("latin-1"))
    with (
        cloud(nodes=0) as (ironic, neutron),
        pytest.raises(errors.InvalidRequest, match=r"images\.yaml"),
        served(ironic, neutron, tmp_path, images=catalogue),
    ):
        pass


def test_the_fleet_at_a_glance_and_what_needs_a_hand(site: Site) -> None:
    site.deployed()
    site.ironic.set("node-2", maintenance=True, maintenance_reason="new fan")
    site.wait_for(lambda: bool(site.get("/v1/fleet")["in_trouble"]))
    fleet = site.get("/v1/fleet")
    assert (fleet["nodes"], fleet["instances"], sum(fleet["by_state"].values())) == (3, 1, 3)
    trouble = [(one["name"], one["reasons"]) for one in fleet["in_trouble"]]
    assert trouble == [("node-2", ["it is in maintenance (new fan)"])]
    assert [node["name"] for node in site.get("/v1/nodes?trouble=true")["nodes"]] == ["node-2"]
    assert len(site.get("/v1/nodes?free=true")["nodes"]) == 3 - len(
        {"node-2", site.get("/v1/instances/web-1")["node_name"]}
    )
    assert [node["name"] for node in site.get("/v1/nodes?q=NODE-2")["nodes"]] == ["node-2"]
    assert [node["instance_name"] for node in site.get("/v1/nodes?used=true&q=web")["nodes"]] == ["web-1"]


def test_why_not_counts_those_that_fit_and_says_of_each_other_why_it_does_not(site: Site) -> None:
    site.ironic.set("node-2", maintenance=True, maintenance_reason="new fan")
    site.wait_for(lambda: site.get("/v1/why-not?resource_class=small")["fitting"] == 2)
    found = site.get("/v1/why-not?resource_class=large&trait=CUSTOM_GPU&capability=raid:1")
    assert (found["fitting"], found["total"]) == (0, 3)
    reasons = {node["name"]: node["reasons"] for node in found["nodes"]}
    assert len(reasons["node-0"]) == 3
    assert "it is in maintenance (new fan)" in reasons["node-2"]
    assert "trait" in site.problem(422, "GET", "/v1/why-not?trait=gpu")["detail"]


@contextmanager
def commanded(
    ironic: IronicSimulator, neutron: NeutronSimulator, folder: Path, *options: str
) -> Iterator[tuple[str, subprocess.Popen[str], list[str]]]:
    """`bloomery serve` in a process of its own: its address, the process, and what it has written so far."""
    config = folder / "clouds.yaml"
    config.write_text(
        "clouds:\n  simulated:\n    auth_type: none\n"
        f"    baremetal_endpoint_override: {ironic.url}\n    network_endpoint_override: {neutron.url}\n"
    )
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(config), "OS_CLOUD": "simulated"}
    command = [sys.executable, "-m", "bloomery.doors.cli.app", "serve", "--port", "0", "--state", str(folder / "s")]
    with subprocess.Popen([*command, *options], env=environment, text=True, stderr=subprocess.PIPE) as service:
        assert service.stderr is not None
        lines: list[str] = []
        for line in service.stderr:
            lines.append(line)
            if line.startswith("serving on "):
                break
        try:
            assert lines, "it said nothing"
            yield lines[-1].removeprefix("serving on ").strip(), service, lines
        finally:
            service.terminate()
            lines += service.stderr


def test_the_command_serves_until_it_is_told_to_end_with_logs_in_json(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with commanded(ironic, neutron, tmp_path) as (url, service, lines):
            assert len(requests.get(f"{url}/v1/nodes", timeout=20).json()["nodes"]) == 3
        assert service.wait(30) == 0, lines
        calls = [json.loads(line) for line in lines if line.startswith("{")]
        assert any(call.get("path") == "/v1/nodes" and call["request_id"].startswith("req-") for call in calls)
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_a_port_that_is_taken_is_said_to_be(site: Site, tmp_path: Path) -> None:
    from bloomery.doors.http.server import serve
    from bloomery.doors.http.settings import Settings

    port = int(site.url.rpartition(":")[2])
    with pytest.raises(errors.InvalidRequest, match="cannot be listened on"):
        serve(
            lambda: connected(site.ironic, site.neutron),
            Settings(port=port, state=tmp_path / "other"),
            lambda _url: None,
        )
