"""Mirrored views as nnU-Net's predictor averages them: ``python _reference_prediction.py OUT.npz``."""

from __future__ import annotations

import sys

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

torch.manual_seed(0)
arrays = {}
for axes, shape in ((2, (12, 9)), (3, (8, 6, 7))):
    convolution = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[axes](2, 3, 3, padding=1)
    predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"))
    # nnU-Net averages what its network returns; here the probabilities.
    predictor.network = torch.nn.Sequential(convolution, torch.nn.Softmax(1))
    predictor.allowed_mirroring_axes = tuple(range(axes))
    image = torch.randn(1, 2, *shape)
    with torch.no_grad():
        predicted = predictor._internal_maybe_mirror_and_predict(image)
    arrays |= {f"{axes}.kernel": convolution.weight.detach().numpy(), f"{axes}.bias": convolution.bias.detach().numpy()}
    arrays |= {f"{axes}.image": image.numpy(), f"{axes}.predicted": predicted.numpy()}
np.savez(sys.argv[1], **arrays)
