"""Kernels for NVIDIA GPUs, in Numba; nothing outside imports them but through `selection`."""
