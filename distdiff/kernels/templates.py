"""Derivatives of scalar lines as scalar lines: for every operation the lines that compute its partials.

A template is read off the op table: a rule runs once on symbols, and every operation it applies is a line, in the order
in which the same rule on traced values records them.  So the table's rules stand in one place.  The lines name slots:

    -1-k    constant k of the table
    Y, A, B    the line's result and its operands
    3 + j    line j of the template

A line all of whose operands are constants is no line but a number.  Rules that choose (`np.where`) have a template
where the choice rests on constants (`needs` says which operands have to be), those whose partial is a condition have
none: a run with such a line is walked through in Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import ADD, BY_NAME, MULTIPLY, NEGATIVE, OPS
from .jit import worth_it

PLAIN_LINES = 20_000  # lines that may be differentiated in plain Python, 0.1 s, before the loops are compiled
FEW_LINES = 64  # of a run, that are differentiated sooner in plain Python
Y, A, B = range(3)
CHOOSE = 255  # in place of an Op.code: the second slot if the first is not 0, else the third
NEVER = 4  # in `needs`: the choice rests on the result, or on an operand that counts
_CONDITIONS = {BY_NAME[name] for name in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal",
                                          "logical_and", "logical_or", "logical_xor", "logical_not")}


class NoTemplate(Exception):
    """A rule does what lines cannot say."""


class _Symbol:
    """A slot: what a rule is given instead of a number."""

    __array_priority__ = 1000.0
    __hash__ = None

    def __init__(self, rule: _Rule, slot: int, rests: int, condition: bool = False) -> None:
        self.rule, self.slot = rule, slot
        self.rests = rests  # on which operands: bits 1 (A), 2 (B), 4 (Y)
        self.condition = condition

    def __array_ufunc__(self, ufunc: Any, method: str, *x: Any, **kwargs: Any) -> _Symbol:
        op = _BY_UFUNC.get(ufunc)
        if method != "__call__" or kwargs or op is None:
            raise NoTemplate
        return self.rule.line(op, x)

    def __array_function__(self, function: Any, types: Any, x: Any, kwargs: Any) -> _Symbol:
        if function is not np.where or len(x) != 3 or kwargs:
            raise NoTemplate
        return self.rule.choice(*x)

    def __neg__(self) -> _Symbol:
        return self.rule.line(NEGATIVE, (self,))


def _operator(name: str, reflected: bool) -> Any:
    op = BY_NAME[name]
    if reflected:
        return lambda self, other: self.rule.line(op, (other, self))
    return lambda self, other: self.rule.line(op, (self, other))


for _name, _op in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide"), ("pow", "power"),
                   ("and", "logical_and"), ("or", "logical_or")):
    setattr(_Symbol, f"__{_name}__", _operator(_op, False))
    setattr(_Symbol, f"__r{_name}__", _operator(_op, True))
for _name, _op in (("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal"), ("eq", "equal"),
                   ("ne", "not_equal")):
    setattr(_Symbol, f"__{_name}__", _operator(_op, False))
_BY_UFUNC = {op.value: op for op in OPS if isinstance(op.value, np.ufunc) and op.scalar}


class _Rule:
    """One rule on symbols: the lines it makes, (code, slot, slot, slot), and what its choices rest on."""

    def __init__(self, op: Any, k: int, constants: list[float]) -> None:
        self.steps: list[tuple[int, int, int, int]] = []
        self.constants = constants
        self.needs = 0
        operands = [_Symbol(self, slot, bit) for slot, bit in ((Y, 4), (A, 1), (B, 2))][: op.arity + 1]
        result = op.partials[k](*operands)
        if isinstance(result, _Symbol) and result.condition:
            raise NoTemplate
        self.root = self.slot(result)
        if self.needs & (NEVER | 1 << k):
            raise NoTemplate

    def slot(self, x: Any) -> int:
        if isinstance(x, _Symbol):
            return x.slot
        self.constants.append(float(x))
        return -len(self.constants)

    def line(self, op: Any, x: tuple[Any, ...]) -> _Symbol:
        slots = [self.slot(t) for t in x]
        self.steps.append((op.code, slots[0], slots[-1], 0))
        return self.made(x, op in _CONDITIONS)

    def choice(self, condition: Any, x: Any, z: Any) -> _Symbol:
        self.needs |= condition.rests
        self.steps.append((CHOOSE, self.slot(condition), self.slot(x), self.slot(z)))
        return self.made((x, z), False)

    def made(self, x: tuple[Any, ...], condition: bool) -> _Symbol:
        rests = 0
        for t in x:
            rests |= t.rests if isinstance(t, _Symbol) else 0
        return _Symbol(self, 2 + len(self.steps), rests, condition)


class Templates:
    """The templates of all rules, entry 2 code + k the partial with respect to operand k.

    starts   lines starts[entry]:starts[entry+1] of `steps`, (code, slot, slot, slot)
    roots    the slot that is the partial
    needs    operands that have to be constants, bits 1 and 2; NEVER: there is no template
    rules    whether there is a partial at all
    """

    def __init__(self) -> None:
        n = 2 * len(OPS)
        constants: list[float] = []
        steps: list[tuple[int, int, int, int]] = []
        self.starts, self.roots = np.zeros(n + 1, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.needs = np.full(n, NEVER, dtype=np.uint8)
        self.rules = np.zeros(n, dtype=np.bool_)
        longest = 0
        for op in OPS:
            for k in range(2):
                entry = 2 * op.code + k
                if op.scalar and op.kind == "elementwise" and k < op.arity and op.partials[k] is not None:
                    self.rules[entry] = True
                    try:
                        rule = _Rule(op, k, constants)
                    except NoTemplate:
                        pass
                    else:
                        steps += rule.steps
                        longest = max(longest, len(rule.steps))
                        self.roots[entry], self.needs[entry] = rule.root, rule.needs
                self.starts[entry + 1] = len(steps)
        self.steps = np.array(steps, dtype=np.int64)
        self.constants = np.array(constants)
        self.slots = 3 + longest
        self.room = 2 * longest + 4  # lines that one line may make: partials, products and sums

    def serve(self, op: np.ndarray, counted: tuple[np.ndarray, np.ndarray],
              constant: tuple[np.ndarray, np.ndarray]) -> bool:
        """Whether all operands that count have a template, given which are constants."""
        given = constant[0] * np.uint8(1) | constant[1] * np.uint8(2)
        return not any((counted[k] & ((self.needs[2 * op.astype(np.int64) + k] & ~given) != 0)).any() for k in (0, 1))


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
