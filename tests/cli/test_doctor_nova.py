"""`doctor --nova`: can a nova-compute change to Bloomery's driver, whose is each node, and what is left on free ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from bloomery.doors.cli.nova_conf import NovaConf
from bloomery.testing import Fault, FaultKind, IronicSimulator, RecordedRequest
from bloomery.testing.http_simulator import HttpSimulator, Response
from cli.simulated_cloud import Cloud, on_terminal

HOST = "compute-1"
OURS, THEIRS, STANDALONE, NOBODYS = (f"6728ab4e-27dc-457b-b5d2-d6958180b83{number}" for number in range(4))


class Nova(HttpSimulator):
    """Nova's API, as far as it lists servers."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: list[str] = []
        self.status = 200

    def answer(self, request: RecordedRequest) -> Response:
        """The servers, two to a page."""
        if self.status != 200:
            return Response(self.status, {})
        marker = request.query.get("marker")
        first = self.servers.index(marker) + 1 if marker else 0
        return Response(200, {"servers": [{"id": server} for server in self.servers[first : first + 2]]})


@pytest.fixture
def nova() -> Iterator[Nova]:
    with Nova() as simulator:
        yield simulator


@pytest.fixture
def conf(cloud: Cloud) -> Path:
    """A nova.conf for the simulated Ironic."""
    return write(cloud)


def write(cloud: Cloud, ironic: str = "", *, default: str = "", more: str = "") -> Path:
    """The nova.conf, with these lines more."""
    path = cloud.folder / "nova.conf"
    path.write_text(
        f"[DEFAULT]\ncompute_driver = ironic.IronicDriver\nhost = {HOST}\n{default}\n"
        f"[ironic]\nauth_type = none\nendpoint_override = {cloud.ironic.url}\n{ironic}\n{more}\n"
    )
    return path


def checks(cloud: Cloud, conf: Path, *arguments: str) -> tuple[int, list[tuple[str, str, str]]]:
    result = cloud.run("doctor", "--nova", str(conf), *arguments, "-f", "json")
    return result.code, [(row["check"], row["verdict"], row["found"]) for row in json.loads(result.out)]


def verdicts(cloud: Cloud, conf: Path) -> dict[str, str]:
    """Of each check the worst verdict."""
    worst: dict[str, str] = {}
    for check, verdict, _ in checks(cloud, conf)[1]:
        worst[check] = max(verdict, worst.get(check, ""), key=("", "ok", "warn", "fail").index)
    return worst


def test_where_all_is_well_every_check_is_ok(cloud: Cloud, conf: Path) -> None:
    code, found = checks(cloud, conf)
    assert code == 0
    assert {verdict for _, verdict, _ in found} == {"ok"}
    assert [check for check, _, _ in found] == [
        "nova.conf", "driver", "Nova", "[ironic]", "[bloomery]", "endpoint", "API version", "access", "conductors", "nodes",
        "leftovers",
    ]  # fmt: skip


def test_files_beside_it_are_read_after_it(cloud: Cloud, conf: Path) -> None:
    folder = cloud.folder / "nova.conf.d"
    folder.mkdir()
    (folder / "10-host.conf").write_text("[DEFAULT]\nhost = compute-9\n")
    assert NovaConf([conf]).host == "compute-9"
    assert NovaConf([folder, conf]).host == "compute-9"


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "there is no file"), ("no section = here\n", "cannot be read"), ("[DEFAULT\n", "cannot be read")],
)
def test_a_file_that_is_none_is_named(cloud: Cloud, text: str | None, words: str) -> None:
    path = cloud.folder / "other.conf"
    if text is not None:
        path.write_text(text)
    result = cloud.run("doctor", "--nova", str(path))
    assert result.code == 2
    assert words in result.err
    assert "other.conf" in result.err


@pytest.mark.parametrize("driver", ["libvirt.LibvirtDriver", ""])
def test_a_compute_service_for_something_else_is_refused(cloud: Cloud, driver: str) -> None:
    conf = write(cloud, default=f"compute_driver = {driver}")
    assert verdicts(cloud, conf)["driver"] == "fail"


