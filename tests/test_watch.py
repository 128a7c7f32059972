"""What a recorded function reads beside its point is noticed when it changes, wherever it lies."""

from __future__ import annotations

import abc
import array
import functools
import operator
import types
from collections import ChainMap, OrderedDict, UserDict, deque, namedtuple

import numpy as np
import pytest
from scipy.optimize import minimize

import distdiff as dd
from distdiff.errors import InputError
from distdiff.snapshot import kept, same

X = np.array([0.3, -0.7, 1.2, 0.5])
Held = namedtuple("Held", "o")


class Model:
    def __init__(self, k=1.0):
        self.k = k
        self._data = {"k": k}

    @property
    def under(self):
        return self._data["k"]

    by_getter = property(operator.itemgetter("k"))
    of_data = property(lambda self: self._data["k"])
    named = property(operator.attrgetter("_k"))

    def __getitem__(self, key):
        return self._data[key]

    def loss(self, x):
        return self.k * np.sum(x)

    def __call__(self, x):
        return self.k * np.sum(x)


class Slots:
    __slots__ = ("k",)

    def __init__(self, k=1.0):
        self.k = k


class Derived(Model):
    pass


class Sevenfold(Model):
    def loss(self, x):
        return 7.0 * np.sum(x)


def setter(thing, value=7.0, name="k"):
    return lambda: setattr(thing, name, value)


def as_arguments():
    """(name, f, its arguments after x, a change of what f reads by them)."""
    def k_times(x, o):
        return o.k * np.sum(x)

    for make in (Model, Derived, Slots, lambda: types.SimpleNamespace(k=1.0)):
        o = make()
        yield type(o).__name__, k_times, (o,), setter(o)
    o = Model()
    yield "list of objects", lambda x, os: os[0].k * np.sum(x), ([o],), setter(o)
    o1 = Model()
    yield "named tuple of objects", lambda x, h: h.o.k * np.sum(x), (Held(o1),), setter(o1)
    o2 = Model()
    objects = np.array([o2, None], dtype=object)
    yield "array of objects", lambda x, a: a[0].k * np.sum(x), (objects,), setter(o2)
    arrays = [np.array([Model(), None], dtype=object) for _ in range(3)]
    yield "arrays of objects", lambda x, *a: sum(b[0].k for b in a) * np.sum(x), arrays, setter(arrays[2][0])
    o3 = Model()
    yield "dictionary in an object", lambda x, o: o.under * np.sum(x), (o3,), lambda: o3._data.update(k=7.0)
    o4 = Model()
    o4.w = np.ones(4)
    yield "array in an object", lambda x, o: np.sum(o.w * x), (o4,), lambda: o4.w.fill(7.0)
    o5 = Model()
    yield "method of an object", lambda x, o: o.loss(x), (o5,), setter(o5)
    o6 = Model()
    yield "object that is called", lambda x, o: o(x), (o6,), setter(o6)
    o7 = Model()
    yield "method", lambda x, g: g(x), (o7.loss,), setter(o7)
    c = [1.0]
    yield "closure of a function", lambda x, g: g(x), (lambda x: c[0] * np.sum(x),), lambda: c.__setitem__(0, 7.0)
    yield "global of a function", lambda x, g: g(x), (with_global,), lambda: GLOBAL.update(k=7.0)
    w = np.ones(4)
    yield "partial", lambda x, g: g(x), (functools.partial(np.dot, w),), lambda: w.fill(7.0)
    o8 = Model()
    yield "partial of an object", lambda x, g: g(x=x), (functools.partial(k_times, o=o8),), setter(o8)
    o9 = Model()
    yield "getattr", lambda x, o: getattr(o, "".join("k")) * np.sum(x), (o9,), setter(o9)
    o10, entries, view = Model(), {"k": 1.0}, memoryview(seen := bytearray(b"\1"))
    yield "class exchanged", lambda x, o: o.loss(x), (o10,), setter(o10, Sevenfold, "__class__")
    yield "dict.get", lambda x, get: get("k") * np.sum(x), (entries.get,), lambda: entries.update(k=7.0)
    yield "dict.__getitem__", lambda x, get: get("k") * np.sum(x), (entries.__getitem__,), lambda: entries.update(k=9.0)
    yield "memoryview", lambda x, d: d[0] * np.sum(x), (view,), lambda: seen.__setitem__(0, 7)
    ordered, many, raw = OrderedDict(k=1.0), deque([1.0]), bytearray(b"\1")
    yield "OrderedDict", lambda x, d: d["k"] * np.sum(x), (ordered,), lambda: ordered.update(k=7.0)
    yield "deque", lambda x, d: d[0] * np.sum(x), (many,), lambda: many.__setitem__(0, 7.0)
    yield "bytearray", lambda x, d: d[0] * np.sum(x), (raw,), lambda: raw.__setitem__(0, 7)


