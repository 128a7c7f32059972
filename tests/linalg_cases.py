"""Linear algebra as NumPy programs write it, in the form of `numpy_cases`.

Values are LAPACK's in another order of operations, so all are equal to rounding only.  The batches of 24 matrices are
many enough to be eliminated side by side.
"""

SOLVES = """
~np.linalg.solve(np.ones((0, 0)), u[:0]).sum() + np.linalg.solve(np.ones((2, 0, 0)), np.ones((2, 0, 1)) * s).sum() + s
~np.linalg.solve(u[:0].reshape(0, 0), m[:0]).sum() + np.linalg.lstsq(np.ones((3, 0)), w[:3], None)[0].sum() + s
~np.linalg.solve(q, w[:3]) + np.linalg.solve(q, np.ones(3)) + np.linalg.solve(np.eye(3) * 2 + 1, w[:3])
~np.linalg.solve(q, m) + np.linalg.solve(q.T, m) * np.linalg.solve(np.array(q), np.ones((3, 4)))
~np.linalg.solve(t @ np.swapaxes(t, 1, 2) + q, m[None, :, :2])
~np.linalg.solve(q, np.swapaxes(t, 1, 2)[:, :, :3].reshape(2, 2, 3).transpose(0, 2, 1))
~np.linalg.solve(np.multiply.outer(u, w)[..., None, None] + 2 * q, np.multiply.outer(w, u).T[..., None, None] * m)
~np.linalg.solve(np.eye(9) * 4 + np.kron(q, q), np.kron(w[:3], w[:3]) + np.arange(9.0))
~np.linalg.inv(q) + np.linalg.inv(q.T) + np.linalg.inv(q @ q) * s
~np.linalg.inv(t @ np.swapaxes(t, 1, 2) + 2 * np.eye(3))
~np.linalg.inv(np.multiply.outer(u, w)[..., None, None] + 2 * q)
~np.linalg.det(q) * np.linalg.det(np.ones((1, 1)) * s) + np.linalg.det(np.array([[s, 1.0], [r, 2.0]]))
~np.linalg.det(t @ np.swapaxes(t, 1, 2) + 2 * np.eye(3)) + np.linalg.det(m @ m.T)
~np.linalg.det(np.multiply.outer(u, w)[..., None, None] + 2 * q)
~np.linalg.det(np.eye(9) + 0.2 * np.kron(q, q))
~np.linalg.slogdet(q) + np.linalg.slogdet(-q)
~np.linalg.slogdet(t @ np.swapaxes(t, 1, 2) + 2 * np.eye(3))[1] + np.linalg.slogdet(-q)[0]
~np.linalg.slogdet(np.multiply.outer(u, w)[..., None, None] + 2 * q)[1]
~np.linalg.cholesky(m @ m.T) + np.linalg.cholesky(q + 3 * np.eye(3))
~np.linalg.cholesky(t @ np.swapaxes(t, 1, 2) + 2 * np.eye(3))
~np.linalg.cholesky(np.multiply.outer(u, w)[..., None, None] * m @ m.T + 2 * q)
~np.linalg.cholesky(np.eye(9) * 8 + np.kron(q, q.T))
~np.linalg.cholesky(np.kron(q, q) @ np.kron(q, q).T)[8] * s
~np.linalg.matrix_power(q, -3) + np.linalg.matrix_power(q, -1)
~np.linalg.tensorsolve(np.reshape(np.kron(q, q), (9, 3, 3)), np.kron(u[:3], w[:3]))
~np.linalg.tensorsolve(np.reshape(np.eye(6) * 9 + np.outer(u, u), (2, 3, 6)).transpose(0, 2, 1), m[:2, :3], axes=(1,))
~np.linalg.tensorinv(np.reshape(np.eye(6) * 9 + np.outer(u, u), (6, 2, 3)), ind=1)
~np.linalg.tensorinv(np.reshape(np.eye(6) * 9 + np.outer(u, u), (2, 3, 6)))
"""

LISTS = """
~np.linalg.solve([[s, 1.0], [r, 2.0]], [u[0], 3.0]) + np.linalg.solve([[2.0, 1.0], [0.5, 2.0]], [s, 1.0])
~np.linalg.det([[s, 1.0], [r, 2.0]]) + np.linalg.inv([[s, 1.0], [r, 2.0]]) + np.linalg.norm([s, r])
~np.linalg.eigvalsh([[s, 1.0], [r, 2.0]]) + np.linalg.svd([[s, 1.0], [r, 2.0]], compute_uv=False)
~np.linalg.det([q, q.T]) * s
"""

