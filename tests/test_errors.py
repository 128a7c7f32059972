"""Bad input: a clear error of the right kind on every rank, and nothing hangs."""

from __future__ import annotations

import tempfile
import warnings

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
import distdiff.service.client
import distdiff.testing
from distdiff.errors import (
    BranchChangedError,
    ConvergenceError,
    InputError,
    NonFiniteError,
    RemoteError,
    UnsupportedOperationError,
)

pytestmark = [pytest.mark.mpi, pytest.mark.few_ranks]


@pytest.fixture(autouse=True)
def ranks_still_in_step():
    """After each error the ranks can still talk: nobody was left behind."""
    yield
    assert MPI.COMM_WORLD.allreduce(1) == MPI.COMM_WORLD.size


def test_operation_without_a_rule_is_named_with_the_line():
    def f(x):
        return np.sum(np.sinc(x)) + np.gcd(x, 2)[0]

    with pytest.raises(UnsupportedOperationError) as caught:
        dd.grad(f)(np.ones(4))
    assert "test_errors.py" in str(caught.value) and "numpy.gcd" in str(caught.value)


class Metres(np.ndarray):
    def __mul__(self, other):
        raise AssertionError("derivatives know nothing of units")


class Named(np.ndarray):
    def __array_finalize__(self, made_of):
        self.name = getattr(made_of, "name", "")


SQUARES = {  # each way in, called at a square array
    "value_and_grad": lambda f, x: dd.value_and_grad(f)(x),
    "grad, nested": lambda f, x: dd.grad(lambda pair: f(pair["b"][0]))({"b": (x, 1.0)}),
    "linearize": lambda f, x: dd.linearize(f, x).close(),
    "update": lambda f, x: _with(f, lambda lin: lin.update(x)),
    "direction": lambda f, x: _with(f, lambda lin: lin.jvp(x)),
    "jvp": lambda f, x: dd.jvp(f, (x,), (np.ones((2, 2)),)),
    "vjp": lambda f, x: dd.vjp(f, x)[1].close(),
    "hvp": lambda f, x: dd.hvp(f, (x,), (np.ones((2, 2)),)),
    "jacobian": lambda f, x: dd.jacobian(f)(x),
    "hessian": lambda f, x: dd.hessian(f)(x),
    "trace": lambda f, x: dd.trace(f, x),
    "recorded": lambda f, x: _recorded(f, x),
    "taylor_test": lambda f, x: dd.testing.taylor_test(f, x),
    "client.run": lambda f, x: dd.service.client._named("of:f", "", {"x": x}),
}


def _with(f, use):
    with dd.linearize(f, np.ones((2, 2))) as lin:
        use(lin)


def _recorded(f, x):
    g = dd.recorded(f)
    g.value_and_grad(np.ones((2, 2)))
    g.value_and_grad(x)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix
@pytest.mark.parametrize("entry", SQUARES)
def test_arguments_whose_class_computes_otherwise(entry):
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    for x in (np.matrix(a), np.ma.masked_array(a, a > 2.0), a.view(Metres)):
        with pytest.raises(InputError, match=rf"{type(x).__name__}, a class of arrays with.*np\.asarray"):
            SQUARES[entry](lambda x: np.sum(x * x), x)


def test_arguments_whose_class_computes_as_arrays_do():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, float, "w+", shape=(2, 2))
        mapped[:] = a
        for x in (mapped, a.view(np.recarray), a.view(Named)):
            value, slope = dd.value_and_grad(lambda x: np.sum(x * x))(x)
            assert value == 30.0 and (slope == 2.0 * a).all()


def test_warnings_of_floats_have_the_users_line_and_no_error_beside_them():
    def fine(x):
        return np.sum(1.0 / np.exp(800.0 * x)) + np.sum(np.log(x - 2.0) > 0.0)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        dd.linearize(fine, np.ones(3)).close()
        with pytest.raises(NonFiniteError):
            dd.grad(lambda x: np.sum(np.log(x - 2.0) / (x - 1.0)))(np.ones(3))
        with np.errstate(all="ignore"):
            dd.linearize(fine, np.ones(3)).close()
    line = fine.__code__.co_firstlineno + 1
    told = {(w.category, str(w.message), w.filename, w.lineno) for w in seen}
    assert told == ({(RuntimeWarning, f"{what} encountered", __file__, line) for what in ("overflow", "invalid value")}
                    if MPI.COMM_WORLD.rank == 0 else set())
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        dd.grad(fine)(np.ones(3))


