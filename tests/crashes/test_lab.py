"""In the lab: Ironic is killed with signal 9 while much is under way, its disk is full, or the commands are killed themselves.

What succeeded is so; what failed or was killed is, after one background pass, and one repetition by its user where only he can
finish it, as before, as wanted, or free. `BLOOMERY_CRASHES=all` (`make test-crashes`) goes through three seeds and three
lengths of absence; otherwise one of each is drawn.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import yaml

from bloomery import BloomeryError
from bloomery.lab import Kind, Lab, LabNode, Options, running
from bloomery.lab.wait import until
from bloomery.library import each
from bloomery.testing import Fault, FaultKind, FaultProxy, FaultRule
from crashes.deeds import DEEDS, TIMEOUT_S, drawn, is_free
from crashes.lab_ironic import LabIronic, is_alive
from lab.ironic_api import IronicApi
from live.site import Site, end

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

Record = Callable[[str, object], None]

SEED = int(os.environ["BLOOMERY_SEED"])
EVERY = os.environ.get("BLOOMERY_CRASHES") == "all"
SEEDS = range(SEED, SEED + 3) if EVERY else range(SEED, SEED + 1)
AWAY_S = (1, 10, 60)
LATEST_S = 14.0
"""When the last of what is done is about to end."""
FULL_S = 5.0
"""How long the disk is full before somebody makes room and starts Ironic again."""
LEAVES_NO_TRACE = "reboot"
"""What a machine does not show afterwards."""
MOST_WRITES = 6
"""As many requests that change something as a command makes here, about."""
AT_REST = {
    *("available", "active", "manageable", "rescue", "error"),
    *("deploy failed", "clean failed", "rescue failed", "unrescue failed"),
}


def storms() -> list[tuple[int, int]]:
    """Seconds of absence, and seed."""
    if EVERY:
        return list(itertools.product(AWAY_S, SEEDS))
    return [(random.Random(SEED).choice(AWAY_S[:2]), SEED)]


@pytest.fixture(scope="module")
def crash_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Eight nodes, which take volumes; writing an image takes a while, so that there is something to be interrupted."""
    options = Options(nodes=8, kind=Kind.BOTH, deploy_seconds=2)
    with running(options, tmp_path_factory.mktemp("lab") / "state") as it:
        api = IronicApi(it)
        for node in it.nodes:
            with_storage = [{"op": "add", "path": "/storage_interface", "value": "external"}]
            api.call("PATCH", f"nodes/{node.uuid}", with_storage)
        api.close()
        yield it


@pytest.fixture(scope="module")
def ironic(crash_lab: Lab) -> Iterator[LabIronic]:
    it = LabIronic(crash_lab)
    yield it
    it.end()


@pytest.fixture
def site(crash_lab: Lab, tmp_path: Path) -> Iterator[Site]:
    it = Site(crash_lab, tmp_path)
    yield it
    it.close()


def settle(site: Site) -> None:
    """Ironic does nothing with any node."""
    for node in site.lab.nodes:
        until(partial(is_at_rest, site, node), what=f"rest on {node.name}", timeout_s=TIMEOUT_S)


def is_at_rest(site: Site, node: LabNode) -> bool:
    row = site.row(node.name)
    return row["provision_state"] in AT_REST and row["reservation"] is None and row["target_power_state"] is None


def tidy(site: Site) -> None:
    """Every node is free and clean; those whose cleaning Ironic broke off are cleaned again, as an operator would."""
    api = site.api()
    rows = site.ironic.call("GET", "nodes?associated=true&fields=uuid,extra")["nodes"]
    left = [row["uuid"] for row in rows]
    for row in rows:
        if "bloomery" not in row["extra"]:
            api.adopt(row["uuid"], timeout_s=TIMEOUT_S)
    for result in each([partial(api.destroy, uuid, timeout_s=TIMEOUT_S) for uuid in left], at_once=8):
        assert not isinstance(result, BloomeryError), repr(result)
    settle(site)
    for node in site.lab.nodes:
        row = site.row(node.name)
        if row["provision_state"] == "clean failed":
            if row["maintenance"]:
                site.ironic.call("DELETE", f"nodes/{node.uuid}/maintenance")
            site.ironic.provision(node, "manage", until="manageable")
            site.ironic.call("PUT", f"nodes/{node.uuid}/states/provision", {"target": "provide"})
    settle(site)
    api.recover(older_than_s=0)
    for node in site.lab.nodes:
        site.assert_free(node.name)
    assert [port for port in site.instances_ports() if port["device_id"]] == []


