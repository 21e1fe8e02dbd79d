"""A compute service of Nova's, with its real objects and a database of its own, before simulators of Ironic and Neutron."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import nova.conf
import requests
from nova import config as nova_config
from nova import context as nova_context
from nova import objects
from nova.compute import provider_tree, vm_states
from nova.db.main import api as main_db
from nova.db.main import models
from nova.network import model as network_model
from nova.objects import block_device as block_device_object
from nova.virt import block_device as virt_block_device
from oslo_utils import timeutils

import nova_objects
from bloomery.doors.nova.config import Connection
from bloomery.doors.nova.driver import IronicDriver
from bloomery.library import connect
from bloomery.operations.run import NOVA, Services
from bloomery.testing import IronicSimulator, NeutronSimulator
from bloomery.watch import Watch
from unwind.scenarios import FAST

CONF = nova.conf.CONF
HOST = "compute-1"

_has_database = False


def database(folder: Path) -> None:
    """Nova's database is there, with its tables and nothing in them; in that folder, if there was none yet."""
    global _has_database
    if _has_database:
        return
    _has_database = True
    nova_config.parse_args(["nova-compute"], default_config_files=[], configure_db=False, init_rpc=False)
    CONF.set_override("connection", f"sqlite:///{folder / 'nova.sqlite'}?timeout=60", group="database")
    CONF.set_override("sqlite_synchronous", False, group="database")  # it need not outlive the machine
    CONF.set_override("host", HOST)
    objects.register_all()
    main_db.configure(CONF)
    models.BASE.metadata.create_all(main_db.get_engine())


def empty_database() -> None:
    """There is nothing in Nova's database."""
    with main_db.get_engine().begin() as connection:
        for table in reversed(models.BASE.metadata.sorted_tables):
            connection.execute(table.delete())


Rows = dict[str, list[dict[str, Any]]]


def database_now() -> Rows:
    """What there is in Nova's database, by table."""
    with main_db.get_engine().begin() as connection:
        every = {
            table.name: [dict(row) for row in connection.execute(table.select()).mappings()]
            for table in models.BASE.metadata.sorted_tables
        }
    return {name: rows for name, rows in every.items() if rows}


def restore_database(kept: Rows) -> None:
    """There is in Nova's database what there was then, and nothing else."""
    empty_database()
    with main_db.get_engine().begin() as connection:
        for table in models.BASE.metadata.sorted_tables:
            if table.name in kept:
                connection.execute(table.insert(), kept[table.name])


