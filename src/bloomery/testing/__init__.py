"""What Bloomery ships for tests, its own and its users': simulators of Ironic and Neutron over real HTTP, and faults."""

from bloomery.testing.fault_proxy import FaultProxy, FaultRule, Lasting, Strike
from bloomery.testing.http_simulator import Fault, FaultKind, RecordedRequest
from bloomery.testing.ironic_simulator import KNOWN_DIFFERENCES, Bmc, Difference, IronicSimulator, Timings
from bloomery.testing.neutron_simulator import NeutronSimulator

__all__ = [
    "KNOWN_DIFFERENCES",
    "Bmc",
    "Difference",
    "Fault",
    "FaultKind",
    "FaultProxy",
    "FaultRule",
    "IronicSimulator",
    "Lasting",
    "NeutronSimulator",
    "RecordedRequest",
    "Strike",
    "Timings",
]
