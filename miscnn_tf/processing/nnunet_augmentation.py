"""The augmentation of nnU-Net's trainer: its transforms, ranges, probabilities and order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from miscnn_tf._base.configuration import plain
from miscnn_tf._base.messages import did_you_mean
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.augmentation.drawn_augmentation import (
    Augmentation,
    draw_factors,
    draw_seed,
    draw_uniform,
    happens,
)
from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Intensity, Noise
from miscnn_tf.processing.augmentation.linear_spatial import LinearSpatial
from miscnn_tf.processing.augmentation.nnunet_intensity import Blur, KeptGamma, LowResolution
from miscnn_tf.processing.data_augmentation import SETTINGS, SWITCHES, Data_Augmentation, augmentations

# Settings that `Data_Augmentation` does not have.
_ADDED: Final = ("within_slices", "masked_channels")
_ARGUMENTS: Final = ("cycles", "mirror", *_ADDED)
#: All settings; the others are those of `Data_Augmentation`.
NNUNET_SETTINGS: Final = (
    *_ARGUMENTS,
    "config_mirror_axes",
    "seg_augmentation",
    "cropping",
    "cropping_patch_shape",
    "infaug",
    "infaug_all",
    "infaug_flip_list",
)
_FIXED: Final = {
    name: getattr(Data_Augmentation(), name) for name in (*SWITCHES, *SETTINGS) if name not in NNUNET_SETTINGS
}

#: A patch is thick-sliced if its longest axis has more than this many times the voxels of the axis across the slices.
ANISOTROPIC: Final = 3
#: A 2D patch is elongated if its longer axis has more than this many times the voxels of the other.
ELONGATED: Final = 1.5

P_ROTATION = P_SCALING = 0.2
P_NOISE, P_BLUR, P_BRIGHTNESS, P_CONTRAST = 0.1, 0.2, 0.15, 0.15
P_LOW_RESOLUTION, P_INVERTED_GAMMA, P_GAMMA = 0.25, 0.1, 0.3
#: Probability of each channel to be changed by a blur, or a low resolution, that was drawn.
P_CHANNEL: Final = 0.5
SCALING: Final = (0.7, 1.4)
NOISE: Final = (0.0, 0.1)
BLUR: Final = (0.5, 1.0)
BRIGHTNESS = CONTRAST = (0.75, 1.25)
LOW_RESOLUTION: Final = (0.5, 1.0)
GAMMA: Final = (0.7, 1.5)


@augmentations.register("nnunet")
class NnUNetAugmentation(Data_Augmentation):
    """The augmentation of nnU-Net's trainer (nnunetv2 2.8.1), in its order and with its ranges and probabilities.

    ================================== =========== =====================================================================
    transform                          probability values
    ================================== =========== =====================================================================
    rotation                           0.2         3D: ±30° around each axis; 2D: ±180°, ±15° if one axis has more than
                                                   1.5 times the voxels of the other; within slices: ±180°,
                                                   or as in 2D if a patch is one slice
    scaling                            0.2         0.7 to 1.4, all axes alike; above 1 makes structures smaller
    Gaussian noise                     0.1         standard deviation 0 to 0.1
    Gaussian blur                      0.2         sigma 0.5 to 1 voxel per axis; each channel with probability 0.5
    brightness                         0.15        factor 0.75 to 1.25 per channel
    contrast                           0.15        factor 0.75 to 1.25 per channel, clipped to the value range before it
    low resolution                     0.25        0.5 to 1 times the voxels; each channel with probability 0.5
    gamma of the negative image        0.1         0.7 to 1.5 per channel; mean and standard deviation are kept
    gamma                              0.3         0.7 to 1.5 per channel; mean and standard deviation are kept
    mirroring                          0.5         for each axis
    ================================== =========== =====================================================================

    Factors and exponents are below 1 in half of the draws. Images are interpolated linearly, and labels by the largest
    interpolated share. In contrast to nnU-Net, voxels beyond a fixed margin of the patch are read from the image rather
    than set to 0.

    Args:
        cycles: Number of times that each sample is augmented, at least 1.
        mirror: Flip each axis of `config_mirror_axes` with probability 0.5.
        within_slices: Axis across thick slices: rotation, scaling and low resolution change voxels within the slices
            only. "auto": the shortest axis of patches whose longest axis has more than 3 times as many voxels, no axis
            of others. "never": no axis.
        masked_channels: Channels that are 0 again outside of the body after the augmentation: where all channels are
            exactly 0 before it. nnU-Net does so for channels that were normalised within their non-zero voxels.
        **settings: `config_mirror_axes`, `seg_augmentation`, `cropping`, `cropping_patch_shape`, `infaug`,
            `infaug_all` and `infaug_flip_list` of `Data_Augmentation`. To choose ranges, use `Data_Augmentation`.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> augmentation = NnUNetAugmentation(within_slices=2)
        >>> images, _ = augmentation.run(np.zeros((2, 32, 32, 8, 1), np.float32))
        >>> images.shape
        (2, 32, 32, 8, 1)
    """

    def __init__(
        self,
        cycles: int = 1,
        mirror: bool = True,
        within_slices: int | str = "auto",
        masked_channels: Sequence[int] = (),
        **settings: Any,
    ) -> None:
        self.within_slices = within_slices
        self.masked_channels = masked_channels
        super().__init__(cycles, mirror=mirror, **settings)

    def draw(self, rng: np.random.Generator, patch_shape: Sequence[int], channels: int) -> Augmentation:
        """Draw the augmentation of one sample, as in `Data_Augmentation.draw`."""
        self.validate()
        shape = tuple(int(size) for size in patch_shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ConfigurationError(
                f"patch_shape {tuple(patch_shape)} must be (x, y) or (x, y, z) of at least 1 voxel"
            )
        if self.masked_channels and max(self.masked_channels) >= channels:
            raise ConfigurationError(
                f"masked_channels={self.masked_channels!r}: the image has {channels} channels, counted from 0"
            )
        across = self.slice_axis(shape)
        spatial = self._draw_linear(rng, shape, across)
        intensity = self._draw_values(rng, channels, len(shape), across)
        return Augmentation(
            shape,
            self._draw_mirror(rng, len(shape)),
            spatial,
            intensity,
            bool(self.seg_augmentation),
            mirror_last=True,
            masked_channels=tuple(self.masked_channels),
        )

    def slice_axis(self, patch_shape: Sequence[int]) -> int | None:
        """Return the axis across the slices for patches of this shape; None if all axes are transformed.

        Raises:
            ConfigurationError: If `within_slices` is not an axis of the patch.

        Example:
            >>> NnUNetAugmentation().slice_axis((192, 160, 16)), NnUNetAugmentation().slice_axis((64, 64, 64))
            (2, None)
        """
        shape = tuple(patch_shape)
        if isinstance(self.within_slices, str):
            thick = self.within_slices == "auto" and len(shape) == 3 and max(shape) / min(shape) > ANISOTROPIC
            return shape.index(min(shape)) if thick else None
        if len(shape) == 2:
            raise ConfigurationError(
                f"within_slices={self.within_slices!r} needs patches of three axes, not {shape}; leave it out in 2D"
            )
        return int(self.within_slices)

    def rotation_limit(self, patch_shape: Sequence[int]) -> float:
        """Return the largest angle for patches of this shape, in radians.

        Example:
            >>> limits = map(NnUNetAugmentation().rotation_limit, [(64, 64, 64), (64, 64), (64, 32)])
            >>> [round(math.degrees(limit)) for limit in limits]
            [30, 180, 15]
        """
        across = None if len(patch_shape) == 2 else self.slice_axis(patch_shape)
        if across is not None and patch_shape[across] == 1:
            # A single slice is augmented as an image.
            patch_shape = [size for axis, size in enumerate(patch_shape) if axis != across]
        if len(patch_shape) == 2:
            return math.radians(15 if max(patch_shape) / min(patch_shape) > ELONGATED else 180)
        return math.radians(30 if across is None else 180)

    def get_config(self, inherited: bool = False) -> dict[str, Any]:
        """Return arguments and settings as JSON types; ``from_config(config)`` of the class builds an equal object.

        Args:
            inherited: Return only those that `Data_Augmentation` has.
        """
        names = [name for name in NNUNET_SETTINGS if not inherited or name not in _ADDED]
        return {name: plain(getattr(self, name), f"{type(self).__name__}.{name}") for name in names}

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ConfigurationError: With the attribute, its value and the values that are allowed.
        """
        for name, value in _FIXED.items():
            if getattr(self, name) != value:
                raise _not_a_setting(name)
        super().validate()
        slices = self.within_slices
        if isinstance(slices, bool) or slices not in (0, 1, 2, "auto", "never"):
            raise ConfigurationError(
                f"within_slices={slices!r} must be the axis across the slices (0, 1 or 2), 'auto' or 'never'"
            )
        channels = self.masked_channels
        listed = isinstance(channels, Sequence) and not isinstance(channels, str)
        if not listed or any(type(one) is not int or one < 0 for one in channels):
            raise ConfigurationError(f"masked_channels={channels!r} must be a list of channels, counted from 0")

    def __eq__(self, other: object) -> bool:
        """Return whether both are this augmentation with the same settings."""
        return isinstance(other, NnUNetAugmentation) and self.get_config() == other.get_config()

    # A mutable object cannot be a key.
    __hash__ = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in _ARGUMENTS)})"

    def _draw_linear(
        self, rng: np.random.Generator, shape: tuple[int, ...], across: int | None
    ) -> LinearSpatial | None:
        turns, scales = happens(rng, P_ROTATION), happens(rng, P_SCALING)
        if not (turns or scales):
            return None
        limit = self.rotation_limit(shape)
        planes = 3 if len(shape) == 3 and across is None else 1
        angles = tuple(draw_uniform(rng, (-limit, limit)) for _ in range(planes)) if turns else ()
        return LinearSpatial(shape, angles, draw_uniform(rng, SCALING) if scales else 1.0, across)

    @staticmethod
    def _draw_values(rng: np.random.Generator, channels: int, axes: int, across: int | None) -> tuple[Intensity, ...]:
        drawn: list[Intensity] = []
        if happens(rng, P_NOISE):
            drawn.append(Noise(draw_uniform(rng, NOISE), draw_seed(rng)))
        if happens(rng, P_BLUR):
            sigmas = [
                tuple(draw_uniform(rng, BLUR) for _ in range(axes)) if happens(rng, P_CHANNEL) else None
                for _ in range(channels)
            ]
            drawn.append(Blur(tuple(sigmas)))
        if happens(rng, P_BRIGHTNESS):
            drawn.append(Brightness(draw_factors(rng, BRIGHTNESS, channels, per_channel=True, centred=True)))
        if happens(rng, P_CONTRAST):
            drawn.append(Contrast(draw_factors(rng, CONTRAST, channels, per_channel=True, centred=True)))
        if happens(rng, P_LOW_RESOLUTION):
            factors = [draw_uniform(rng, LOW_RESOLUTION) if happens(rng, P_CHANNEL) else None for _ in range(channels)]
            scales = [
                None if factor is None else tuple(1.0 if axis == across else factor for axis in range(axes))
                for factor in factors
            ]
            drawn.append(LowResolution(tuple(scales)))
        for probability, invert in ((P_INVERTED_GAMMA, True), (P_GAMMA, False)):
            if happens(rng, probability):
                exponents = draw_factors(rng, GAMMA, channels, per_channel=True, centred=True)
                drawn.append(KeptGamma(exponents, invert))
        return tuple(drawn)

    @staticmethod
    def _check_setting(name: str) -> None:
        if name not in NNUNET_SETTINGS:
            raise _not_a_setting(name)


def _not_a_setting(name: str) -> ConfigurationError:
    hint = did_you_mean(name, NNUNET_SETTINGS) or f" It has: {', '.join(NNUNET_SETTINGS)}"
    if name in _FIXED:
        hint = f" Its ranges and probabilities are nnU-Net's; leave {name} out, or use Data_Augmentation to choose them"
    return ConfigurationError(f"NnUNetAugmentation has no setting {name!r}.{hint}")
