"""Linear algebra as NumPy programs write it, in the form of `numpy_cases`.

Values are LAPACK's in another order of operations, so all are equal to rounding only.  The batches of 24 matrices are
many enough to be eliminated side by side.
"""

SOLVES = """
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

SECTIONS = {"solves and factorizations": SOLVES}
