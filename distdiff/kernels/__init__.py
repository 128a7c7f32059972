"""Compiled loops: each module imports Numba only when one of its loops is first asked for."""
