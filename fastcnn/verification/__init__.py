"""The kernels held against the reference, on the machine at hand."""
