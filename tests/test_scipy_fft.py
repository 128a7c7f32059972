"""scipy.fft traced, as `test_numpy` checks its functions; and the transposes that its transforms' adjoints are."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from numpy_cases import CONSTANTS
from scipy.fft import dct, fft, irfft, rfft
from test_numpy import check

import distdiff as dd
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing.scipy.fft import Trigonometric

NAMES = {**CONSTANTS, "fft": scipy.fft, "bound": fft, "bound_dct": dct, "bound_rfft": rfft, "bound_irfft": irfft}

CASES = """
fft.fft(u), fft.ifft(u + 1j * c), fft.fft(1j * u, 4), fft.ifft(m, axis=0, norm="ortho"), bound(u)
fft.rfft(u), fft.rfft(m, 5, 0, "forward"), fft.irfft(u + 1j * c), fft.irfft(u, 7), bound_irfft(bound_rfft(u) * 1j, 6)
fft.hfft(u + 1j * c), fft.hfft(u, 7, norm="ortho"), fft.ihfft(u), fft.ihfft(m, axis=0)
fft.fft2(m), fft.ifft2(1j * m), fft.rfft2(m), fft.irfft2(m + 1j * C), fft.irfft2(m, (3, 5), workers=1)
fft.fftn(t), fft.ifftn(t, axes=(0, 2)), fft.rfftn(t, axes=[0]), fft.irfftn(t + 1j), fft.fftn(m, axes=1), fft.fftn(m, 3)
fft.fft(u, overwrite_x=True) + u, fft.fftshift(fft.fft(u)), fft.fftfreq(6)[1] * fft.rfftfreq(6)[1] * u
fft.dct(u), fft.dct(m, axis=0), fft.dct(u, 1), fft.dct(u, 3), fft.dct(u, 4), bound_dct(u, 2, 4), fft.dct(u, n=9)
fft.dct(u, norm="ortho"), fft.dct(u, 1, norm="ortho"), fft.dct(u, 3, norm="forward"), fft.dct(m, 4, norm="ortho")
fft.idct(u), fft.idct(u, 1), fft.idct(u, 3), fft.idct(u, 4), fft.idct(u, norm="ortho"), fft.idct(m, 2, 3, 0, "forward")
fft.dst(u), fft.dst(m, axis=0), fft.dst(u, 1), fft.dst(u, 3), fft.dst(u, 4), fft.dst(u, 2, 4), fft.dst(u, 3, n=9)
fft.dst(u, norm="ortho"), fft.dst(u, 1, norm="ortho"), fft.dst(u, 3, norm="forward"), fft.dst(m, 4, norm="ortho")
fft.idst(u), fft.idst(u, 1), fft.idst(u, 3), fft.idst(u, 4), fft.idst(u, norm="ortho"), fft.idst(m, 2, 3, 0, "forward")
fft.dctn(m), fft.idctn(t, 3, axes=(0, 2)), fft.dstn(m, norm="ortho"), fft.idstn(t, s=(2, 2)), fft.dctn(m, axes=1)
fft.dct(u + 1j * c), fft.idstn(1j * m, norm="forward")
fft.idct(fft.dct(u) * np.exp(-s * np.arange(6.0) ** 2))
""".strip().splitlines()


@pytest.mark.parametrize("case", CASES)
def test_as_scipy(case):
    check("~" + case, constants=NAMES, layouts=False)


@pytest.mark.parametrize("function", ["dct", "dst"])
@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [2, 5, 8])
def test_adjoints(function, kind, norm, n):
    op = Trigonometric(function, kind, n, norm)
    matrix = getattr(scipy.fft, function)(np.eye(n), kind, axis=0, norm=norm)
    w = np.cos(np.arange(n) + 0.3)
    np.testing.assert_allclose(op.adjoint([None], [None], [w], [True])[0], matrix.T @ w, rtol=1e-12, atol=1e-13)


def test_files_and_refusals(tmp_path):
    u = np.array([0.9, 1.7, 0.4, 1.3])
    dd.trace(lambda u: np.sum(dct(u) ** 3), u).save(tmp_path / "f.tape")
    np.testing.assert_allclose(dd.grad(dd.load(tmp_path / "f.tape"))(u), dd.grad(lambda u: np.sum(dct(u) ** 3))(u))
    with pytest.raises(UnsupportedOperationError, match="orthogonalize"):
        dd.grad(lambda u: np.sum(dct(u, orthogonalize=True)))(u)
