"""Matrices as operands of elementals: factorizations, and what is solved with them.

A matrix whose system is solved is factorized by a statement of its own (`lu.Factors`), on whose results nothing depends
differentiably: values, tangents, adjoints and derivatives of every order at a point, and every solve with the same
matrix, read the same factors.
"""
