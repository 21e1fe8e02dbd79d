"""The token's life is shorter than a deploy, and the name of the service stops being found: operations live through both."""

from __future__ import annotations

import os
import random
import socket
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from keystoneauth1.identity.v3 import Password

from bloomery import Bloomery, BloomeryError
from bloomery.errors import RollbackIncomplete, ServiceUnavailable
from bloomery.rest.failures import RequestFailure
from bloomery.testing import Fault, FaultKind, FaultProxy, FaultRule
from crashes.identity import Identity
from crashes.killed import drawn_write
from unwind.matrix import CALM, Struck, clean_run, prepared, second_effect
from unwind.scenarios import SCENARIOS
from unwind.test_unwind import LEAVES_NO_TRACE

SEED = int(os.environ["BLOOMERY_SEED"])
EVERY = os.environ.get("BLOOMERY_CRASHES") == "all"
SOON_S, LONG_S = 20.0, 3600.0
"""What a token may say of its life; keystoneauth asks for another half a minute before the end."""


def operations(label: str) -> list[str]:
    every = sorted(SCENARIOS)
    return every if EVERY else random.Random(f"{SEED} {label}").sample(every, 3)


def through(struck: Struck, *, identity: Identity | None = None, host: str = "127.0.0.1") -> Bloomery:
    """A new process's connection, through the proxies, which are found by that name."""
    auth = None
    if identity is not None:
        auth = Password(f"{identity.url}/v3", username="u", password="p", user_domain_id="default", project_id="p")
        for proxy in struck.proxies.values():
            proxy.on_request = identity.refusal
    urls = {name: proxy.url.replace("127.0.0.1", host) for name, proxy in struck.proxies.items()}
    endpoints = {"baremetal": urls["Ironic"], "network": urls["Neutron"]}
    return struck.world.api(endpoints=endpoints, auth=auth, patience=CALM)


def assert_finished(struck: Struck, name: str) -> None:
    clean = clean_run(name)
    struck.calm()
    assert struck.seen() == clean.finished
    assert second_effect(struck.effects(), clean.effects, times=1) is None


# The token


@pytest.mark.parametrize("name", operations("uses"))
@pytest.mark.parametrize("uses", [1, 2, 5])
def test_a_token_that_is_taken_back_after_a_few_requests_costs_new_ones_and_nothing_else(name: str, uses: int) -> None:
    with prepared(name) as struck, Identity(uses=uses, says_s=LONG_S) as identity:
        SCENARIOS[name].call(through(struck, identity=identity), struck.world)
        assert_finished(struck, name)
        answered = [request for proxy in struck.proxies.values() for request in proxy.requests if request.status != 401]
        # Requests of several threads may find the same token spent, and each then gets another.
        assert len(answered) / uses <= identity.given <= len(answered) + 1


@pytest.mark.parametrize("name", operations("soon"))
def test_a_token_that_is_about_to_expire_is_replaced_before_it_is_refused(name: str) -> None:
    with prepared(name) as struck, Identity(uses=None, says_s=SOON_S) as identity:
        SCENARIOS[name].call(through(struck, identity=identity), struck.world)
        assert_finished(struck, name)
        requests = [request for proxy in struck.proxies.values() for request in proxy.requests]
        assert [request for request in requests if request.status == 401] == []
        assert 1 < identity.given <= len(requests) + 1


def test_a_token_that_lasts_is_asked_for_once() -> None:
    with prepared("deploy") as struck, Identity(uses=None, says_s=LONG_S) as identity:
        SCENARIOS["deploy"].call(through(struck, identity=identity), struck.world)
        assert_finished(struck, "deploy")
        assert identity.given == 1


@pytest.mark.parametrize("name", operations("away"))
def test_an_identity_service_that_is_away_when_a_token_expires_is_waited_for(name: str) -> None:
    at = drawn_write(random.Random(f"{SEED} {name} away"), name)
    with prepared(name) as struck, Identity(uses=None, says_s=LONG_S) as identity:
        bells: list[threading.Timer] = []

        def go_away() -> None:
            identity.revoke()
            identity.refuse_connections()
            bells.append(threading.Timer(0.3, identity.accept_connections))
            bells[0].start()

        api = through(struck, identity=identity)
        struck.proxies[at.service].arm(
            FaultRule(fault=Fault(FaultKind.DELAY_REPLY, meanwhile=go_away), nth=max(1, at.nth - 1))
        )
        SCENARIOS[name].call(api, struck.world)
        for bell in bells:
            bell.join()
        assert_finished(struck, name)


def test_credentials_that_are_taken_away_in_the_middle_leave_what_recover_cleans() -> None:
    name = "deploy"
    with prepared(name) as struck, Identity(uses=None, says_s=LONG_S) as identity:

        def lock_out() -> None:
            identity.lets_in = False
            identity.revoke()

        api = through(struck, identity=identity)
        struck.proxies["Ironic"].arm(
            FaultRule(fault=Fault(FaultKind.DELAY_REPLY, meanwhile=lock_out), method="POST", path="/vifs$")
        )
        with pytest.raises(RollbackIncomplete, match="does not let us in"):
            SCENARIOS[name].call(api, struck.world)
        struck.calm()
        identity.lets_in = True
        assert struck.seen() not in (clean_run(name).untouched, clean_run(name).finished)
        assert [problem for _, problem in through(struck, identity=identity).recover(older_than_s=0)] == [None]
        struck.calm()
        assert struck.seen() == clean_run(name).untouched