def test_options_that_nobody_reads_or_that_are_old_or_unused_are_named(cloud: Cloud) -> None:
    conf = write(
        cloud,
        "api_max_retry = 3\npartition_key = \nstatus_code_retries = 5\npeer_list = compute-1",
        default="config_drive_format = vfat",
        more="[bloomery]\ndeploy_timout = 5",
    )
    found = [words for _, verdict, words in checks(cloud, conf)[1] if verdict == "warn"]
    for words in (
        "api_max_retry: no such option",
        "partition_key is a former name",
        "status_code_retries is not used",
        "peer_list is deprecated",
        "config_drive_format is vfat",
        "deploy_timout: no such option",
    ):
        assert any(words in text for text in found), (words, found)


@pytest.mark.parametrize(
    ("ironic", "more"),
    [("api_max_retries = many", ""), ("shard = rack 1", ""), ("", "[bloomery]\nnode_loss_limit = 101")],
)
def test_a_value_that_an_option_does_not_take_fails_the_check(cloud: Cloud, ironic: str, more: str) -> None:
    assert verdicts(cloud, write(cloud, ironic, more=more))["options"] == "fail"


@pytest.mark.parametrize("ironic", ["auth_type = password", "auth_type = guess"])
def test_credentials_that_make_no_sense_fail_the_check(cloud: Cloud, ironic: str) -> None:
    assert verdicts(cloud, write(cloud, ironic))["[ironic]"] == "fail"


def test_a_configuration_without_credentials_fails_the_check(cloud: Cloud) -> None:
    conf = cloud.folder / "empty.conf"
    conf.write_text("[DEFAULT]\ncompute_driver = ironic.IronicDriver\n")
    code, found = checks(cloud, conf)
    assert code == 1
    assert ("[ironic]", "fail", "[ironic] has no credentials: auth_type is missing") in found


def test_an_ironic_that_is_not_there_or_too_old_fails_the_check(cloud: Cloud, conf: Path) -> None:
    with cloud.ironic.unreachable():
        assert verdicts(cloud, conf)["endpoint"] == "fail"
    with IronicSimulator(max_version="1.72") as old:
        assert verdicts(cloud, write(cloud, f"endpoint_override = {old.url}"))["API version"] == "fail"


def test_a_shard_that_ironic_cannot_filter_by_fails_the_check(cloud: Cloud) -> None:
    with IronicSimulator(max_version="1.81") as old:
        conf = write(cloud, f"shard = rack-1\nendpoint_override = {old.url}")
        assert verdicts(cloud, conf)["shard"] == "fail"


@pytest.mark.parametrize("option", ["shard", "conductor_group"])
def test_a_shard_or_conductor_group_without_nodes_is_a_warning(cloud: Cloud, option: str) -> None:
    conf = write(cloud, f"{option} = rack-1\npeer_list = {HOST}")
    assert verdicts(cloud, conf)["scope"] == "warn"
    cloud.ironic.set("node-0", **{option: "rack-1"})
    assert any("1 node of 3 in" in words for _, _, words in checks(cloud, conf)[1])


def test_a_peer_list_that_leaves_out_the_service_fails_the_check(cloud: Cloud) -> None:
    assert verdicts(cloud, write(cloud, "conductor_group = a\npeer_list = compute-2"))["scope"] == "fail"


def of_everybody(cloud: Cloud) -> None:
    """A server of this service, one of another's, an instance of Bloomery's own, and one of nobody's."""
    cloud.ironic.set(
        "node-0",
        provision_state="active",
        instance_uuid=OURS,
        instance_info={"nova_host_id": HOST, "display_name": "a"},
    )
    mark = {"instance_uuid": THEIRS, "manager": "nova", "by": "compute-2"}
    cloud.ironic.set("node-1", provision_state="deploying", instance_uuid=THEIRS, extra={"bloomery": mark})
    cloud.ironic.set(
        "node-2", provision_state="active", instance_uuid=STANDALONE, extra={"bloomery": {"instance_uuid": STANDALONE}}
    )
    cloud.ironic.add_node(name="node-3", provision_state="active", instance_uuid=NOBODYS)
    cloud.ironic.add_node(name="node-4", resource_class=None)


