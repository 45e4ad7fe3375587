"""Executables from Plans: the reference on NumPy or CuPy."""
