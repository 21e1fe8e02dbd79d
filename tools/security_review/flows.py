"""Checks of what flows: waits, calls of other machines, state that threads share, secrets, filters, and text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .source import (
    Check,
    Function,
    Source,
    Spot,
    body_of,
    calls_in,
    caught,
    dotted,
    is_log_call,
    last,
    names_in,
    raises,
    walk_here,
)

# Waits

_BOUND = re.compile(
    r"deadline|time_?out|expir|remaining|monotonic|elapsed|attempt|tries|budget|until|limit|max_|perf_counter",
    re.IGNORECASE,
)
_STOP = re.compile(r"stop|clos|shut|quit|end|cancel|alive|running|done|finished", re.IGNORECASE)
_COUNT = re.compile(r"attempt|tries|polls|count", re.IGNORECASE)


def _words(*nodes: ast.AST) -> Iterator[str]:
    """The names, attributes, keywords and strings in the nodes."""
    for node in walk_here(*nodes):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.Constant(value=str(word)):
                yield word
            case ast.keyword(arg=str(word)):
                yield word


def _bound(*nodes: ast.AST) -> ast.Compare | None:
    """The comparison in the nodes that ends a wait some time, if there is one."""
    for node in walk_here(*nodes):
        if isinstance(node, ast.Compare) and any(_BOUND.search(word) for word in _words(node)):
            return node
    return None


def _target(source: Source, maker: ast.Call) -> Function | None:
    """The function of this file that the looping call calls, if it is one."""
    if not maker.args:
        return None
    wanted = last(dotted(maker.args[0]))
    outer = source.class_of(maker) if dotted(maker.args[0]).startswith("self.") else source.function_of(maker)
    inside = ast.walk(outer if outer is not None else source.tree)
    return next((node for node in inside if isinstance(node, Function) and node.name == wanted), None)


def _is_started_with_timeout(source: Source, maker: ast.Call) -> bool:
    """Whether the looping call is started with a time limit."""
    inside = source.function_of(maker)
    starts = [
        call
        for call in calls_in(ast.walk(inside if inside is not None else source.tree))
        if last(dotted(call.func)) == "start" and (call.end_lineno or 0) >= maker.lineno
    ]
    first = min(starts, key=lambda call: call.lineno, default=None)
    return first is not None and any("timeout" in (keyword.arg or "") for keyword in first.keywords)


def waits_without_deadline(source: Source) -> Iterator[Spot]:
    """Every loop that waits for something to come about, and has no end of its own."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and last(dotted(node.func)).endswith("LoopingCall"):
            target = _target(source, node)
            bounded = target is not None and _bound(*target.body) is not None
            if not bounded and not _is_started_with_timeout(source, node):
                yield Spot(node.lineno, 835, "polls until it is answered as hoped; nothing ends it otherwise")
        if isinstance(node, ast.While):
            waits = any(last(dotted(call.func)) in {"sleep", "wait", "poll"} for call in calls_in(walk_here(node)))
            may_stop = any(_STOP.search(word) for word in _words(node.test))
            bounded = any(_BOUND.search(word) for word in _words(node))
            if waits and not may_stop and not bounded:
                yield Spot(node.lineno, 835, "waits in a loop that no deadline ends")