def test_each_node_is_shown_with_whose_it_is_and_what_becomes_of_it(cloud: Cloud, conf: Path) -> None:
    of_everybody(cloud)
    rows = json.loads(cloud.ok("doctor", "--nova", str(conf), "--nodes", "-f", "json"))
    assert {row["node"]: (row["manager"], row["host"], row["with_bloomery"]) for row in rows} == {
        "node-0": ("nova", HOST, "taken over with its server"),
        "node-1": ("nova", "compute-2", "of compute service compute-2"),
        "node-2": ("bloomery", None, "left alone"),
        "node-3": ("other", None, "left alone"),
        "node-4": (None, None, "free to be scheduled to"),
    }
    found = [words for check, _, words in checks(cloud, conf)[1] if check == "nodes"]
    assert found[0].startswith(f"1 server of {HOST} to take over, 1 nodes without an instance; left alone: ")
    assert any("whose it is: node-3" in words for words in found)
    assert any("without resource class: node-4" in words for words in found)


def test_what_is_under_way_on_a_node_of_ours_is_to_be_waited_for(cloud: Cloud, conf: Path) -> None:
    of_everybody(cloud)
    assert not any("under way" in words for _, _, words in checks(cloud, conf)[1]), "node-1 is of another service"
    cloud.ironic.set("node-0", provision_state="wait call-back")
    assert any("under way: node-0" in words for _, _, words in checks(cloud, conf)[1])


def test_a_server_that_nova_does_not_know_is_named(cloud: Cloud, nova: Nova) -> None:
    of_everybody(cloud)
    service_user = f"[service_user]\nauth_type = none\nendpoint_override = {nova.url}"
    conf = write(cloud, more=service_user)
    nova.servers = [THEIRS, STANDALONE, OURS]
    assert verdicts(cloud, conf)["servers"] == "ok"
    nova.servers = [THEIRS, STANDALONE]
    (found,) = [words for check, verdict, words in checks(cloud, conf)[1] if (check, verdict) == ("servers", "warn")]
    assert found == f"Nova does not know the servers on node-0 ({OURS})"


def test_where_nova_cannot_be_asked_nothing_is_said_of_its_servers(cloud: Cloud, conf: Path, nova: Nova) -> None:
    of_everybody(cloud)
    environment = [words for check, _, words in checks(cloud, conf)[1] if check == "servers"]
    assert len(environment) == 1
    assert environment[0].startswith("cannot tell whether Nova knows the 1 server: ")
    nova.status = 403
    conf = write(cloud, more=f"[service_user]\nauth_type = none\nendpoint_override = {nova.url}")
    (found,) = [words for check, _, words in checks(cloud, conf)[1] if check == "servers"]
    assert "403" in found


def with_leftovers(cloud: Cloud) -> tuple[str, str]:
    """A free node with a VIF, a volume target and `instance_info`, and one whose VIF is none of our business."""
    network = cloud.neutron.add_network("tenant")
    left, used = (cloud.neutron.add_port(network, name=name) for name in ("left", "used"))
    cloud.ironic.set("node-0", storage_interface="external", instance_info={"display_name": "gone", "root_gb": 10})
    post(cloud, f"/v1/nodes/{uuid_of(cloud, 'node-0')}/vifs", {"id": left})
    of_an_instance = {"extra": {"bloomery": {"instance_uuid": NOBODYS, "manager": "nova"}}}
    for number, more in enumerate(({}, of_an_instance)):
        target = {"volume_type": "iscsi", "volume_id": f"volume-{number}", "boot_index": number, **more}
        post(cloud, "/v1/volume/targets", {"node_uuid": uuid_of(cloud, "node-0"), **target})
    post(cloud, f"/v1/nodes/{uuid_of(cloud, 'node-1')}/vifs", {"id": used})
    cloud.ironic.set("node-1", provision_state="active", instance_uuid=NOBODYS, instance_info={"display_name": "b"})
    return left, used


def uuid_of(cloud: Cloud, name: str) -> str:
    return str(cloud.ironic.node(name)["uuid"])


