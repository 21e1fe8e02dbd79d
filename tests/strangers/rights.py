"""What each operation may do with Ironic and Neutron: the rights that it needs, by their names in the services' policies.

`docs/security.md` has them as a table, which a test compares with these; others show on real services that they are
enough, and that none is too many.
"""

from __future__ import annotations

from collections.abc import Mapping

LOOK = frozenset(
    {"baremetal:node:get", "baremetal:node:list_all", "baremetal:port:list_all", "baremetal:portgroup:list_all"}
)
"""Seeing nodes and instances: the least that anybody needs."""

_VIFS = frozenset(
    {
        "baremetal:node:vif:attach",
        "baremetal:node:vif:detach",
        "baremetal:node:vif:list",
        "create_port",
        "create_port:binding:vnic_type",
        "create_port:device_id",
        "create_port:device_owner",
        "delete_port",
        "get_network",
        "get_port",
        "get_subnet",
    }
)
RIGHTS: Mapping[str, frozenset[str]] = {
    "list, show, nodes": LOOK,
    "deploy, destroy": _VIFS
    | {
        "baremetal:node:set_provision_state",
        "baremetal:node:update:instance_uuid",
        "baremetal:node:update_extra",
        "baremetal:node:update_instance_info",
        "baremetal:node:validate",
    },
    "deploy to whichever node fits": frozenset(
        {"baremetal:allocation:create", "baremetal:allocation:delete", "baremetal:allocation:get"}
    ),
    "rebuild, rescue, unrescue": frozenset({"baremetal:node:set_provision_state"}),
    "rebuild with a config drive": frozenset({"get_port", "get_subnet"}),
    "power, reboot": frozenset({"baremetal:node:set_power_state"}),
    "interfaces": _VIFS,
    "security groups": frozenset({"get_security_group", "update_port"}),
    "volumes": frozenset({"baremetal:volume:create", "baremetal:volume:delete", "baremetal:volume:list_all"}),
    "console": frozenset(
        {"baremetal:node:get_console", "baremetal:node:set_console_state", "baremetal:node:update_extra"}
    ),
    "crash dump": frozenset({"baremetal:node:inject_nmi"}),
    "recover, doctor --leaks": frozenset({"baremetal:allocation:list_all"}),
}
"""By what is done, the rights that it needs beyond seeing."""

ALL: frozenset[str] = frozenset().union(*RIGHTS.values())


def of(service: str, rights: frozenset[str] = ALL) -> frozenset[str]:
    """Those at `ironic` or at `neutron`."""
    return frozenset(right for right in rights if right.startswith("baremetal:") == (service == "ironic"))
