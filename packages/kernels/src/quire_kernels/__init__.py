"""quire_kernels."""
