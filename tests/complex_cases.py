"""Complex numbers in between, real arguments and results: cases as in `numpy_cases`, whose machinery runs them.

A complex result is compared and differentiated as its two parts.  Values are NumPy's to rounding only: it uses fused
multiplications and formulas of its own.
"""

from __future__ import annotations

ARITHMETIC = """
~1j * u + c
~(u + 1j * c) * (c - 1j * u[::-1]) + (u + 1j * c) * u - u * (1j * c) + 2.0 * (1j * u) - (u - 2j) * 1.5
~(u + 1j * c) / (c - 1j * u[::-1]) + (u + 1j * c) / u - u / (1j * u + c) + 2.0 / (1j * u) - (u - 2j) / (1.5 - 1j)
~(u + 1j * c) / 2j + (u + 2j) / c + 1j / (u + 1j) + (u * 1j) / (c * 1j + 0.5) + c / (1j * u)
~z = u + 1j * u[::-1]; return z ** 2 + z ** 3 - z ** -2 + z ** 0 + z ** 1 + z ** 5.0 + z ** 0.5 + z ** -1
~z = u + 1j * u[::-1]; return z ** 1.7 + z ** (0.3 + 0.2j) + z ** z + 2.0 ** z + c ** z + z ** c + u ** (1j * c)
~z = c - 1j * u; return np.power(z, 2.5) + np.float_power(z, 1.5) + np.square(z) + np.reciprocal(z) + np.sqrt(z)
~z = c - 1j * u; return -z + +z + np.positive(z) + np.negative(z) - np.conj(z) * np.conjugate(z)
~z = c - 1j * u; return z.conj() * z.conjugate()
~z = c - 1j * u; return abs(z) + np.abs(z) + np.absolute(z) + np.abs(1j * u)
~z = c - 1j * u; return np.abs(u + 0j) + np.angle(z) + np.angle(z, True)
~z = c - 1j * u; return z.real * z.imag + np.real(z) + np.imag(z)
~z = c - 1j * u; return np.angle(1j * u) + np.angle(u + 0j) + np.angle(-u + 0j)
~z = c - 1j * u; return z.real + 0, z.imag * 1, np.real(z) * 2, np.imag(1j * u) + 0, (u + 0j).imag + 1
z = 1j * u; return z * 1j + 0.0, z * -1.0, 2j * z, z.real + 1.0
~z = u + 1j * u; z += u; z *= 2j; z -= 1; z /= (c + 1j * u); z **= 2; return z
~z = u * (1.0 + 0j); z += 1j * s; return z * (s + 1j * r) + s * 1j
~(u > 1) * 1j + (u + 1j) * (c > 1) + B * (1j * u) + (1j * u > 0).any() if False else (u > 1) * 1j + B * (1j * u)
~m * 1j + w - (m + 1j * C) * w[::-1] * (1 + 1j * w)
~(m + 1j * C).T * (1j * m[:, :1]).T + 1j * m.T
~np.add(1j * u, c) + np.subtract(c, 1j * u) * np.multiply(1j * u, u) / np.divide(u, 2 + 1j * u) + np.true_divide(1j, u)
u.astype(complex) + u.astype(np.complex128) * 1j + np.array(u, dtype=complex) + np.asarray(u, dtype=complex)
~(u + 0j).astype(complex) * 1j + (1j * u).copy() + np.copy(1j * u) + np.positive(1j * u)
~np.sign(u - 1 + 1j * c) + np.rint(3 * u + 1j * u) + np.round(u + 1j * c * u, 1) + np.around(1j * u)
"""