def test_a_function_of_numpys_itself_is_located_where_its_derivative_was_asked_for():
    with pytest.raises(NonFiniteError) as caught:
        dd.grad(np.linalg.norm)(np.zeros(3))
    assert "test_errors.py" in str(caught.value) and "asked_for" in str(caught.value)
    assert "distdiff/" not in str(caught.value)


def test_a_function_that_raises():
    def f(x):
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"):
        dd.grad(f)(np.ones(2))


def test_an_error_that_can_not_travel():
    class Local(Exception):
        pass

    def f(x):
        raise Local("gone wrong")

    kind = Local if MPI.COMM_WORLD.rank == 0 else RemoteError
    with pytest.raises(kind, match="gone wrong"):
        dd.grad(f)(np.ones(2))


def test_nan_names_file_and_line_in_array_code():
    def f(x):
        y = x - 1.0
        return np.sum(np.log(y))  # the line

    with pytest.raises(NonFiniteError) as caught, np.errstate(all="ignore"):
        dd.grad(f)(np.array([2.0, 1.0, 3.0]))
    assert f"test_errors.py:{f.__code__.co_firstlineno + 2}" in str(caught.value)


def test_infinite_partial_names_file_and_line():
    def f(x):
        return np.sum(np.sqrt(x))

    with pytest.raises(NonFiniteError) as caught, np.errstate(all="ignore"):
        dd.grad(f)(np.array([2.0, 0.0, 3.0]))
    assert f"test_errors.py:{f.__code__.co_firstlineno + 1}" in str(caught.value)


def test_nan_names_file_and_line_in_scalar_code():
    def f(x):
        s = x[0]
        for _ in range(3):
            s = s - 1.0
            s = np.sqrt(s)  # fails in the second round
        return s

    with pytest.raises(NonFiniteError) as caught, np.errstate(all="ignore"):
        dd.grad(f)(np.array([1.5]))
    assert f"test_errors.py:{f.__code__.co_firstlineno + 4}" in str(caught.value)


def test_nan_at_a_new_point():
    def f(x):
        return np.sum(np.log(x))

    with dd.linearize(f, np.ones(3)) as lin:
        with pytest.raises(NonFiniteError) as caught, np.errstate(all="ignore"):
            lin.update(np.array([1.0, -1.0, 2.0]))
        assert f"test_errors.py:{f.__code__.co_firstlineno + 1}" in str(caught.value)
        with pytest.raises(InputError, match="update"):
            lin.vjp(1.0)
        lin.update(np.full(3, 2.0))
        np.testing.assert_allclose(lin.vjp(1.0), 0.5 * np.ones(3))


def test_nan_in_the_point_itself():
    with pytest.raises(NonFiniteError):
        dd.grad(lambda x: np.sum(x))(np.array([1.0, np.nan]))


def test_integer_input():
    with pytest.raises(InputError, match="int"):
        dd.grad(lambda x: np.sum(x * x))(np.arange(3))
    with pytest.raises(InputError, match="int"):
        dd.grad(lambda x: x * x)(3)


def test_empty_array():
    with pytest.raises(InputError, match="empty"):
        dd.grad(lambda x: np.sum(x))(np.zeros(0))


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="broadcast"):
        dd.grad(lambda x: np.sum(x[:3] + x[:2]))(np.ones(4))
    with pytest.raises(ValueError):
        dd.grad(lambda x: np.sum(x[:3] @ np.ones((2, 2))))(np.ones(4))


