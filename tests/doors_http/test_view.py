"""The fleet as it was seen last: worked out once for all who ask the same, and for nobody who may not see it."""

from __future__ import annotations

from bloomery.doors.http.following import Following, Pages, View
from bloomery.doors.http.metrics import Metrics
from bloomery.doors.http.upstream import Cloud
from bloomery.ironic import Node
from doors_http.http_site import Site, connected


def test_what_was_asked_before_is_not_worked_out_again_until_the_fleet_changes(site: Site) -> None:
    following = site.server.service.following
    first = site.ask("GET", "/v1/nodes?limit=2")
    view = following.view
    kept = len(view.pages)
    again = site.ask("GET", "/v1/nodes?limit=2")
    assert (again.content, again.headers["ETag"]) == (first.content, first.headers["ETag"])
    assert len(following.view.pages) == kept
    site.ask("GET", "/v1/nodes?limit=1")
    assert len(following.view.pages) == kept + 1
    following.wait_for_look(10)
    assert following.view.pages is view.pages, "nothing has changed"
    site.ironic.set("node-1", maintenance=True, maintenance_reason="new fan")
    site.wait_for(lambda: site.ask("GET", "/v1/nodes?limit=2").content != first.content)
    assert following.view.pages is not view.pages


def test_whoever_has_it_already_is_told_so_and_nothing_else(site: Site) -> None:
    for path in ("/v1/nodes", "/v1/instances", "/v1/fleet", "/v1/why-not"):
        etag = site.ask("GET", path).headers["ETag"]
        answer = site.ask("GET", path, If_None_Match=f'"other", W/{etag}')
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == etag


def test_what_was_not_asked_for_longest_is_forgotten_first() -> None:
    pages = Pages(most_bytes=10)

    def made(key: str, content: bytes) -> bytes:
        return pages.get(key, lambda: (content, "tag"))[0]

    made("a", b"1234")
    made("b", b"1234")
    made("a", b"not made")
    made("c", b"1234")
    assert made("a", b"anew") == b"1234"
    assert made("b", b"anew") == b"anew"
    made("too large", b"x" * 11)
    assert len(pages) == 0


def test_a_node_that_is_as_it_was_is_not_looked_at_again(site: Site) -> None:
    told: list[list[str]] = []

    def on_news(seen: object, happened: object) -> bool:
        assert isinstance(happened, list)
        told.append([event.kind for event in happened])
        return True

    following = Following(
        Cloud(lambda: connected(site.ironic, site.neutron), Metrics()),
        refresh_s=60.0,
        read_all_s=600.0,
        on_news=on_news,
    )
    following.start({})
    try:
        assert following.wait_for_look(10)
        assert following.wait_for_look(10)
        assert told == [["node.appeared"] * 3]
        site.ironic.set("node-1", owner="p")
        assert following.wait_for_look(10)
        assert told[1:] == [["node.owner"]]
    finally:
        following.stop()


def test_the_view_finds_a_node_by_what_it_is_called() -> None:
    view = View.of([Node(uuid="b", name="one"), Node(uuid="a")], as_of=1.0)
    assert [node.uuid for node in view.nodes] == ["a", "b"]
    assert view.node_by["one"] is view.node_by["b"]


def test_of_a_node_that_has_not_changed_the_instance_is_not_worked_out_again() -> None:
    one, two = (Node(uuid=name, name=name, instance_uuid=f"i-{name}") for name in ("one", "two"))
    before = View.of([one, two], as_of=1.0)
    now = View.of([one, Node(uuid="two", name="two", instance_uuid="i-two", power_state="power on")], 2.0, before)
    assert now.instance_by["one"] is before.instance_by["one"]
    assert now.instance_by["two"][0].power_state == "power on"
    assert [pair[1].uuid for pair in now.instances] == ["one", "two"]
