"""The simulator differs from a real Ironic only in what is listed: the same requests go to both, and the answers are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from bloomery import lab
from bloomery.testing import KNOWN_DIFFERENCES, IronicSimulator

VERSION = "1.99"
NOBODY = "00000000-0000-4000-8000-000000000000"
INSTANCE = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
TARGET = "33333333-3333-4333-8333-333333333333"
LISTED = {difference.name for difference in KNOWN_DIFFERENCES}


@dataclass(frozen=True)
class Asked:
    """A request, and the known difference that its answers may show.

    `status` and `shape` name entries of KNOWN_DIFFERENCES: where one is named, the two have to differ, so that an entry
    which is not true any more does not stay.
    """

    method: str
    path: str
    body: Any = None
    version: str = VERSION
    status: str | None = None
    shape: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {json.dumps(self.body) if self.body is not None else ''}"[:90]


def patch(**values: Any) -> list[dict[str, Any]]:
    return [{"op": "add", "path": f"/{name}", "value": value} for name, value in values.items()]


def remove(*names: str) -> list[dict[str, Any]]:
    return [{"op": "remove", "path": f"/{name}"} for name in names]


NODE = "/v1/nodes/{node}"
REQUESTS: tuple[Asked, ...] = (
    # The API's versions
    Asked("GET", "/v1", version="1.81", shape="root documents"),
    Asked("GET", "/v1/nodes", version="1.500"),
    Asked("GET", "/v1/nodes", version="2.1"),
    Asked("GET", "/v1/nodes", version="nonsense"),
    # Reading nodes
    Asked("GET", NODE),
    Asked("GET", NODE, version="1.81"),
    Asked("GET", NODE + "?fields=uuid,provision_state,extra"),
    Asked("GET", NODE + "?fields=uuid,no_such_field"),
    Asked("GET", NODE + "?fields=updated_at"),
    Asked("GET", "/v1/nodes/{name}"),
    Asked("GET", f"/v1/nodes/{NOBODY}"),
    Asked("GET", "/v1/nodes/no-such-node"),
    Asked("GET", "/v1/nodes/no%20such%20node"),
    Asked("GET", "/v1/nodes"),
    Asked("GET", "/v1/nodes?detail=true&limit=1"),
    Asked("GET", "/v1/nodes?detail=true&sort_key=updated_at&sort_dir=desc&limit=1"),
    Asked("GET", "/v1/nodes?limit=1&marker={node}"),
    Asked("GET", f"/v1/nodes?marker={NOBODY}"),
    Asked("GET", "/v1/nodes?sort_key=no_such_field"),
    Asked("GET", "/v1/nodes?sort_dir=sideways"),
    Asked("GET", "/v1/nodes?limit=none"),
    Asked("GET", "/v1/nodes?limit=-1"),
    Asked("GET", "/v1/nodes?no_such_filter=1"),
    Asked("GET", "/v1/nodes?provision_state=available&limit=1"),
    Asked("GET", "/v1/nodes?provision_state=teleporting"),
    Asked("GET", "/v1/nodes?associated=maybe"),
    Asked("GET", f"/v1/nodes?instance_uuid={NOBODY}"),
    Asked("GET", "/v1/nodes?instance_uuid=nonsense"),
    Asked("GET", "/v1/nodes?resource_class=no-such-class"),
    Asked("GET", NODE + "/states"),
    Asked("GET", NODE + "/traits"),
    Asked("GET", NODE + "/vifs"),
    Asked("GET", NODE + "/inventory"),
    Asked("GET", NODE + "/allocation"),
    Asked("GET", "/v1/ports?node={node}"),
    Asked("GET", "/v1/ports?node={node}&fields=uuid,address,internal_info"),
    Asked("GET", f"/v1/ports?node={NOBODY}"),
    Asked("GET", "/v1/portgroups?node={node}"),
    Asked("GET", "/v1/volume/targets?node={node}&detail=true"),
    Asked("GET", "/v1/volume/connectors?node={node}&detail=true"),
    Asked("GET", f"/v1/volume/targets/{NOBODY}"),
    Asked("GET", f"/v1/allocations/{NOBODY}"),
    Asked("GET", "/v1/allocations"),
    Asked("GET", "/v1/conductors"),
    Asked("GET", "/v1/drivers"),
    Asked("GET", "/v1/no_such_collection"),
    # Changing a node
    Asked("PATCH", NODE, patch(extra={"a": 1})),
    Asked("PATCH", NODE, patch(no_such_field=1)),
    Asked("PATCH", NODE, patch(uuid=NOBODY)),
    Asked("PATCH", NODE, patch(provision_state="active")),
    Asked("PATCH", NODE, patch(instance_uuid="nonsense")),
    Asked("PATCH", NODE, [{"op": "replace", "path": "/extra/none", "value": 1}]),
    Asked("PATCH", NODE, [{"op": "jump", "path": "/extra"}]),
    Asked("PATCH", NODE, remove("extra/none")),
    Asked("PATCH", NODE, {"extra": {}}),
    Asked("PATCH", f"/v1/nodes/{NOBODY}", patch(extra={})),
    Asked("PATCH", NODE, patch(instance_uuid=INSTANCE)),
    Asked("PATCH", NODE, patch(instance_uuid=INSTANCE)),
    Asked("PATCH", NODE, patch(instance_uuid=OTHER)),
    Asked("PATCH", NODE, patch(instance_info={"a": 1})),
    Asked("PATCH", NODE, remove("instance_uuid")),
    Asked("PATCH", NODE, remove("instance_uuid")),
    Asked("PATCH", NODE, patch(instance_info={})),
    Asked("PUT", NODE + "/traits/CUSTOM_ODD"),
    Asked("PUT", NODE + "/traits/odd"),
    Asked("PUT", NODE + "/traits/HW_NO_SUCH_TRAIT", status="standard traits"),
    Asked("DELETE", NODE + "/traits/CUSTOM_ODD"),
    Asked("DELETE", NODE + "/traits/CUSTOM_NOT_THERE"),
    Asked("PUT", NODE + "/maintenance", {"reason": "fan"}),
    Asked("PUT", NODE + "/states/provision", {"target": "active"}),
    Asked("DELETE", NODE + "/maintenance"),
    # Verbs that do not fit
    Asked("PUT", NODE + "/states/provision", {"target": "rebuild"}),
    Asked("PUT", NODE + "/states/provision", {"target": "deleted"}),
    Asked("PUT", NODE + "/states/provision", {"target": "unrescue"}),
    Asked("PUT", NODE + "/states/provision", {"target": "rescue"}),
    Asked("PUT", NODE + "/states/provision", {"target": "teleport"}),
    Asked("PUT", NODE + "/states/provision", {}),
    Asked("PUT", NODE + "/states/provision", {"target": "deleted", "configdrive": {"meta_data": {}}}),
    Asked("PUT", NODE + "/states/provision", {"target": "active", "configdrive": "?"}),
    Asked("PUT", NODE + "/states/provision", {"target": "active", "configdrive": {"no_such_part": {}}}),
    Asked(
        "PUT",
        NODE + "/states/provision",
        {"target": "active", "deploy_steps": [{"step": "a"}]},
        status="malformed steps",
    ),
    Asked("PUT", NODE + "/states/provision", {"target": "active", "rescue_password": "x"}),
    Asked("PUT", f"/v1/nodes/{NOBODY}/states/provision", {"target": "active"}),
    Asked("PUT", NODE + "/states/power", {"target": "sideways"}),
    Asked("PUT", NODE + "/states/power", {"target": "power on", "timeout": 0}),
    Asked("PUT", NODE + "/states/power", {}),
    Asked("GET", NODE + "/states/console"),
    Asked("PUT", NODE + "/states/console?enabled=true"),
    Asked("PUT", NODE + "/states/console"),
    Asked("PUT", NODE + "/management/inject_nmi", {}),
    # VIFs
    Asked("POST", NODE + "/vifs", {}),
    Asked("POST", NODE + "/vifs", {"id": "not a name"}),
    Asked("POST", NODE + "/vifs", {"id": NOBODY, "port_uuid": NOBODY, "portgroup_uuid": NOBODY}),
    Asked("DELETE", NODE + f"/vifs/{NOBODY}"),
    # Volumes
    Asked("POST", "/v1/volume/targets", {"node_uuid": "{node}"}),
    Asked(
        "POST",
        "/v1/volume/targets",
        {"uuid": TARGET, "node_uuid": "{node}", "volume_id": "v", "volume_type": "iscsi", "boot_index": 0},
    ),
    Asked(
        "POST",
        "/v1/volume/targets",
        {"uuid": TARGET, "node_uuid": "{node}", "volume_id": "v", "volume_type": "iscsi", "boot_index": 1},
    ),
    Asked(
        "POST",
        "/v1/volume/targets",
        {"node_uuid": "{node}", "volume_id": "w", "volume_type": "iscsi", "boot_index": 0},
    ),
    Asked("GET", "/v1/volume/targets?node={node}&detail=true"),
    Asked("DELETE", f"/v1/volume/targets/{TARGET}"),
    Asked("DELETE", f"/v1/volume/targets/{TARGET}"),
    # Allocations
    Asked("POST", "/v1/allocations", {"resource_class": None}),
    Asked("POST", "/v1/allocations", {}),
    Asked("POST", "/v1/allocations", {"resource_class": "x", "name": "not a name"}),
    Asked("POST", "/v1/allocations", {"resource_class": "x", "traits": ["odd"]}),
    Asked("POST", "/v1/allocations", {"resource_class": "x", "candidate_nodes": ["no-such-node"]}),
    Asked("POST", "/v1/allocations", {"uuid": TARGET, "resource_class": "no-such-class", "name": "odd"}),
    Asked("POST", "/v1/allocations", {"uuid": TARGET, "resource_class": "no-such-class"}),
    Asked("POST", "/v1/allocations", {"resource_class": "no-such-class", "name": "odd"}),
    Asked("DELETE", f"/v1/allocations/{TARGET}"),
    Asked("DELETE", f"/v1/allocations/{TARGET}"),
    # Methods and pages that are not there
    Asked("DELETE", "/v1/nodes"),
    Asked("PATCH", NODE + "/states/power", {}),
    Asked("POST", NODE, {}, status="method and path"),
)


@dataclass(frozen=True)
class Both:
    """The simulator and a real Ironic, with a node of the same kind each."""

    simulator: str
    simulated: Mapping[str, str]
    ironic: str
    real: Mapping[str, str]

    def ask(self, asked: Asked) -> tuple[requests.Response, requests.Response]:
        """The answers of both."""
        simulated = self._ask(self.simulator, self.simulated, asked)
        return simulated, self._ask(self.ironic, self.real, asked)

    def _ask(self, url: str, names: Mapping[str, str], asked: Asked) -> requests.Response:
        def filled(text: str) -> str:
            for name, value in names.items():
                text = text.replace("{" + name + "}", value)
            return text

        body = None if asked.body is None else json.loads(filled(json.dumps(asked.body)))
        headers = {"X-OpenStack-Ironic-API-Version": asked.version}
        return requests.request(asked.method, url + filled(asked.path), json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    options = lab.Options(nodes=1, kind=lab.Kind.FAKE, network=False)
    with lab.running(options, tmp_path_factory.mktemp("differences") / "state") as it:
        model = it.nodes[0]
        real = requests.get(
            f"{it.ironic_url}/v1/nodes/{model.uuid}",
            headers={"X-OpenStack-Ironic-API-Version": VERSION},
            timeout=60,
        ).json()
        interfaces = {name: value for name, value in real.items() if name.endswith("_interface")}
        with IronicSimulator(lock_wait_s=3.0) as simulator:
            node_uuid = simulator.add_node(
                model.name,
                driver=real["driver"],
                resource_class=real["resource_class"],
                properties=real["properties"],
                driver_info=real["driver_info"],
                traits=real["traits"],
                **interfaces,
            )
            yield Both(
                simulator=simulator.url,
                simulated={"node": node_uuid, "name": model.name},
                ironic=it.ironic_url,
                real={"node": model.uuid, "name": model.name},
            )


def shape(value: Any, *, depth: int = 3) -> Any:
    """What there is without what it says: the names of the members, to some depth; of a list the first entry's."""
    if isinstance(value, dict):
        return {key: shape(inner, depth=depth - 1) for key, inner in value.items()} if depth else "object"
    if isinstance(value, list):
        return [shape(value[0], depth=depth - 1)] if value and depth else "list"
    return "value"


