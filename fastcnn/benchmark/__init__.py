"""The benchmarks: every kernel beside its reference, its peers and the machine's own limits."""
