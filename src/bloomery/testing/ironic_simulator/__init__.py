"""An Ironic to test against: its API over real HTTP, its state machine, its locks, and faults on demand."""

from bloomery.testing.ironic_simulator.differences import KNOWN_DIFFERENCES, Difference
from bloomery.testing.ironic_simulator.simulator import IronicSimulator, Work
from bloomery.testing.ironic_simulator.world import Bmc, Timings

__all__ = ["KNOWN_DIFFERENCES", "Bmc", "Difference", "IronicSimulator", "Timings", "Work"]