GLOBAL = {"k": 1.0}


def with_global(x):
    return GLOBAL["k"] * np.sum(x)


def wrapping(g, k):
    @functools.wraps(g)
    def wrapper(*args):
        return k[0] * g(*args)
    return wrapper


def around():
    """(name, f, no arguments, a change of what f reads from around it)."""
    k1 = [1.0]
    yield "wrapper", wrapping(lambda x: np.sum(x), k1), (), lambda: k1.__setitem__(0, 7.0)
    c = [1.0]
    yield "what is wrapped", wrapping(lambda x: c[0] * np.sum(x), [1.0]), (), lambda: c.__setitem__(0, 7.0)
    held = [1.0]
    library = functools.singledispatch(lambda x: held[0] * np.sum(x))
    yield "a library's wrapper", lambda x: library(x), (), lambda: held.__setitem__(0, 7.0)
    yield "called wrapper", call_of(wrapping(lambda x: np.sum(x), k2 := [1.0])), (), lambda: k2.__setitem__(0, 7.0)

    class Decorated(Model):
        loss = wrapping(Model.loss, [1.0])

    o = Decorated()
    yield "decorated method", o.loss, (), setter(o)
    o1 = Decorated()
    yield "decorated method that is called", lambda x: o1.loss(x), (), setter(o1)

    def g(x):
        return g.c * np.sum(x)

    g.c = 1.0
    yield "attribute of the function", g, (), setter(g, name="c")
    helper_with = wrapping(g, [1.0])
    helper_with.c = 1.0
    yield "attribute of a function", lambda x: helper_with.c * np.sum(x), (), setter(helper_with, name="c")
    raw, numbers, items = bytearray(b"\1"), array.array("d", [1.0]), {"k": 1.0}
    yield "bytearray", lambda x: raw[0] * np.sum(x), (), lambda: raw.__setitem__(0, 7)
    yield "array.array", lambda x: numbers[0] * np.sum(x), (), lambda: numbers.__setitem__(0, 7.0)
    chain, mapping, user = ChainMap({}, items), types.MappingProxyType(items), UserDict(k=1.0)
    yield "ChainMap", lambda x: chain["k"] * np.sum(x), (), lambda: items.update(k=7.0)
    yield "MappingProxyType", lambda x: mapping["k"] * np.sum(x), (), lambda: items.update(k=9.0)
    yield "UserDict", lambda x: user["k"] * np.sum(x), (), lambda: user.update(k=9.0)

    class Base:
        def loss(self, x):
            return np.sum(x)

    class Middle(Base):
        scale = staticmethod(lambda x: x)

    class Last(Middle):
        pass

    o2 = Last()
    yield "method of a base class", lambda x: o2.loss(x), (), setter(Base, lambda self, x: 7.0 * np.sum(x), "loss")
    yield "method of a class between", lambda x: o2.loss(x), (), setter(Middle, lambda self, x: 8.0 * np.sum(x), "loss")
    yield "static method", lambda x: o2.scale(np.sum(x)), (), setter(Middle, staticmethod(lambda x: 7.0 * x), "scale")
    yield "method of the object", lambda x: o2.loss(x), (), setter(o2, lambda x: 9.0 * np.sum(x), "loss")
    for name in ("under", "by_getter", "of_data"):
        m = Model()
        yield f"property {name}", lambda x, m=m, get=operator.attrgetter(name): get(m) * np.sum(x), (), \
            lambda m=m: m._data.update(k=7.0)
    o3 = Model()
    o3._k = 1.0
    yield "property by attrgetter", lambda x: o3.named * np.sum(x), (), setter(o3, name="_k")

    def other(x):
        return 7.0 * np.sum(x)

    def first(x):
        return 1.0 * np.sum(x)

    yield "code", first, (), setter(first, other.__code__, "__code__")

    def helper(x, k=1.0):
        return k * np.sum(x)

    yield "another default", lambda x: helper(x), (), setter(helper, (7.0,), "__defaults__")
    o4, w = Model(), np.ones(4)
    yield "partial of an object", functools.partial(lambda o, x: o.k * np.sum(x), o4), (), setter(o4)
    call = operator.methodcaller("dot", w)
    yield "methodcaller", lambda x: call(x), (), lambda: w.fill(7.0)
    o5, read = Model(), operator.attrgetter("k")
    yield "attrgetter", lambda x: read(o5) * np.sum(x), (), setter(o5)
    o6 = Model()
    keyed = operator.methodcaller("loss", x=X)
    yield "methodcaller with keywords", lambda x: keyed(o6) * np.sum(x), (), setter(o6)


