"""The client: the library over HTTP, with its results and its errors; and the command through it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests

from bloomery import errors
from bloomery.deadline import Cancellation
from bloomery.doors.cli.app import main
from bloomery.doors.http.client import ServiceClient, connect, deploy_body, rebuild_body
from bloomery.doors.http.schemas import DeployBody, RebuildBody
from bloomery.doors.http.settings import Auth
from bloomery.errors import BloomeryError
from bloomery.fleet import Wanted
from bloomery.library import Bloomery
from bloomery.operations.rebuild import RebuildRequest
from bloomery.operations.request import DeployRequest, Guest, Image, Nic, Volume
from bloomery.operations.run import Progress
from bloomery.secret import Secret
from bloomery.testing import Timings
from doors_http.http_site import CHECKSUM, Site, cloud, connected, served
from doors_http.test_identity import basic, files

__all__ = ["files"]

IMAGE = Image.named("http://127.0.0.1/images/x.raw", checksum=CHECKSUM)
REQUEST = DeployRequest(
    name="web-1", image=IMAGE, wanted=Wanted(resource_class="small"), nics=(Nic(network="private"),)
)
FULL = DeployRequest(
    name="full",
    image=Image.named("http://127.0.0.1/p.raw", checksum=CHECKSUM, kernel="http://127.0.0.1/k", ramdisk="http://127.0.0.1/r"),
    node="node-1",
    wanted=Wanted(
        resource_class="small", traits=("CUSTOM_A",), capabilities={"a": "b"}, owner="p", conductor_group="g",
        candidates=("node-1",),
    ),
    nics=(Nic(network="private", fixed_ip="192.0.2.9", security_groups=("web",), on="bond0"), Nic(vif="v"), Nic(subnet="s")),
    volumes=(Volume(volume_id="v", volume_type="nvmeof", boot_index=3, properties=Secret({"auth_password": "x"})),),
    guest=Guest.of(
        ssh_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0Nj3E0y9c1hB8oZ3Z9a2k0l4m5n6o7p8q9r0s1t2u3 me",),
        user_data=b"\x00\xff", vendor_data={"a": [1]}, meta={"k": "v"}, files={"/etc/motd": Secret(b"\xfe")},
        admin_password=Secret("hunter2"), as_image=True, dhcp=False,
    ),
    root_gib=10, swap_mib=512, ephemeral_gib=5, ephemeral_format="ext4",
    instance_capabilities={"boot_mode": "uefi"}, root_device={"serial": "S1"},
    deploy_steps=({"interface": "bios", "step": "apply", "args": {}, "priority": 150},),
    owner="p",
)  # fmt: skip


@pytest.fixture
def client(site: Site) -> Iterator[ServiceClient]:
    client = connect(site.url)
    yield client
    client.close()


NOT_THE_CLIENTS = [
    (name, method)
    for name, method in inspect.getmembers(Bloomery, inspect.isfunction)
    # why_not is made of another method, which the client has.
    if not name.startswith("_") and name not in vars(ServiceClient) and name != "why_not"
]


@pytest.mark.parametrize(("name", "method"), NOT_THE_CLIENTS, ids=[name for name, _ in NOT_THE_CLIENTS])
def test_a_method_of_the_library_that_a_service_does_not_offer_says_so(
    name: str, method: Callable[..., object]
) -> None:
    client = ServiceClient("http://127.0.0.1:1", requests.Session())
    needed = [one for one in inspect.signature(method).parameters.values() if one.default is one.empty]

    def call() -> None:
        found = getattr(client, name)(*("x" for _ in needed[1:]))
        if isinstance(found, AbstractContextManager):
            found.__enter__()

    with pytest.raises(errors.NotSupported, match="does not offer"):
        call()


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        FULL,
        DeployRequest(node="n", image=Image.iso("http://127.0.0.1/x.iso")),
        DeployRequest(node="n", image=Image.in_memory(kernel="http://h/k", ramdisk="http://h/r")),
        DeployRequest(node="n", image=Image.named("debian-13"), guest=Guest(config_drive=False)),
        DeployRequest(node="n", image=Image.named("http://h/x.raw", checksum="http://h/SHA256SUMS")),
        DeployRequest(
            node="n", image=Image.named("http://h/x.ext4", checksum="http://h/SHA256SUMS", is_partition=True)
        ),
    ],
)
def test_a_request_arrives_as_it_was(request_: DeployRequest) -> None:
    body = DeployBody.model_validate(deploy_body(request_))
    assert body.to_core(instance_uuid=None, owner=request_.owner) == request_


def test_a_rebuild_arrives_as_it_was() -> None:
    for request in (
        RebuildRequest(),
        RebuildRequest(image=IMAGE, guest=Guest(meta={"a": "b"}), preserve_ephemeral=True),
    ):
        assert RebuildBody.model_validate(rebuild_body(request)).to_core() == request


def test_an_instance_lives_as_with_the_library(client: ServiceClient, site: Site) -> None:
    steps: list[Progress] = []
    instance = client.deploy(REQUEST, on_progress=steps.append)
    straight = connected(site.ironic, site.neutron)
    assert instance == straight.show("web-1")
    assert steps[-1].operation == "deploy"
    assert [one.name for one in client.instances()] == ["web-1"]
    assert client.problems("web-1") == []
    client.power_off("web-1")
    assert client.show("web-1").power_state == "power off"
    target = client.attach_volume("web-1", Volume(volume_id="v-1", boot_index=1))
    assert [one.uuid for one in client.volume_targets("web-1")] == [target.uuid]
    client.detach_volume("web-1", "v-1")
    client.power_on("web-1")
    client.reboot("web-1")
    vif = client.attach_interface("web-1", Nic(network="storage"))
    assert {one.network for one in client.interfaces("web-1")} == {"private", "storage"}
    client.detach_interface("web-1", vif.vif_id)
    client.add_security_group("web-1", "web")
    ((_, groups),) = client.security_groups("web-1")
    assert "web" in {group.name for group in groups}
    client.remove_security_group("web-1", "web")
    assert client.console("web-1") is None
    assert not client.console_runs("web-1")
    assert client.enable_console("web-1").url.startswith("tcp://")
    assert client.console_runs("web-1")
    client.disable_console("web-1", force=True)
    client.crash_dump("web-1")
    assert client.rescue("web-1", Secret("chosen")).reveal() == "chosen"
    client.unrescue("web-1")
    assert client.rebuild("web-1").uuid == instance.uuid
    assert client.adopt("web-1").uuid == instance.uuid
    client.destroy("web-1", wait_for_cleaning=True)
    with pytest.raises(errors.InstanceNotFound):
        client.show("web-1")


def test_nodes_are_seen_as_with_the_library(client: ServiceClient, site: Site) -> None:
    straight = connected(site.ironic, site.neutron)
    wanted = Wanted(resource_class="large")
    assert client.why_not(wanted) == straight.why_not(wanted)
    assert {node.uuid for node in client.fleet({"provision_state": "available"}).nodes} == {
        node.uuid for node in straight.fleet().nodes
    }
    assert client.node("node-1").uuid == straight.node("node-1").uuid
    assert client.validate_node("node-1") == straight.validate_node("node-1")
    assert client.history("node-1") == []
    assert client.firmware("node-1") == straight.firmware("node-1") == []
    assert {network.name for network in client.networks()} == {"private", "storage"}
    with pytest.raises(errors.NotSupported):
        client.fleet({"shard": "x"})


def test_the_librarys_errors_come_through(client: ServiceClient) -> None:
    with pytest.raises(errors.NoNodeFits) as none:
        client.deploy(DeployRequest(image=IMAGE, wanted=Wanted(resource_class="large")))
    assert none.value.refusals
    assert none.value.step == "find node"
    with pytest.raises(errors.NodeNotFound):
        client.node("nope")
    with pytest.raises(errors.InvalidRequest, match="IP"):
        client.deploy(DeployRequest(image=IMAGE, node="node-1", nics=(Nic(network="private", fixed_ip="203.0.113.1"),)))


def test_a_cancellation_cancels_the_operation_and_it_is_undone(client: ServiceClient, site: Site) -> None:
    site.ironic.timings = Timings(agent_s=60.0)
    cancellation = Cancellation()

    def cancel_once_it_waits(progress: Progress) -> None:
        if progress.state == "wait call-back":
            site.ironic.timings = Timings()
            cancellation.cancel()

    with pytest.raises(errors.OperationCancelled):
        client.deploy(REQUEST, cancellation=cancellation, on_progress=cancel_once_it_waits)
    assert client.instances() == []


def test_without_waiting_it_returns_when_ironic_has_taken_it_up(client: ServiceClient, site: Site) -> None:
    site.ironic.timings = Timings(agent_s=1.0)
    assert client.deploy(REQUEST, wait=False).state in ("deploying", "wait call-back", "active")


def test_a_service_that_is_not_there_is_said_not_to_be() -> None:
    with pytest.raises(errors.ServiceUnavailable, match="cannot be reached"):
        connect("http://127.0.0.1:1")


def test_something_else_that_answers_is_not_taken_for_a_service(site: Site) -> None:
    with pytest.raises(BloomeryError, match="not as a service"):
        connect(site.ironic.url)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8780", "http://", "http://alice:hunter2@127.0.0.1"])
def test_an_address_that_is_none_is_refused_and_its_password_not_repeated(url: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refusal:
        connect(url)
    assert "hunter2" not in str(refusal.value)


@pytest.fixture
def guarded(files: dict[str, Path], tmp_path: Path) -> Iterator[Site]:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, auth=Auth.BASIC, **files) as site:
        yield site


def test_a_name_and_a_password_let_one_in(guarded: Site) -> None:
    assert connect(guarded.url, user="root", password=Secret("root-password")).instances() == []
    with pytest.raises(errors.AccessDenied):
        connect(guarded.url, user="root", password=Secret("wrong"))
    with pytest.raises(errors.AccessDenied):
        connect(guarded.url)
    reader = connect(guarded.url, user="auditor", password=Secret("auditor-password"))
    with pytest.raises(errors.AccessDenied):
        reader.deploy(REQUEST)
    assert basic("root")


# The command


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_the_command_works_through_a_service(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BLOOMERY_SERVICE", site.url)

    def run(*arguments: str) -> str:
        code, out, err = command(monkeypatch, capsys, *arguments)
        assert code == 0, err
        return out

    deploy = ["deploy", "web-1", "--resource-class", "small", "--network", "private"]
    assert "active" in run(*deploy, "--image", str(IMAGE.source), "--checksum", CHECKSUM)
    assert "web-1" in run("list")
    assert "192.0.2." in run("show", "web-1")
    assert "node-0" in run("nodes", "--why-not", "--resource-class", "large")
    run("reboot", "web-1")
    run("destroy", "web-1", "--yes")
    code, _, err = command(monkeypatch, capsys, "show", "web-1")
    assert (code, "no instance" in err) == (3, True)
    code, _, err = command(monkeypatch, capsys, "janitor", "--once")
    assert code == 11, err


def test_the_address_may_be_an_option(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(monkeypatch, capsys, "nodes", "--service", site.url, "-f", "json")
    assert code == 0
    assert "node-2" in out
