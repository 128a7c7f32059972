"""Partition: virtual ranks that run their shares superstep by superstep do what the whole tape does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tape_oracle
from distdiff.ops import ADD, COPY, MULTIPLY, SUBTRACT
from distdiff.partition import check, distribute, localize_all, partition
from distdiff.tape import Tape
from tapes import SIN, Writer, adjoint, run_ranks, tangent, tapes

RANKS = (1, 2, 3, 5, 8)


def reproduces(tape: Tape, n_ranks: int, **settings) -> list:
    """Partition, localize, check, run and differentiate; returns the LocalTapes."""
    plan = partition(tape, n_ranks, **settings)
    locals_ = localize_all(tape, plan)
    assert len(locals_) == n_ranks and all(len(local.steps) == len(locals_[0].steps) for local in locals_)
    for local in locals_:
        check(local)
    rng = np.random.default_rng(tape.n_nodes)
    x = rng.uniform(-1.0, 1.0, tape.n_inputs)
    truth = tape_oracle.evaluate(tape, x)
    y, matrix = run_ranks(locals_, x)
    scale = 1.0 + np.abs(truth[np.isfinite(truth)]).max(initial=0.0)
    outputs = np.full(tape.n_outputs, np.nan)
    for values, local in zip(y, locals_):
        own = np.ones(local.n_nodes, dtype=bool) if local.own is None else local.own
        assert np.isfinite(values[own]).all(), "an own node without a value"
        assert np.isnan(outputs[local.outputs.positions]).all(), "an output on two ranks"
        outputs[local.outputs.positions] = values[local.outputs.ids]
        for block, ids in local.run_ids.items():
            first, size = local.blocks[block].first, local.blocks[block].size
            kept = ~np.isin(ids, plan.changed) & (ids < tape.n_nodes)
            np.testing.assert_allclose(values[first:first + size][kept], truth[ids[kept]], rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(outputs, tape_oracle.outputs(tape, truth), rtol=0, atol=1e-13 * scale)
    assert sorted(np.concatenate([local.inputs.positions for local in locals_])) == list(range(tape.n_inputs))

    jacobian = tape_oracle.jacobian(tape, x)
    xdot, ybar = rng.standard_normal(tape.n_inputs), rng.standard_normal(tape.n_outputs)
    size = 1.0 + np.abs(jacobian).max(initial=0.0)
    tolerance = 1e-13 * size * (1 + tape.n_nodes)
    np.testing.assert_allclose(tangent(locals_, matrix, xdot, tape.n_outputs), jacobian @ xdot, rtol=0, atol=tolerance)
    np.testing.assert_allclose(adjoint(locals_, matrix, ybar, tape.n_inputs), jacobian.T @ ybar, rtol=0, atol=tolerance)
    return locals_


@given(tapes(runs=False), st.sampled_from(RANKS))
def test_array_programs(tape, n_ranks):
    reproduces(tape, n_ranks, strategy="axes", min_block=1)


@given(tapes(arrays=False), st.sampled_from(RANKS))
def test_scalar_programs(tape, n_ranks):
    reproduces(tape, n_ranks, strategy="axes", min_block=1)


@given(tapes(), st.sampled_from(RANKS), st.sampled_from(["auto", "axes", "contiguous", "fewer ranks"]), st.sampled_from([1, 12]))
def test_mixed_programs(tape, n_ranks, strategy, min_block):
    reproduces(tape, n_ranks, strategy=strategy, min_block=min_block)
