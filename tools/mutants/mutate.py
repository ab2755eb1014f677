"""The mutants of a module: small changes of its meaning, each at one place of its text.

A mutant replaces one piece of the source, so that all other lines keep their numbers. Left alone
is what no test of behaviour can or need notice: annotations, types, docstrings, `__all__`,
assertions, decorators, bodies of Protocols, and all that stands in an f-string, since words are no
behaviour.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

Function = ast.FunctionDef | ast.AsyncFunctionDef
_MODULE = "<module>"

_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
_DISPLAYS = (ast.List, ast.Tuple, ast.Set)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
_GENERIC = {
    "tuple", "list", "dict", "set", "frozenset", "type", "Callable", "Mapping", "Sequence",
    "Iterable", "Iterator",
}  # fmt: skip
_EMPTY = {
    "list": ("[]",),
    "Sequence": ("()",),
    "tuple": ("()",),
    "Collection": ("()",),
    "Iterable": ("()",),
    "dict": ("{}",),
    "Mapping": ("{}",),
    "set": ("set()",),
    "frozenset": ("frozenset()",),
    "str": ('""',),
    "bytes": ('b""',),
    "bool": ("True", "False"),
    "int": ("0",),
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. `module` is a path below src/manactl; `lines` must be run to reach it."""

    id: str
    module: str
    function: str
    operator: str
    was: str
    now: str
    line: int
    lines: range
    at_import: bool
    start: int  # bytes of the source that `text` replaces
    stop: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The source with this change."""
        return source[: self.start] + self.text.encode() + source[self.stop :]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the program a node stands."""

    function: str = _MODULE
    names: tuple[str, ...] = ()
    lines: range = range(0)
    returns: ast.expr | None = None
    at_import: bool = True


def mutants(source: bytes, module: str) -> list[Mutant]:
    """All mutants of a module that compile, in the order of the source."""
    return _Maker(source, module).make()