@pytest.mark.parametrize("product", [dd.jvp, dd.hvp])
@pytest.mark.parametrize("primals, tangents, words", [
    (np.ones(3), np.ones(3), "primals of type ndarray"), ((np.ones(3),), np.ones(3), "tangents of type ndarray"),
    (1.0, (1.0,), "primals of type float"), ((np.ones(3),), (np.ones(3), np.ones(3)), "1 primals and 2 tangents"),
])
def test_products_take_tuples(product, primals, tangents, words):
    with pytest.raises(InputError, match=rf"^{product.__name__} .*{words}; .*{product.__name__}\(f, \(x,\), \(v,\)\)"):
        product(lambda x: np.sum(x * x), primals, tangents)


@pytest.mark.parametrize("settings, word", [
    ({"method": "magic"}, "magic"), ({"on_branch_change": "ignore"}, "ignore"), ({"partition": "random"}, "random"),
    ({"solves": 0}, "solves"),
])
def test_wrong_options(settings, word):
    with pytest.raises(InputError, match=word):
        dd.linearize(lambda x: np.sum(x), np.ones(3), **settings)


def test_wrong_petsc_option_value():
    with pytest.raises(InputError, match="nonsense"):
        wrong = {"ksp_type": "nonsense"}
        with dd.linearize(lambda x: np.sum(x * x), np.ones(3), method="krylov", options=wrong) as lin:
            lin.vjp(1.0)


def test_unused_petsc_option_is_warned_about():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dd.linearize(lambda x: np.sum(x * x), np.ones(3), method="krylov", options={"ksp_rtoll": 1e-3}) as lin:
            lin.vjp(1.0)
    assert ["ksp_rtoll" in str(w.message) for w in caught] == [True] * (MPI.COMM_WORLD.rank == 0)  # told once


def test_iteration_limit_is_an_error():
    def f(x):
        u = x
        for _ in range(8):
            u = u + 0.3 * np.roll(u, 1) * u
        return u

    if MPI.COMM_WORLD.size == 1:
        return  # exact in one iteration
    with dd.linearize(f, np.ones(40), method="krylov", partition="axes", min_block=1,
                      options={"ksp_max_it": 1, "ksp_type": "gmres"}, on_failure="raise") as lin:
        with pytest.raises(ConvergenceError, match="iteration"):
            lin.vjp(np.ones(40))


def _branch(x):
    if x[0] > 0:
        return np.sum(x**2)
    return np.sum(x**3)


def test_changed_branch_retraces():
    with dd.linearize(_branch, np.array([1.0, 2.0])) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), [2.0, 4.0])
        assert lin.update(np.array([-1.0, 2.0])) == 7.0
        np.testing.assert_allclose(lin.vjp(1.0), [3.0, 12.0])
        assert lin.retraces == 1 and lin.report().retraces == 1


def test_what_was_traced_where_there_is_no_value_serves_other_points():
    """A tape that a retrace brought stays, with its shares and solvers, though its own point is none."""
    def f(x):
        return np.sum(1.0 / x) if x[0] > 0 else np.sum(x) / (x[0] + 1.0)

    with dd.linearize(f, np.array([1.0, 2.0, 4.0])) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), [-1.0, -0.25, -0.0625])
        with pytest.raises(NonFiniteError):
            lin.update(np.array([-1.0, 2.0, 4.0]))
        with pytest.raises(InputError, match="no point"):
            lin.vjp(1.0)
        assert "no point" not in str(lin.report())
        assert lin.update(np.array([-0.5, 2.0, 4.0])) == 11.0
        np.testing.assert_allclose(lin.vjp(1.0), [2.0 - 22.0, 2.0, 2.0])
        assert lin.update(np.array([2.0, 2.0, 4.0])) == 1.25
        np.testing.assert_allclose(lin.vjp(1.0), [-0.25, -0.25, -0.0625])


def test_changed_branch_raises_when_told_to():
    with dd.linearize(_branch, np.array([1.0, 2.0]), on_branch_change="raise") as lin:
        with pytest.raises(BranchChangedError, match="comparison"):
            lin.update(np.array([-1.0, 2.0]))
        lin.update(np.array([3.0, 2.0]))
        np.testing.assert_allclose(lin.vjp(1.0), [6.0, 4.0])