@dataclass
class NovaWorld:
    """A compute service with one free node; more can be added."""

    ironic: IronicSimulator
    neutron: NeutronSimulator
    node: str
    private: str
    context: Any = field(default_factory=lambda: nova_context.RequestContext("user", "project", is_admin=True))
    _driver: IronicDriver | None = None

    def services(self) -> Services:
        """What a compute service has after its start."""
        from keystoneauth1.noauth import NoAuth
        from keystoneauth1.session import Session

        endpoints = {"baremetal": self.ironic.url, "network": self.neutron.url}
        found = connect(session=Session(auth=NoAuth()), endpoints=endpoints).services
        quick = Watch(found.ironic, shortest_s=0.004, longest_s=0.02)
        return Services(ironic=found.ironic, watch=quick, neutron_to_ask=found.neutron, host=HOST, manager=NOVA)

    @property
    def driver(self) -> IronicDriver:
        """The driver of the compute service."""
        if self._driver is None:
            self._driver = self.restarted()
        return self._driver

    def restarted(self) -> IronicDriver:
        """The driver of a compute service that has just started."""
        self._driver = IronicDriver(None, connection=Connection(self.services))
        return self._driver

    def instance(self, *, node: str | None = None, host: str = HOST, **values: Any) -> Any:
        """A server that Nova has put on the node."""
        specs = values.pop("extra_specs", {"resources:CUSTOM_BAREMETAL": "1"})
        return nova_objects.instance(self.context, node=node or self.node, host=host, extra_specs=specs, **values)

    def add_service(self, host: str, *, is_up: bool = True) -> None:
        """Nova's database has such a nova-compute with a node of Ironic's: one that lives, or was last seen long ago."""
        seen_at = timeutils.utcnow() - timedelta(seconds=0 if is_up else 10 * CONF.service_down_time)
        service = {"binary": "nova-compute", "topic": "compute", "host": host, "disabled": False, "forced_down": False}
        main_db.service_create(self.context, {**service, "uuid": str(uuid.uuid4()), "last_seen_up": seen_at})
        node = {
            "host": host,
            "hypervisor_hostname": str(uuid.uuid4()),
            "hypervisor_type": "ironic",
            "hypervisor_version": 1,
            "cpu_info": "",
            **dict.fromkeys(("vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used"), 0),
        }
        main_db.compute_node_create(self.context, {**node, "uuid": node["hypervisor_hostname"]})

    def image(self, **properties: Any) -> Any:
        """A whole-disk image."""
        return nova_objects.image(**properties)

    def vif(self) -> Any:
        """A VIF that Nova has made, as its network model has it."""
        vif_id = self.neutron.add_port(self.private, name="nova")
        (port,) = [port for port in self.neutron.ports() if port["id"] == vif_id]
        return nova_objects.vif(port)

    def tag(self, instance: Any, vif: Any, tag: str) -> None:
        """A user has given the VIF the tag, in his request for the instance."""
        objects.VirtualInterface(
            self.context, uuid=vif["id"], address=f"{vif['address']}/{vif['id']}", instance_uuid=instance.uuid, tag=tag
        ).create()

    def name_nics(self, *names: str) -> list[str]:
        """The node's NICs have these names; returns their MAC addresses."""
        ports = self.ironic.ports(self.node)
        for port, name in zip(ports, names, strict=False):
            reply = requests.patch(
                f"{self.ironic.url}/v1/ports/{port['uuid']}",
                json=[{"op": "add", "path": "/name", "value": name}],
                headers={"X-OpenStack-Ironic-API-Version": "1.88"},
                timeout=10,
            )
            assert reply.ok, reply.text
        return [port["address"] for port in ports]

    def network_info(self, count: int = 1) -> Any:
        """So many VIFs."""
        return network_model.NetworkInfo([self.vif() for _ in range(count)])

    def volume(self, instance: Any, *, boot_index: int = 0) -> dict[str, Any]:
        """Block device information with one volume."""
        volume_id = str(uuid.uuid4())
        info = {
            "driver_volume_type": "iscsi",
            "data": {"target_iqn": "iqn.x", "auth_password": "chap"},
            "serial": volume_id,
        }
        device = block_device_object.BlockDeviceMapping(
            self.context,
            instance_uuid=instance.uuid,
            source_type="volume",
            destination_type="volume",
            volume_id=volume_id,
            boot_index=boot_index,
            connection_info=json.dumps(info),
            device_name="/dev/sda",
            guest_format=None,
            device_type="disk",
            disk_bus=None,
            delete_on_termination=False,
            attachment_id=str(uuid.uuid4()),
            volume_size=10,
            snapshot_id=None,
            image_id=None,
            volume_type=None,
            tag=None,
            no_device=False,
        )
        device.create()
        return {"block_device_mapping": virt_block_device.convert_volumes([device])}

    def spawn(self, instance: Any, network_info: Any = None, block_device_info: Any = None, **how: Any) -> None:
        """What Nova's manager does to build a server, as far as the driver sees it."""
        self.driver.prepare_for_spawn(instance)
        self.driver.prepare_networks_before_block_device_mapping(instance, network_info or [])
        self.driver.spawn(
            self.context,
            instance,
            how.pop("image_meta", None) or self.image(),
            [],
            how.pop("admin_password", None),
            {},
            network_info=network_info,
            block_device_info=block_device_info,
            **how,
        )

    def running(self, **values: Any) -> tuple[Any, Any]:
        """A server that runs, and its VIFs."""
        instance, network_info = self.instance(**values), self.network_info()
        self.spawn(instance, network_info)
        instance.vm_state = vm_states.ACTIVE
        instance.save()
        return instance, network_info

    def seen(self, node: str | None = None) -> dict[str, Any]:
        """The node as Ironic has it."""
        return self.ironic.node(node or self.node)

    def provider(self, node: str | None = None) -> Any:
        """What Placement is told of the node, into a tree that knows nothing of it."""
        tree = provider_tree.ProviderTree()
        tree.new_root(node or self.node, node or self.node, generation=1)
        self.driver.update_provider_tree(tree, node or self.node)
        return tree


@contextmanager
def a_nova_world(**simulated: Any) -> Iterator[NovaWorld]:
    """A world with one free node."""
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron, **simulated) as ironic:
        ironic.timings = FAST
        private = neutron.add_network("private", cidrs=["10.0.0.0/24"])
        node = ironic.add_node(name="node-0", ports=3, storage_interface="external", console_interface="ipmitool-socat")
        yield NovaWorld(ironic, neutron, node, private)