class _Maker:
    def __init__(self, source: bytes, module: str) -> None:
        self._source = source
        self._module = module
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._found: list[Mutant] = []
        self._made: set[bytes] = set()
        self._times: Counter[tuple[str, ...]] = Counter()

    def make(self) -> list[Mutant]:
        self._body(ast.parse(self._source).body, _Place())
        return sorted(self._found, key=lambda mutant: (mutant.start, mutant.id))

    # -- writing down

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _span(self, node: ast.stmt | ast.expr | ast.keyword | ast.pattern) -> tuple[int, int]:
        line, column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self._at(node.lineno, node.col_offset), self._at(line, column)

    def _add(
        self,
        place: _Place,
        operator: str,
        span: tuple[int, int],
        text: str,
        shown: tuple[str, str],
    ) -> None:
        was, now = shown
        changed = self._source[: span[0]] + text.encode() + self._source[span[1] :]
        try:
            compile(changed, self._module, "exec", dont_inherit=True)
        except SyntaxError:
            return
        if changed in self._made:
            return
        self._made.add(changed)
        key = (self._module, place.function, operator, was, now)
        self._times[key] += 1
        name = hashlib.sha256("\0".join((*key, str(self._times[key]))).encode()).hexdigest()[:8]
        line = self._source.count(b"\n", 0, span[0]) + 1
        self._found.append(
            Mutant(
                name, self._module, place.function, operator, was, now, line, place.lines,
                place.at_import, *span, text,
            )
        )  # fmt: skip

    def _swap(self, place: _Place, operator: str, node: ast.expr, new: ast.expr | str) -> None:
        """Replace an expression."""
        text = new if isinstance(new, str) else ast.unparse(new)
        # Without parentheses another operator could come to bind closer than before.
        shown = f"({text})" if _loose(new) else text
        self._add(place, operator, self._span(node), shown, (ast.unparse(node), text))

    def _delete(self, place: _Place, operator: str, node: ast.stmt, text: str = "pass") -> None:
        """Replace a statement."""
        self._add(place, operator, self._span(node), text, (ast.unparse(node), text))

    # -- statements

    def _body(self, body: Sequence[ast.stmt], place: _Place) -> None:
        for statement in body:
            if not _left_alone(statement):
                self._statement(statement, place)

    def _statement(self, node: ast.stmt, place: _Place) -> None:
        if isinstance(node, ast.ClassDef):
            self._body(node.body, _inside(place, node.name, at_import=place.at_import))
        elif isinstance(node, Function):
            at = replace(place, lines=range(node.lineno, node.lineno + 1))
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self._expression(default, at)
            inner = _inside(place, node.name, at_import=False)
            self._body(node.body, replace(inner, returns=node.returns))
        else:
            place = replace(place, lines=_header(node))
            self._whole(node, place)
            self._within(node, place)

    def _within(self, node: ast.stmt, place: _Place) -> None:
        """The expressions and statements of a statement."""
        annotation = getattr(node, "annotation", None)
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Constant() if isinstance(node, ast.While):
                    pass  # `while False` only skips what its time-out would end
                case ast.expr() if child is not annotation:
                    self._expression(child, place)
                case ast.withitem():
                    self._expression(child.context_expr, place)
                case ast.match_case():
                    self._case(child, place)
                case ast.ExceptHandler():
                    self._handler(child, place)
                case ast.stmt():
                    self._body([child], place)
                case _:
                    pass

    def _whole(self, node: ast.stmt, place: _Place) -> None:
        """Changes of a statement as a whole."""
        match node:
            case ast.Expr(value=ast.Call()):
                self._delete(place, "delete call", node)
            case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
                self._delete(place, "delete yield", node, "yield from ()")
            case ast.Raise():
                self._delete(place, "delete raise", node)
            case ast.AugAssign():
                self._augmented(node, place)
            case ast.Delete():
                self._delete(place, "delete statement", node)
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                self._delete(place, "delete assignment", node)
            case ast.Continue() | ast.Break():
                other = "break" if isinstance(node, ast.Continue) else "continue"
                self._delete(place, "other jump", node, other)
            case ast.Return(value=ast.expr() as value):
                for text in _other_results(value, place.returns):
                    self._delete(place, "other result", node, f"return {text}")
            case ast.If() if not isinstance(node.test, ast.Compare | ast.UnaryOp):
                self._swap(place, "negate", node.test, ast.UnaryOp(ast.Not(), node.test))
            case _:
                pass

    def _augmented(self, node: ast.AugAssign, place: _Place) -> None:
        self._delete(place, "delete statement", node)
        other = _BINARY.get(type(node.op))
        # Only numbers have all of these operators.
        if other and not isinstance(node.value, (*_DISPLAYS, *_COMPREHENSIONS, ast.JoinedStr)):
            new = ast.AugAssign(node.target, other(), node.value)
            self._delete(place, "other operator", node, ast.unparse(new))

    def _handler(self, node: ast.ExceptHandler, place: _Place) -> None:
        if isinstance(node.type, ast.Tuple):
            self._shorter(node.type, place, "narrower except")
        first = node.body[0]
        if not isinstance(first, ast.Raise):
            self._delete(replace(place, lines=_header(first)), "raise in except", first, "raise")
        self._body(node.body, place)

    def _case(self, case: ast.match_case, place: _Place) -> None:
        place = replace(place, lines=range(case.pattern.lineno, case.pattern.lineno + 1))
        if case.guard is not None:
            self._swap(place, "negate", case.guard, ast.UnaryOp(ast.Not(), case.guard))
            self._expression(case.guard, place)
        for pattern in ast.walk(case.pattern):
            if isinstance(pattern, ast.MatchValue) and isinstance(pattern.value, ast.Constant):
                self._constant(pattern.value, place, words=True)
        self._body(case.body, place)

    # -- expressions

    def _expression(self, node: ast.expr, place: _Place, words: bool = False) -> None:
        """`words`: strings here are compared or looked up, not shown."""
        if isinstance(node, ast.JoinedStr) or _is_type(node):
            return
        if isinstance(node, ast.Lambda):
            place = replace(place, at_import=False, lines=_lines(node.body))
        match node:
            case ast.Constant():
                self._constant(node, place, words)
            case ast.List() | ast.Tuple() | ast.Set():
                fixed = isinstance(node, ast.Tuple) and not (words or place.at_import)
                if not fixed and isinstance(getattr(node, "ctx", None), ast.Load | None):
                    self._shorter(node, place, "drop element")
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._filters(node, place)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp() | ast.BinOp() | ast.IfExp():
                self._operator(node, place)
            case ast.Call():
                self._call(node, place)
            case ast.Subscript():
                self._index(node, place)
            case ast.Dict():
                self._shorter_dict(node, place)
            case _:
                pass
        self._inner(node, place, words)

    def _inner(self, node: ast.expr, place: _Place, words: bool) -> None:
        looked_up: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            looked_up = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            looked_up = list(node.keys)
        elif isinstance(node, ast.Subscript):
            looked_up = [node.slice]
        elif isinstance(node, _DISPLAYS) and words:
            looked_up = list(node.elts)
        for child in _parts(node):
            self._expression(child, place, any(child is word for word in looked_up))

    def _operator(self, node: ast.expr, place: _Place) -> None:
        match node:
            case ast.Compare():
                self._compare(node, place)
            case ast.BoolOp():
                self._condition(node, place)
            case ast.UnaryOp(op=ast.Not()):
                self._swap(place, "drop not", node, node.operand)
            case ast.BinOp():
                self._binary(node, place)
            case ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
                self._swap(place, "negate", test, ast.UnaryOp(ast.Not(), test))
            case _:
                pass

    def _compare(self, node: ast.Compare, place: _Place) -> None:
        for index, old in enumerate(node.ops):
            for other in _COMPARE[type(old)]:
                new = copy.deepcopy(node)
                new.ops[index] = other()
                self._swap(place, "other comparison", node, new)

    def _condition(self, node: ast.BoolOp, place: _Place) -> None:
        new = copy.deepcopy(node)
        new.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._swap(place, "and/or", node, new)
        for index in range(len(node.values)):
            rest = [value for at, value in enumerate(node.values) if at != index]
            left = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
            text = self._without(node, [self._span(value) for value in node.values], index, left)
            shown = ast.unparse(node), ast.unparse(left)
            self._add(place, "drop condition", self._span(node), text, shown)

    def _binary(self, node: ast.BinOp, place: _Place) -> None:
        other = _BINARY.get(type(node.op))
        words = (ast.JoinedStr, *_DISPLAYS, *_COMPREHENSIONS)
        for side in (node.left, node.right):
            if isinstance(side, words) or (
                isinstance(side, ast.Constant) and isinstance(side.value, str | bytes)
            ):
                return
        # At import `|` mostly joins types.
        if other and not (place.at_import and isinstance(node.op, ast.BitOr)):
            self._swap(place, "other operator", node, ast.BinOp(node.left, other(), node.right))

    def _constant(self, node: ast.Constant, place: _Place, words: bool) -> None:
        value = node.value
        if isinstance(value, bool):
            self._swap(place, "other constant", node, str(not value))
        elif isinstance(value, int):
            for other in (value + 1, value - 1)[: 2 if value else 1]:
                self._swap(place, "other number", node, str(other))
        elif isinstance(value, str) and words:
            self._swap(place, "other word", node, repr(value + "-"))

    def _call(self, node: ast.Call, place: _Place) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id in _CALLS:
            self._swap(place, "other function", function, _CALLS[function.id])
        if ast.unparse(function).endswith("suppress") and node.args:
            self._swap(place, "suppress nothing", node, f"{ast.unparse(function)}()")
        for keyword in node.keywords:
            if _asserts(node, keyword):
                continue
            if keyword.arg is not None and not _is_text(keyword.value):
                new = copy.copy(node)
                new.keywords = [other for other in node.keywords if other is not keyword]
                all_parts: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
                parts = sorted(map(self._span, all_parts))
                text = self._without(node, parts, parts.index(self._span(keyword)), new)
                name = ast.unparse(function)
                shown = f"{name}(... {ast.unparse(keyword)})", f"{name}(...)"
                self._add(place, "drop keyword", self._span(node), text, shown)

    def _without(
        self, node: ast.expr, parts: Sequence[tuple[int, int]], index: int, new: ast.expr
    ) -> str:
        """The text of `node` without one of its parts, where that leaves `new`.

        The rest then stays as it is laid out. Parentheses around a part are no part of it, nor is
        what belongs to the only one: there, `new` is written as Python would.
        """
        start, stop = self._span(node)
        if index + 1 < len(parts):
            gone = parts[index][0], parts[index + 1][0]
        else:
            gone = parts[index - 1][1], parts[index][1]
        text = (self._source[start : gone[0]] + self._source[gone[1] : stop]).decode()
        shown = ast.unparse(new)
        if len(parts) > 1 and _tree(text) == _tree(shown):
            # As it was, this needed no parentheses around it, and the rest needs none either.
            return text
        return f"({shown})" if _loose(new) else shown

    def _index(self, node: ast.Subscript, place: _Place) -> None:
        match node.slice:
            case ast.Constant(value=0):
                self._swap(place, "other index", node.slice, "-1")
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)):
                self._swap(place, "other index", node.slice, "0")
            case ast.Slice(lower=lower, upper=upper, step=step):
                for bounds in ((None, upper), (lower, None)):
                    if bounds != (lower, upper):
                        new = copy.copy(node)
                        new.slice = ast.Slice(lower=bounds[0], upper=bounds[1], step=step)
                        self._swap(place, "wider slice", node, new)
            case _:
                pass

    def _filters(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, place: _Place
    ) -> None:
        for at, generator in enumerate(node.generators):
            for index in range(len(generator.ifs)):
                new = copy.deepcopy(node)
                del new.generators[at].ifs[index]
                # Of `f(x for x in y if z)` the generator has the parentheses of the call.
                self._swap(place, "drop filter", node, new)

    def _shorter(self, node: ast.List | ast.Tuple | ast.Set, place: _Place, operator: str) -> None:
        if len(node.elts) < 2:
            return
        for index in range(len(node.elts)):
            new = copy.copy(node)
            new.elts = [value for at, value in enumerate(node.elts) if at != index]
            text = self._without(node, [self._span(value) for value in node.elts], index, new)
            was, now = ast.unparse(node), ast.unparse(new)
            shown = (was, now) if len(was) < 200 else (ast.unparse(node.elts[index]), "")
            self._add(place, operator, self._span(node), text, shown)

    def _shorter_dict(self, node: ast.Dict, place: _Place) -> None:
        parts = [
            # Two stars and a name have no place of their own: there `_without` does not find it.
            (self._span(value if key is None else key)[0], self._span(value)[1])
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        for index, key in enumerate(node.keys):
            new = ast.Dict(
                [k for at, k in enumerate(node.keys) if at != index],
                [v for at, v in enumerate(node.values) if at != index],
            )
            shown = f"**{ast.unparse(node.values[index])}" if key is None else ast.unparse(key)
            text = self._without(node, parts, index, new)
            self._add(place, "drop entry", self._span(node), text, (shown, ""))


def _inside(place: _Place, name: str, *, at_import: bool) -> _Place:
    names = (*place.names, name)
    return replace(place, names=names, function=".".join(names), at_import=at_import)


def _left_alone(node: ast.stmt) -> bool:
    match node:
        case ast.ClassDef(bases=bases):
            return any("Protocol" in ast.unparse(base) for base in bases)
        case ast.FunctionDef(decorator_list=decorators):
            return any("overload" in ast.unparse(decorator) for decorator in decorators)
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return True
        case _:
            return False


def _header(node: ast.stmt) -> range:
    """The lines of a statement without the statements in it."""
    body: Sequence[ast.stmt | ast.match_case] = getattr(node, "body", getattr(node, "cases", ()))
    if not body:
        return _lines(node)
    first = body[0].pattern if isinstance(body[0], ast.match_case) else body[0]
    return range(node.lineno, max(first.lineno, node.lineno + 1))


def _lines(node: ast.stmt | ast.expr) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """The expressions right below another, in comprehensions and keywords too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.keyword):
            if not _asserts(node, child):
                yield child.value
        elif isinstance(child, ast.comprehension):
            yield from chain((child.iter,), child.ifs)
        elif isinstance(child, ast.arguments):
            yield from child.defaults


def _tree(text: str) -> str | None:
    """What an expression means, however it is laid out."""
    try:
        return ast.dump(ast.parse(f"({text}\n)", mode="eval"))
    except SyntaxError:
        return None


def _loose(node: ast.expr | str) -> bool:
    return isinstance(node, ast.BoolOp | ast.Compare | ast.UnaryOp | ast.BinOp | ast.IfExp)


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return True
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value


def _asserts(call: ast.expr, keyword: ast.keyword) -> bool:
    """zip(strict=True)."""
    value = keyword.value
    return (
        isinstance(call, ast.Call)
        and (ast.unparse(call.func), keyword.arg) == ("zip", "strict")
        and isinstance(value, ast.Constant)
        and value.value is True
    )


def _is_type(node: ast.expr) -> bool:
    """tuple[A, B] and the like, which mypy alone reads: subscripts of a type's name."""
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) in _GENERIC


def _other_results(value: ast.expr, returns: ast.expr | None) -> list[str]:
    """What else a function with this annotation may return; what mypy would notice is not worth it."""
    if returns is None:
        return []
    kinds: list[str] = []
    todo = [returns]
    while todo:
        kind = todo.pop()
        if isinstance(kind, ast.BinOp):
            todo += [kind.left, kind.right]
        elif isinstance(kind, ast.Subscript):
            todo.append(kind.value)
        else:
            kinds.append(ast.unparse(kind).rpartition(".")[2])
    others = ["None"] if "None" in kinds else [e for kind in kinds for e in _EMPTY.get(kind, ())]
    if "None" in kinds and "bool" in kinds:
        others += ["True", "False"]
    return [other for other in others if other != ast.unparse(value)]