# What is a node's own, and differs from node to node also within one Ironic.
_OF_ONE_NODE = {
    "driver_info", "driver_internal_info", "properties", "extra", "instance_info", "links", "internal_info", "raid_config",
    "local_link_connection", "network_data", "clean_step", "deploy_step", "service_step", "target_raid_config", "drivers",
    "traits", "ports", "portgroups", "volume", "states", "bios", "firmware", "inventory", "debuginfo",
}  # fmt: skip


def own_left_out(value: Any) -> Any:
    """The shape without the insides of what each node has of its own."""
    if isinstance(value, dict):
        return {key: "own" if key in _OF_ONE_NODE else own_left_out(inner) for key, inner in value.items()}
    return [own_left_out(inner) for inner in value] if isinstance(value, list) else value


def shape_of(response: requests.Response) -> Any:
    """The shape of an answer's body; of a refusal also that of the fault within it."""
    if not response.content:
        return None
    body = response.json()
    fault = body.get("error_message") if isinstance(body, dict) else None
    if isinstance(fault, str):
        try:
            body = {"error_message": json.loads(fault)}
        except ValueError:
            body = {"error_message": "text"}
    # Lists of all there is are as long as there is.
    if isinstance(body, dict) and len(body) <= 2 and "next" in body:
        body = {key: inner for key, inner in body.items() if key != "next"}
    return own_left_out(shape(body))


@pytest.mark.lab
def test_both_answer_alike_but_for_the_differences_that_are_listed(both: Both) -> None:
    wrong: list[str] = []
    for asked in REQUESTS:
        simulated, real = both.ask(asked)
        if (simulated.status_code == real.status_code) is (asked.status is not None):
            wrong.append(f"{asked}: simulator {simulated.status_code}, Ironic {real.status_code} {real.text[:200]}")
        elif asked.status is None and (shape_of(simulated) == shape_of(real)) is (asked.shape is not None):
            wrong.append(f"{asked}: simulator {shape_of(simulated)}, Ironic {shape_of(real)}")
    assert not wrong, "\n".join(wrong)


def test_every_difference_has_a_name_of_its_own_and_a_sentence() -> None:
    assert len(LISTED) == len(KNOWN_DIFFERENCES)
    for difference in KNOWN_DIFFERENCES:
        assert difference.name
        assert difference.sentence[0].isupper()
        assert difference.sentence.endswith(".")


def test_every_difference_that_a_request_shows_is_listed() -> None:
    shown = {name for asked in REQUESTS for name in (asked.status, asked.shape) if name is not None}
    assert shown <= LISTED
