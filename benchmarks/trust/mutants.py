"""Bugs put into source one at a time: which changes of a module are tried, and the module's text with one of them.

Our own, with `ast`: mutmut 3 keeps all bugs of a function beside it and leaves constants and fields of modules and
classes alone; cosmic-ray starts an interpreter for each bug, which would spend its time on loading torch.

A mutant replaces the text of one expression or statement and leaves every other character, so that line numbers,
comments and docstrings stay. Left out: docstrings and other texts, f-strings, type annotations, messages of `raise`,
assertions, logging, `__all__`, imports, code under TYPE_CHECKING, and what compiles to the same code.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType

COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
FUNCTIONS |= {"sorted": "list", "reversed": "list", "abs": "float"}
PAIRS = {"amin": "amax", "argmin": "argmax", "min": "max", "minimum": "maximum", "any": "all", "floor": "ceil"}
METHODS = PAIRS | {b: a for a, b in PAIRS.items()} | {"sum": "mean", "mean": "sum"}
NO_ORDER = ("isinstance", "getattr", "range", "enumerate", "zip")  # changing theirs is no mistake that anyone makes
AXES = ("dim", "axis")
TEXTS = ("where", "fix", "doc", "encoding")  # keywords that say something to people, or nothing at all
ALL = (0, 0)
Reach = tuple[int, int] | None
QUIET = ("warn", "warning", "info", "debug", "say", "print")  # calls that log


@dataclass(frozen=True)
class Mutant:
    """One bug: `was` becomes `becomes` in `function` of `file` (the `nth` such change there, from 0)."""

    file: str
    function: str
    operator: str
    was: str
    becomes: str
    nth: int
    start: tuple[int, int]  # line and column in bytes, of the text that is replaced
    stop: tuple[int, int]
    reach: tuple[int, int]  # the lines that a test must run to see it; (0, 0) for what all see: a constant, a field

    @property
    def line(self) -> int:
        return self.start[0]

    @property
    def key(self) -> str:
        """The same for as long as the changed code is, wherever it moves in its file."""
        again = f" #{self.nth + 1}" if self.nth else ""
        return f"{self.file} {self.function}: {self.operator}: {self.was} -> {self.becomes}{again}"

    def put_into(self, source: str) -> str:
        """The module's text with this bug."""
        lines = source.encode().splitlines(keepends=True)
        (first, begin), (last, finish) = self.start, self.stop
        before, after = lines[first - 1][:begin], lines[last - 1][finish:]
        # As many lines as before, so that those of everything else stay.
        gap = b" \\\n" * (last - first) if last > first else b""
        middle = before + self.becomes.encode() + gap + after
        return b"".join([*lines[: first - 1], middle, *lines[last:]]).decode()


def mutants(source: str, file: str, wanted: Callable[[str], bool] = lambda function: True) -> list[Mutant]:
    """Every mutant of a module, in the order of its text; those that compile to what was there are left out.

    `wanted` says which functions (`Class.method`, `<module>` for what is outside) may be changed.
    """
    tree = ast.parse(source)
    known, seen, found = {_compiled(source)}, Counter[tuple[str, ...]](), []
    for node, function, reach in _sites(tree.body, "", ALL):
        if not wanted(function or "<module>"):
            continue
        for operator, text in _changes(node):
            was = ast.get_source_segment(source, node) or ""
            what = (function, operator, _flat(was), text)
            start, stop = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
            one = Mutant(
                file,
                function or "<module>",
                operator,
                _flat(was),
                text,
                seen[what],
                start,
                stop,
                reach or (start[0], stop[0]),
            )
            try:
                made = _compiled(one.put_into(source))
            except SyntaxError:  # a change that cannot be written there
                continue
            if made not in known:  # what it was, or what another operator made of it
                known.add(made)
                seen[what] += 1
                found.append(one)
    return sorted(found, key=lambda one: (one.start, one.stop, one.operator, one.becomes))


def _flat(text: str) -> str:
    return " ".join(text.split())


def _compiled(source: str) -> str:
    """A digest of what a module does, without the places of its lines."""

    def parts(code: CodeType) -> tuple[object, ...]:
        constants = [parts(one) if isinstance(one, CodeType) else (type(one), repr(one)) for one in code.co_consts]
        return code.co_code, code.co_names, code.co_varnames, tuple(constants), code.co_exceptiontable

    return hashlib.sha256(repr(parts(compile(source, "module", "exec", dont_inherit=True))).encode()).hexdigest()


