"""Kernels: one file per family of ops, from specs to LLVM IR."""
