"""Nova's own objects of a server on a node of Ironic's, as nova-compute has them: for tests and benchmarks of the driver."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from nova import objects
from nova.compute import vm_states
from nova.network import model as network_model


def flavor(extra_specs: Mapping[str, str]) -> Any:
    """A flavor of a whole machine with a root partition of 10 GiB, that is scheduled by these extra specs."""
    return objects.Flavor(
        id=1,
        flavorid="metal",
        name="metal",
        memory_mb=8192,
        vcpus=4,
        root_gb=10,
        ephemeral_gb=0,
        swap=0,
        rxtx_factor=1.0,
        vcpu_weight=0,
        disabled=False,
        is_public=True,
        extra_specs=dict(extra_specs),
        description=None,
        projects=[],
    )


def instance(context: Any, *, node: str, host: str, extra_specs: Mapping[str, str], **values: Any) -> Any:
    """A server that is in Nova's database, put on the node and not yet built."""
    found = objects.Instance(
        context,
        uuid=str(uuid.uuid4()),
        project_id="project",
        user_id="user",
        host=host,
        node=node,
        compute_id=1,
        display_name="web-1",
        hostname="web-1",
        image_ref=str(uuid.uuid4()),
        system_metadata={"image_disk_format": "raw", "image_base_image_ref": "x"},
        metadata={},
        flavor=flavor(extra_specs),
        old_flavor=None,
        new_flavor=None,
        **{"vm_state": vm_states.BUILDING, "config_drive": "", **values},
    )
    found.create()
    found.keypairs = objects.KeyPairList(objects=[])
    return found


def image(**properties: Any) -> Any:
    """A whole-disk image."""
    return objects.ImageMeta(
        id=str(uuid.uuid4()), name="debian", properties=objects.ImageMetaProps.from_dict(properties)
    )


def vif(port: Mapping[str, Any]) -> Any:
    """The VIF of one of Neutron's ports, as Nova's network model has it."""
    subnet = network_model.Subnet(
        cidr="10.0.0.0/16",
        dns=[network_model.IP("8.8.8.8", type="dns")],
        gateway=network_model.IP("10.0.0.1", type="gateway"),
        ips=[network_model.FixedIP(address=port["fixed_ips"][0]["ip_address"])],
        routes=[],
        version=4,
    )
    network = network_model.Network(id=port["network_id"], label="private", subnets=[subnet], mtu=1500)
    return network_model.VIF(id=port["id"], address=port["mac_address"], network=network, type="other", devname="eth0")