SPECTRA = """
~np.linalg.eigh(m @ m.T)
~np.linalg.eigh(q)[0] + np.linalg.eigh(q, "U")[0] + np.linalg.eigvalsh(q) + np.linalg.eigvalsh(q, UPLO="U")
~w, v = np.linalg.eigh(q, "U"); return (v * np.exp(w)) @ v.T
~np.linalg.eigh(t @ np.swapaxes(t, 1, 2) + q)
~np.linalg.eigvalsh(t @ np.swapaxes(t, 1, 2) + q) * np.linalg.eigvalsh(m @ m.T)[1]
~np.linalg.eigh(np.diag(np.arange(9.0)) + 0.1 * np.kron(q, q))[1][:, -2:] * np.linalg.eigvalsh(np.kron(q, q))[-1]
~np.linalg.svd(q)
~np.linalg.svd(m, full_matrices=False)
~np.linalg.svd(m.T, full_matrices=False)
~x, y, z = np.linalg.svd(m); return x + 0, y, z[:3] + 0
~x, y, z = np.linalg.svd(m.T); return x[:, :3] + 0, y, (x[:, 1:3] * y[1:]) @ z[1:]
~x, y, z = np.linalg.svd(t); return x[..., :2] + 0, y, z + 0
~x, y = np.linalg.qr(m.T, "complete"); return x[:, :3] + 0, y + 0
~np.linalg.qr(t, mode="complete")[1] * s
~np.linalg.svd(t, False)
~np.linalg.svd(t @ np.swapaxes(t, 1, 2) + q)
~np.linalg.svd(m, compute_uv=False) + np.linalg.svd(q, compute_uv=False) * np.linalg.svd(m.T, compute_uv=False)
~np.linalg.svd(m @ m.T - 2 * np.eye(3), hermitian=True)
~np.linalg.svd(m @ m.T - 2 * np.eye(3), compute_uv=False, hermitian=True)
~np.linalg.norm(m, 2) + np.linalg.norm(m, -2) + np.linalg.norm(q, "nuc") + np.linalg.norm(t, 2, axis=(0, 2))
~np.linalg.norm(t, "nuc", axis=(1, 2), keepdims=True) + np.linalg.norm(m.T, ord=2, keepdims=True)
~np.linalg.qr(q)
~np.linalg.qr(m.T)
~np.linalg.qr(m)
~np.linalg.qr(m, "complete")[1] + np.linalg.qr(m, mode="r")
~np.linalg.qr(t)[1] + np.linalg.qr(m.T, "r")[:2, :2]
~np.linalg.qr(np.swapaxes(t, 1, 2))
~np.linalg.pinv(m) + np.linalg.pinv(m.T).T + np.linalg.pinv(m, rcond=1e-10)
~np.linalg.pinv(q) + np.linalg.pinv(q, hermitian=True)
~np.linalg.pinv(t) + np.linalg.pinv(np.swapaxes(t, 1, 2))[0].T
~np.linalg.lstsq(m.T, w, rcond=None)
~np.linalg.lstsq(m.T, t.reshape(4, 3), rcond=1e-12)
~np.linalg.lstsq(m, w[:3], rcond=-1)
~np.linalg.lstsq(q, m, rcond=None)[0] + np.linalg.lstsq(C.T, w, rcond=None)[0][:, None]
~np.linalg.matrix_rank(m) * s + np.linalg.matrix_rank(u) + np.linalg.matrix_rank(t)[0] * r
~np.linalg.matrix_rank(m, tol=2.0) * s + np.linalg.matrix_rank(q, hermitian=True)
~np.linalg.cond(m) + np.linalg.cond(q, 2) + np.linalg.cond(q, -2) + np.linalg.cond(q, 1) * np.linalg.cond(q, "fro")
~np.linalg.cond(t @ np.swapaxes(t, 1, 2) + q, np.inf) + np.linalg.cond(t)
~x, y = np.linalg.eig(m @ m.T @ np.diag(w[:3])); return x + 0, y + 0
~np.linalg.eigvals(m @ m.T @ np.diag(w[:3])) + np.linalg.eigvals(np.array([[s, 1.0], [0.3, r]]))[0]
~np.linalg.eigvals(np.eye(3) * w[:3] + 0.1 * t @ np.swapaxes(t, 1, 2)) + 0
~z = np.linalg.eigvals(q - 2 * q.T + np.tri(3)); return z.real + 0, z.imag + 0, np.abs(z)
~x, y = np.linalg.eig(q - 2 * q.T + np.tri(3)); return x.real + 0, np.abs(y), (y[1:] / y[0]).imag + 0
~x, y = np.linalg.eig(q + 1j * m[:, :3]); return x.real + 0, ((y * np.exp(x)) @ np.linalg.inv(y)).imag + 0
~np.abs(np.linalg.eigvals(1j * q + m[:, :3]))
~z = np.roots(k); return z.real + 0, z.imag + 0
~np.linalg.solve(q + 1j * m[:, :3], w[:3]).imag + np.linalg.solve(q, 1j * w[:3]).imag
~np.linalg.solve(1j * q, w[:3]).imag + 0
~np.linalg.solve(np.eye(3) * 2j + C[:, :3], m).real + np.linalg.solve(q + 1j, np.ones((3, 4))).imag
~np.linalg.inv(t @ np.swapaxes(t, 1, 2) + 2j * np.eye(3)).imag + np.linalg.matrix_power(q + 1j * m[:, :3], -2).real
~z = np.linalg.det(q + 1j * m[:, :3]); return z.real, z.imag
~z = np.linalg.det(t @ np.swapaxes(t, 1, 2) + 2j * np.eye(3)); return z.real + 0, z.imag + 0
~x, y = np.linalg.slogdet(t @ np.swapaxes(t, 1, 2) + 2j * q); return x.real + 0, x.imag + 0, y
~np.linalg.pinv(m + 1j * C).imag[:2] + np.linalg.pinv(1j * C[:, :2] + m[:, 2:]).real
~np.linalg.cholesky(q @ q.T + np.eye(3) + 0.3j * (q - q.T)).imag + 0
~np.linalg.cholesky(t @ np.swapaxes(t, 1, 2) + np.eye(3) + 0.1j * (q - q.T)).real + 0
~parts(np.linalg.eigh(q + 1j * m[:, :3]))
~parts(np.linalg.eigh(q + 1j * m[:, :3], "U")[1] * s)
~parts(np.linalg.eigh(t @ np.swapaxes(t, 1, 2) + 1j * (q - q.T)))
~np.linalg.eigvalsh(q + 1j * m[:, :3]) + np.linalg.eigvalsh(1j * m[:, :3] + np.tri(3), "U")
~np.linalg.eigvalsh(t @ np.swapaxes(t, 1, 2) + 1j * (q - q.T))
~w, v = np.linalg.eigh(1j * q - 1j * q.T); return parts((v * np.exp(1j * w)) @ np.conj(v.T))
~parts(np.linalg.svd(q + 1j * m[:, :3]))
~parts(np.linalg.svd(m + 1j * C, full_matrices=False))
~parts(np.linalg.svd(m.T - 1j * C.T, full_matrices=False))
~parts(np.linalg.svd(np.concatenate([q, 2j * m, C, 1j * C, q * 1j], axis=1), full_matrices=False))
~parts(np.linalg.svd(t + 1j * m[:, :2], False))
~np.linalg.svd(m + 1j * C, compute_uv=False) + np.linalg.svd(1j * q + np.tri(3), compute_uv=False)
~parts(np.linalg.svd(q + q.T + 1j * (m[:, :3] - m[:, :3].T), hermitian=True))
~np.linalg.svd(q + q.T + 1j * (m[:, :3] - m[:, :3].T), compute_uv=False, hermitian=True)
~np.linalg.norm(m + 1j * C, 2) + np.linalg.norm(1j * q + np.tri(3), "nuc") + np.linalg.cond(q + 1j * m[:, :3])
~parts(np.linalg.qr(q + 1j * m[:, :3]))
~parts(np.linalg.qr(m + 1j * C))
~parts(np.linalg.qr(m.T + 1j * C.T))
~parts(np.linalg.qr(m + 1j * C, "complete")[0] + np.linalg.qr(1j * m.T + C.T, "r"))
~np.linalg.lstsq(m[:, :2] + 1j * C[:, :2], w[:3] + 0j, rcond=None)[0].imag + 0
~np.roots(np.poly(w)) + np.roots(np.append(np.poly(w), 0.0))[:4]
~np.linalg.svdvals(m) + np.linalg.svdvals(t)[0, 0]
"""