FUNCTIONS = """
~np.exp(1j * u) + np.exp(u + 1j * c) + np.exp(u + 0j)
~np.exp2(u - 1j * c) + np.expm1(u + 1j * u * c) + np.expm1(0.01j * u)
~np.log(u + 1j * c) + np.log(-u + 1j * u) + np.log(u + 0j) + np.log(-u + 0j)
~np.log2(u - 2j) + np.log10(c - 1j * u) + np.log1p(1j * u)
~np.sqrt(u + 1j * c) + np.sqrt(-u + 1j * c) + np.sqrt(-u - 1j * c)
~np.sqrt(1j * u) + np.sqrt(-u + 0j) + np.sqrt(u + 0j)
~np.sqrt(np.conj(-u + 0j)) + np.log(np.conj(-u + 0j)) + np.angle(np.conj(-u + 0j))
~np.sin(u + 1j * c) + np.cos(u - 1j * c) + np.tan(u + 1j * c)
~np.sin(1j * u) + np.cos(1j * u) + np.tan(1j * u) + np.tan(u + 0j)
~np.sinh(u + 1j * c) + np.cosh(u - 1j * c) + np.tanh(u + 1j * c) + np.sinh(1j * u) + np.cosh(1j * u) + np.tanh(1j * u)
~np.arcsin(u + 1j * c) + np.arcsin(-u - 1j * c) + np.arcsin(1j * u) + np.arcsin(u + 1 + 0j) + np.arcsin(-u - 1 + 0j)
~np.arccos(u + 1j * c) + np.arccos(-u - 1j * c) + np.arccos(1j * u) + np.arccos(u + 1 + 0j) + np.arccos(-u - 1 + 0j)
~np.arctan(u + 1j * c) + np.arctan(-u - 1j * c) + np.arctan(0.3j * u) + np.arctan(1 + 1j * u) + np.arctan(u - 2j)
~np.arcsinh(u + 1j * c) + np.arcsinh(-u - 1j * c) + np.arcsinh(0.3j * u) + np.arcsinh(1 + 1j * u) + np.arcsinh(4j * u)
~np.arccosh(u + 1j * c) + np.arccosh(-u - 1j * c) + np.arccosh(0.3 * u + 0j) + np.arccosh(-1 - u + 0j)
~np.arctanh(u + 1j * c) + np.arctanh(-u - 1j * c) + np.arctanh(0.3 * u + 0j)
~np.arctanh(1 + u + 0j) + np.arctanh(-1 - u + 0j)
~np.vectorize(lambda x: x * 1j if x > 1 else x + 0j)(u), np.vectorize(lambda z: z * z + s)(1j * u)
~np.apply_along_axis(np.fft.fft, 0, m), np.apply_along_axis(lambda v: [v[0], 1j * v[1]], 1, m)
~np.sinc(u + 1j * c) + np.nan_to_num(1j * u + nan) + np.nan_to_num(1j * (u + nan))
np.equal(u + 1j, u) * u + np.not_equal(1j * u, c) + ((1j * u) == (1j * u)) + ((1j * u) != c) * u
np.isfinite(1j * u) * u + np.isnan(1j * u + nan) + np.isinf(1j * u)
np.isreal(1j * u) + np.iscomplex(1j * u + 1) + np.isreal(u + 0j)
np.iscomplexobj(1j * u) * u + np.isrealobj(1j * u) + np.ndim(1j * u) + np.shape(1j * m)[0] + np.size(1j * u)
np.logical_and(1j * u, u) * u + np.logical_or(1j * u, u > 1) + np.logical_not(1j * u) + np.logical_xor(1j * u, 0.0)
np.isclose(1j * u, 1j * c) * u + np.allclose(1j * u, 1j * u)
np.array_equal(1j * u, u) + np.array_equiv(1j * u, 1j * u)
np.real_if_close(u + 0j) * 2 + np.real_if_close(u + 1e-18j)
~np.where(u > 1, 1j * u, c) + np.where(B, u, 2j) + np.where(u > 1, u + 1j, 1j * c) + np.where(s > 0, 1j * s, r)
~np.select([u > 1, u > 0.5], [1j * u, u], 2j) + np.choose([0, 1, 0, 1, 1, 0], [1j * u, c])
~np.interp(k, c.cumsum(), 1j * u + c) + np.interp(0.7, c.cumsum(), np.exp(1j * u))
np.result_type(1j * u, u) == complex and (1j * u).dtype == complex and u * ((1j * m).nbytes + (1j * m).ndim)
np.can_cast((1j * u).dtype, float) * u + isinstance(1j * u, np.ndarray)
len(1j * m) + np.ndim(1j * s) + np.isscalar(1j * s)
"""

