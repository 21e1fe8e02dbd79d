"""The services behind this one: found when they can be; each of our requests to them carries its caller's id, and is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from bloomery.doors.http.context import request_id_now
from bloomery.doors.http.metrics import Metrics
from bloomery.errors import BloomeryError, ServiceUnavailable
from bloomery.glance import Glance
from bloomery.ironic import Ironic
from bloomery.library import Bloomery
from bloomery.neutron import Neutron
from bloomery.rest.failures import RequestFailure
from bloomery.rest.transport import Detour, Reply, Request, Transport
from bloomery.watch import Watch

Connect = Callable[[], Bloomery]
"""Makes a connection, or raises one of our errors."""


class Cloud:
    """The connection to the cloud. A service starts while Ironic is away, too, and has it when Ironic is back.

    Args:
        connect: makes it.
        metrics: measure what is asked over it.
    """

    def __init__(self, connect: Connect, metrics: Metrics) -> None:
        self._connect = connect
        self._metrics = metrics
        self._api: Bloomery | None = None
        self._failure: BloomeryError | None = None
        self._connecting = threading.Lock()

    @property
    def is_there(self) -> bool:
        """Whether it has been made; whether Ironic answers now is another question."""
        return self._api is not None

    @property
    def api(self) -> Bloomery:
        """The connection.

        Raises:
            ServiceUnavailable: it could not be made yet.
        """
        if self._api is None:
            reason = str(self._failure) if self._failure is not None else "it has not been asked yet"
            raise ServiceUnavailable("Ironic cannot be asked, so that nothing was begun", reason=reason)
        return self._api

    def connect(self) -> Bloomery:
        """The connection, made now if there is none yet.

        Raises:
            BloomeryError: it cannot be made.
        """
        with self._connecting:
            if self._api is None:
                try:
                    self._api = watched(self._connect(), self._metrics)
                except BloomeryError as problem:
                    self._failure = problem
                    raise
            return self._api


class _Watched(Detour):
    """A transport that does what another does, says for whom, and notes how long it took."""

    def __init__(self, real: Transport, metrics: Metrics) -> None:
        super().__init__(real)
        self.metrics = metrics

    def passed(self, request: Request) -> Reply:
        """As the other."""
        request_id = request_id_now()
        ours = {"X-OpenStack-Request-ID": request_id} if request_id is not None else {}
        started, status = time.monotonic(), "none"
        try:
            reply = self.sent(replace(request, headers={**(request.headers or {}), **ours}))
            status = str(reply.status)
        except RequestFailure as failure:
            status = str(failure.status or "none")
            raise
        else:
            return reply
        finally:
            self.metrics.answered(self.service, request.method, status, time.monotonic() - started)


def watched(api: Bloomery, metrics: Metrics) -> Bloomery:
    """The same connection, whose requests carry ids and are measured."""
    services = api.services
    ironic = Ironic(_Watched(services.ironic.transport, metrics), services.ironic.features, services.ironic.deadline)
    neutron, glance = services.neutron, services.glance
    if neutron is not None:
        neutron = Neutron(_Watched(neutron.transport, metrics), neutron.deadline)
    if glance is not None:
        glance = Glance(_Watched(glance.transport, metrics), glance.deadline)
    # A watch looks on behalf of many callers, so that its requests are nobody's.
    return Bloomery(replace(services, ironic=ironic, watch=Watch(ironic), neutron=neutron, glance=glance))
