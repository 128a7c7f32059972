"""distdiff: exact derivatives of very large numerical functions by one distributed sparse triangular solve."""

__version__ = "0.1.0"