FORMS = """
~o = np.zeros(6, complex); np.multiply(u, 1j, out=o); y = np.exp(o, out=o); return o + y
~o = np.zeros(6, complex); np.add(u, c, out=o); np.log(o, out=o, where=B); return o
~o = np.empty(6, dtype=complex); np.sqrt(2 * u - 3 + 0j, o); return o * 2
~np.sqrt(1j * u, where=B, out=np.ones(6, complex)) + np.divide(1j, u, where=u > 1, out=np.full(6, 2j))
~np.add.reduce(1j * u) + np.add.reduce(m + 1j * C, axis=1)
~np.multiply.reduce(m + 1j * C, axis=1) + np.add.reduce(1j * m, axis=(0, 1), keepdims=True)[0]
~np.add.accumulate(u + 1j * c) + np.multiply.accumulate(u + 1j * c)
~np.add.outer(1j * u, w) + np.multiply.outer(u, 1j * w) + np.subtract.outer(u, w * 1j)
~z = 1j * u; np.add.at(z, [0, 1, 0], s); np.subtract.at(z, [2, 2], 1j * u[:2]); return z
~z = u + 1j * c; y = z[1:]; np.multiply(z[:-1], 2j, out=y); return z
"""

REDUCTIONS = """
~np.sum(1j * u) + np.sum(m + 1j * C, axis=0)[0]
~np.sum(m + 1j * C, 1, keepdims=True) + (1j * m).sum() + (1j * m).sum(axis=(0, 1))
~np.sum(m * 1j, axis=1, where=M) + np.sum(m + 1j, axis=1, initial=2j) + np.sum(1j * m, axis=1, dtype=complex)
~np.mean(1j * u) + np.mean(m + 1j * C, axis=1)
~(m * 1j).mean(axis=0, keepdims=True)[0, 0] + np.mean(1j * m, axis=1, where=M)
~np.prod(u + 1j * c) + np.prod(m + 1j * C, axis=1)
~(m + 1j).prod(axis=0, keepdims=True)[0, 0] + np.prod(m + 1j, axis=1, where=M, initial=2j)
~np.cumsum(u + 1j * c) + np.cumprod(u + 1j * c) + (1j * u).cumsum() + (c + 1j * u).cumprod()
~np.cumsum(m + 1j * C, axis=1) + np.cumprod(m + 1j * C, axis=0)
~np.var(u + 1j * c) + np.var(m + 1j * C * m, axis=1)
~np.std(m + 1j * C * m, axis=1, ddof=1) + (m * 1j + C).std() + (1j * m).var(axis=0)[0]
~np.trace(q + 1j * q.T) + (1j * q).trace(1) + np.average(1j * u + c)
~o = np.zeros(3); np.var(m + 1j * C, axis=1, out=o); p = np.zeros(3); np.std(1j * m, 1, None, p, 1); return o + p
~np.average(u + 1j * c, weights=u, returned=True)[0] * np.average(1j * u, weights=c, returned=True)[1]
~np.average(m + 1j * C, axis=1, weights=w, keepdims=True) + np.average(1j * m, 1, returned=True)[1]
~np.var(m + 1j * C, axis=(0, 1), keepdims=True) + np.std(m * 1j, where=M, axis=1, keepdims=True)
~np.nan_to_num(((1.0 + 1j * s) * 2.0).imag, posinf=2.0) * u
~np.pad(u + 1j * c, 2, "linear_ramp", end_values=(1 + 2j, 0.5)) + np.pad(1j * u, (1, 3), "linear_ramp", end_values=5.0)
~z = u[0] * np.exp(1j); return z[()] * 2 + z[None, ...][0] * z
~np.average(1j * u, weights=c) + np.average(1j * m, axis=1, weights=w)[0]
~np.linalg.norm(u + 1j * c) + np.linalg.norm(m + 1j * C, axis=1)
~np.linalg.norm(m + 1j * C) + np.linalg.norm(1j * u, 1) + np.linalg.norm(1j * u, np.inf)
~np.linalg.norm(1j * m + C, 1) + np.linalg.norm(1j * m + C, "fro")
~np.linalg.norm(u + 1j * c, 3) + np.linalg.norm(1j * m, axis=0, keepdims=True)
np.any(1j * m, axis=1) * w[:3] + np.all(1j * m) + np.count_nonzero(1j * m)
(1j * m).any() + (1j * m).all() + np.nonzero(1j * u)[0][1]
~np.diff(u + 1j * c) + np.diff(1j * u, prepend=1j)[1:] + np.diff(1j * m, axis=0)[0, 0] + np.ediff1d(1j * u)
~np.gradient(u + 1j * c) + np.gradient(1j * u, 0.5) + trapz(1j * m, axis=1)[0] + trapz(1j * u, dx=0.5)
~sum(1j * u) + sum([1j * x for x in u]) + np.sum([1j * s, r]) + np.mean([1j * s, s])
"""