def orders_and_names():
    """What is another only in its order, comes where nothing was, or hangs on a number or a text."""
    order = OrderedDict(a=1.0, b=7.0)
    yield "OrderedDict's order", lambda x: list(order.values())[0] * np.sum(x), (), lambda: order.move_to_end("a")
    plain = {"a": 1.0, "b": 7.0}
    yield "a dictionary's order", lambda x: [*plain.values()][0] * np.sum(x), (), lambda: plain.update(a=plain.pop("a"))
    o = types.SimpleNamespace(a=np.arange(4.0).reshape(2, 2), b=[np.arange(4.0).reshape(2, 2)])
    yield "an array's axes", lambda x: o.a.ravel("K") @ x, (), setter(o, np.asfortranarray(o.a), "a")
    yield "those of an item", lambda x: o.b[0].ravel("K") @ x, (), setter(o, [np.asfortranarray(o.b[0])], "b")
    for name, f in {
        "getattr": lambda x, o: getattr(o, "new", 1.0) * np.sum(x),
        "hasattr": lambda x, o: (7.0 if hasattr(o, "new") else 1.0) * np.sum(x), "caught": caught}.items():
        for kind in (Model, types.SimpleNamespace):
            p = kind()
            yield f"{name} of a {kind.__name__}", lambda x, f=f, p=p: f(x, p), (), setter(p, 7.0, "new")
        q = Derived()
        yield f"{name} of its class", lambda x, f=f, q=q: f(x, q), (), setter(Derived, 7.0, "new")
        yield f"{name} of a class", lambda x, f=f: f(x, Sevenfold), (), setter(Sevenfold, 7.0, "new")
        del Derived.new, Sevenfold.new
    yield "a global that comes", lacking, (), lambda: globals().update(NEW=7.0)
    del globals()["NEW"]
    yield "a builtin's name", lambda x: abs(-1) * np.sum(x), (), lambda: globals().update(abs=lambda x: 7.0)
    del globals()["abs"]
    for kind, value in ((float, 1.0), (str, "one"), (tuple, (1.0,))):
        v = type("Marked", (kind,), {})(value)
        v.k = 1.0
        yield f"an attribute of a {kind.__name__}", lambda x, v=v: v.k * np.sum(x), (), setter(v)
    w = np.ones(2).view(type("Marked", (np.ndarray,), {}))
    w.k = 1.0
    yield "an attribute of an array", lambda x: w.k * np.sum(x), (), setter(w)
    k, each = [1.0], np.vectorize(lambda t: t * k[0])
    yield "np.vectorize", lambda x: np.sum(each(x)), (), lambda: k.__setitem__(0, 7.0)

    class Bound(Model):
        times = functools.partialmethod(lambda self, c, x: self.k * c * np.sum(x), 2.0)

    b = Bound()
    yield "partialmethod", lambda x: b.times(x), (), setter(b)


def identities_and_registries():
    """Which names mean one object, and what is registered."""
    space = types.SimpleNamespace(a=np.ones(3), b=np.ones(3), c=[1.0], d=[1.0])
    same = lambda x, s: (1.0 + 6.0 * (s.a is s.b) + 3.0 * (id(s.c) == id(s.d))) * np.sum(x)  # noqa: E731
    yield "is", same, (space,), lambda: setattr(space, "b", space.a)
    held = types.SimpleNamespace(c=[1.0], d=[1.0])
    yield "id", lambda x: (1.0 + 6.0 * (id(held.c) == id(held.d))) * np.sum(x), (), lambda: setattr(held, "d", held.c)

    class Meta(type):
        k = 1.0

        def __getitem__(cls, n):
            return n * cls.k

        def __contains__(cls, n):
            return n < cls.k

    class Made(metaclass=Meta):
        pass

    yield "a metaclass", lambda x: Made.k * np.sum(x), (), setter(Meta)
    Meta.k = 1.0
    yield "its __getitem__", lambda x: Made[2.0] * np.sum(x), (), setter(Meta)
    Meta.k = 1.0
    yield "its __contains__", lambda x: np.sum(x) * (7.0 if 3.0 in Made else 1.0), (), setter(Meta)

    @functools.singledispatch
    def weight(kind):
        return 1.0

    yield "singledispatch", lambda x: weight(Made) * np.sum(x), (), lambda: weight.register(Meta, lambda kind: 7.0)

    class Weights:
        @functools.singledispatchmethod
        def of(self, kind):
            return 1.0

    w = Weights()
    yield "singledispatchmethod", lambda x: w.of(Made) * np.sum(x), (), (
        lambda: Weights.of.register(Meta, lambda self, kind: 7.0))

    class Abstract(metaclass=abc.ABCMeta):  # noqa: B024 (its own classes are registered)
        pass

    m = Model()
    yield "an abstract class", lambda x: np.sum(x) * (7.0 if isinstance(m, Abstract) else 1.0), (), (
        lambda: Abstract.register(Model))