def post(cloud: Cloud, path: str, body: object) -> None:
    """Somebody asks Ironic for it."""
    import requests

    reply = requests.post(
        cloud.ironic.url + path, json=body, headers={"X-OpenStack-Ironic-API-Version": "1.81"}, timeout=10
    )
    assert reply.ok, reply.text


def test_what_is_left_on_a_free_node_is_shown_and_removed_with_fix(cloud: Cloud, conf: Path) -> None:
    left, used = with_leftovers(cloud)
    before = cloud.everything()
    (found,) = [words for check, _, words in checks(cloud, conf)[1] if check == "leftovers"]
    assert found == f"node-0 is free, and has VIF {left}, volume volume-1, instance_info (display_name, root_gb)"
    assert cloud.everything() == before, "a check changes nothing"
    cloud.ok("doctor", "--nova", str(conf), "--fix", "--yes")
    assert cloud.ironic.vifs("node-0") == []
    assert [target["volume_id"] for target in cloud.ironic.volume_targets("node-0")] == ["volume-0"]
    assert cloud.ironic.node("node-0")["instance_info"] == {}
    assert cloud.ironic.vifs("node-1") == [used]
    assert cloud.ironic.node("node-1")["instance_info"] == {"display_name": "b"}
    assert len(cloud.neutron.ports()) == 2, "Neutron's ports are not ours to delete"
    assert "nothing is left" in cloud.run("doctor", "--nova", str(conf), "--fix").err


def test_a_volume_target_that_nothing_says_is_ours_is_shown_and_left(cloud: Cloud, conf: Path) -> None:
    with_leftovers(cloud)
    (found,) = [words for check, _, words in checks(cloud, conf)[1] if check == "foreign volumes"]
    assert found == "node-0 is free, and has volume volume-0"
    cloud.ok("doctor", "--nova", str(conf), "--fix", "--yes")
    assert [target["volume_id"] for target in cloud.ironic.volume_targets("node-0")] == ["volume-0"]


def claimed(cloud: Cloud, nova: Nova, **changes: object) -> tuple[Path, str]:
    """node-0 is claimed for a server of this service, with a VIF, and not deployed; Nova knows another one only."""
    vif = cloud.neutron.add_port(cloud.neutron.add_network("tenant"), name="plugged")
    cloud.ironic.set("node-0", instance_uuid=OURS, instance_info={"nova_host_id": HOST, "display_name": "a"})
    post(cloud, f"/v1/nodes/{uuid_of(cloud, 'node-0')}/vifs", {"id": vif})
    cloud.ironic.set("node-0", **changes)
    nova.servers = [THEIRS]
    return write(cloud, more=f"[service_user]\nauth_type = none\nendpoint_override = {nova.url}"), vif


def test_a_claim_for_a_server_that_nova_does_not_know_is_shown_and_taken_away_with_fix(
    cloud: Cloud, nova: Nova
) -> None:
    conf, vif = claimed(cloud, nova)
    before = cloud.everything()
    (found,) = [words for check, verdict, words in checks(cloud, conf)[1] if (check, verdict) == ("claims", "warn")]
    assert found == f"node-0 is claimed for server {OURS}, which Nova does not know, and not deployed"
    assert cloud.everything() == before, "a check changes nothing"
    result = cloud.run("doctor", "--nova", str(conf), "--fix", "--yes")
    assert result.code == 0, result.err
    assert f"node-0: claim for server {OURS}, VIF {vif}" in result.err
    node = cloud.ironic.node("node-0")
    assert (node["instance_uuid"], node["instance_info"], cloud.ironic.vifs("node-0")) == (None, {}, [])
    assert [port["id"] for port in cloud.neutron.ports()] == [vif], "Neutron's ports are not ours to delete"
    assert "claims" not in verdicts(cloud, conf)


@pytest.mark.parametrize(
    "changes",
    [
        {"maintenance": True},
        {"reservation": "conductor-1"},
        {"provision_state": "active"},
        {"provision_state": "wait call-back"},
        {"instance_info": {"nova_host_id": "compute-2"}},
        {"instance_info": {}},
    ],
    ids=str,
)
def test_a_claim_that_may_be_somebodys_stays(cloud: Cloud, nova: Nova, changes: dict[str, object]) -> None:
    conf, _ = claimed(cloud, nova, **changes)
    before = cloud.everything()
    cloud.ok("doctor", "--nova", str(conf), "--fix", "--yes")
    assert cloud.everything() == before