SECTIONS = {"solves and factorizations": SOLVES, "lists": LISTS, "spectra": SPECTRA}

SCIPY = """
linalg.eigvalsh_tridiagonal(w, k[:3]) + linalg.eigh_tridiagonal(w, k[1:4], eigvals_only=True)
linalg.eigh_tridiagonal(w, k[:3], True, "i", (1, 2)) * s
parts(linalg.toeplitz(w * np.exp(1j * w)) + linalg.toeplitz(1j * w, w))
linalg.orth(q) * s + linalg.subspace_angles(q[:, :1], m[:, 1:2])
linalg.qr_multiply(q, m.T)[0] * linalg.qr_multiply(m.T, C[:, :3].T, mode="left")[0]
linalg.solve(q, w[:3]) + linalg.solve(q, np.ones(3)) + linalg.solve(np.eye(3) * 2 + 1, w[:3])
linalg.solve(q, m, transposed=True) + linalg.solve(q, m, overwrite_a=True, check_finite=False)
linalg.solve(q, m, assume_a="sym") + linalg.solve(q, m, lower=True, assume_a="sym")
linalg.solve(m @ m.T, m, assume_a="her")
linalg.solve(m @ m.T + q, w[:3], assume_a="pos") + linalg.solve(m @ m.T + q, w[:3], lower=True, assume_a="pos")
linalg.solve_triangular(q, w[:3]) + linalg.solve_triangular(q, w[:3], lower=True)
linalg.solve_triangular(q, w[:3], "T") + linalg.solve_triangular(np.ones((3, 3)) * s, q[0], trans=0)
linalg.solve_triangular(q, m, trans=1, lower=True, unit_diagonal=True) + linalg.solve_triangular(np.eye(3) * 3, m, "N")
linalg.cholesky(m @ m.T + q) + linalg.cholesky(m @ m.T + q, lower=True) * s
linalg.cho_solve(linalg.cho_factor(m @ m.T + q), m) + linalg.cho_solve(linalg.cho_factor(m @ m.T, lower=True), m)
linalg.cho_solve(linalg.cho_factor(C @ C.T), m) + linalg.cho_solve((np.linalg.cholesky(m @ m.T), True), C)
linalg.lu_solve(linalg.lu_factor(q[::-1]), w[:3]) + linalg.lu_solve(linalg.lu_factor(q[::-1]), m, trans=1)[:, 0]
parts(linalg.lu_factor(q + 1j * m[:, :3])[0], linalg.lu_solve(linalg.lu_factor(q[::-1] - 1j * m[:, :3]), w[:3]))
parts(*[linalg.lu_solve(linalg.lu_factor(m[:, :3] + 1j * q), C, trans=k) for k in (0, 1, 2)])
linalg.lu_solve(linalg.lu_factor(C[:, :3]), m) + linalg.lu_solve(linalg.lu_factor(q), C)
linalg.lu(q[::-1])
linalg.lu(q[::-1], permute_l=True)
linalg.lu_factor(np.kron(q, q)[::-1])[0] * s
linalg.inv(q) * linalg.det(q) + linalg.inv(q, check_finite=False) + linalg.det(np.array([[s, 1.0], [r, 2.0]]))
linalg.solve_banded((1, 1), np.stack([u, 3 + u, u[::-1]]), c)
linalg.solve_banded((1, 1), np.ones((3, 6)) + k[:3, None], u)
linalg.solve_banded((1, 1), np.ones((3, 6)) + [[0], [3], [0]], u)
linalg.solve_banded((2, 1), m[[0, 1, 2, 0]] + [[0.0], [4.0], [0], [0]], np.outer(w, w))
linalg.solve_banded((0, 2), np.stack([c[:4], m[0], m[1]]) + 3.0, w) + linalg.solve_banded((1, 0), m[:2], w)
linalg.solveh_banded(np.stack([u, u, 5 + u]), c) + linalg.solveh_banded(np.stack([5 + u, u]), u, lower=True)
linalg.solve_sylvester(q, q @ q, m[:, :3]) + linalg.solve_sylvester(q, np.diag(w[:3]), C[:, :3])
linalg.solve_continuous_lyapunov(q, m @ m.T)
linalg.eigh(m @ m.T)
linalg.eigh(m @ m.T, q @ q.T + np.eye(3))
linalg.eigh(m @ m.T, q @ q.T + np.eye(3), lower=False)[1] * linalg.eigh(q, lower=False, overwrite_a=True)[0]
linalg.eigvalsh(q, subset_by_index=[1, 2]) + linalg.eigh(q, q @ q.T, eigvals_only=True, subset_by_index=(0, 1))
linalg.eigvalsh(m @ m.T) + linalg.eigh(q, eigvals_only=True, lower=False) + linalg.eigvalsh(q, q @ q.T)
x, y = linalg.eig(m @ m.T @ np.diag(w[:3])); return x.real + 0, y + 0
linalg.eigvals(m @ m.T @ np.diag(w[:3])).real + linalg.eigvals(m @ m.T, np.diag(w[:3])).real
w, v = linalg.eigh(q + 1j * m[:, :3]); return parts(w, (v * np.exp(w)) @ np.conj(v.T))
np.abs(linalg.eigh(q + 1j * m[:, :3], lower=False)[1]) * linalg.eigvalsh(q + 1j * m[:, :3])
parts(linalg.expm(0.3j * q), linalg.expm(0.4 * m[:, :3] - 0.3j * q), linalg.logm(2 * q + 1j * m[:, :3]))
parts(linalg.sqrtm(2 * q + 1j * m[:, :3]), linalg.cosm(1j * m[:, :3]))
parts(linalg.solve(q + 1j, w[:3]), linalg.solve(q, 1j * w[:3]), linalg.solve(q + 1j * m[:, :3], m))
parts(linalg.solve(q + 1j * m[:, :3], w[:3], assume_a="her"), linalg.inv(q + 1j), linalg.det(q + 1j * m[:, :3]))
parts(linalg.solve_triangular(q + 1j, w[:3]), linalg.solve_triangular(q + 1j, w[:3], "C", True, unit_diagonal=True))
parts(linalg.cholesky(q + 1j * (q - q.T) + 3 * np.eye(3)), linalg.cholesky(q + 1j * q + 3 * np.eye(3), lower=True))
parts(linalg.cho_solve(linalg.cho_factor(q + 1j * q + 3 * np.eye(3)), w[:3]), linalg.norm(q + 1j))
parts(linalg.cho_solve(linalg.cho_factor(q + 1j * q + 3 * np.eye(3), True), 1j * w[:3]), linalg.pinv(m + 1j * C))
parts(np.abs(linalg.eig(q + 1j * m[:, :3])[0]), linalg.lstsq(m.T + 1j * C.T, w)[0])
parts(linalg.svd(q + 1j * m[:, :3])[0] + linalg.qr(q + 1j * m[:, :3])[0] + linalg.svdvals(q + 1j * m[:, :3]))
linalg.svd(m, full_matrices=False)
linalg.svd(m)[1] + linalg.svd(m.T)[2][0] * s
x, y = linalg.qr(m.T); return x[:, :3] + 0, y + 0
linalg.svd(q) + linalg.svd(q @ q, check_finite=False)
linalg.svd(m, compute_uv=False) + linalg.svdvals(q)
linalg.qr(m.T, mode="economic")
linalg.qr(q)
linalg.qr(m.T, mode="r")[0] * s
linalg.pinv(m) + linalg.pinv(m.T).T * s
linalg.lstsq(m.T, w)[:3]
linalg.norm(m) + linalg.norm(m, 2) + linalg.norm(u, 1) + linalg.norm(m, axis=1)
linalg.expm(q) + linalg.expm(0.1 * q @ q) + linalg.expm(np.zeros((3, 3)) * s)
linalg.expm_frechet(0.5 * q, m[:, :3])
linalg.expm_frechet(0.5 * q, C[:, :3], compute_expm=False)
linalg.logm(q) + linalg.logm(linalg.expm(q * 0.3))
(linalg.sqrtm(m @ m.T) @ linalg.sqrtm(q)).real
linalg.cosm(q) + linalg.sinm(q) * linalg.coshm(q) + linalg.sinhm(0.5 * q) + linalg.tanhm(q) + linalg.tanm(0.2 * q)
linalg.block_diag(q, w, s, [[1.0, 2.0]]) * 2
linalg.toeplitz(u) @ linalg.toeplitz(c, u) + linalg.toeplitz(u[:3], w).sum() + linalg.circulant(u) + linalg.hankel(u)
linalg.hankel(w, u) @ np.kron(u[:, None], w[:1, None])
"""