def caught(x, o):
    try:
        return o.new * np.sum(x)
    except AttributeError:
        return np.sum(x)


def lacking(x):
    try:
        return NEW * np.sum(x)
    except NameError:
        return np.sum(x)


def call_of(g):
    return lambda x: g(x)


@pytest.mark.parametrize("cases", [as_arguments, around, orders_and_names, identities_and_registries])
def test_changes_are_noticed(cases):
    for name, f, args, change in cases():
        with dd.recorded(f) as F:
            for x in (X, 2 * X):
                np.testing.assert_allclose(F(x, *args), f(x, *args), rtol=1e-12, err_msg=name)
            assert F.counts.traces == 1, name
            before = F.grad(X, *args)
            change()
            assert abs(f(X, *args) - before @ X) > 1e-3, name
            np.testing.assert_allclose(F(X, *args), f(X, *args), rtol=1e-12, err_msg=name)
            np.testing.assert_allclose(F.grad(3 * X, *args) @ X, f(X, *args), rtol=1e-12, err_msg=name)
            assert F.counts.traces == 2, name


def test_arguments_that_are_one_array():
    """Copies of them are one array too; whether they are is compared."""
    a, b = np.ones(4), np.ones(4)

    def f(x, p, q):
        if p is q:
            p[0] += 2.0
        return np.sum(x * p * q)

    assert np.array_equal(dd.grad(f)(X, a, a), [9.0, 1.0, 1.0, 1.0]) and np.array_equal(a, np.ones(4))
    with dd.recorded(f) as F:
        assert F(X, a, b) == f(X, a.copy(), b) != f(X, c := a.copy(), c) == F(X, b, b) == F(X, a, a)
        assert F(2 * X, a, b) == f(2 * X, a, b) and F.counts.traces == 2


def test_self_is_an_argument_and_optimizers_pass_objects():
    m = Model()
    with dd.recorded(Model.loss, argnums=1) as F:
        F(m, X)
        m.k = 3.0
        np.testing.assert_allclose(F.grad(m, X), np.full(4, 3.0))
    with dd.recorded(lambda x, o: np.sum((x - o.k) ** 2)) as F:
        for m.k in (1.0, 3.0):
            np.testing.assert_allclose(minimize(F, X, args=(m,), jac=F.grad).x, np.full(4, m.k), rtol=1e-6)
    with dd.recorded(lambda x, *, o: o.k * np.sum(x)) as F:
        for m.k in (1.0, 3.0):
            np.testing.assert_allclose(F(X, o=m), m.k * np.sum(X))
    log = types.SimpleNamespace(values=[], k=2.0)
    with dd.recorded(lambda x, o: o.k * np.sum(x)) as F:
        for k in range(3):
            log.values.append(F(X + k, log))
        assert F.counts.traces == 1, "what f does not read of its argument"


def test_a_librarys_own_state_is_left_alone():
    inner = dd.grad(lambda x: np.sum(np.sin(x)))
    for f, args in ((lambda x: inner(x) @ X, ()), (lambda x, g: g(x) @ X, (inner,))):
        with dd.recorded(f) as F:
            for k in range(3):
                np.testing.assert_allclose(F(X + k, *args), np.cos(X + k) @ X)
                inner(X - k)
            assert F.counts.traces == 1
            assert len(F._tapes[0].surroundings._watched) < 10


def cyclic():
    items = [1.0]
    items.append(items)
    yield items, 0
    named = {"k": 1.0}
    named["self"] = (named, [named])
    yield named, "k"


def test_containers_that_hold_themselves():
    for c, key in cyclic():
        copy = kept(c)
        assert same(copy, c) and same(c, copy)
        with dd.recorded(lambda x, c=c, key=key: c[key] * np.sum(x)) as F, dd.recorded(
                lambda x, o, key=key: o[key] * np.sum(x)) as G:
            for c[key] in (1.0, 3.0):
                np.testing.assert_allclose([F(X), G(X, c)], c[key] * np.sum(X))
            assert F.counts.traces == G.counts.traces == 2
        assert not same(copy, c)
    shared = [1.0]
    for _ in range(60):  # 2^60 ways down
        shared = [shared, shared]
    assert same(kept(shared), shared)


@pytest.mark.mpi
def test_no_number_to_differentiate_by():
    for nothing in (None, (), {"a": None}):
        with dd.recorded(lambda x: 1.0) as F, pytest.raises(InputError, match="no number to differentiate"):
            F(nothing)
