"""Checks of what is done about failures: exceptions, refusals, undos, and what leaves a door."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from enum import Enum, auto

from .source import (
    Check,
    Function,
    Source,
    Spot,
    body_of,
    calls_in,
    caught,
    cleans_up,
    dotted,
    is_broad,
    is_log_call,
    is_reraising,
    is_undo_call,
    last,
    names_in,
    parameters,
    raises,
    walk_here,
)

# Exceptions


class _Path(Enum):
    """What the quietest way through some statements does."""

    LOUD = auto()
    FALLS_THROUGH = auto()
    LEAVES = auto()


def _records(statement: ast.AST, name: str | None) -> bool:
    """Whether the statement logs, shows, or keeps the exception of that name, or ends the process."""
    for node in walk_here(statement):
        if is_log_call(node):
            return True
        if isinstance(node, ast.Call) and last(dotted(node.func)) in {"print", "echo", "exit", "_exit", "fail"}:
            return True
    return name is not None and name in names_in(statement)


def _quietest(statements: Sequence[ast.stmt], name: str | None) -> _Path:
    for statement in statements:
        if is_reraising(statement):
            return _Path.LOUD
        if isinstance(statement, ast.If):
            ways = {_quietest(statement.body, name), _quietest(statement.orelse, name)}
            if _Path.LEAVES in ways:
                return _Path.LEAVES
            if _Path.FALLS_THROUGH not in ways:
                return _Path.LOUD
        elif isinstance(statement, ast.With | ast.Try):
            way = _quietest(statement.body, name)
            if way is not _Path.FALLS_THROUGH:
                return way
        elif _records(statement, name):
            return _Path.LOUD
        elif isinstance(statement, ast.Return | ast.Continue | ast.Break):
            return _Path.LEAVES
    return _Path.FALLS_THROUGH


def swallowed(source: Source) -> Iterator[Spot]:
    """Every handler of all exceptions that can end without raising or recording what it caught."""
    for handler in ast.walk(source.tree):
        if not isinstance(handler, ast.ExceptHandler) or not is_broad(handler):
            continue
        if _quietest(handler.body, handler.name) is not _Path.LOUD:
            yield Spot(handler.lineno, 390, "any failure ends here, and on some path nothing says so")


_EXCEPTION_NAMES = re.compile(r"^(?:e|ex|exc|err|error|exception|failure)$")
_TEXT_ATTRIBUTES = {"args", "message", "msg", "details"}
_TEXT_TESTS = {"startswith", "endswith", "find", "search", "match", "fullmatch", "index", "count"}


def _text_of(node: ast.AST, exceptions: set[str], texts: set[str]) -> int | None:
    """The weakness of deciding by the node: 1025 for an exception's text, 486 for its class's name, None for neither."""
    for part in walk_here(node):
        if isinstance(part, ast.Name) and part.id in texts:
            return 1025
        if isinstance(part, ast.Call) and dotted(part.func) in {"str", "repr", "getattr"} and part.args:
            if not (isinstance(part.args[0], ast.Name) and part.args[0].id in exceptions):
                continue
            if dotted(part.func) != "getattr":
                return 1025
            if len(part.args) > 1 and isinstance(part.args[1], ast.Constant) and part.args[1].value == "__name__":
                return 486
        if isinstance(part, ast.Attribute) and names_in(part) & exceptions:
            if part.attr in {"__name__", "__qualname__"}:
                return 486
            if part.attr in _TEXT_ATTRIBUTES and isinstance(part.value, ast.Name):
                return 1025
    return None


def decided_by_text(source: Source) -> Iterator[Spot]:
    """Every comparison of, or search in, an exception's text or the name of its class."""
    for function in [*source.functions, source.tree]:
        nodes = list(walk_here(*function.body))
        exceptions = {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
        if isinstance(function, Function):
            exceptions |= {name for name in parameters(function) if _EXCEPTION_NAMES.match(name)}
        texts = {
            target.id
            for node in nodes
            if isinstance(node, ast.Assign) and _text_of(node.value, exceptions, set()) == 1025
            for target in node.targets
            if isinstance(target, ast.Name)
            if isinstance(node.value, ast.Call | ast.Attribute | ast.Subscript)
        }
        for node in nodes:
            if not isinstance(node, ast.Compare | ast.Call):
                continue
            if isinstance(node, ast.Call) and last(dotted(node.func)) not in _TEXT_TESTS:
                continue
            match _text_of(node, exceptions, texts):
                case 486:
                    yield Spot(node.lineno, 486, "what to do is decided by the name of an exception's class")
                case 1025:
                    yield Spot(
                        node.lineno, 1025, "what to do is decided by an exception's text, which others may change"
                    )


# Refusals

_CONFLICT = re.compile(r"(?:Conflict|AlreadyExist|Duplicate|AlreadyAttached)")


def _only_goes_on(statements: Sequence[ast.stmt]) -> bool:
    """Whether the statements do nothing about the failure: they pass, log, or leave as after success."""
    for statement in statements:
        if isinstance(statement, ast.Pass | ast.Continue | ast.Break):
            continue
        if isinstance(statement, ast.Return):
            if statement.value is None or (
                isinstance(statement.value, ast.Constant) and statement.value.value is not False
            ):
                continue
            return False
        if isinstance(statement, ast.Expr) and (
            is_log_call(statement.value) or isinstance(statement.value, ast.Constant)
        ):
            continue
        return False
    return True


def conflict_taken_for_success(source: Source) -> Iterator[Spot]:
    """Every conflict that is answered by going on, without a look at what the conflict was."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Try) and any(calls_in(walk_here(node.body[-1]))):
            for handler in node.handlers:
                if any(_CONFLICT.search(last(name)) for name in caught(handler)) and _only_goes_on(handler.body):
                    yield Spot(handler.lineno, 436, "a conflict can also mean locked or taken; here it counts as done")
        if isinstance(node, ast.Compare) and "status" in last(dotted(node.left)):
            for collection in node.comparators:
                if isinstance(collection, ast.Tuple | ast.List | ast.Set):
                    numbers = {item.value for item in collection.elts if isinstance(item, ast.Constant)}
                    if 409 in numbers and numbers & {200, 201, 202, 204}:
                        yield Spot(node.lineno, 436, "409 is put on one level with success")


# Undos

_NARROW = re.compile(r"(?:BadRequest|NotFound|Missing|Conflict|Forbidden|KeyError|Gone|Lookup)")


def _is_suppressed(source: Source, node: ast.AST) -> bool:
    """Whether the node stands in a block whose failures are passed over."""
    return any(
        isinstance(parent, ast.With) and any("suppress" in dotted(item.context_expr) for item in parent.items)
        for parent in source.above(node)
    )


def _may_break_off(source: Source, node: ast.AST, until: ast.AST) -> bool:
    """Whether a failure of the node gets out of `until`: nothing in between catches more than a narrow kind."""
    for guard in source.guards(node):
        if not any(parent is until for parent in source.above(guard)):
            break
        for handler in guard.handlers:
            if not all(_NARROW.search(last(name)) for name in caught(handler)) and not raises(handler.body):
                return False
    return not _is_suppressed(source, node)


def undo_skipped(source: Source) -> Iterator[Spot]:
    """Every undo that is not called once another one has failed."""
    for function in source.functions:
        if not cleans_up(function):
            continue
        undos = [
            statement
            for statement in function.body
            if isinstance(statement, ast.Expr) and is_undo_call(statement.value)
        ]
        for first, *rest in [undos] if len(undos) > 1 else []:
            skipped = ", ".join(f"`{dotted(statement.value)}`" for statement in rest)
            yield Spot(first.lineno, 460, f"when `{dotted(first.value)}` fails, {skipped} will not be called")
        for loop in body_of(function):
            repeats = isinstance(loop, ast.For) and dotted(loop.iter) == "range"
            if isinstance(loop, ast.For | ast.While) and not repeats:
                for call in calls_in(walk_here(*loop.body)):
                    if is_undo_call(call) and _may_break_off(source, call, loop):
                        yield Spot(call.lineno, 460, f"when `{dotted(call)}` fails, the rest of the loop is skipped")
                        break


def undo_failed_quietly(source: Source) -> Iterator[Spot]:
    """Every failure of an undo of which only the log is told, so that the undo counts as done."""
    for function in source.functions:
        if not cleans_up(function):
            continue
        for handler in body_of(function):
            if not isinstance(handler, ast.ExceptHandler) or not _only_goes_on(handler.body):
                continue
            if any(re.search(r"NotFound|Missing|Gone|Lookup|KeyError", last(name)) for name in caught(handler)):
                continue
            yield Spot(handler.lineno, 459, "the undo failed, and whoever called it is told that it is done")


def _leaves_out(function: Function) -> Iterator[tuple[str, str]]:
    """Parameters of a function that cleans up on which it depends what is cleaned, each with the reason."""
    for name, default in parameters(function).items():
        for node in body_of(function):
            if (
                isinstance(node, ast.For)
                and dotted(node.iter) == name
                and any(map(is_undo_call, walk_here(*node.body)))
            ):
                yield name, f"only what the caller names in `{name}` is cleaned up, not what is there"
                break
            if isinstance(node, ast.Call) and is_undo_call(node) and isinstance(default, ast.Constant):
                passed = [*node.args, *(keyword.value for keyword in node.keywords)]
                if default.value is None and any(dotted(value) == name for value in passed):
                    yield name, f"`{name}` may be left out, and with it a part of the cleanup"
                    break


def cleanup_by_argument(source: Source) -> Iterator[Spot]:
    """Every cleanup that cleans what an argument says, and every call that leaves such an argument out."""
    optional: dict[str, list[str]] = {}
    for function in source.functions:
        if not cleans_up(function, wholly=True):
            continue
        for name, reason in _leaves_out(function):
            yield Spot(function.lineno, 459, reason)
            if parameters(function)[name] is not None:
                optional.setdefault(function.name, []).append(name)
    for call in calls_in(ast.walk(source.tree)):
        for name in optional.get(last(dotted(call.func)), []):
            callee = next(function for function in source.functions if function.name == last(dotted(call.func)))
            given = {keyword.arg for keyword in call.keywords} | set(list(parameters(callee))[: len(call.args)])
            if name not in given and None not in given:
                yield Spot(call.lineno, 459, f"`{name}` is left out, so what it would name stays behind")


# Doors

_CLIENT = re.compile(r"(?:^|_)(?:connection|conn|client|session|adapter|gateway)$")
_NO_DOOR = re.compile(r"^(?:Struct|BaseModel|.*(?:Error|Exception|Warning|Mixin|Test|TestCase|Base))$")


def _is_door(source: Source, owner: ast.ClassDef) -> bool:
    """Whether the class implements an interface from elsewhere, and not one of Python's own, so that strangers call it."""
    bases = [dotted(base) for base in owner.bases if dotted(base).partition(".")[0] in source.imported]
    strangers = [name for name in bases if source.in_full(name).partition(".")[0] not in sys.stdlib_module_names]
    return any(not _NO_DOOR.match(last(name)) for name in strangers)


_ROOTS = {"requests.RequestException", "requests.exceptions.RequestException", "httpx.HTTPError"}
"""Kinds that are everything their library raises for a request, connections included."""


def _family(source: Source, name: str) -> str:
    return source.in_full(name).rpartition(".")[0]


def _leak(source: Source, call: ast.AST) -> str | None:
    """How a failure of the call gets out as it is; None if it does not."""
    families: set[str] = set()
    if _is_suppressed(source, call):
        return None
    for guard in source.guards(call):
        for handler in guard.handlers:
            if is_broad(handler):
                again = [node for node in walk_here(*handler.body) if isinstance(node, ast.Raise) and node.exc is None]
                reraised = any(isinstance(node, ast.With) and is_reraising(node) for node in walk_here(*handler.body))
                return "it is caught, and raised again as it is" if again or reraised else None
            if any(source.in_full(name) in _ROOTS for name in caught(handler)):
                return None
            families |= {_family(source, name) for name in caught(handler) if not _NARROW.search(last(name))}
    if len(families) > 1:
        return None
    if families:
        return f"of all that can fail, only the kinds of {min(families) or 'this module'} are caught"
    return "nothing translates its failures"


def foreign_exceptions(source: Source) -> Iterator[Spot]:
    """Every call of a remote service in a door whose failure leaves the door in the remote library's own words."""
    for owner in source.classes:
        if not _is_door(source, owner):
            continue
        for function in (node for node in ast.walk(owner) if isinstance(node, Function)):
            lazy: dict[str, ast.Try] = {}
            for call in calls_in(body_of(function)):
                if not isinstance(call.func, ast.Attribute) or not _CLIENT.search(last(dotted(call.func.value))):
                    continue
                how = _leak(source, call)
                if how is not None:
                    yield Spot(call.lineno, 248, f"`{dotted(call)}` may fail, and {how}")
                    continue
                holder = source.parents[call]
                guard = next(source.guards(call), None)
                if isinstance(holder, ast.Assign) and guard is not None:
                    lazy |= {target.id: guard for target in holder.targets if isinstance(target, ast.Name)}
            for node in body_of(function):
                walked = (
                    node.args[0] if isinstance(node, ast.Call) and dotted(node.func) == "list" and node.args else None
                )
                walked = node.iter if isinstance(node, ast.For) else walked
                if isinstance(walked, ast.Name) and walked.id in lazy and lazy[walked.id] not in source.guards(node):
                    yield Spot(
                        walked.lineno, 248, f"`{walked.id}` may fetch as it is walked, outside the try that made it"
                    )


CHECKS = (
    Check(
        "broad-except",
        (390,),
        "a handler of every exception that neither raises nor records",
        swallowed,
    ),
    Check(
        "exception-text",
        (1025, 486),
        "a decision on the text of an exception, or on the name of its class",
        decided_by_text,
    ),
    Check("conflict-as-success", (436,), "a conflict that is taken for success", conflict_taken_for_success),
    Check("undo-skipped", (460,), "an undo that another undo's failure skips", undo_skipped),
    Check("undo-failed-quietly", (459,), "an undo that fails and counts as done", undo_failed_quietly),
    Check("cleanup-by-argument", (459,), "cleanup that depends on a caller's argument", cleanup_by_argument),
    Check("foreign-exception", (248,), "a foreign exception that leaves a door", foreign_exceptions),
)
