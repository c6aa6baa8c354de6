"""Products of a warp's pieces in TF32 and 3xTF32: what all kernels on tensor cores share.

3xTF32: a number is x = big + small + e, big = tf32(x), small = tf32(x - big), |e| <= 2^-22 |x|.
A B is taken as small_a big_b + big_a small_b + big_a big_b; what is left out is below 2^-22 |a b|.
The three of a step of 8 are summed from zero on the tensor core, whose sums may be cut off rather
than rounded, and then added to the result with an ordinary, rounded addition: the error of a sum
grows with its length as that of plain float32 does.

TF32 takes tf32(a) tf32(b), rounded to nearest, and leaves the sum to the tensor core.
"""

from __future__ import annotations

from typing import Any

from numba import float32, uint32

from fastcnn.kernels.cuda.ptx import as_float, as_word, multiply_tf32, round_tf32
from fastcnn.kernels.cuda.target import helper
from fastcnn.kernels.cuda.warp_tiles import ACROSS

# Placeholders: 3xTF32 or TF32; whether A is rounded to TF32 already.
SPLIT = True
ROUNDED: Any = True


@helper
def leading(word):
    """A float32 cut off after the 10 bits of mantissa that TF32 has."""
    return uint32(word & uint32(0xFFFFE000))


@helper
def remainder(word):
    """What `leading` cuts off, exactly; the tensor core takes its first 10 bits."""
    return as_word(float32(as_float(word) - as_float(leading(word))))


@helper
def rounded(word):
    """A float32's nearest TF32."""
    return round_tf32(as_float(word))


@helper
def keep(big_b, small_b, j, h, word):
    """Word h of B's piece j, split or rounded."""
    if SPLIT:
        big_b[j, h] = leading(word)
        small_b[j, h] = remainder(word)
    else:
        big_b[j, h] = rounded(word)


@helper
def keep_pair(big_b, small_b, pair, words):
    """Both words of two neighbouring pieces of B, as one load gives them."""
    for j in range(2):
        for h in range(2):
            keep(big_b, small_b, 2 * pair + j, h, words[2 * j + h])


@helper
def add_products(sums, i, a, big_b, small_b):
    """A's piece i times all of B's, depth 8, added to row i of sums."""
    if SPLIT:
        big = (leading(a[0]), leading(a[1]), leading(a[2]), leading(a[3]))
        small = (remainder(a[0]), remainder(a[1]), remainder(a[2]), remainder(a[3]))
        for j in range(ACROSS):
            big_of_b = (big_b[j, 0], big_b[j, 1])
            d = (float32(0), float32(0), float32(0), float32(0))
            d = multiply_tf32(d, small, big_of_b)
            d = multiply_tf32(d, big, (small_b[j, 0], small_b[j, 1]))
            d = multiply_tf32(d, big, big_of_b)
            for c in range(4):
                sums[i, j, c] += d[c]
    else:
        of_a = a if ROUNDED else (rounded(a[0]), rounded(a[1]), rounded(a[2]), rounded(a[3]))
        for j in range(ACROSS):
            d = (sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3])
            d = multiply_tf32(d, of_a, (big_b[j, 0], big_b[j, 1]))
            for c in range(4):
                sums[i, j, c] = d[c]
