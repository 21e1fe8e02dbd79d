"""A parsed Python file, and what the checks ask of a syntax tree."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LOG_METHODS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "log"}
_LOGGER = re.compile(r"(?:^|\.)_?(?:log|logger|logging|warnings)$", re.IGNORECASE)
_CLEANUP = re.compile(
    r"(?:^|_)(?:(?P<wholly>clean_?up|clean|undo|unwind|roll_?back|revert|unplug|tear_?down|unprovision|dismantle)|remove)(?:_|$)"
)
_UNDO_CALL = re.compile(
    r"^_*(?:clean|remove|unplug|detach|delete|release|undo|close|stop|free|unset|destroy|unbind|disconnect|drop|kill"
    r"|terminate|revert|roll_?back|clear|unlink|rmtree|tear)"
)


@dataclass(frozen=True)
class Spot:
    """A place in a file that a check objects to, and why."""

    line: int
    cwe: int
    reason: str


@dataclass(frozen=True)
class Check:
    """One thing that is looked for in every file."""

    name: str
    cwes: tuple[int, ...]
    looks_for: str
    find: Callable[[Source], Iterable[Spot]]


@dataclass(frozen=True, eq=False)
class Source:
    """A Python file, parsed, in which every node knows its parent."""

    path: Path
    text: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(repr=False)

    @classmethod
    def parse(cls, path: Path, text: str) -> Source:
        """The file, parsed.

        Raises:
            SyntaxError: it is not Python.
        """
        tree = ast.parse(text, filename=str(path))
        parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
        return cls(path, text, tree, parents)

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """Every function and method, nested ones included."""
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, Function))

    @cached_property
    def classes(self) -> tuple[ast.ClassDef, ...]:
        """Every class, nested ones included."""
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    @cached_property
    def imported(self) -> dict[str, str]:
        """What each imported name stands for, in full."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    whole = alias.name if alias.asname else alias.name.split(".")[0]
                    names[alias.asname or whole] = whole
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
        return names

    @cached_property
    def comments(self) -> dict[int, str]:
        """The comment of each line that has one, without its mark."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """What the node stands in, from the inside out."""
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost function that the node stands in."""
        return next((parent for parent in self.above(node) if isinstance(parent, Function)), None)

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """The innermost class that the node stands in."""
        return next((parent for parent in self.above(node) if isinstance(parent, ast.ClassDef)), None)

    def where(self, line: int) -> str:
        """The dotted name of the innermost function or class that the line belongs to; empty at the top."""
        inside = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, _SCOPES) and node.lineno <= line <= (node.end_lineno or node.lineno)
        ]
        return ".".join(node.name for node in sorted(inside, key=lambda node: (node.lineno, -(node.end_lineno or 0))))

    def in_full(self, name: str) -> str:
        """The dotted name with its first part as it was imported."""
        first, dot, rest = name.partition(".")
        return self.imported.get(first, first) + dot + rest

    def guards(self, node: ast.AST) -> Iterator[ast.Try]:
        """The `try` statements whose body, as opposed to handlers and the rest, the node stands in, from the inside out.

        They end at the function: who calls it may catch more, and nobody can see that from here.
        """
        for parent in self.above(node):
            if isinstance(parent, Function | ast.Lambda):
                return
            if isinstance(parent, ast.Try) and any(node is child for child in parent.body):
                yield parent
            node = parent


def dotted(node: ast.AST) -> str:
    """`a.b.c` for names and attributes, calls and subscripts left out; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    if isinstance(node, ast.Call):
        return dotted(node.func)
    if isinstance(node, ast.Subscript):
        return dotted(node.value)
    return ""


def last(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]


def walk_here(*nodes: ast.AST) -> Iterator[ast.AST]:
    """The nodes and what is in them, but not what is in functions and classes defined there."""
    for node in nodes:
        yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            yield from walk_here(*ast.iter_child_nodes(node))


def body_of(function: Function) -> Iterator[ast.AST]:
    """Everything in the function's body, but not in functions defined there."""
    return walk_here(*function.body)


def calls_in(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """The calls among the nodes."""
    return (node for node in nodes if isinstance(node, ast.Call))


def parameters(function: Function) -> dict[str, ast.expr | None]:
    """The function's parameters, `self` and `cls` left out, each with its default; None where it has none."""
    spelled = function.args
    plain = [*spelled.posonlyargs, *spelled.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(spelled.defaults)) + [*spelled.defaults]
    pairs = [*zip(plain, defaults, strict=True), *zip(spelled.kwonlyargs, spelled.kw_defaults, strict=True)]
    return {argument.arg: default for argument, default in pairs if argument.arg not in {"self", "cls"}}


def caught(handler: ast.ExceptHandler) -> tuple[str, ...]:
    """The dotted names of what the handler catches; `BaseException` for a bare one."""
    if handler.type is None:
        return ("BaseException",)
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return tuple(dotted(kind) for kind in kinds)


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether the handler catches everything that is an error."""
    return any(last(name) in {"Exception", "BaseException"} for name in caught(handler))


def is_log_call(node: ast.AST) -> bool:
    """Whether the node is a call of a logger."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr in _LOG_METHODS and bool(_LOGGER.search(dotted(node.func.value)))


def is_reraising(node: ast.AST) -> bool:
    """Whether the node raises, or is a context that raises again at its end."""
    if isinstance(node, ast.Raise):
        return True
    return isinstance(node, ast.With) and any("reraise" in dotted(item.context_expr) for item in node.items)


def raises(nodes: Sequence[ast.AST]) -> bool:
    """Whether something is raised anywhere in the nodes."""
    return any(is_reraising(node) for node in walk_here(*nodes))


def names_in(*nodes: ast.AST) -> set[str]:
    """Every plain name in the nodes."""
    return {node.id for node in walk_here(*nodes) if isinstance(node, ast.Name)}


def cleans_up(function: Function, *, wholly: bool = False) -> bool:
    """Whether the function says by its name that it takes something back; `wholly`, that it takes back all that was done."""
    said = _CLEANUP.search(function.name)
    return said is not None and (not wholly or said["wholly"] is not None)


def is_undo_call(node: ast.AST) -> bool:
    """Whether the node calls something that says by its name that it takes something back."""
    return isinstance(node, ast.Call) and bool(_UNDO_CALL.match(last(dotted(node.func))))
