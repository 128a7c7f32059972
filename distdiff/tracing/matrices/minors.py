"""Derivatives of determinants, of every order and at every matrix: a determinant is a polynomial.

    <C_k, F> = D^(k+1) det(A)[E_1, ..., E_k, F]        C_0 the cofactors of A, <C, F> = sum_ij C_ij F_ij

which is linear in each direction and the same in any order of them, so that with C_(k+1) every derivative nests:

    Cdot_k = sum_l C_k(.., Edot_l, ..) + C_(k+1)(.., Adot)
    Ebar_l = C_k(.., Cbar for E_l, ..)                     Abar = C_(k+1)(.., Cbar)

Let A = U diag(s) V^H, P_l = U^H E_l V and P_k that of F.  Over places i_0, ..., i_k that all differ and orders o

    <C_k, F> = det U det V^H  sum_i  (prod of s_j, j none of the i)  sum_o sign(o)  prod_l P_l[i_l, i_o(l)]

in which nothing is divided by.  Where A has an inverse this is, with B_l = A^-1 E_l, det A times a sum over orders of
the signed products of the traces of their cycles.  (The case k = 0 is Jacobi's formula; cofactors by singular values:
Stewart, "On the adjugate matrix", 1998.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from math import factorial

import numpy as np

from ...errors import UnsupportedOperationError
from .shared import on_diagonal, scalar, times, transpose

MOST = 7  # directions, whose orders are (MOST + 1)!
LARGEST = 2**26  # products of singular values that are held at once


def check(k: int) -> None:
    """UnsupportedOperationError where there are more directions than derivatives are computed in."""
    if not 0 <= k <= MOST:
        raise UnsupportedOperationError(f"derivatives of det are computed up to order {MOST + 1}; this one is of order "
                                        f"{k + 1}")


def by_inverse(det: np.ndarray, inverse: np.ndarray, directions: Sequence[np.ndarray]) -> np.ndarray:
    """C_k of matrices whose determinants and inverses are given."""
    k = len(directions)
    b = [times(inverse, e) for e in directions]
    total = np.zeros(np.broadcast_shapes(inverse.shape, *(e.shape for e in directions)), inverse.dtype)
    for order, sign in _orders(k + 1):
        factor, left = scalar(det) * sign, set(range(k + 1))
        open_cycle = [inverse]  # that of F, which is the last
        at = order[k]
        left.remove(k)
        while at != k:
            left.remove(at)
            open_cycle.insert(-1, b[at])
            at = order[at]
        while left:
            first = at = left.pop()
            cycle = b[first]
            while (at := order[at]) != first:
                left.remove(at)
                cycle = times(cycle, b[at])
            factor = factor * scalar(np.trace(cycle, axis1=-2, axis2=-1))
        # <C, F> has the trace of A^-1 F B_o(k) ..., and F stands last once it is turned round
        product = open_cycle[0]
        for matrix in open_cycle[1:]:
            product = times(product, matrix)
        total = total + factor * transpose(product)
    return total


def by_singular_values(u: np.ndarray, s: np.ndarray, vh: np.ndarray, directions: Sequence[np.ndarray]) -> np.ndarray:
    """C_k of matrices U diag(s) V^H.  UnsupportedOperationError where there are too many products of their values."""
    k, n = len(directions), s.shape[-1]
    if k > 1 and n ** (k + 1) > LARGEST:
        raise UnsupportedOperationError(
            f"a derivative of order {k + 1} and more of det is wanted at a matrix of order {n} that is nearly "
            f"singular, with {n ** (k + 1)} products of {n - k - 1} singular values. Move away from that point")
    sign = np.linalg.det(u) * np.linalg.det(vh)
    p = [times(np.conj(transpose(u)), times(e, np.conj(transpose(vh)))) for e in directions]
    weights = _products_of_others(s, k + 1)
    letters = "abcdefghij"[: k + 1]
    shape = np.broadcast_shapes(s.shape[:-1], *(e.shape[:-2] for e in p))
    total = np.zeros((*shape, n, n), u.dtype)
    for order, parity in _orders(k + 1):
        terms = ",".join([f"...{letters}", *(f"...{letters[i]}{letters[order[i]]}" for i in range(k))])
        if order[k] == k:
            total = total + parity * on_diagonal(np.einsum(f"{terms}->...{letters[k]}", weights, *p))
        else:
            total = total + parity * np.einsum(f"{terms}->...{letters[k]}{letters[order[k]]}", weights, *p)
    return scalar(sign) * times(np.conj(u), times(total, np.conj(vh)))


def _orders(n: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """All orders of n things, with their signs."""
    for order in permutations(range(n)):
        swapped = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
        yield order, -1.0 if swapped % 2 else 1.0


def _products_of_others(s: np.ndarray, count: int) -> np.ndarray:
    """The products of all but `count` of s, (..., n, ..., n), by which ones; 0 where these don't all differ."""
    n = s.shape[-1]
    eye = np.eye(n, dtype=bool)
    rows = s
    for _ in range(count - 1):  # one more of them counts as 1
        rows = np.where(eye, 1.0, rows[..., None, :])
    ones = np.ones((*rows.shape[:-1], 1))
    before = np.cumprod(np.concatenate([ones, rows[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([ones, rows[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    result = before * after
    for i in range(count):
        for j in range(i + 1, count):
            result = np.where(eye.reshape([n if axis in (i, j) else 1 for axis in range(count)]), 0.0, result)
    return result


def lines(n: int, k: int) -> int:
    """Flattened lines that C_k stands for."""
    return factorial(k + 1) * 2 * n**3


__all__ = ["LARGEST", "by_inverse", "by_singular_values", "check", "lines"]
