"""An independent interpreter of tapes for the tests: explicit ids, dense matrices, nothing clever.

It knows nothing of how the library evaluates or solves; where the two agree, both read the tape in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from elementals import dense

from distdiff.ops import OPS
from distdiff.tape import Const, Item, Joint, ScalarRun, Statement, Tape

Edge = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def operand(tape: Tape, ref, shape, y):
    """(ids or None, values) of an operand over the iteration shape, flattened."""
    if isinstance(ref, Const):
        return None, np.broadcast_to(np.asarray(ref.value, dtype=float), shape).ravel()
    ids = np.broadcast_to(tape.ids(ref, shape), shape).ravel()
    return ids, y[ids]


def _statement(tape: Tape, item: Statement, y: np.ndarray, edge: Edge) -> None:
    op, shape = item.op, item.shape
    out, _ = operand(tape, item.out, shape, y)
    read = [operand(tape, ref, shape, y) for ref in item.operands]
    for ids, _ in read:
        assert ids is None or not ids.size or ids.max() < tape.blocks[item.out.block].first, "reads a later node"
    args = [values for _, values in read]
    one = np.ones(len(out))
    if op.kind == "scan":
        y[out] = np.cumsum(args[0].reshape(shape), axis=-1).ravel()
        ids = out.reshape(shape)
        edge(ids[..., 1:].ravel(), ids[..., :-1].ravel(), one[: ids[..., 1:].size])
        if read[0][0] is not None:
            edge(out, read[0][0], one)
    elif op.kind == "select":
        best: dict[int, int] = {}
        for k, i in enumerate(out):
            value, rival = args[0][k], args[0][best.get(i, k)]
            if i not in best or (value > rival if op.name == "max" else value < rival):
                best[i] = k
        for i, k in best.items():
            y[i] = args[0][k]
            if read[0][0] is not None:
                edge(np.array([i]), read[0][0][k : k + 1], one[:1])
    else:
        values = np.asarray(op.value(*args), dtype=float)
        y[out] = 0.0
        np.add.at(y, out, values)
        for partial, (ids, _) in zip(op.partials, read):
            if ids is not None and partial is not None:
                edge(out, ids, partial(values, *args) * one)


def _joint(tape: Tape, item: Joint, y: np.ndarray, edge: Edge) -> None:
    op = item.op
    out = np.reshape(operand(tape, item.out, item.out_shape, y)[0], item.out_shape)
    read = [operand(tape, ref, item.operand_shape(k), y) for k, ref in enumerate(item.operands)]
    for ids, _ in read:
        assert ids is None or not ids.size or ids.max() < tape.blocks[item.out.block].first, "reads a later node"
    for index in np.ndindex(item.shape):
        x = [values.reshape(item.operand_shape(k))[index] for k, (_, values) in enumerate(read)]
        results = op.value(*x)
        y[out[index]] = np.concatenate([np.ravel(part) for part in results])
        results = [part if -1 in op.reads else None for part in results]
        for k, (ids, _) in enumerate(read):
            if ids is not None and k not in op.inert:
                ids = ids.reshape(item.operand_shape(k))[index].ravel()
                matrix = dense(op, k, results, x)
                rows, columns = op.pattern(k) or map(np.ravel, np.indices(matrix.shape))
                edge(out[index][rows], ids[columns], matrix[rows, columns])
                matrix[rows, columns] = 0.0
                assert not matrix.any(), "an entry outside the pattern"


def _scalar_run(tape: Tape, run: ScalarRun, y: np.ndarray, edge: Edge) -> None:
    first = tape.blocks[run.block].first
    for k, code in enumerate(run.op):
        op = OPS[code]
        ids = [int(run.a[k]), int(run.b[k])][: op.arity]
        assert all(i < first + k for i in ids), "reads a later node"
        args = [np.float64(y[i] if i >= 0 else run.const[-1 - i]) for i in ids]
        y[first + k] = op.value(*args)
        for partial, i in zip(op.partials, ids):
            if i >= 0 and partial is not None:
                edge(np.array([first + k]), np.array([i]), np.array([partial(y[first + k], *args)], dtype=float))


def interpret(tape: Tape, item: Item, y: np.ndarray, edge: Edge) -> None:
    """Compute one item's values into y, and tell its entries of L."""
    {Statement: _statement, Joint: _joint, ScalarRun: _scalar_run}[type(item)](tape, item, y, edge)


def evaluate(tape: Tape, x: np.ndarray, edge: Edge = lambda rows, columns, values: None) -> np.ndarray:
    """Values of all nodes at the flat inputs x; `edge` is told every entry of L."""
    y = np.full(tape.n_nodes, np.nan)
    start = 0
    for leaf in tape.inputs:
        ids, _ = operand(tape, leaf.ref, leaf.shape, y)
        y[ids] = x[start : start + len(ids)]
        start += len(ids)
    with np.errstate(all="ignore"):
        for item in tape.items:
            interpret(tape, item, y, edge)
    return y


def dense_L(tape: Tape, x: np.ndarray) -> np.ndarray:
    """L of the module text, dense."""
    L = np.zeros((tape.n_nodes, tape.n_nodes))
    evaluate(tape, x, lambda rows, columns, values: np.add.at(L, (rows, columns), values))
    assert not np.any(np.triu(L)), "L is not strictly lower triangular"
    return L


def outputs(tape: Tape, y: np.ndarray) -> np.ndarray:
    """All results, flattened one after another."""
    return np.concatenate([np.empty(0)] + [operand(tape, leaf.ref, leaf.shape, y)[1] for leaf in tape.outputs])


def jacobian(tape: Tape, x: np.ndarray) -> np.ndarray:
    """d outputs / d inputs by one dense triangular solve: (n_outputs, n_inputs)."""
    y = np.zeros(tape.n_nodes)
    inputs = np.concatenate([operand(tape, leaf.ref, leaf.shape, y)[0] for leaf in tape.inputs])
    seeds = np.zeros((tape.n_nodes, len(inputs)))
    seeds[inputs, np.arange(len(inputs))] = 1.0
    ydot = np.linalg.solve(np.eye(tape.n_nodes) - dense_L(tape, x), seeds)
    rows = []
    for leaf in tape.outputs:
        ids, values = operand(tape, leaf.ref, leaf.shape, y)
        rows.append(np.zeros((len(values), len(inputs))) if ids is None else ydot[ids])
    return np.concatenate([np.zeros((0, len(inputs)))] + rows)


def check_guards(tape: Tape, y: np.ndarray) -> bool:
    """Whether every recorded decision would be taken again at the node values y."""
    return all(np.array_equal(y[np.ravel(tape.ids(g.ref, np.shape(g.expected)))], np.ravel(g.expected))
               for g in tape.guards)