PRODUCTS = """
~np.matmul(m + 1j * C, m - 2j, axes=[(1, 0), (0, 1), (0, 1)])
~np.sinc(1j * (u - 0.9137))
~np.abs(np.fft.fft(u - 0.9137)) ** 2 + np.abs(np.fft.rfft(u - u + s)[0] + 1j * (u - 0.9137)) ** 2
~np.square(np.abs((u - 0.9137) + 1j * (u - 0.9137))) + np.power(abs((u - 0.9137) * 1j), 2)
~z = 1j * u - 0.1j + c - 0.4; a = np.abs(z); z *= 2.0; b = np.abs(z); z += 1.0; return a ** 2 + b ** 2 + a + np.abs(z)
~z = 1j * u + u; a = np.abs(z); z[0] = 5.0; b = np.abs(u - 0.5); u[[1, 0]] = u[:2] * 2.0; return a ** 2 + b ** 2
~np.dot(m + 1j * C, w) + np.dot(m, 1j * w) + np.dot(C * 1j, w) + (m + 1j * C) @ (w - 1j) + np.matmul(m * 1j, w)
~np.dot(1j * m, m.T) + (m + 1j * C) @ (C.T * 1j) + m @ (C.T + 1j) + C @ (m.T * 1j) + (1j * C) @ m.T
~(m + 1j * C).dot(w) + np.dot(1j * u, c) + np.inner(u + 1j * c, u)
~np.inner(m + 1j * C, m * 1j)[0, 0] + np.dot(1j * s, m)[:, 0]
~np.vdot(u + 1j * c, c - 1j * u) + np.vdot(1j * m, C) + np.vdot(C, 1j * m) + np.vdot(u, 1j * c)
~np.outer(u + 1j * c, w) + np.outer(u, 1j * w)
~np.kron(1j * u, w).reshape(6, 4) + np.kron(u + 1j, w + 1j * w).reshape(6, 4)
~np.tensordot(m + 1j * C, m, 2) + np.tensordot(m, 1j * C, ([1], [1])) + np.tensordot(1j * m, w, 1).sum()
~np.einsum("ij,kj->ik", m + 1j * C, m) + np.einsum("ij,kj,j->ik", m, 1j * C, w + 1j)
~np.einsum("ij->i", 1j * m) + np.einsum("ij,ij", m, 1j * C)
~np.einsum("ii->i", q + 1j * q.T) + np.einsum("ij,j", 1j * q, q[0] + 2j)
~np.convolve(u + 1j * c, w) + np.convolve(u, 1j * w)
~np.correlate(u + 1j * c, w, "full") + np.correlate(u, 1j * w, "full")
~np.poly(u[:3] + 1j * c[:3]) + np.poly([1j * s, 2.0, r])
~np.poly([s + 1j * r, s - 1j * r, s]) * 2.0
~np.poly(q + 1j * q.T) + np.poly(np.array([[s, 1j * r], [-1j * r, s]]))[0]
~np.cross(q + 1j, q[::-1] * 1j) + np.linalg.multi_dot([q, 1j * q, q + 1j]) + np.linalg.matrix_power(q + 1j * q.T, 3)
~q @ (t[:, :2] * 1j).sum() if False else (1j * t) @ (t.swapaxes(1, 2) + 1j) + np.matmul(t, 1j * t.swapaxes(-1, -2))
"""

