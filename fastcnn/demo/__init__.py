"""The main job, small: two lecture networks trained on real images, on reference and kernels."""

from fastcnn.demo.runs import BACKENDS, NETWORKS, Comparison, Run, run_demo

__all__ = ["BACKENDS", "NETWORKS", "Comparison", "Run", "run_demo"]
