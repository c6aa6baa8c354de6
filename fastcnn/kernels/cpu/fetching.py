"""Even fetching into the caches: what a weight gradient's next block lays out, share by share.

Laid out without that, a row of a plane waits for its first lines, for there are as many rows as
channels, each on a page of its own (docs/performance.md). Every product of a tall tile fetches as
many lines as any other, a pair now and then between its multiply-adds: it would wait behind more at
a time than a core has requests in flight. In round i that is number i >> shift of its share.

Lines are numbered by pairs: a run of elements that follow each other has 1 << bits of them, some
beyond its end, and runs are a constant distance apart. Of a part of an image there is a run for
each channel, of several images' whole planes one for each image. What is numbered may be no memory.
"""

from __future__ import annotations

from fastcnn.kernels.cpu.jit import inner
from fastcnn.memory import LINE_BYTES

# Shifted by so much the number of a round is 0: a product fetches one pair, again and again.
NEVER = 62


@inner
def halvings(n):
    """How often n can be halved until 1 is left, or 0."""
    times = 0
    while n >> (times + 1) > 0:
        times += 1
    return times


@inner
def _pair_bits(n, itemsize):
    """Of how many bits the number of a pair of lines is, of n elements that begin anywhere."""
    bits, lines = 0, (n * itemsize + 2 * LINE_BYTES - 2) // LINE_BYTES
    while 2 << bits < lines:
        bits += 1
    return bits


@inner
def _runs_of(channels, at, size, of_part, images, image_step, itemsize):
    """(where runs begin, how far they are apart, bits of a pair's number, pairs) of channels'
    planes of `size` elements: of each a part of so many, or all of several images."""
    if images > 1:
        bits = _pair_bits(channels * size, itemsize)
        return at, image_step, bits, images << bits
    bits = _pair_bits(of_part, itemsize)
    return at, size, bits, channels << bits


@inner
def next_block(s, group, m0, m1, g0, g1, block, itemsize):
    """The runs of both sources that a block reads of a task's channels: near's, far's. Of a block
    that ends in another image than it begins, only the first image's."""
    rows, segment = divmod(block, s.segments)
    image, p = divmod(rows * s.some_rows, s.grid_h)
    q = segment * s.segment
    h, some = max(0, p * s.sh + s.row), min(s.some_rows, s.grid_h - p)
    images = s.some_rows // s.grid_h
    of_far = s.segment * s.sw
    if s.segments == 1:
        of_far = min((some + s.extra_rows) * s.sh, s.H - h) * s.W
    if images > 1:
        p, h = 0, 0
    near_size, far_size = s.grid_h * s.grid_w, s.H * s.W
    near_at = (image * s.near_channels + group * s.rows + m0) * near_size + p * s.grid_w + q
    far_at = (image * s.far_channels + group * s.channels + g0 * s.lanes) * far_size
    far_channels = min(s.channels, g1 * s.lanes) - g0 * s.lanes
    near = _runs_of(
        m1 - m0, near_at, near_size, some * s.segment, images, s.near_channels * near_size,
        itemsize,
    )  # fmt: skip
    far = _runs_of(
        far_channels, far_at + h * s.W + q * s.sw, far_size, of_far, images,
        s.far_channels * far_size, itemsize,
    )  # fmt: skip
    return near, far