MOVEMENT = """
(1j * m + C).T + 0, (1j * m).reshape(2, 6) + 0, np.reshape(1j * m, -1) + 0, (1j * m).ravel() + 0, (1j * m).flatten()
np.transpose(1j * t, (2, 0, 1)) + 0, np.swapaxes(1j * t, 0, 1) + 0
np.moveaxis(1j * t, 0, -1) + 0, (1j * t).transpose() + 0
np.concatenate([1j * u, c, u, np.array([1j])]), np.stack([1j * u, u]), np.vstack([u, 1j * c]), np.hstack([1j * u, [2j]])
np.column_stack([u, 1j * u]), np.dstack([1j * u, u]), np.block([[1j * q, q], [q, q * 0]]), np.append(1j * u, w)
np.roll(1j * u + c, 2), np.roll(1j * m, 1, axis=0), np.tile(1j * u, 2), np.repeat(1j * u, 2), np.flip(1j * m, 0) + 0
np.pad(1j * u, 2), np.pad(u + 1j, (1, 2), mode="wrap")
np.pad(1j * u, 1, constant_values=2j), np.pad(1j * m, 1, mode="edge")
~np.sort_complex((u + 1j * c)[::-1] * np.exp(1j * u)), np.sort(m[::-1] + 1j * m, axis=0)
np.sort(m * 1j - 2j, axis=None)
np.argsort(1j * u) * u + (1j * u - 1).argsort()
z = m * 1j + C; z.sort(1); return z
np.take(1j * u, [0, 2, 2]), (1j * m).take(I, axis=1)
np.take_along_axis(1j * m, np.argsort(m, 1), 1), np.compress(B, 1j * u)
np.expand_dims(1j * u, 0) + 0, np.squeeze((1j * u)[None]) + 0
np.atleast_2d(1j * u) + 0, np.broadcast_to(1j * u, (2, 6)) + 0
np.split(1j * u, 3)[1] + 0, np.array_split(1j * u, 4)[0] + 0
np.diag(1j * q) + 0, np.diag(1j * u), np.tril(1j * q), np.triu(q + 1j, 1)
np.delete(1j * u, 1), np.insert(1j * u, 1, 2j), np.rot90(1j * m) + 0, np.fliplr(1j * m) + 0, np.diagonal(1j * q) + 0
np.broadcast_arrays(1j * u, s)[1] + 0, np.meshgrid(1j * u, w)[0], np.r_[1j * u, s], np.c_[1j * u, c]
np.fft.fftshift(1j * u), np.fft.ifftshift(u + 1j * c), np.fft.fftshift(1j * m, axes=0)
(1j * u)[1:4] + 0, (1j * u)[::-2] + 0, (1j * m)[:, 1] + 0
(1j * m)[1, 2], (1j * u)[-1], (1j * m)[..., None] + 0, (1j * m)[1] + 0
(1j * u)[I], (1j * m)[I[:2], I[1:3]], (1j * u)[B], (1j * u)[u > 1], (1j * m)[M], (1j * m)[np.ix_([0, 2], [1, 3])]
[x * 2 for x in 1j * u][2], (1j * u).tolist()[1], (1j * u).item(2), (1j * s).real + (1j * s).imag, list(1j * m)[1] + 0
"""

