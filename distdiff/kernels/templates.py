"""Derivatives of scalar lines as scalar lines: for every operation the lines that compute its partials.

A template is read off the op table: a rule runs once on symbols, and every operation it applies is a line, in the order
in which the same rule on traced values records them.  So the table's rules stand in one place.  The lines name slots:

    -1-k    constant k of the table
    Y, A, B    the line's result and its operands
    3 + j    line j of the template

A line all of whose operands are constants is no line but a number.  A rule may see whether the other operand is a
constant, and choose by it (`np.where`), so it has a template for either case.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..ops import ADD, BY_NAME, MULTIPLY, NEGATIVE, OPS
from .jit import worth_it

PLAIN_LINES = 20_000  # lines that may be differentiated in plain Python, 0.1 s, before the loops are compiled
FEW_LINES = 64  # of a run, that are differentiated sooner in plain Python
Y, A, B = range(3)
CHOOSE = 255  # in place of an Op.code: the second slot if the first, a constant, is not 0, else the third
_CONDITIONS = {BY_NAME[name] for name in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal",
                                          "logical_and", "logical_or", "logical_xor", "logical_not")}


class NoTemplate(Exception):
    """A rule does what lines cannot say."""


class _Slot:
    """What a rule is given instead of a number: here, one that no line makes."""

    __array_priority__ = 1000.0
    __hash__ = None

    def __init__(self, rule: _Rule, slot: int, condition: bool = False) -> None:
        self.rule, self.slot = rule, slot
        self.condition = condition

    def __array_ufunc__(self, ufunc: Any, method: str, *x: Any, **kwargs: Any) -> _Slot:
        op = _BY_UFUNC.get(ufunc)
        if method != "__call__" or kwargs or op is None:
            raise NoTemplate
        return self.rule.line(op, x)

    def __array_function__(self, function: Any, types: Any, x: Any, kwargs: Any) -> _Slot:
        if function is not np.where or len(x) != 3 or kwargs:
            raise NoTemplate
        return self.rule.choice(*x)

    def __neg__(self) -> _Slot:
        return self.rule.line(NEGATIVE, (self,))


class _Symbol(_Slot):
    """A number that lines make, as a rule knows them (`ops.table`): by their recorder."""

    rec = None


def _operator(name: str, reflected: bool) -> Any:
    op = BY_NAME[name]
    if reflected:
        return lambda self, other: self.rule.line(op, (other, self))
    return lambda self, other: self.rule.line(op, (self, other))


for _name, _op in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide"), ("pow", "power"),
                   ("and", "logical_and"), ("or", "logical_or")):
    setattr(_Slot, f"__{_name}__", _operator(_op, False))
    setattr(_Slot, f"__r{_name}__", _operator(_op, True))
for _name, _op in (("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal"), ("eq", "equal"),
                   ("ne", "not_equal")):
    setattr(_Slot, f"__{_name}__", _operator(_op, False))
_BY_UFUNC = {op.value: op for op in OPS if isinstance(op.value, np.ufunc) and op.scalar}


class _Rule:
    """The rule for operand k on symbols: the lines it makes, (code, slot, slot, slot), and the slot of the partial.

    given: whether the other operand is a constant.
    """

    def __init__(self, op: Any, k: int, given: bool, constants: list[float]) -> None:
        self.steps: list[tuple[int, int, int, int]] = []
        self.constants = constants
        kinds = [_Slot if given and j != k else _Symbol for j in range(op.arity)]
        result = op.partials[k](_Symbol(self, Y), *(kind(self, A + j) for j, kind in enumerate(kinds)))
        self.condition = isinstance(result, _Slot) and result.condition
        self.root = self.slot(result)

    def slot(self, x: Any) -> int:
        if isinstance(x, _Slot):
            return x.slot
        self.constants.append(float(x))
        return -len(self.constants)

    def line(self, op: Any, x: tuple[Any, ...]) -> _Slot:
        slots = [self.slot(t) for t in x]
        self.steps.append((op.code, slots[0], slots[-1], 0))
        return self.made(x, op in _CONDITIONS)

    def choice(self, condition: Any, x: Any, z: Any) -> _Slot:
        if isinstance(condition, _Symbol):
            raise NoTemplate
        self.steps.append((CHOOSE, self.slot(condition), self.slot(x), self.slot(z)))
        return self.made((x, z), False)

    def made(self, x: tuple[Any, ...], condition: bool) -> _Slot:
        kind = _Symbol if any(isinstance(t, _Symbol) for t in x) else _Slot
        return kind(self, 2 + len(self.steps), condition)


class Templates:
    """The templates of all rules, entry 4 code + 2 k + (1 if the other operand is a constant) for the partial with
    respect to operand k.

    starts      lines starts[entry]:starts[entry+1] of `steps`, (code, slot, slot, slot)
    roots       the slot that is the partial
    conditions  whether that is a condition, which is multiplied with even where the other number is 1
    rules       [2 code + k] whether there is a partial at all
    """

    def __init__(self) -> None:
        n = 4 * len(OPS)
        constants: list[float] = []
        steps: list[tuple[int, int, int, int]] = []
        self.starts, self.roots = np.zeros(n + 1, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.conditions, self.rules = np.zeros(n, dtype=np.bool_), np.zeros(n // 2, dtype=np.bool_)
        longest = 0
        for op in OPS:
            for k, given in product(range(2), (False, True)):
                entry = 4 * op.code + 2 * k + given
                if op.scalar and op.kind == "elementwise" and k < op.arity and op.partials[k] is not None:
                    rule = _Rule(op, k, given, constants)
                    steps += rule.steps
                    longest = max(longest, len(rule.steps))
                    self.roots[entry], self.conditions[entry] = rule.root, rule.condition
                    self.rules[entry // 2] = True
                self.starts[entry + 1] = len(steps)
        self.steps = np.array(steps, dtype=np.int64)
        self.constants = np.array(constants)
        self.slots = 3 + longest
        self.room = 2 * longest + 4  # lines that one line may make: partials, products and sums


class Loops:
    """The compiled loops over templates, from when they are worth it."""

    module: Any = None
    templates: Templates
    number: np.ndarray  # Op.code -> number in the compiled loops
    spent = 0

    @classmethod
    def ready(cls, lines: int) -> bool:
        """Whether to go through a run of so many lines compiled, which wants `load`."""
        cls.spent += lines
        return worth_it(lines, FEW_LINES) and (cls.module is not None or worth_it(cls.spent, PLAIN_LINES))

    @classmethod
    def load(cls) -> None:
        if cls.module is not None:
            return
        from . import template_loops
        from .scalar import numbers

        cls.number = numbers()
        cls.templates = Templates()
        cls.module = template_loops


CODES = NEGATIVE.code, MULTIPLY.code, ADD.code  # what `template_loops` writes of its own accord
