"""Ironic's notifications: what is heard of them over a real driver of oslo.messaging, and what is not."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.bus import Bus, BusAddress, change_of
from bloomery.errors import InvalidRequest
from notifying import NODE, NotifyingIronic, payload

WAIT_S = 20.0

Change = tuple[str, str | None]


@pytest.fixture
def ironic() -> Iterator[NotifyingIronic]:
    ironic = NotifyingIronic()
    yield ironic
    ironic.close()


@contextlib.contextmanager
def listening(address: BusAddress) -> Iterator[SimpleQueue[Change]]:
    """Within the block somebody listens; what is heard."""
    heard: SimpleQueue[Change] = SimpleQueue()
    bus = Bus(address)
    bus.tell(lambda node_uuid, state: heard.put((node_uuid, state)))
    bus.start()
    try:
        assert bus.is_listening.wait(WAIT_S)
        yield heard
    finally:
        bus.close()


@pytest.mark.parametrize("level", ["info", "error", "warn"])
@pytest.mark.parametrize(
    "event", ["provision_set.end", "provision_set.success", "provision_set.error", "power_set.end"]
)
def test_what_ironic_notifies_is_heard_with_its_node_and_state(ironic: NotifyingIronic, event: str, level: str) -> None:
    with listening(ironic.address()) as heard:
        ironic.send(f"baremetal.node.{event}", payload(), level)
        assert heard.get(timeout=WAIT_S) == (NODE, "active")


def test_what_is_no_change_of_a_node_is_not_heard_and_hides_nothing(ironic: NotifyingIronic) -> None:
    with listening(ironic.address()) as heard:
        ironic.send("baremetal.node.provision_set.start", payload())
        ironic.send("baremetal.port.update.end", payload())
        ironic.send("baremetal.node.provision_set.end", {"ironic_object.data": {"uuid": 5}})
        ironic.send("baremetal.node.provision_set.end", "nothing")
        ironic.send("baremetal.node.provision_set.end", payload(provision_state=None))
        assert heard.get(timeout=WAIT_S) == (NODE, None)
        assert heard.empty()


def test_two_with_pools_of_their_own_hear_everything(ironic: NotifyingIronic) -> None:
    with listening(ironic.address("bloomery-a")) as first, listening(ironic.address("bloomery-b")) as second:
        ironic.send("baremetal.node.provision_set.end", payload())
        assert first.get(timeout=WAIT_S) == second.get(timeout=WAIT_S) == (NODE, "active")


def test_one_who_breaks_on_what_he_is_told_ends_nothing(ironic: NotifyingIronic) -> None:
    heard: SimpleQueue[str] = SimpleQueue()

    def broken(node_uuid: str, _state: str | None) -> None:
        heard.put(node_uuid)
        raise ZeroDivisionError

    bus = Bus(ironic.address())
    bus.tell(broken)
    bus.start()
    try:
        assert bus.is_listening.wait(WAIT_S)
        for node_uuid in ("first", "second"):
            ironic.send("baremetal.node.provision_set.end", payload(node_uuid))
            assert heard.get(timeout=WAIT_S) == node_uuid
    finally:
        bus.close()


def test_a_bus_that_is_closed_has_left_no_thread(ironic: NotifyingIronic) -> None:
    before = threading.active_count()
    with listening(ironic.address()):
        assert threading.active_count() > before
    assert "bloomery-bus" not in {thread.name for thread in threading.enumerate()}


def test_an_address_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(InvalidRequest, match="address of the message bus") as refused:
        Bus(BusAddress.of("carrier-pigeon://user:geheim@host/", pool="p")).start()
    assert (
        "geheim" not in f"{refused.value} {refused.value.__cause__} {BusAddress.of('rabbit://u:geheim@h/', pool='p')!r}"
    )


def test_starting_waits_for_no_bus_and_closing_for_none_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "oslo.messaging")
    bus = Bus(BusAddress.of("rabbit://guest:guest@127.0.0.1:1/", pool="p"))
    bus.start()
    assert not bus.is_listening.is_set()
    bus.close(timeout_s=0.1)


@given(
    st.one_of(st.none(), st.text(), st.sampled_from(["baremetal.node.provision_set.end", "baremetal.node.x.success"])),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["ironic_object.data", "uuid", "provision_state"]), inner)
        ),
    ),
)
def test_whatever_is_on_the_bus_is_a_change_with_a_uuid_or_nothing(event_type: object, content: object) -> None:
    change = change_of(event_type, content)
    assert change is None or (isinstance(change[0], str) and isinstance(change[1], str | None))