WRITES = """
z = np.zeros(6, dtype=complex); z[2:] = u[:4]; z[0] = 1j * s; z[1] = r; return z
z = np.zeros((3, 4), dtype=complex); z[1] = 1j * w; z[:, 2] = m[:, 0]; z.T[0] = 2j; return z, z.real + 0, z.imag + 0
z = np.empty(6, complex); z.real = u; z.imag = c; z.real[0] = s; z.imag[1:3] = u[:2]; return z
z = 1j * u; z[1] = s; z[2:4] = 1j * z[:2]; z[-1] = 2.0; return z
~z = 1j * u; y = z[::2]; y *= 1 + 1j; np.add(y, 1, out=y); z[1::2] = y; return z
z = 1j * u; y = z.real; y[:] = c; v = z.imag; v += 1; z.real[z.imag > 2] = 0; return z
z = 1j * u; z[z.imag > 1] = 0; z[[0, 1]] = [s, 1j * r]; z[B] += 1; return z
z = 1j * m; y = z.reshape(4, 3); y[1] = u[:3]; z.T[0] = 1j * w[:3]; return z, y + 0
z = 1j * m; z[:, 1:] = z[:, :-1]; z[0], z[1] = z[1].copy(), z[0].copy(); return z
z = u + 1j * c; z[1:] = z[:-1] + 0; z[::-1][0] = s; np.copyto(z[2:4], u[:2]); np.put(z, [0], 1j * s); return z
z = 1j * q; np.fill_diagonal(z, s); z[np.triu_indices(3, 1)] = 2j; return z
z = np.zeros(6); z[:] = u; y = z + 1j * z; z[0] = s; y[1] = z[0]; return y, z
z = np.zeros(6, complex); z += u; z *= 1j; z[1:] -= c[1:]; return z
z = np.ones_like(1j * u); z[0] = s; y = np.zeros_like(1j * u); y[1] = 1j * s; x = np.full_like(1j * u, 1j * s); return z
z = np.ones_like(1j * u); z[0] = s; y = np.zeros_like(1j * u); y[1] = 1j * s; x = np.full_like(1j * u, 1j * s); return y
z = np.ones_like(1j * u); z[0] = s; y = np.zeros_like(1j * u); y[1] = 1j * s; x = np.full_like(1j * u, 1j * s); return x
z = np.zeros_like(u, dtype=complex); z[1] = s; x = np.full(6, 1j * s); x[0] = r; return z, x
y = np.empty_like(1j * u); y[:] = u; x = np.full((2, 2), u[0], dtype=complex); x[0, 1] = 1j * r; return y, x
z = np.array([1j * s, r, 2.0]); z[1] = 1j * s; y = np.array([[1j * s, 1.0], [s, 2j]]); return z, y, np.asarray(z) + 0
z = np.zeros(6, complex); z[:3] = u[:3]; y = np.conj(z); y[0] = 2; return z, y
z = 1j * u; z.fill(s); y = z.copy(); y[0] = 1j * r; return z, y
z = np.zeros((2, 3), complex); z.real[0] = u[:3]; z.imag.T[1] = s; return z
z = np.exp(1j * np.linspace(0, 1, 6)); z[1] = s; return z
z = np.zeros(6, complex); z.flat = u; z.flat[2] = 1j * s; return z
"""

PYTHON = """
~z = 0j; c0 = s * 0.3 + 0.2j * r; [z := z * z + c0 for _ in range(6)]; return abs(z), z.real, z
~z = s + 1j * r; return z + 1, 1 - z, z * 2j, 1j / z, z / (1 + 1j), z ** 2
~z = s + 1j * r; return z ** 1.5, 2 ** z, -z, +z, abs(z), z.conjugate()
~z = s + 1j * r; return np.exp(z), np.sqrt(z), np.log(z), np.sin(z), np.abs(z)
~z = s + 1j * r; return np.angle(z), np.conj(z), np.real(z), np.tanh(z)
~z = s + 1j * r; return z * u, u * z, u + z, u / z, z / u, z - u, u ** z, z * (1j * u), (1j * u) ** 2 - z
~z = s + 1j * r; z += 1; z *= z; z -= 2j; z /= 1 + s * 1j; return z if z != 0 else 0j
~z = s * 1j; return z * z + z, (z == 1j * s) * s, z.real + 1.0, z.imag
~z = s * 1j; return complex(2, 1) * z, np.complex128(1 + 2j) * z, z * np.float64(2)
~[abs(x) for x in np.exp(1j * u)][1] + np.prod([1j * s, s, 2]) + sum(x * x for x in 1j * u)
~p = [1.0, s, r]; z = np.exp(1j * u); return np.polyval(p, z) + ((z + 1) * z + s)
"""

