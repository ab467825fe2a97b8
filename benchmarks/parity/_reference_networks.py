"""Networks of ``dynamic_network_architectures``: ``python _reference_networks.py CASES.json OUT_FOLDER``.

Writes for each case an npz file with the weights, an image and the logits of all outputs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

torch.manual_seed(0)
torch.set_num_threads(1)
for number, case in enumerate(json.loads(Path(sys.argv[1]).read_text())):
    axes = len(case["shape"])
    convolution = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[axes]
    normalisation = {2: torch.nn.InstanceNorm2d, 3: torch.nn.InstanceNorm3d}[axes]
    plain = case["kind"] == "nnunet_plain"
    network = (PlainConvUNet if plain else ResidualEncoderUNet)(
        input_channels=case["channels"],
        n_stages=len(case["features"]),
        features_per_stage=case["features"],
        conv_op=convolution,
        kernel_sizes=case["kernel_sizes"],
        strides=case["strides"],
        **{"n_conv_per_stage" if plain else "n_blocks_per_stage": case["blocks"]},
        num_classes=case["classes"],
        n_conv_per_stage_decoder=case["decoder_convolutions"][::-1],
        conv_bias=True,
        norm_op=normalisation,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    network.apply(network.initialize)
    with torch.no_grad():
        for parameter in network.parameters():  # biases and scales too, which begin with 0 and 1
            parameter.add_(0.05 * torch.randn_like(parameter))
        image = torch.randn(2, case["channels"], *case["shape"])
        outputs = network(image)
    arrays = {f"weight:{name}": value.detach().numpy() for name, value in network.named_parameters()}
    arrays |= {f"output:{place}": output.numpy() for place, output in enumerate(outputs)}
    np.savez(Path(sys.argv[2]) / f"{number}.npz", image=image.numpy(), **arrays)
