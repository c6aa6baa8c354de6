"""The ONNX package's own cases for Conv and MaxPool, by name: none is left out unnoticed."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is in the extra 'test'")

from fastcnn import functional, reference
from tests.parity.onnx_cases import (
    conv,
    conv_transpose,
    max_pool,
    node_cases,
    stored_cases,
)

NODE_CONV = {
    "test_basic_conv_with_padding",
    "test_basic_conv_without_padding",
    "test_conv_with_autopad_same",
    "test_conv_with_strides_and_asymmetric_padding",
    "test_conv_with_strides_no_padding",
    "test_conv_with_strides_padding",
}
NODE_MAX_POOL = {
    "test_maxpool_1d_default",
    "test_maxpool_2d_ceil",
    "test_maxpool_2d_ceil_output_size_reduce_by_one",
    "test_maxpool_2d_default",
    "test_maxpool_2d_dilations",
    "test_maxpool_2d_pads",
    "test_maxpool_2d_precomputed_pads",
    "test_maxpool_2d_precomputed_same_upper",
    "test_maxpool_2d_precomputed_strides",
    "test_maxpool_2d_same_lower",
    "test_maxpool_2d_same_upper",
    "test_maxpool_2d_strides",
    "test_maxpool_2d_uint8",
    "test_maxpool_3d_default",
    "test_maxpool_3d_dilations",
    "test_maxpool_3d_dilations_use_ref_impl",
    "test_maxpool_3d_dilations_use_ref_impl_large",
    "test_maxpool_with_argmax_2d_precomputed_pads",
    "test_maxpool_with_argmax_2d_precomputed_strides",
}
STORED_CONV = {
    "test_Conv1d",
    "test_Conv1d_dilated",
    "test_Conv1d_groups",
    "test_Conv1d_pad1",
    "test_Conv1d_pad1size1",
    "test_Conv1d_pad2",
    "test_Conv1d_pad2size1",
    "test_Conv1d_stride",
    "test_Conv2d",
    "test_Conv2d_depthwise",
    "test_Conv2d_depthwise_padded",
    "test_Conv2d_depthwise_strided",
    "test_Conv2d_depthwise_with_multiplier",
    "test_Conv2d_dilated",
    "test_Conv2d_groups",
    "test_Conv2d_groups_thnn",
    "test_Conv2d_no_bias",
    "test_Conv2d_padding",
    "test_Conv2d_strided",
    "test_Conv3d",
    "test_Conv3d_dilated",
    "test_Conv3d_dilated_strided",
    "test_Conv3d_groups",
    "test_Conv3d_no_bias",
    "test_Conv3d_stride",
    "test_Conv3d_stride_padding",
    "test_operator_conv",
}
STORED_MAX_POOL = {
    "test_MaxPool1d",
    "test_MaxPool1d_stride",
    "test_MaxPool1d_stride_padding_dilation",
    "test_MaxPool2d",
    "test_MaxPool2d_stride_padding_dilation",
    "test_MaxPool3d",
    "test_MaxPool3d_stride",
    "test_MaxPool3d_stride_padding",
    "test_operator_maxpool",
}
STORED_TRANSPOSED = {
    "test_ConvTranspose2d",
    "test_ConvTranspose2d_no_bias",
    "test_operator_convtranspose",
}

both_modules = pytest.mark.parametrize(
    "module", [functional, reference], ids=["functional", "reference"]
)
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def test_no_case_is_left_out():
    """A version of ONNX with other cases fails here, and names them."""
    assert set(node_cases("Conv", "MaxPool")) == NODE_CONV | NODE_MAX_POOL
    assert set(stored_cases("Conv")) == STORED_CONV
    assert set(stored_cases("MaxPool")) == STORED_MAX_POOL
    assert set(stored_cases("ConvTranspose")) == STORED_TRANSPOSED


@both_modules
@pytest.mark.parametrize("name", sorted(NODE_CONV))
def test_node_conv(name, module):
    vector = node_cases("Conv", "MaxPool")[name]
    np.testing.assert_allclose(conv(module, vector), vector.outputs[0], **CLOSE)


@both_modules
@pytest.mark.parametrize("name", sorted(NODE_MAX_POOL))
def test_node_max_pool(name, module):
    vector = node_cases("Conv", "MaxPool")[name]
    results = max_pool(module, vector)
    assert len(results) == len(vector.outputs)
    for ours, theirs in zip(results, vector.outputs, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@both_modules
@pytest.mark.parametrize("name", sorted(STORED_CONV))
def test_stored_conv(name, module):
    vector = stored_cases("Conv")[name]
    np.testing.assert_allclose(conv(module, vector), vector.outputs[0], **CLOSE)


@both_modules
@pytest.mark.parametrize("name", sorted(STORED_TRANSPOSED))
def test_stored_transposed_conv_is_the_input_gradient(name, module):
    vector = stored_cases("ConvTranspose")[name]
    np.testing.assert_allclose(conv_transpose(module, vector), vector.outputs[0], **CLOSE)


@both_modules
@pytest.mark.parametrize("name", sorted(STORED_MAX_POOL))
def test_stored_max_pool(name, module):
    vector = stored_cases("MaxPool")[name]
    (ours,) = max_pool(module, vector)
    np.testing.assert_array_equal(ours, vector.outputs[0])
