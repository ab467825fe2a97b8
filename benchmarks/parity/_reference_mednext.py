"""MedNeXt of MONAI: ``python _reference_mednext.py CASES.json OUT_FOLDER``.

Writes for each case an npz file with the weights, an image, the logits of all outputs, and the gradients of the sum of
their mean squares; for the published width only the shapes of the weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.blocks.mednext_block import MedNeXtDownBlock
from monai.networks.nets import mednext

torch.manual_seed(0)
torch.set_num_threads(1)


def network_of(case: dict[str, Any]) -> torch.nn.Module:
    """Return MONAI's network; its blocks that halve have the ratio of the coarser level unless `monai` is true."""
    axes, filters = len(case["shape"]), case["filters"]
    network = mednext.create_mednext(
        case["size"], axes, case["channels"], case["classes"], case["kernel"], deep_supervision=True
    )
    ratios = [stage[0].conv2.out_channels // stage[0].conv2.in_channels for stage in network.enc_stages]
    bottleneck = network.bottleneck[0].conv2.out_channels // network.bottleneck[0].conv2.in_channels
    if filters != 32:
        network = mednext.MedNeXt(
            spatial_dims=axes,
            init_filters=filters,
            in_channels=case["channels"],
            out_channels=case["classes"],
            encoder_expansion_ratio=ratios,
            decoder_expansion_ratio=ratios[::-1],
            bottleneck_expansion_ratio=bottleneck,
            kernel_size=case["kernel"],
            deep_supervision=True,
            use_residual_connection=True,
            blocks_down=[len(stage) for stage in network.enc_stages],
            blocks_bottleneck=len(network.bottleneck),
            blocks_up=[len(stage) for stage in network.dec_stages],
        )
    if not case["monai"]:
        for level, ratio in enumerate([*ratios[1:], bottleneck]):
            width = filters * 2**level
            network.down_blocks[level] = MedNeXtDownBlock(
                width, 2 * width, ratio, case["kernel"], use_residual_connection=True, dim=f"{axes}d"
            )
    return network.train()  # in training it returns all outputs


for number, case in enumerate(json.loads(Path(sys.argv[1]).read_text())):
    network = network_of(case)
    arrays = {f"shape:{name}": np.array(value.shape) for name, value in network.named_parameters()}
    if case["filters"] < 32:
        with torch.no_grad():
            for parameter in network.parameters():  # scales and offsets too, which begin with 1 and 0
                parameter.add_(0.05 * torch.randn_like(parameter))
        image = torch.randn(2, case["channels"], *case["shape"])
        outputs = network(image)
        sum(output.square().mean() for output in outputs).backward()
        arrays |= {f"output:{place}": output.detach().numpy() for place, output in enumerate(outputs)}
        arrays |= {f"gradient:{name}": value.grad.numpy() for name, value in network.named_parameters()}
        arrays |= {f"weight:{name}": value.detach().numpy() for name, value in network.named_parameters()}
        arrays["image"] = image.numpy()
    np.savez(Path(sys.argv[2]) / f"{number}.npz", **arrays)