def outcome(call: Callable[[], object]) -> BloomeryError | None:
    """Our error; any other is a bug."""
    try:
        call()
    except BloomeryError as problem:
        return problem
    return None


@pytest.mark.parametrize(("away_s", "seed"), storms())
def test_whatever_is_under_way_when_ironic_is_killed_ends_in_truth(
    away_s: int, seed: int, site: Site, ironic: LabIronic, record_property: Record
) -> None:

    def blow() -> None:
        ironic.kill()
        threading.Event().wait(away_s)
        ironic.start()

    storm(site, random.Random(f"{seed} {away_s}"), blow, record_property)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_under_way_when_ironics_disk_is_full_ends_in_truth(
    seed: int, site: Site, ironic: LabIronic, record_property: Record
) -> None:

    def blow() -> None:
        ironic.fill_disk()
        threading.Event().wait(FULL_S)
        ironic.kill()
        ironic.start()

    storm(site, random.Random(f"{seed} disk"), blow, record_property)


def test_what_nothing_strikes_is_done_and_told_from_what_it_was_before(site: Site, record_property: Record) -> None:
    """Every deed, or as many as there are nodes: the judges can say yes and no."""
    left = random.Random(f"{SEED} judges").sample(sorted(DEEDS), len(DEEDS))
    while left:
        doing = shared_out(left, site.lab.nodes)
        prepare(site, doing)
        for node, name in doing.items():
            deed = DEEDS[name]
            assert deed.was_not(site, node), f"{name}: {seen(site, node)}"
            assert name == LEAVES_NO_TRACE or not deed.is_done(site, node), f"{name}: {seen(site, node)}"
        api = site.api()
        done = each([partial(DEEDS[name].do, api, site, node) for node, name in doing.items()], at_once=len(doing))
        assert [result for result in done if isinstance(result, BloomeryError)] == []
        judge(site, doing, dict.fromkeys(doing, "success"), set(doing), record_property)
        left = [name for name in left if name not in doing.values()] if EVERY else []


def shared_out(names: Sequence[str], nodes: Sequence[LabNode]) -> dict[LabNode, str]:
    """A deed for each node, as far as there are any that fit; what few nodes can do first."""
    left = sorted(names, key=lambda name: sum(DEEDS[name].fits(node) for node in nodes))
    doing: dict[LabNode, str] = {}
    for node in sorted(nodes, key=lambda node: sum(DEEDS[name].fits(node) for name in names), reverse=True):
        name = next((name for name in left if DEEDS[name].fits(node)), None)
        if name is not None:
            left.remove(name)
            doing[node] = name
    return doing


def storm(site: Site, draw: random.Random, blow: Callable[[], None], record: Record) -> None:
    """Something is done to every node; the blow falls in the middle; all ends in truth, and nothing is left."""
    doing = {node: drawn(draw, node) for node in site.lab.nodes}
    at_s = draw.choice([draw.uniform(0, 2), draw.uniform(2, LATEST_S)])
    api = site.api()
    prepare(site, doing)
    with ThreadPoolExecutor(len(doing)) as pool:
        futures = {node: pool.submit(outcome, partial(DEEDS[deed].do, api, site, node)) for node, deed in doing.items()}
        threading.Event().wait(at_s)
        blow()
        problems = {node: future.result() for node, future in futures.items()}
    told = {node: "success" if problem is None else repr(problem) for node, problem in problems.items()}
    judge(site, doing, told, {node for node, problem in problems.items() if problem is None}, record)


@pytest.mark.parametrize("seed", [seed + more for seed in SEEDS for more in ((0, 10, 20) if EVERY else (0,))])
def test_what_a_killed_command_leaves_is_finished_or_cleaned_by_the_next(
    seed: int, site: Site, record_property: Record
) -> None:
    draw = random.Random(f"{seed} commands")
    doing = {node: drawn(draw, node) for node in draw.sample(site.lab.nodes, 4)}
    prepare(site, doing)
    with ExitStack() as stack:
        commands = {}
        for node, deed in doing.items():
            proxies = {
                "baremetal": stack.enter_context(FaultProxy(site.lab.ironic_url)),
                "network": stack.enter_context(FaultProxy(str(site.lab.neutron_url))),
            }
            own = Site(site.lab, site.folder)
            own.environment["OS_CLIENT_CONFIG_FILE"] = site.file(f"{node.name}.yaml", clouds(proxies))
            command = own.start(*DEEDS[deed].words(site, node))
            stack.enter_context(command)
            own.close()
            fault = Fault(draw.choice(KINDS), meanwhile=partial(kill, command))
            service = draw.choice(["baremetal", "baremetal", "network"])
            rule = FaultRule(fault=fault, where=lambda sent: sent.is_write, nth=draw.randint(1, MOST_WRITES))
            proxies[service].arm(rule)
            commands[node] = command
        answers = {node: end(command) for node, command in commands.items()}
        told = {node: f"exit code {answer.exit_code}: {answer.err}" for node, answer in answers.items()}
        assert {answer.exit_code for answer in answers.values()} <= {0, -signal.SIGKILL}, told
    judge(site, doing, told, {node for node, answer in answers.items() if answer.exit_code == 0}, record_property)


