"""How Winograd's rounding errors grow: python bench/winograd_errors.py

F(2x2, 3x3), F(4x4, 3x3) and F(6x6, 3x3) in float32 arithmetic, every sum in order, on random tiles,
against float64: the error in norm, and the largest error of one result against the norm's mean.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.winograd_transforms import transforms

TILES, FILTERS = 64, 16


def _both_sides(matrix: np.ndarray, tiles: np.ndarray) -> np.ndarray:
    """matrix @ tile @ matrix^T for the last two axes, one rounding per operation."""
    down = sum(matrix[:, k, None] * tiles[..., None, k, :] for k in range(matrix.shape[1]))
    return sum(down[..., :, k, None] * matrix.T[k] for k in range(matrix.shape[1]))


def _winograd(m: int, d: np.ndarray, g: np.ndarray) -> np.ndarray:
    t = transforms(m, 3)
    at, gm, bt = (np.array(matrix, float).astype(d.dtype) for matrix in (t.at, t.g, t.bt))
    u, v = _both_sides(gm, g), _both_sides(bt, d)
    total = np.zeros((FILTERS, TILES, *v.shape[2:]), d.dtype)
    for c in range(d.shape[1]):
        total += u[:, None, c] * v[None, :, c]
    return _both_sides(at, total)


def _direct(m: int, d: np.ndarray, g: np.ndarray) -> np.ndarray:
    total = np.zeros((FILTERS, TILES, m, m), d.dtype)
    for c in range(d.shape[1]):
        for r in range(3):
            for s in range(3):
                total += g[:, None, c, r, s, None, None] * d[None, :, c, r : r + m, s : s + m]
    return total


def main() -> None:
    rng = np.random.default_rng(0)
    print("data, channels, then of the direct form, F(2), F(4), F(6): in norm (largest)")
    for data in ("mean-zero", "post-relu"):
        for channels in (1, 16, 64, 256, 512, 1024):
            found = []
            for m in (0, 2, 4, 6):
                size = (m or 4) + 2
                d = rng.standard_normal((TILES, channels, size, size)).astype(np.float32)
                if data == "post-relu":
                    d = np.maximum(d, 0)
                g = rng.standard_normal((FILTERS, channels, 3, 3)).astype(np.float32)
                truth = _direct(m or 4, d.astype(float), g.astype(float))
                error = (_winograd(m, d, g) if m else _direct(4, d, g)) - truth
                scale = np.sqrt(np.mean(truth**2))
                in_norm = np.sqrt(np.mean(error**2)) / scale
                found.append(f"{in_norm:.1e} ({abs(error).max() / scale:.1e})")
            print(f"{data:9} {channels:5}  " + "  ".join(found), flush=True)


if __name__ == "__main__":
    main()
