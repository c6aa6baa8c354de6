"""Shapes of real layers as problem strings, in suites: the data behind `problems.py`."""

from __future__ import annotations

from typing import NamedTuple


class Shapes(NamedTuple):
    """Where a suite's shapes come from, and its problem strings by layer name."""

    source: str
    problems: dict[str, str]


SHAPES: dict[str, Shapes] = {
    "seeds": Shapes(
        "the first layers of the lectures' networks (fastcnn.networks)",
        {
            "fifteen_parameter": "n1c1h6k1r3",
            "multichannel.conv1": "n1c3h8k4r3",
            "sigmoid_cnn.conv": "n1c1h8k1r3",
            "two_block.conv1": "n1c1h28k1r3p1",
            "two_block.conv2": "n1c1h14k1r3p1",
            "keras_counts.conv1": "n1c1h28k32r3",
            "keras_counts.conv2": "n1c32h26k64r3",
        },
    ),
    "small_images": Shapes(
        "LeNet-5, the Keras MNIST example, CIFAR first layers",
        {
            "lenet.conv1": "n64c1h28k6r5p2",
            "lenet.conv2": "n64c6h14k16r5",
            "mnist.conv1": "n64c1h28k32r3",
            "mnist.conv2": "n64c32h26k64r3",
            "cifar.conv1": "n64c3h32k32r3p1",
            "cifar.conv2": "n64c32h32k32r3p1",
            "cifar.conv3": "n64c32h16k64r3p1",
        },
    ),
    "vgg16": Shapes(
        "VGG-16, all k3 s1 p1",
        {
            "conv1_1": "n4c3h224k64r3p1",
            "conv1_2": "n4c64h224k64r3p1",
            "conv2_1": "n4c64h112k128r3p1",
            "conv2_2": "n4c128h112k128r3p1",
            "conv3_1": "n4c128h56k256r3p1",
            "conv3_2": "n4c256h56k256r3p1",
            "conv4_1": "n4c256h28k512r3p1",
            "conv4_2": "n4c512h28k512r3p1",
            "conv5_1": "n4c512h14k512r3p1",
        },
    ),
    "resnet50": Shapes(
        "ResNet-50 v1.5 (stride on the 3x3)",
        {
            "conv1": "n8c3h224k64r7st2p3",
            "56_64_64_k1s1": "n8c64h56k64r1",
            "56_64_64_k3s1": "n8c64h56k64r3p1",
            "56_64_256_k1s1": "n8c64h56k256r1",
            "56_256_64_k1s1": "n8c256h56k64r1",
            "56_256_512_k1s2": "n8c256h56k512r1st2",
            "56_256_128_k1s1": "n8c256h56k128r1",
            "56_128_128_k3s2": "n8c128h56k128r3st2p1",
            "28_128_128_k3s1": "n8c128h28k128r3p1",
            "28_128_512_k1s1": "n8c128h28k512r1",
            "28_512_128_k1s1": "n8c512h28k128r1",
            "28_512_1024_k1s2": "n8c512h28k1024r1st2",
            "28_512_256_k1s1": "n8c512h28k256r1",
            "28_256_256_k3s2": "n8c256h28k256r3st2p1",
            "14_256_256_k3s1": "n8c256h14k256r3p1",
            "14_256_1024_k1s1": "n8c256h14k1024r1",
            "14_1024_256_k1s1": "n8c1024h14k256r1",
            "14_1024_2048_k1s2": "n8c1024h14k2048r1st2",
            "14_1024_512_k1s1": "n8c1024h14k512r1",
            "14_512_512_k3s2": "n8c512h14k512r3st2p1",
            "7_512_512_k3s1": "n8c512h7k512r3p1",
            "7_512_2048_k1s1": "n8c512h7k2048r1",
            "7_2048_512_k1s1": "n8c2048h7k512r1",
        },
    ),
    "alexnet": Shapes(
        "AlexNet one-weird-trick, 224 input",
        {
            "conv1": "n16c3h224k64r11st4p2",
            "conv2": "n16c64h27k192r5p2",
            "conv3": "n16c192h13k384r3p1",
            "conv4": "n16c384h13k256r3p1",
            "conv5": "n16c256h13k256r3p1",
        },
    ),
    "convnet_benchmarks": Shapes(
        "convnet-benchmarks layerwise table (batch 128 there)",
        {
            "L1": "n8c3h128k96r11",
            "L2": "n8c64h64k128r9",
            "L3": "n8c128h32k128r9",
            "L4": "n8c128h16k128r7",
            "L5": "n8c384h13k384r3",
        },
    ),
    "deepbench": Shapes(
        "DeepBench training convolutions, one per family",
        {
            "speech.2": "n8c32h79w341k32r10s5st2",
            "ocr.1": "n8c1h48w480k16r3p1",
            "ocr.2": "n8c16h24w240k32r3p1",
            "ocr.4": "n8c64h6w60k128r3p1",
            "face.1": "n8c3h108k64r3st2p1",
            "face.2": "n8c64h54k64r3p1",
            "face.5": "n8c256h7k512r3p1",
            "googlenet.5x5": "n8c192h28k32r5p2",
            "googlenet.1x1": "n8c832h7k256r1",
            "speech2.2": "n8c64h40w175k128r3p1",
        },
    ),
    "mobilenet_depthwise": Shapes(
        "MobileNetV1 depthwise 3x3",
        {
            "dw_112_32_s1": "n8c32h112k32r3p1g32",
            "dw_112_64_s2": "n8c64h112k64r3st2p1g64",
            "dw_56_128_s1": "n8c128h56k128r3p1g128",
            "dw_56_128_s2": "n8c128h56k128r3st2p1g128",
            "dw_28_256_s1": "n8c256h28k256r3p1g256",
            "dw_28_256_s2": "n8c256h28k256r3st2p1g256",
            "dw_14_512_s1": "n8c512h14k512r3p1g512",
            "dw_14_512_s2": "n8c512h14k512r3st2p1g512",
            "dw_7_1024_s1": "n8c1024h7k1024r3p1g1024",
        },
    ),
    "odd": Shapes(
        "geometries that libraries get wrong",
        {
            "dilated2": "n4c32h32k32r3p2d2",
            "groups4": "n4c64h28k64r3p1g4",
            "stride3": "n4c16h31w29k24r5st3p1",
            "rect_kernel": "n4c16h20w50k24r1s7p0x3",
            "prime": "n4c7h13w17k11r3p1",
            "one_pixel": "n4c64h1k64r1",
            "pad4": "n4c8h15w22k8r3p0x2x1x0",
        },
    ),
    "pooling": Shapes(
        "the poolings of VGG, ResNet, AlexNet, LeNet and the lectures; overlap and ceil mode",
        {
            "vgg.pool1": "n4c64h224r2",
            "vgg.pool2": "n4c128h112r2",
            "vgg.pool4": "n8c512h28r2",
            "resnet.pool": "n8c64h112r3st2p1",
            "alexnet.pool1": "n16c64h55r3st2",
            "mnist.pool": "n128c64h24r2",
            "lenet.pool": "n64c6h28r2",
            "overlap": "n8c32h56r3st1p1",
            "ceil": "n8c32h27r2ceil",
            "seed.pool": "n1c1h4r2",
        },
    ),
    "dense": Shapes(
        "the dense layers of the lectures, LeNet-5, the Keras MNIST example and VGG-16",
        {
            "seed": "n1i4o1",
            "lenet.fc1": "n64i400o120",
            "mnist.fc": "n128i9216o128",
            "vgg.fc2": "n16i4096o4096",
        },
    ),
    "elementwise": Shapes(
        "activations behind a small and a large convolution",
        {
            "small": "64x32x14x14",
            "large": "8x64x112x112",
        },
    ),
}