def time_counted_in_polls(source: Source) -> Iterator[Spot]:
    """Every wait whose limit is a number of polls, so that slow answers stretch it."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and last(dotted(node.func)).endswith("LoopingCall"):
            target = _target(source, node)
            limit = _bound(*target.body) if target is not None else None
            if limit is not None and any(_COUNT.search(word) for word in _words(limit)):
                yield Spot(
                    limit.lineno, 682, "the limit counts polls, not time: each poll may take as long as it likes"
                )


def loops_that_never_loop(source: Source) -> Iterator[Spot]:
    """Every counted loop whose body is left at the end of its first round."""
    for node in ast.walk(source.tree):
        counted = isinstance(node, ast.While) or (isinstance(node, ast.For) and dotted(node.iter) == "range")
        if not counted or not isinstance(node, ast.For | ast.While):
            continue
        again = any(isinstance(part, ast.Continue) for part in walk_here(*node.body))
        if isinstance(node.body[-1], ast.Return | ast.Break | ast.Raise) and not again:
            yield Spot(node.lineno, 1164, "the loop is left in its first round: what looks like a retry is none")


# Clients

_UNTIMED = {
    "urllib.request.urlopen": 3,
    "http.client.HTTPConnection": 3,
    "http.client.HTTPSConnection": 3,
    "socket.create_connection": 2,
    "smtplib.SMTP": 4,
    "keystoneauth1.session.Session": 0,
    "keystoneauth1.loading.load_session_from_conf_options": 0,
    "openstack.connect": 0,
    "openstack.connection.Connection": 0,
}
"""Makers of clients that wait for ever unless told otherwise, and at which positional argument the timeout stands."""
_UNTIMED_HELPERS = {"get_sdk_adapter", "get_ksa_adapter"}


def clients_without_timeout(source: Source) -> Iterator[Spot]:
    """Every client of a service that is made without a timeout, by a maker that does not set one."""
    for call in calls_in(ast.walk(source.tree)):
        if any(isinstance(argument, ast.Starred) for argument in call.args):
            continue
        name = source.in_full(dotted(call.func))
        if name not in _UNTIMED and last(name) not in _UNTIMED_HELPERS:
            continue
        place = _UNTIMED.get(name, 0)
        timeouts = [keyword.value for keyword in call.keywords if keyword.arg is None or "timeout" in keyword.arg]
        timeouts += call.args[place - 1 : place] if place else []
        if all(isinstance(value, ast.Constant) and value.value is None for value in timeouts):
            yield Spot(
                call.lineno, 1088, f"`{dotted(call)}` waits for ever for a service that accepts and never answers"
            )


# Threads

_CHANGERS = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove",
    "setdefault", "update",
}  # fmt: skip
_GROWERS = {"append", "extend"}
"""What may be done to a list while somebody walks it."""
_VIEWS = {"items", "keys", "values"}
_LOCK = re.compile(r"lock|mutex|synchronized|semaphore|condition|guard", re.IGNORECASE)
_THREADS = re.compile(r"^(?:threading|concurrent|eventlet|futurist|multiprocessing|socketserver)(?:\.|$)")


def _shares(source: Source, owner: ast.ClassDef) -> bool:
    """Whether the class shows that threads share it: it takes locks, or its file uses threads."""
    if any(_THREADS.match(whole) for whole in source.imported.values()):
        return True
    return any(_LOCK.search(word) for word in _words(*ast.walk(owner)))


def _own(node: ast.AST | None) -> str | None:
    """The attribute's name if the node is `self.<attribute>`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return None


def _locks_of(owner: ast.ClassDef) -> set[str]:
    """The attributes of the class that are locks, whatever they are called."""
    return {
        target.attr
        for node in ast.walk(owner)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if last(dotted(node.value)) in {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}
        for target in node.targets
        if isinstance(target, ast.Attribute)
    }


def _is_locked(source: Source, node: ast.AST, locks: set[str]) -> bool:
    """Whether the node stands where a lock is held."""
    for parent in source.above(node):
        if isinstance(parent, ast.With):
            words = [word for item in parent.items for word in _words(item)]
            if any(word in locks or _LOCK.search(word) for word in words):
                return True
        if isinstance(parent, Function) and any(_LOCK.search(word) for word in _words(*parent.decorator_list)):
            return True
        if isinstance(parent, ast.ClassDef):
            return False
    return False


def _changed(node: ast.AST) -> tuple[str | None, bool]:
    """The attribute of `self` that the node changes, and whether in place so that a walk would stumble."""
    match node:
        case ast.Call(func=ast.Attribute(value=holder, attr=verb)) if verb in _CHANGERS:
            return _own(holder), verb not in _GROWERS
        case ast.Subscript(value=holder, ctx=ast.Store() | ast.Del()):
            return _own(holder), True
        case ast.Attribute(ctx=ast.Store()):
            return _own(node), False
    return None, False


