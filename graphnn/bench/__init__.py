"""Benchmarks: whole training steps of graphnn beside those of other libraries, on the same numbers."""
