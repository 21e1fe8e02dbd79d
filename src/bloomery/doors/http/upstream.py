"""The services behind this one: each of our requests to them carries the id of its caller's, and is measured."""

from __future__ import annotations

import time
from dataclasses import replace

from bloomery.doors.http.context import request_id_now
from bloomery.doors.http.metrics import Metrics
from bloomery.glance import Glance
from bloomery.ironic import Ironic
from bloomery.library import Bloomery
from bloomery.neutron import Neutron
from bloomery.rest.failures import RequestFailure
from bloomery.rest.transport import Detour, Reply, Request, Transport
from bloomery.watch import Watch


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
