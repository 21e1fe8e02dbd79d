"""The only code that talks to Neutron."""

from bloomery.neutron.gateway import Neutron
from bloomery.neutron.models import FixedIp, Network, NeutronPort, SecurityGroup, Subnet

__all__ = ["FixedIp", "Network", "Neutron", "NeutronPort", "SecurityGroup", "Subnet"]