def test_an_answer_that_refuses_a_token_leaves_no_connection_open() -> None:
    with prepared("power") as struck, Identity(uses=None, says_s=LONG_S) as identity:
        transport = through(struck, identity=identity).services.ironic.transport
        identity.revoke()
        identity.refuse_connections()
        with pytest.raises(RequestFailure) as held:
            transport.request("GET", "/nodes", timeout_s=LONG_S)
        port = urlsplit(struck.proxies["Ironic"].url).port
        connections = psutil.Process().net_connections("tcp4")
        assert [
            one for one in connections if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"
        ] == []
        assert held.value  # and with it every frame that it came through


# The name


HOST = "cloud.example.test"


@dataclass
class Resolver:
    """The system's resolver, with one name more, while it is up."""

    is_up: bool = True
    asked_in_vain: int = 0
    comes_up_after: int | None = None
    """So many questions in vain; None is until it is told to."""

    def goes_down(self, proxies: dict[str, FaultProxy], *, comes_up_after: int | None = None) -> None:
        """The name is not found any more; nor are there connections left from when it was."""
        self.is_up, self.comes_up_after = False, comes_up_after
        for proxy in proxies.values():
            proxy.refuse_connections()
            proxy.accept_connections()

    def is_asked(self) -> bool:
        """Whether the name is found."""
        if self.is_up:
            return True
        self.asked_in_vain += 1
        self.is_up = self.comes_up_after is not None and self.asked_in_vain >= self.comes_up_after
        return False

    def comes_up(self) -> None:
        self.is_up = True


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Names are found, as far as the operating system would find them, and as far as `Resolver` says."""
    it, of_the_system = Resolver(), socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != HOST:
            return of_the_system(host, *args, **kwargs)
        if it.is_asked():
            return of_the_system("127.0.0.1", *args, **kwargs)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return it


@pytest.mark.parametrize("name", [name for name in operations("name") if name not in LEAVES_NO_TRACE])
def test_a_name_that_is_not_found_for_a_while_is_an_outage_like_another(name: str, resolver: Resolver) -> None:
    at = drawn_write(random.Random(f"{SEED} {name} name"), name)
    with prepared(name) as struck:
        gone = Fault(FaultKind.RESET, meanwhile=lambda: resolver.goes_down(struck.proxies, comes_up_after=3))
        struck.proxies[at.service].arm(FaultRule(fault=gone, nth=at.nth))
        api = through(struck, host=HOST)
        SCENARIOS[name].call(api, struck.world)
        assert_finished(struck, name)
    assert resolver.asked_in_vain == 3


@pytest.mark.parametrize("name", sorted(LEAVES_NO_TRACE))
def test_what_leaves_no_trace_is_done_or_told_but_not_done_twice_when_the_name_is_not_found_for_a_while(
    name: str, resolver: Resolver
) -> None:
    at = drawn_write(random.Random(f"{SEED} {name} name"), name)
    with prepared(name) as struck:
        gone = Fault(FaultKind.RESET, meanwhile=lambda: resolver.goes_down(struck.proxies, comes_up_after=3))
        struck.proxies[at.service].arm(FaultRule(fault=gone, nth=at.nth))
        api = through(struck, host=HOST)
        told: BloomeryError | None = None
        try:
            SCENARIOS[name].call(api, struck.world)
        except BloomeryError as problem:
            told = problem
        assert told is not None or resolver.asked_in_vain > 0, "nothing has failed"
        if told is not None:
            assert not isinstance(told, RollbackIncomplete)
            resolver.comes_up()
            # The connection was reset before the deed, so that asking again does it for the first time.
            SCENARIOS[name].call(api, struck.world)
        assert_finished(struck, name)


def test_a_name_that_is_not_found_any_more_is_said_plainly_and_recovered_from(resolver: Resolver) -> None:
    name = "deploy"
    with prepared(name) as struck:
        gone = Fault(FaultKind.RESET, meanwhile=lambda: resolver.goes_down(struck.proxies))
        api = through(struck, host=HOST)
        struck.proxies["Ironic"].arm(FaultRule(fault=gone, nth=1))
        with pytest.raises(ServiceUnavailable, match="name resolution"):
            api.node("node-0")
        resolver.comes_up()
        struck.proxies["Ironic"].arm(FaultRule(fault=gone, method="POST", path="/vifs$"))
        with pytest.raises(BloomeryError, match="name resolution"):
            SCENARIOS[name].call(api, struck.world)
        resolver.comes_up()
        struck.calm()
        assert [problem for _, problem in api.recover(older_than_s=0)] == [None]
        struck.calm()
        assert struck.seen() == clean_run(name).untouched
