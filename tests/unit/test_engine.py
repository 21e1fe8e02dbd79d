"""Steps are done in order and undone in reverse, whatever fails and whatever cannot be undone."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from bloomery.engine import Observer, Step, for_each, run, unwind
from bloomery.errors import BloomeryError, DeployFailed, RollbackIncomplete

Log = list[str]
Deed = Callable[[Log], None]


class Killed(BaseException):
    """What ends a process, and is no `Exception`."""


def says(word: str) -> Deed:
    def deed(log: Log) -> None:
        log.append(word)

    return deed


def fails(word: str, error: BaseException) -> Deed:
    def deed(log: Log) -> None:
        log.append(word)
        raise error

    return deed


def step(name: str, *, error: BaseException | None = None, undo_error: BaseException | None = None) -> Step[Log]:
    return Step(
        name,
        fails(name, error) if error else says(name),
        undo=fails(f"undo {name}", undo_error) if undo_error else says(f"undo {name}"),
    )


class Told(Observer):
    """Writes down what it is told; raises where it is asked to."""

    def __init__(self, fail_at: str | None = None) -> None:
        self.heard: list[str] = []
        self.fail_at = fail_at

    def _hear(self, words: str) -> None:
        self.heard.append(words)
        if words == self.fail_at:
            raise RuntimeError(f"the observer breaks at {words}")

    def begins(self, step: str, index: int, total: int) -> None:
        self._hear(f"begins {step} {index}/{total}")

    def ended(self, step: str) -> None:
        self._hear(f"ended {step}")

    def unwinding(self, failure: BaseException) -> None:
        self._hear(f"unwinding {failure}")

    def undoing(self, step: str) -> None:
        self._hear(f"undoing {step}")

    def undone(self, step: str) -> None:
        self._hear(f"undone {step}")


def test_steps_are_done_in_order() -> None:
    log: Log = []
    run("deploy", [step("a"), step("b"), step("c")], log, Observer())
    assert log == ["a", "b", "c"]


def test_an_operation_without_steps_is_done() -> None:
    run("nothing", [], [], Observer())


def test_a_failure_undoes_every_step_that_was_started_in_reverse_the_failing_one_first() -> None:
    log: Log = []
    with pytest.raises(DeployFailed):
        run("deploy", [step("a"), step("b"), step("c", error=DeployFailed("no")), step("d")], log, Observer())
    assert log == ["a", "b", "c", "undo c", "undo b", "undo a"]


def test_a_step_without_undo_is_passed_over() -> None:
    log: Log = []
    with pytest.raises(ValueError, match="no"):
        run("deploy", [step("a"), Step("b", says("b")), step("c", error=ValueError("no"))], log, Observer())
    assert log == ["a", "b", "c", "undo c", "undo a"]


def test_the_failure_itself_is_raised_when_all_was_undone() -> None:
    failure = DeployFailed("no")
    with pytest.raises(DeployFailed) as raised:
        run("deploy", [step("a", error=failure)], [], Observer())
    assert raised.value is failure
    assert (failure.operation, failure.step) == ("deploy", "a")


def test_a_failure_of_another_kind_is_raised_as_it_is() -> None:
    failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        run("deploy", [step("a", error=failure)], [], Observer())
    assert raised.value is failure


def test_all_undos_are_called_even_if_some_fail() -> None:
    log: Log = []
    steps = [
        step("a", undo_error=RuntimeError("stuck")),
        step("b"),
        step("c", undo_error=BloomeryError("gone")),
        step("d", error=DeployFailed("no")),
    ]
    with pytest.raises(RollbackIncomplete):
        run("deploy", steps, log, Observer())
    assert log == ["a", "b", "c", "d", "undo d", "undo c", "undo b", "undo a"]


def test_what_could_not_be_undone_is_named_with_the_first_failure_as_its_cause() -> None:
    failure = DeployFailed("no disk")
    steps = [
        step("claim node", undo_error=RuntimeError("stuck")),
        step("attach VIFs", undo_error=BloomeryError("VIF v1 is gone")),
        step("wait for active", error=failure),
    ]
    with pytest.raises(RollbackIncomplete) as raised:
        run("deploy", steps, [], Observer())
    assert raised.value.__cause__ is failure
    assert raised.value.left == ("attach VIFs: VIF v1 is gone", "claim node: stuck")
    assert raised.value.operation == "deploy"
    for words in ("no disk", "claim node: stuck", "attach VIFs: VIF v1 is gone"):
        assert words in str(raised.value)


def test_an_interrupt_from_the_keyboard_undoes() -> None:
    log: Log = []
    with pytest.raises(KeyboardInterrupt):
        run("deploy", [step("a"), step("b", error=KeyboardInterrupt())], log, Observer())
    assert log == ["a", "b", "undo b", "undo a"]


@pytest.mark.parametrize("kill", [Killed(), SystemExit(1), GeneratorExit()], ids=lambda kill: type(kill).__name__)
def test_the_end_of_the_process_undoes_nothing(kill: BaseException) -> None:
    log: Log = []
    with pytest.raises(type(kill)):
        run("deploy", [step("a"), step("b", error=kill)], log, Observer())
    assert log == ["a", "b"]


def test_the_end_of_the_process_ends_an_undo_too() -> None:
    log: Log = []
    with pytest.raises(Killed):
        run("deploy", [step("a"), step("b", error=DeployFailed("no"), undo_error=Killed())], log, Observer())
    assert log == ["a", "b", "undo b"]


def test_a_failed_operation_is_left_as_it_is_if_that_is_wanted() -> None:
    log: Log = []
    told = Told()
    with pytest.raises(DeployFailed) as raised:
        run("deploy", [step("a"), step("b", error=DeployFailed("no"))], log, told, undo_on_failure=False)
    assert log == ["a", "b"]
    assert raised.value.step == "b"
    assert not any(words.startswith(("unwinding", "undoing")) for words in told.heard)


def test_the_observer_is_told_of_everything_in_order() -> None:
    told = Told()
    with pytest.raises(DeployFailed):
        run("deploy", [step("a"), step("b", error=DeployFailed("no"))], [], told)
    assert told.heard == [
        "begins a 0/2", "ended a", "begins b 1/2", "unwinding no", "undoing b", "undone b", "undoing a", "undone a",
    ]  # fmt: skip


@pytest.mark.parametrize(("fail_at", "done"), [("begins b 1/2", ["a"]), ("ended b", ["a", "b"])])
def test_an_observer_that_fails_counts_as_the_step_that_failed(fail_at: str, done: Log) -> None:
    log: Log = []
    with pytest.raises(RuntimeError, match="the observer breaks"):
        run("deploy", [step("a"), step("b")], log, Told(fail_at))
    assert log == [*done, "undo b", "undo a"]


def test_an_observer_that_fails_at_an_undo_counts_as_that_undo_failing() -> None:
    log: Log = []
    with pytest.raises(RollbackIncomplete) as raised:
        run("deploy", [step("a"), step("b", error=DeployFailed("no"))], log, Told("undoing b"))
    assert log == ["a", "b", "undo a"]
    assert len(raised.value.left) == 1


def test_unwinding_by_itself_undoes_what_another_process_has_left() -> None:
    log: Log = []
    unwind("deploy", [step("a"), step("b")], log, Observer(), None)
    assert log == ["undo b", "undo a"]
    with pytest.raises(RollbackIncomplete) as raised:
        unwind("deploy", [step("a", undo_error=RuntimeError("stuck"))], log, Observer(), None)
    assert raised.value.reason == "a: stuck"


def test_undos_are_called_as_often_as_the_observer_wants() -> None:
    log: Log = []
    told = Told()
    told.undo_times = 2
    with pytest.raises(DeployFailed):
        run("deploy", [step("a", error=DeployFailed("no"))], log, told)
    assert log == ["a", "undo a", "undo a"]


def test_a_failure_and_what_could_not_be_undone_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bloomery"), pytest.raises(RollbackIncomplete):
        run("deploy", [step("a", error=DeployFailed("no"), undo_error=RuntimeError("stuck"))], [], Observer())
    assert "deploy: a failed (no)" in caplog.text
    assert "could not undo a: stuck" in caplog.text


def test_work_on_several_things_is_tried_on_all_of_them_and_its_first_failure_told() -> None:
    tried: list[int] = []

    def work(thing: int) -> None:
        tried.append(thing)
        if thing != 2:
            raise DeployFailed(f"{thing} is stuck")

    with pytest.raises(DeployFailed, match="1 is stuck") as raised:
        for_each(work, [1, 2, 3])
    assert tried == [1, 2, 3]
    assert raised.value.__notes__ == ["and: 3 is stuck"]