def test_cutting_the_derivative_is_refused():
    import math

    with pytest.raises(UnsupportedOperationError, match="np.sin"):
        dd.grad(lambda x: math.sin(x[0]))(np.ones(1))
    with pytest.raises(UnsupportedOperationError):
        dd.grad(lambda x: float(x[0]))(np.ones(1))


def test_numpy_is_as_before_after_an_error():
    before = np.zeros, np.array, np.empty, np.ones, np.full, np.asarray
    with pytest.raises(ZeroDivisionError):
        dd.grad(lambda x: 1 / 0)(np.ones(1))
    assert before == (np.zeros, np.array, np.empty, np.ones, np.full, np.asarray)


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
def test_leaving_from_inside_the_function_takes_every_rank_along(leave):
    def f(x):
        raise leave(3)

    with pytest.raises(leave):
        dd.grad(f)(np.ones(3))


class TwoPart(Exception):
    """An exception that pickle can't rebuild by itself: its __init__ wants more than its args."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


def test_an_error_with_an_init_of_its_own_is_the_same_on_every_rank():
    def f(x):
        raise TwoPart(7, "no convergence")

    with pytest.raises(TwoPart, match="7: no convergence") as caught:
        dd.grad(f)(np.ones(2))
    assert caught.value.code == 7


def test_rank_0_settings_count():
    """Ranks that asked for different methods would wait for each other; rank 0 decides, as for the arguments."""
    method = "sweep" if MPI.COMM_WORLD.rank == 0 else "substitution"
    with dd.linearize(lambda x: np.sum(x * x), np.ones(3), method=method) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), 2 * np.ones(3))
        assert lin.method == "sweep"


@pytest.mark.parametrize("settings", [{"argnums": 1.5}, {"argnums": "a"}, {"options": ["a"]}, {"min_block": -1},
                                      {"preaccumulate": "no"}, {"comm": 3}, {"comm": MPI.COMM_NULL}])
def test_settings_of_the_wrong_kind(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        dd.linearize(lambda x: np.sum(x), np.ones(3), **settings)


@pytest.mark.parametrize("wrong", [3, MPI.COMM_NULL])
def test_what_is_no_communicator_is_refused_by_every_call(wrong):
    """COMM_NULL counts as false, so it was taken for none given: the gradient came, on all ranks."""
    for call in (lambda: dd.grad(np.sum, comm=wrong)(np.ones(3)), lambda: dd.recorded(np.sum, comm=wrong)(np.ones(3)),
                 lambda: dd.trace(np.sum, np.ones(3), comm=wrong), lambda: dd.load("nothing.tape", comm=wrong),
                 lambda: dd.jvp(np.sum, (np.ones(3),), (np.ones(3),), comm=wrong)):
        with pytest.raises(InputError, match="is no communicator"):
            call()


@pytest.mark.parametrize("name, words", [
    ("methd", "'methd' is no setting: did you mean 'method'"),
    ("power", "'power' is no setting: there are argnums, .*"),
])
def test_a_setting_that_there_is_not(name, words):
    for call in (lambda: dd.linearize(np.sum, np.ones(3), **{name: 2}),
                 lambda: dd.grad(np.sum, **{name: 2})(np.ones(3)),
                 lambda: dd.grad(dd.grad(lambda x: dd.linearize(np.sum, x, **{name: 2}).value))(np.ones(3))):
        with pytest.raises(TypeError, match=words + r".* go into kwargs=\{\.\.\.\}"):
            call()


def test_a_setting_that_there_is_not_on_one_rank():
    """All raise, and nobody waits for it."""
    last = MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1
    with pytest.raises((TypeError, RemoteError), match="'methd' is no setting"):
        dd.linearize(np.sum, np.ones(3), **{"methd" if last else "method": "sweep"})


def test_integers_of_numpy_are_integers():
    with dd.linearize(np.sum, np.ones(3), solves=np.int64(20), min_block=np.int32(2)) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), np.ones(3))
    for wrong in {"solves": True}, {"min_block": True}, {"solves": "20"}, {"solves": 20.0}:
        with pytest.raises(InputError, match="must be a positive integer"):
            dd.linearize(np.sum, np.ones(3), **wrong)