def _walked(node: ast.AST) -> str | None:
    """The attribute of `self` that the node walks from its first to its last item, in steps that a thread may come between."""
    if not isinstance(node, ast.For | ast.comprehension):
        return None
    walked: ast.AST = node.iter
    if isinstance(walked, ast.Call) and isinstance(walked.func, ast.Attribute) and walked.func.attr in _VIEWS:
        walked = walked.func.value
    return _own(walked)


def shared_and_walked(source: Source) -> Iterator[Spot]:
    """Every change and every walk of a collection that threads share, where not all of them hold a lock."""
    for owner in source.classes:
        if not _shares(source, owner):
            continue
        locks = _locks_of(owner)
        changes: dict[str, list[ast.AST]] = {}
        walks: dict[str, list[ast.AST]] = {}
        in_place: set[str] = set()
        made: dict[str, int] = {}
        for node in ast.walk(owner):
            function = source.function_of(node)
            if isinstance(node, Function | ast.ClassDef) or source.class_of(node) is not owner:
                continue
            name, inside = _changed(node)
            if name is not None and function is not None and function.name == "__init__":
                made.setdefault(name, getattr(node, "lineno", 0))
            elif name is not None:
                changes.setdefault(name, []).append(node)
                in_place |= {name} if inside else set()
            walked = _walked(node)
            if walked is not None:
                walks.setdefault(walked, []).append(
                    node.iter if isinstance(node, ast.For | ast.comprehension) else node
                )
        for name in sorted(made.keys() & in_place & walks.keys()):
            places = [(node, "changed") for node in changes[name]] + [(node, "walked") for node in walks[name]]
            if all(_is_locked(source, node, locks) for node, _ in places):
                continue
            for node, what in sorted(places, key=lambda place: getattr(place[0], "lineno", 0)):
                reason = f"`self.{name}` is {what} here, and threads that change and walk it hold no common lock"
                yield Spot(getattr(node, "lineno", made[name]), 820, reason)


# Secrets

_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase)?|admin_pass|rescue_password|secrets?|tokens?|credentials?|private_key|api_key"
    r"|config_?drive|user_?data|reveal)(?:_value)?$",
    re.IGNORECASE,
)


def _revealed(node: ast.AST) -> str | None:
    """The name of the secret that shows when the node is made text, if it is one."""
    if isinstance(node, ast.Call):
        return "reveal()" if last(dotted(node.func)) == "reveal" else None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value if _SECRET.search(node.slice.value) else None
    if isinstance(node, ast.Name | ast.Attribute):
        name = last(dotted(node))
        return name if _SECRET.search(name) else None
    return None


def _formatted(node: ast.expr) -> Iterator[ast.AST]:
    """What is made text by the node."""
    match node:
        case ast.FormattedValue(value=value):
            yield value
        case ast.BinOp(left=left, op=ast.Mod(), right=right) if any(
            isinstance(part, ast.Constant) and isinstance(part.value, str) for part in walk_here(left)
        ):
            yield from _each(right)
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="format"), args=args, keywords=keywords):
            yield from [*args, *(keyword.value for keyword in keywords)]
        case ast.Call(func=ast.Name(id="str" | "repr"), args=[value]):
            yield value
        case ast.Call(args=args) if is_log_call(node):
            for argument in args:
                yield from _each(argument)