FOURIER = """
~np.fft.fft(u), np.fft.ifft(u), np.fft.fft(u + 1j * c), np.fft.ifft(1j * u), np.fft.fft(1j * u[:5])
~np.fft.fft(u, 4), np.fft.fft(u, 9), np.fft.ifft(u + 1j * c, 4), np.fft.ifft(u, n=8), np.fft.fft(1j * u, 1)
~np.fft.fft(u, norm="ortho"), np.fft.fft(u + 1j * c, norm="forward"), np.fft.ifft(u, norm="ortho")
~np.fft.ifft(1j * u, norm="forward"), np.fft.fft(u, norm="backward")
~np.fft.fft(m), np.fft.fft(m + 1j * C, axis=0), np.fft.ifft(m * 1j, axis=0)
~np.fft.ifft(t, axis=1), np.fft.fft(t, 4, 1, "ortho"), np.fft.fft(m.T)
~np.fft.rfft(u), np.fft.rfft(u, 4), np.fft.rfft(u, 9), np.fft.rfft(u[:5])
~np.fft.rfft(u, norm="ortho"), np.fft.rfft(u, norm="forward")
~np.fft.rfft(m), np.fft.rfft(m, axis=0), np.fft.rfft(m.T)
~np.fft.rfft(t, axis=1), np.fft.rfft(t, 5, 1, "ortho"), np.fft.rfft(u, 1)
~np.fft.irfft(u), np.fft.irfft(u + 1j * c), np.fft.irfft(u + 1j * c, 9)
~np.fft.irfft(1j * u, 11), np.fft.irfft(u + 1j * c, 5), np.fft.irfft(1j * u, 4)
~np.fft.irfft(u + 1j * c, norm="ortho"), np.fft.irfft(u + 1j * c, norm="forward")
~np.fft.irfft(m + 1j * C, axis=0), np.fft.irfft(1j * m, 5), np.fft.irfft(m.T)
~np.fft.hfft(u + 1j * c), np.fft.hfft(u), np.fft.hfft(u + 1j * c, 7, norm="ortho")
~np.fft.hfft(m * 1j, axis=0, norm="forward")
~np.fft.ihfft(u), np.fft.ihfft(u, 5), np.fft.ihfft(m, axis=0, norm="ortho"), np.fft.ihfft(u, norm="forward")
~np.fft.fft2(m), np.fft.fft2(m + 1j * C), np.fft.ifft2(m * 1j)
~np.fft.fft2(m, (2, 5)), np.fft.ifft2(m, norm="ortho"), np.fft.fft2(t)
~np.fft.fft2(t, axes=(0, 1)), np.fft.ifft2(t * 1j, axes=(2, 0)), np.fft.fft2(m.T)
~np.fft.fftn(t), np.fft.fftn(t * 1j, axes=(1,)), np.fft.ifftn(t + 1j * t ** 2)
~np.fft.fftn(t, (3, 2), axes=(0, 1), norm="ortho"), np.fft.fftn(u)
~np.fft.ifftn(m, (2, 3)), np.fft.fftn(m, axes=(0, 0)), np.fft.ifftn(t, norm="forward")
~np.fft.rfft2(m), np.fft.rfft2(m, (2, 5)), np.fft.rfft2(t, axes=(0, 1)), np.fft.rfftn(t)
~np.fft.rfftn(t, (3, 3), (0, 1), "ortho"), np.fft.rfftn(t, axes=(2, 0))
~np.fft.irfft2(m + 1j * C), np.fft.irfft2(m, (3, 5)), np.fft.irfft2(t * 1j, axes=(0, 1))
~np.fft.irfftn(t + 1j), np.fft.irfftn(m + 1j * C, (2, 7), norm="ortho")
~np.fft.irfftn(t * 1j, axes=(1, 0)), np.fft.irfft2(m * 1j, norm="forward"), np.fft.irfftn(t, axes=(1,))
~np.fft.irfft(np.fft.rfft(u) * (1j * np.fft.rfftfreq(6)) ** 2)
~np.fft.ifft(np.fft.fft(u) * 1j * np.fft.fftfreq(6)).real + 0
~v = np.fft.rfft(m); return np.fft.irfft(v * v.conj(), 4), np.abs(v) ** 2 + 0, np.fft.fftfreq(6, s)[1] * u
~np.fft.fft([s, r, 1.0]), np.fft.irfft([1j * s, r, 2.0]), np.fft.fft2([[s, 1.0], [r, 2j]])
~z = np.fft.fft(u); z[3:] = 0; z[0] *= 2j; return np.fft.ifft(z).real + 0, np.fft.ifft(z)
~np.fft.ifft2(np.fft.fft2(m) * np.exp(-1j * s * np.fft.fftfreq(4))).real + 0
"""

