"""Run by `augmentation.py` in the environment with nnunetv2: results and draws of its transforms.

python _reference_augmentation.py IN.npz OUT.npz
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import blur_dimension
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import (
    SpatialTransform,
    _convert_my_grid_to_grid_sample_grid,
    _create_centered_identity_grid2,
    create_affine_matrix_2d,
    create_affine_matrix_3d,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def values(given: Any) -> dict[str, np.ndarray]:
    """Apply the intensity transforms with given values to images ``(channels, z, y, x)``."""
    channels = torch.arange(2)
    done = {}
    for axes in ("2D", "3D"):
        image = torch.from_numpy(given[f"{axes}.image"])
        for channel, sigmas in enumerate(given[f"{axes}.sigmas"].tolist()):
            blurred = image[channel : channel + 1]
            for axis, sigma in enumerate(sigmas):
                blurred = blur_dimension(blurred, sigma, axis)
            done[f"{axes}.blur {channel}"] = blurred[0]
        contrast = ContrastTransform((0.75, 1.25), preserve_range=True, synchronize_channels=False)
        done[f"{axes}.contrast"] = contrast._apply_to_image(
            image.clone(), apply_to_channel=channels, multipliers=torch.from_numpy(given["factors"])
        )
        low = SimulateLowResolutionTransform((0.5, 1), False, True, None)
        for number, scales in enumerate(given[f"{axes}.scales"]):
            done[f"{axes}.low resolution {number}"] = low._apply_to_image(
                image.clone(), apply_to_channel=channels, scales=torch.from_numpy(scales)
            )
        for invert in (False, True):
            gamma = GammaTransform((0.7, 1.5), float(invert), False, 1, 1)
            done[f"{axes}.gamma {invert}"] = gamma._apply_to_image(
                image.clone(),
                apply_to_channel=channels,
                retain_stats=torch.ones(2, dtype=torch.bool),
                invert_image=torch.full((2,), invert),
                gamma=torch.from_numpy(given["exponents"]),
            )
    return {name: image.numpy() for name, image in done.items()}


def moved(given: Any) -> dict[str, np.ndarray]:
    """Rotate and scale images and labels by given angles and scales."""
    done = {}
    for name in given["spatial"]:
        image, labels = (torch.from_numpy(given[f"{name}.{what}"]) for what in ("image", "labels"))
        patch, angles = given[f"{name}.patch"].tolist(), given[f"{name}.angles"]
        scales = [float(given[f"{name}.scale"])] * len(patch)
        matrix = (
            create_affine_matrix_3d(angles, scales) if len(patch) == 3 else create_affine_matrix_2d(*angles, scales)
        )
        grid = torch.matmul(_create_centered_identity_grid2(patch).float(), torch.from_numpy(matrix.T).float())
        grid = _convert_my_grid_to_grid_sample_grid(grid, image.shape[1:])
        transform = SpatialTransform(patch, 0, False, border_mode_seg="constant", padding_value_seg=-1)
        done[f"{name}.image"] = transform._apply_to_image(image, grid=grid).numpy()
        done[f"{name}.labels"] = transform._apply_to_segmentation(labels, grid=grid).numpy()
    return done


class Recorder:
    """Records what the transforms of nnU-Net's trainer draw."""

    def __init__(self, patch: tuple[int, ...], turn: tuple[float, float], flat: bool) -> None:
        axes = tuple(range(len(patch)))
        self.transforms = nnUNetTrainer.get_training_transforms(patch, turn, None, axes, flat).transforms
        self.shape = patch
        self.drawn: dict[str, list[float]] = {}

    def draw(self) -> None:
        """Draw all parameters once, for an image with two channels."""
        image = torch.zeros((2, *self.shape))
        inverted = True
        for transform in self.transforms:
            name = type(transform).__name__
            if name == "SpatialTransform":
                matrix = transform.get_parameters(
                    image=image[(slice(None), *[0] * (image.ndim - 1 - len(transform.patch_size)))]
                )["affine"]
                if matrix is not None:
                    scale = abs(np.linalg.det(matrix)) ** (1 / len(matrix))
                    turned = np.trace(matrix) / scale < len(matrix) - 1e-12
                    self._add(turned, "rotation", np.trace(matrix) / scale)
                    if turned and len(matrix) == 3:
                        self._add(True, "rotation, one entry", matrix[0, 1] / scale)
                    self._add(abs(scale - 1) > 1e-12, "scaling", scale)
            elif name == "MirrorTransform":
                for axis in transform.get_parameters(image=image)["axes"]:
                    self._add(True, f"mirror {axis}", 1)
            elif name == "RandomTransform":
                kind = type(transform.transform).__name__
                if kind == "GammaTransform":
                    kind, inverted = f"{kind} {inverted}", False
                if transform.get_parameters()["apply_transform"]:
                    self._record(kind, transform.transform.get_parameters(image=image))

    def _record(self, kind: str, drawn: dict[str, Any]) -> None:
        self._add(True, f"{kind} happens", 1)
        if kind == "GaussianBlurTransform":
            found = np.ravel(drawn["sigmas"])
        elif kind == "GaussianNoiseTransform":
            found = [drawn["sigmas"]]
        elif kind == "SimulateLowResolutionTransform":
            found = [scales.min().item() for scales in drawn["scales"]]
        else:
            found = drawn["gamma" if "Gamma" in kind else "multipliers"].tolist()
        for value in found:
            self._add(True, kind, value)

    def _add(self, condition: bool, name: str, value: float) -> None:
        if condition:
            self.drawn.setdefault(name, []).append(float(value))


def trainer(patch: tuple[int, ...]) -> tuple[tuple[float, float], bool]:
    """Return the rotation and whether it is within slices, as the trainer chooses them for a patch."""

    class Configured:
        class configuration_manager:
            patch_size = patch

        inference_allowed_mirroring_axes = None

        def print_to_log_file(self, *_: object) -> None:
            pass

    turn, flat, *_ = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(Configured())
    return turn, flat


def main() -> None:
    """Write all results."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (batchgeneratorsv2 draws from it)
    given = np.load(sys.argv[1])
    done = values(given) | moved(given)
    for number, patch in enumerate(given["patches"]):
        shape = tuple(int(size) for size in patch if size)
        turn, flat = trainer(shape)
        done[f"{number}.choice"] = np.array([turn[1], flat])
        recorder = Recorder(shape, turn, flat)
        for _ in range(int(given["draws"])):
            recorder.draw()
        done |= {f"{number}.drawn.{name}": np.array(found) for name, found in recorder.drawn.items()}
    done["order"] = np.array(
        [
            type(getattr(one, "transform", one)).__name__
            for one in nnUNetTrainer.get_training_transforms((8, 8, 8), (-0.5, 0.5), None, (0, 1, 2), False).transforms
        ]
    )
    np.savez(sys.argv[2], **done)


if __name__ == "__main__":
    main()