@pytest.mark.parametrize("knows", [True, False], ids=["Nova knows it", "Nova cannot be asked"])
def test_a_claim_stays_where_nova_knows_the_server_or_does_not_say(cloud: Cloud, nova: Nova, knows: bool) -> None:
    conf, _ = claimed(cloud, nova)
    nova.servers, nova.status = [OURS], 200 if knows else 403
    before = cloud.everything()
    assert "claims" not in verdicts(cloud, conf)
    cloud.ok("doctor", "--nova", str(conf), "--fix", "--yes")
    assert cloud.everything() == before


def test_a_claim_on_which_somebody_is_at_work_by_the_time_that_it_is_to_go_stays(cloud: Cloud, nova: Nova) -> None:
    conf, _ = claimed(cloud, nova)
    asked = count(1)

    def meanwhile(request: RecordedRequest) -> Fault | None:
        # The first to read this node is the fix itself.
        if request.path.endswith(f"/nodes/{uuid_of(cloud, 'node-0')}") and next(asked) == 1:
            cloud.ironic.set("node-0", provision_state="wait call-back")
        return None

    cloud.ironic.on_request = meanwhile
    result = cloud.run("doctor", "--nova", str(conf), "--fix", "--yes")
    assert result.code == 1
    assert "not only claimed any more" in result.err
    assert cloud.ironic.node("node-0")["instance_uuid"] == OURS


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_fix_asks_before_it_removes_anything(cloud: Cloud, conf: Path, answer: str, code: int) -> None:
    with_leftovers(cloud)
    with on_terminal(cloud, "doctor", "--nova", str(conf), "--fix") as terminal:
        terminal.await_text("Remove this from 1 free node?")
        terminal.type(f"{answer}\n")
        assert terminal.end() == code
    assert (cloud.ironic.vifs("node-0") == []) is (answer == "y")


@pytest.mark.parametrize(
    "changes",
    [
        {"maintenance": True},
        {"provision_state": "clean failed"},
        {"instance_uuid": NOBODYS},
        {"reservation": "conductor-1"},
    ],
)
def test_a_node_that_may_be_somebodys_is_no_leftover(cloud: Cloud, conf: Path, changes: dict[str, object]) -> None:
    with_leftovers(cloud)
    cloud.ironic.set("node-0", **changes)
    before = cloud.everything()
    cloud.ok("doctor", "--nova", str(conf), "--fix", "--yes")
    assert cloud.everything() == before


def test_what_an_operator_prepares_for_adoption_stays(cloud: Cloud, conf: Path) -> None:
    cloud.ironic.set("node-2", provision_state="manageable", instance_info={"image_source": "x"})
    cloud.ok("doctor", "--nova", str(conf), "--fix", "--yes")
    assert cloud.ironic.node("node-2")["instance_info"] == {"image_source": "x"}


def test_nodes_of_another_shard_are_left_alone(cloud: Cloud) -> None:
    with_leftovers(cloud)
    cloud.ironic.set("node-2", shard="rack-1")
    conf = write(cloud, "shard = rack-1")
    cloud.ok("doctor", "--nova", str(conf), "--fix", "--yes")
    assert cloud.ironic.vifs("node-0") != []


def test_a_leftover_that_does_not_go_is_told(cloud: Cloud, conf: Path) -> None:
    with_leftovers(cloud)

    def refuse(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.STATUS, status=400) if request.method == "DELETE" else None

    cloud.ironic.on_request = refuse
    result = cloud.run("doctor", "--nova", str(conf), "--fix", "--yes")
    assert result.code == 1
    assert "node-0" in result.err
    assert "removed" not in result.err


@pytest.mark.parametrize("arguments", [("--nodes",), ("--nova", "x", "--leaks"), ("--nova", "x", "--nodes", "--fix")])
def test_options_that_do_not_go_together_are_refused(cloud: Cloud, arguments: tuple[str, ...]) -> None:
    assert cloud.run("doctor", *arguments).code == 2