ORDER = """
z = m + 1j * C; return np.max(z), np.min(z, axis=0), np.amax(z, axis=-1, keepdims=True)
z = m + 1j * C; return np.amin(z, (0, 1), keepdims=True), np.max(z.T, 1)
z = np.round(m) + 1j * m; return np.max(z) + z.max(0), np.min(z, axis=1) + z.min(-1), np.ptp(z), np.ptp(z, axis=0)
z = m + 1j * C; return np.max(z, axis=0, initial=1.2), np.min(z, where=M, initial=3j), np.maximum.reduce(z), z.ptp(1)
z = u * 1j + c; return np.argmax(z) * u + z.argmin() * c * 1j, np.argmax(m * 1j, axis=0, keepdims=True) * m
z = u * 1j + 1; return np.argmax(s + 1j * r) * z, np.max(s + 1j * r) + np.min(s * 1j)
z = u * 1j + 1; return np.argmin(z, -1) * z, np.argsort(np.array(s * 1j)) * s
z = u + 1j * c; return np.maximum(z, 1.1), np.minimum(z, z[::-1]), np.fmax(1 + 1j * u, 1 + 1j)
z = u + 1j * c; return np.fmin(z, s), np.clip(z, 0.7, 1.2)
z = u + 1j * c; return z[z > 1], (z >= z[::-1]) * z, (z < 1 + 1j) * z, np.where(1j * u <= 1j, z, r), np.any(z > s) * z
z = u + 1j * c; return np.fmax(z + nan, 0.5), np.fmin(0.5j * u, z + nan), np.isin(z, [z[1], 1j]) * z
"""

STATISTICS = """
~np.cov(m + 1j * C), np.cov(m * 1j, rowvar=False), np.cov(u + 1j * c, 1j * u, bias=True), np.cov(1j * u + c ** 2)
~np.cov(m + 1j * C, fweights=[1, 2, 1, 3], aweights=w), np.cov(m + 1j * C, ddof=0)
~np.corrcoef(m + 1j * C ** 2), np.corrcoef(u + 1j * c, c)
~z = m + N + 1j * C; return np.nansum(z), np.nansum(z, axis=0), np.nancumsum(z, axis=1), np.nansum(z, 1, keepdims=True)
~z = m + N + 1j * C; return np.nanprod(z), np.nanprod(z, axis=0), np.nancumprod(z, axis=1), np.nanmean(z, axis=1)
~z = m + N + 1j * C; return np.nanmean(z), np.nanvar(z), np.nanstd(z, axis=0), np.nanvar(z, 1, ddof=1, keepdims=True)
np.linspace(u + 1j * c, 1, 3), np.linspace(0, 1j * s, 4, axis=-1), np.linspace(s, stop=1j, num=3, endpoint=False)
~np.logspace(s * 1j, 1, 3), np.logspace(0, u * 1j, 2, base=2.0), np.resize(m * 1j, (2, 7)), np.cumsum(s * 1j, 0)
"""

SECTIONS = {"complex arithmetic": ARITHMETIC, "complex functions": FUNCTIONS, "complex ufunc forms": FORMS,
            "complex reductions": REDUCTIONS, "complex products": PRODUCTS, "complex movement": MOVEMENT,
            "complex writes": WRITES, "complex scalars": PYTHON, "Fourier transforms": FOURIER,
            "complex order": ORDER, "complex statistics": STATISTICS}
