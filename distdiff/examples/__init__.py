"""Worked examples: plain NumPy functions, and the demo that differentiates them.

`lotka_volterra` is a long scalar chain, `flow` a grid in time, `digits` wide and shallow, `burgers` the array program
of the benchmarks, `spectral` two solvers in Fourier modes; `python -m distdiff.examples.demo` (or the same under
mpirun) runs the first three on real work.
"""
