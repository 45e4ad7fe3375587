"""Loop kernels: everything that is not a contraction."""