def test_our_mark_that_a_destroy_leaves_on_a_node_that_is_cleaned_goes_in_the_next_background_pass(site: Site) -> None:
    api, deed = site.api(), DEEDS["destroy"]
    node = next(one for one in site.lab.nodes if one.kind is Kind.REDFISH)
    deed.prepare(api, site, node)
    deed.do(api, site, node)
    assert site.row(node.name)["provision_state"] != "available", "a node that is not cleaned loses the mark at once"
    settle(site)
    assert set(site.row(node.name)["extra"]) == {"bloomery"}
    assert deed.is_true(site, node)
    assert not deed.is_done(site, node)
    assert api.recover(older_than_s=0, timeout_s=TIMEOUT_S) == [(node.name, None)]
    assert deed.is_done(site, node)
    site.assert_free(node.name)


KINDS = (FaultKind.RESET, FaultKind.DELAY, FaultKind.LOSE_REPLY)
"""The process dies before its request arrives, while it is under way, or after the deed."""


def kill(command: subprocess.Popen[str]) -> None:
    """It is dead."""
    command.kill()
    # Not `wait`: another thread reads its output, and waits for it then.
    until(lambda: not is_alive(command.pid), what="the end of a killed command", timeout_s=TIMEOUT_S)


def clouds(proxies: Mapping[str, FaultProxy]) -> str:
    """A clouds.yaml by which a command goes through the proxies."""
    endpoints = {f"{service}_endpoint_override": proxy.url for service, proxy in proxies.items()}
    return yaml.safe_dump({"clouds": {"lab": {"auth_type": "none", **endpoints}}})


def prepare(site: Site, doing: Mapping[LabNode, str]) -> None:
    """What comes before each deed has been done."""
    api = site.api()
    prepared = each([partial(DEEDS[deed].prepare, api, site, node) for node, deed in doing.items()], at_once=8)
    assert [result for result in prepared if isinstance(result, BloomeryError)] == []


def judge(
    site: Site,
    doing: Mapping[LabNode, str],
    told: Mapping[LabNode, str],
    succeeded: AbstractSet[LabNode],
    record: Record,
) -> None:
    """What was said is true, and stays so; whatever was not done is cleaned up or finished by a background pass."""
    ends: Counter[str] = Counter()
    wrong = [
        f"{deed} of {node.name} said that it succeeded: {seen(site, node)}"
        for node, deed in doing.items()
        if node in succeeded and not DEEDS[deed].is_true(site, node)
    ]
    settle(site)
    recovered = dict(site.api().recover(older_than_s=0, timeout_s=TIMEOUT_S))
    settle(site)
    for node, deed in doing.items():
        how = ended(site, node, deed, has_succeeded=node in succeeded)
        ends[how or "wrong"] += 1
        if how is None:
            wrong.append(
                f"{deed} of {node.name}, {told[node]}; recover said {recovered.get(node.name)!r}: {seen(site, node)}"
            )
    record("lab_ends", dict(ends))
    record("lab_deeds", dict(Counter(doing.values())))
    tidy(site)
    assert not wrong, "\n".join(wrong)


def ended(site: Site, node: LabNode, name: str, *, has_succeeded: bool) -> str | None:
    """How it has ended, in words; None if not as it may."""
    deed = DEEDS[name]
    if deed.is_done(site, node):
        return "succeeded" if has_succeeded else "done after recover"
    if has_succeeded:
        return None
    if deed.was_not(site, node) or is_free(site, node):
        return "as before"
    if deed.again:
        again = outcome(partial(deed.do, site.api(), site, node))
        if again is None and deed.is_done(site, node):
            return "done when asked again"
    return None


def seen(site: Site, node: LabNode) -> str:
    """What is seen of the node."""
    row = site.row(node.name)
    names = ("provision_state", "power_state", "instance_uuid", "instance_info", "extra", "last_error", "maintenance")
    return ", ".join(f"{name} {row[name]!r}" for name in names) + f", VIFs {site.ironic.vifs(node)}"
