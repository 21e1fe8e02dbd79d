"""What Prometheus may count: operations, Ironic's answers, the fleet, the stream, the service's own requests."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bloomery.ironic import Node
from bloomery.janitor import Verdict

LONG_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The service's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._operations = Counter(
            "bloomery_operations", "Operations that have ended.", ["kind", "result"], registry=self.registry
        )
        self._durations = Histogram(
            "bloomery_operation_seconds",
            "How long operations took.",
            ["kind", "result"],
            buckets=LONG_S,
            registry=self.registry,
        )
        self._steps = Histogram(
            "bloomery_step_seconds",
            "How long steps of operations took, those that wait for a node among them.",
            ["kind", "step"],
            buckets=LONG_S,
            registry=self.registry,
        )
        self._under_way = Gauge(
            "bloomery_operations_under_way", "Operations under way.", ["kind"], registry=self.registry
        )
        self._upstream = Histogram(
            "bloomery_upstream_seconds",
            "How long Ironic and Neutron took to answer.",
            ["service", "method", "status"],
            buckets=QUICK_S,
            registry=self.registry,
        )
        self._requests = Histogram(
            "bloomery_request_seconds",
            "How long this service took to answer.",
            ["method", "route", "status"],
            buckets=QUICK_S,
            registry=self.registry,
        )
        self.streams = Gauge("bloomery_event_streams", "Clients on the event stream.", registry=self.registry)
        self._deliveries = Counter(
            "bloomery_webhook_deliveries", "Attempts to deliver to webhooks.", ["result"], registry=self.registry
        )

        self._looks = Counter("bloomery_janitor_looks", "Looks for leaks.", ["result"], registry=self.registry)
        self._mended = Counter("bloomery_janitor_mended", "Leaks that were cleaned.", ["kind"], registry=self.registry)
        self._leaks = Gauge(
            "bloomery_janitor_leaks", "Leaks that the last look found.", ["verdict"], registry=self.registry
        )
        self._looked_at = Gauge(
            "bloomery_janitor_last_look_timestamp_seconds", "When the last look ended.", registry=self.registry
        )
        self.janitor_works = Gauge(
            "bloomery_janitor_working",
            "Whether there is a janitor that is not paused; of several replicas one looks.",
            registry=self.registry,
        )

    @contextmanager
    def operation(self, kind: str) -> Iterator[None]:
        """Within the block an operation is under way."""
        with self._under_way.labels(kind).track_inprogress():
            yield

    def ended(self, kind: str, result: str, took_s: float) -> None:
        """An operation has ended."""
        self._operations.labels(kind, result).inc()
        self._durations.labels(kind, result).observe(took_s)

    def step(self, kind: str, step: str, took_s: float) -> None:
        """A step of an operation has ended."""
        self._steps.labels(kind, step).observe(took_s)

    def answered(self, service: str, method: str, status: str, took_s: float) -> None:
        """Another service has answered, or failed to."""
        self._upstream.labels(service, method, status).observe(took_s)

    def request(self, method: str, route: str, status: int, took_s: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).observe(took_s)

    def delivered(self, result: str) -> None:
        """A webhook was tried."""
        self._deliveries.labels(result).inc()

    def looked(self, found: Mapping[str, int] | None, mended: Iterable[str]) -> None:
        """The janitor has looked: so many leaks of each verdict, None if it saw nothing; and those of these kinds are gone."""
        self._looks.labels("failed" if found is None else "done").inc()
        self._looked_at.set_to_current_time()
        for verdict in Verdict if found is not None else ():
            self._leaks.labels(verdict.value).set(found.get(verdict.value, 0) if found is not None else 0)
        for kind in mended:
            self._mended.labels(kind).inc()

    def show_fleet(
        self,
        nodes: Callable[[], Sequence[Node]],
        is_up: Callable[[], bool],
        stale_s: Callable[[], float | None],
        is_heard: Callable[[], bool | None],
    ) -> None:
        """The fleet is counted whenever somebody asks; whether Ironic answers, and its notifications are heard, is said, too."""
        self.registry.register(_Fleet(nodes, is_up, stale_s, is_heard))

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Fleet(Collector):
    def __init__(
        self,
        nodes: Callable[[], Sequence[Node]],
        is_up: Callable[[], bool],
        stale_s: Callable[[], float | None],
        is_heard: Callable[[], bool | None],
    ) -> None:
        self._is_heard = is_heard
        self._nodes = nodes
        self._is_up = is_up
        self._stale_s = stale_s
        self._lock = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: what there is depends on the fleet."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The nodes by what they are in."""
        nodes = self._nodes()
        for what, help_text, values in (
            ("state", "Nodes by provision state.", [node.provision_state or "available" for node in nodes]),
            ("power", "Nodes by power state.", [node.power_state or "unknown" for node in nodes]),
            ("health", "Nodes by health.", [(node.health or "unknown").lower() for node in nodes]),
            ("maintenance", "Nodes in maintenance, or not.", [str(node.maintenance).lower() for node in nodes]),
        ):
            family = GaugeMetricFamily(f"bloomery_nodes_by_{what}", help_text, labels=[what])
            for value, count in sorted(Tally(values).items()):
                family.add_metric([value], count)
            yield family
        yield GaugeMetricFamily("bloomery_nodes", "Nodes.", value=len(nodes))
        yield GaugeMetricFamily(
            "bloomery_instances", "Nodes that carry an instance.", value=sum(bool(node.instance_uuid) for node in nodes)
        )
        yield GaugeMetricFamily("bloomery_ironic_up", "Whether Ironic can be asked.", value=int(self._is_up()))
        is_heard = self._is_heard()
        if is_heard is not None:
            yield GaugeMetricFamily(
                "bloomery_bus_listening", "Whether Ironic's notifications are listened to.", value=int(is_heard)
            )
        yield GaugeMetricFamily(
            "bloomery_view_age_seconds", "How old what is shown is while it cannot.", value=self._stale_s() or 0.0
        )