def _sites(body: list[ast.stmt], function: str, reach: Reach) -> Iterator[tuple[ast.expr | ast.stmt, str, Reach]]:
    """(node, the function it is in, its reach if that is not its own lines) of all that may be changed."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            name = f"{function}.{statement.name}" if function else statement.name
            inner = isinstance(statement, ast.FunctionDef)
            if inner:
                given = statement.args
                whole = (statement.body[0].lineno, statement.end_lineno or 0)
                for default in (*given.defaults, *(one for one in given.kw_defaults if one is not None)):
                    yield from ((node, name, whole) for node in _expressions(default))
            yield from _sites(statement.body, name, None if inner else reach)
            continue
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Assert)) or _says(statement):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            continue
        yield statement, function, reach
        for name, value in ast.iter_fields(statement):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.stmt):
                    yield from _sites([part], function, reach)
                elif isinstance(part, (ast.ExceptHandler, ast.match_case)):
                    yield from _sites(part.body, function, reach)
                elif isinstance(part, ast.withitem):
                    yield from ((node, function, reach) for node in _expressions(part.context_expr))
                elif isinstance(part, ast.expr) and name != "annotation" and not isinstance(statement, ast.Raise):
                    yield from ((node, function, reach) for node in _expressions(part))
        if isinstance(statement, (ast.If, ast.While)):
            yield _Condition(statement.test), function, reach


class _Condition(ast.expr):
    """What an `if` or `while` asks, where it stands."""

    def __init__(self, test: ast.expr) -> None:
        super().__init__()
        self.test = test
        ast.copy_location(self, test)


def _says(statement: ast.stmt) -> bool:
    """Whether it only tells: a docstring, `__all__`, a line of a log."""
    if isinstance(statement, ast.Expr):
        call = statement.value
        if isinstance(call, ast.Constant):
            return True
        return isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in QUIET
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    """It and all inside, but for texts: f-strings, and what keywords such as `where=` say."""
    if isinstance(node, ast.JoinedStr):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.keyword) and child.arg in (*TEXTS, *AXES):
            continue  # an axis is the call's: see `_calls`
        yield from _expressions(child)


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(operator, new text) of each bug that may be put in at this node."""
    for operator, new in (*_values(node), *_calls(node), *_statements(node), *_conditions(node)):
        text = ast.unparse(ast.fix_missing_locations(new))
        whole = isinstance(new, (ast.stmt, ast.Constant, ast.Name, ast.Call, ast.Attribute, ast.Slice))
        yield operator, text if whole else f"({text})"


def _like(node: ast.AST, **changes: object) -> ast.AST:
    new = copy.deepcopy(node)
    for name, value in changes.items():
        setattr(new, name, value)
    return new


def _values(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare():
            for place, op in enumerate(node.ops):
                ops = [*node.ops]
                ops[place] = COMPARISONS[type(op)]()
                yield "comparison", _like(node, ops=ops)
        case ast.BinOp() | ast.AugAssign() if type(node.op) in ARITHMETIC and not _joins_texts(node):
            yield "arithmetic", _like(node, op=ARITHMETIC[type(node.op)]())
        case ast.Constant(value=bool()):
            yield "constant", ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield "constant", ast.Constant(node.value + 1)
        case ast.BoolOp():
            yield "and/or", _like(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.Invert()):
            yield "not dropped", node.operand
        case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
            yield "minus dropped", node.operand
        case ast.Slice():
            for side in ("lower", "upper"):
                bound = getattr(node, side)
                if bound is not None and not isinstance(bound, ast.Constant):
                    yield "slice bound", _like(node, **{side: ast.BinOp(bound, ast.Add(), ast.Constant(1))})


def _joins_texts(node: ast.BinOp | ast.AugAssign) -> bool:
    """Whether it may join texts or paths, or make a type: `"a" + b`, `folder / "name"`, `X | None`."""
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    texts = (ast.JoinedStr, ast.List, ast.ListComp)
    return any(
        isinstance(one, texts)
        or (isinstance(one, ast.Constant) and not isinstance(one.value, (int, float)))
        or (isinstance(one, ast.BinOp) and _joins_texts(one))
        for one in sides
    )


def _calls(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if not isinstance(node, ast.Call):
        return
    function = node.func
    name = getattr(function, "id", "")
    if name in FUNCTIONS:
        yield "other function", _like(node, func=ast.Name(FUNCTIONS[name], ast.Load()))
    if isinstance(function, ast.Attribute) and function.attr in METHODS:
        yield "other function", _like(node, func=_like(function, attr=METHODS[function.attr]))
    if len(node.args) > 1 and name not in NO_ORDER:
        one, other, *more = node.args  # of one kind: others would end in a TypeError at once
        if type(one) is type(other) and not isinstance(one, (ast.Starred, ast.JoinedStr)):
            yield "argument order", _like(node, args=[other, one, *more])
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is None or keyword.arg in TEXTS:
            continue
        rest = [*node.keywords[:place], *node.keywords[place + 1 :]]
        yield "keyword dropped", _like(node, keywords=rest)
        if keyword.arg in AXES and isinstance(keyword.value, (ast.Constant, ast.UnaryOp)):
            new = ast.keyword(keyword.arg, ast.Constant(int(ast.unparse(keyword.value) == "0")))
            yield "axis", _like(node, keywords=[*rest, new])


def _statements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Return(value=ast.expr()) if ast.unparse(node.value) != "None":
            yield "return", ast.Return(ast.Constant(None))
            if isinstance(node.value, (ast.List, ast.ListComp)) and ast.unparse(node.value) != "[]":
                yield "return", ast.Return(ast.List([], ast.Load()))
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.AugAssign() | ast.Raise():
            yield "statement deleted", ast.Pass()
        case ast.Assign() if any(isinstance(one, (ast.Attribute, ast.Subscript)) for one in node.targets):
            yield "statement deleted", ast.Pass()
        case ast.Break():
            yield "break/continue", ast.Continue()
        case ast.Continue():
            yield "break/continue", ast.Break()


def _conditions(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.IfExp():
            yield "branches", _like(node, body=node.orelse, orelse=node.body)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for place, loop in enumerate(node.generators):
                if loop.ifs:
                    loops = [*node.generators]
                    loops[place] = ast.comprehension(loop.target, loop.iter, [], loop.is_async)
                    yield "filter dropped", _like(node, generators=loops)
        case _Condition():
            yield "condition turned", ast.UnaryOp(ast.Not(), node.test)