def _each(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.Tuple(elts=parts):
            return list(parts)
        case ast.Dict(values=parts):
            return list(parts)
    return [node]


def secrets_formatted(source: Source) -> Iterator[Spot]:
    """Every secret that is made part of a text: of a log line, of an error, or of another one."""
    seen: set[tuple[int, str]] = set()
    for node in (part for part in ast.walk(source.tree) if isinstance(part, ast.expr)):
        for value in _formatted(node):
            name = _revealed(value)
            if name is None or (node.lineno, name) in seen:
                continue
            seen.add((node.lineno, name))
            above = [node, *source.above(node)]
            cwe = 532 if any(map(is_log_call, above)) else 209 if any(isinstance(n, ast.Raise) for n in above) else 200
            yield Spot(node.lineno, cwe, f"`{name}` becomes part of a text, and goes where that goes")


# Filters

_LIMITS = re.compile(r"filter|allow|peer|scope|group|shard|limit|where|query|owner|project", re.IGNORECASE)
_ANSWERS = {"BlockingIOError", "FileExistsError", "StopIteration"}
"""Exceptions that are themselves the answer, not a failure to get one."""
_PREDICATE = re.compile(
    r"^_*(?:is|has|can|may|should|must|allow|allows|check|match|matches|validate|verify|authori[sz]e)_"
)


def filters_that_fail_open(source: Source) -> Iterator[Spot]:
    """Every failure after which more is let through than before."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Try):
            continue
        function = source.function_of(node)
        added = {
            dotted(target)
            for part in walk_here(*node.body)
            if isinstance(part, ast.Assign)
            for target in part.targets
            if isinstance(target, ast.Subscript) or _LIMITS.search(last(dotted(target)))
        }
        asked = {
            dotted(call.func): call
            for call in calls_in(walk_here(*node.body))
            if any(keyword.arg is None and dotted(keyword.value) in added for keyword in call.keywords)
        }
        for handler in node.handlers:
            if raises(handler.body) or all(last(name) in _ANSWERS for name in caught(handler)):
                continue
            again = [call for call in calls_in(walk_here(*handler.body)) if dotted(call.func) in asked]
            limits = {name for name in added if _LIMITS.search(last(name))}
            yes = any(
                isinstance(part, ast.Return) and isinstance(part.value, ast.Constant) and part.value.value is True
                for part in walk_here(*handler.body)
            )
            if again:
                yield Spot(
                    again[0].lineno, 636, f"where the filter cannot be set, `{dotted(again[0])}` is asked without it"
                )
            elif limits and all(isinstance(part, ast.Pass) for part in handler.body):
                limit = min(limits)
                yield Spot(handler.lineno, 636, f"`{limit}` keeps what it was, which may mean everything")
            elif yes and function is not None and _PREDICATE.match(function.name):
                yield Spot(handler.lineno, 636, "a failure counts as a yes")


# Text


def templates_never_filled(source: Source) -> Iterator[Spot]:
    """Every error whose text is a template into which nobody puts the values."""
    for function in source.functions:
        nodes = list(body_of(function))
        templates = {
            target.id
            for node in nodes
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call | ast.Constant)
            for part in walk_here(node.value)
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and "%(" in part.value
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        filled = {name for node in nodes if isinstance(node, ast.BinOp) for name in names_in(node.left)}
        for node in nodes:
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                given = {argument.id for argument in node.exc.args if isinstance(argument, ast.Name)}
                if given & (templates - filled):
                    yield Spot(node.lineno, 116, "the error's text still has its place-holders in it")


CHECKS = (
    Check("endless-wait", (835,), "a loop that waits without deadline", waits_without_deadline),
    Check("time-in-polls", (682,), "a time limit that counts polls", time_counted_in_polls),
    Check("loop-that-never-loops", (1164,), "a retry loop that is left in its first round", loops_that_never_loop),
    Check("no-timeout", (1088,), "an HTTP client without timeout", clients_without_timeout),
    Check("shared-and-walked", (820,), "a shared collection changed and walked from threads", shared_and_walked),
    Check("secret-in-text", (532, 209, 200), "a secret formatted into a string", secrets_formatted),
    Check("fails-open", (636,), "a filter that fails open", filters_that_fail_open),
    Check("unfilled-template", (116,), "an error whose template is never filled", templates_never_filled),
)
