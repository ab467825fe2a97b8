"""Random changes of training images: the settings of the augmentation, and its draws."""

from __future__ import annotations

import inspect
import math
import numbers
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from miscnn_tf._base.arguments import flag
from miscnn_tf._base.configuration import plain
from miscnn_tf._base.messages import did_you_mean
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.augmentation.drawn_augmentation import (
    Augmentation,
    draw_around_one,
    draw_factors,
    draw_seed,
    draw_uniform,
    happens,
    image_at,
    segmentation_at,
)
from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Gamma, Intensity, Noise
from miscnn_tf.processing.augmentation.spatial import Elastic, Spatial
from miscnn_tf.processing.patching.grid import draw_start
from miscnn_tf.registry import Registry

#: Subclasses of `Data_Augmentation` by their names in model files.
augmentations: Registry[Any] = Registry("augmentation", "miscnn_tf.augmentations")

#: The constructor's arguments, which `==` compares.
SWITCHES = (
    "cycles",
    "scaling",
    "rotations",
    "elastic_deform",
    "mirror",
    "brightness",
    "contrast",
    "gamma",
    "gaussian_noise",
)

#: Attributes that can be set later, and that `get_config` stores beside the switches.
SETTINGS = (
    "config_p_per_sample",
    "config_mirror_axes",
    "config_contrast_range",
    "config_brightness_range",
    "config_gamma_range",
    "config_gaussian_noise_range",
    "config_elastic_deform_alpha",
    "config_elastic_deform_sigma",
    "config_rotations_angleX",
    "config_rotations_angleY",
    "config_rotations_angleZ",
    "config_scaling_range",
    "config_contrast_preserverange",
    "coloraug_per_channel",
    "cropping",
    "cropping_patch_shape",
    "seg_augmentation",
    "infaug",
    "infaug_all",
    "infaug_flip_list",
)

_FLAGS = (
    *SWITCHES[1:],
    *("config_contrast_preserverange", "coloraug_per_channel", "cropping", "seg_augmentation", "infaug", "infaug_all"),
)

#: Range attribute, the switch that uses it, and its lowest possible value.
_RANGES: tuple[tuple[str, str, float], ...] = (
    ("config_scaling_range", "scaling", sys.float_info.min),
    ("config_rotations_angleX", "rotations", -math.inf),
    ("config_rotations_angleY", "rotations", -math.inf),
    ("config_rotations_angleZ", "rotations", -math.inf),
    ("config_elastic_deform_alpha", "elastic_deform", -math.inf),
    ("config_elastic_deform_sigma", "elastic_deform", 0.0),
    ("config_brightness_range", "brightness", -math.inf),
    ("config_contrast_range", "contrast", -math.inf),
    ("config_gamma_range", "gamma", 0.0),
    ("config_gaussian_noise_range", "gaussian_noise", 0.0),
)


class Data_Augmentation:
    """Random mirroring, scaling, rotation, elastic deformation, brightness, contrast, gamma and noise.

    Each transform that is switched on is drawn for each sample with the probability `config_p_per_sample`. The order is
    mirror; elastic deformation, rotation and scaling as one transform with one interpolation (quadratic splines for
    images, the nearest label for label maps); brightness; contrast; gamma; noise. Ranges and formulas are those of
    batchgenerators' transforms (Isensee et al., 2020, doi:10.5281/zenodo.3632567). A transform that was not drawn costs
    nothing and changes no bit.

    Args:
        cycles: Number of times that each sample is augmented, at least 1.
        scaling: Zoom all axes by one factor.
        rotations: Rotate around each axis (2D: in the plane).
        elastic_deform: Displace by a smooth random field.
        mirror: Flip each axis of `config_mirror_axes` with probability 0.5.
        brightness: Multiply by a factor.
        contrast: Multiply the distance from the mean.
        gamma: Gamma correction of the value range.
        gaussian_noise: Add Gaussian noise.
        **settings: Any of the attributes below by name.

    Attributes:
        config_p_per_sample: Probability of each of rotation, scaling, deformation, brightness, contrast, gamma and
            noise, 0.15.
        config_mirror_axes: Spatial axes that may be flipped, (0, 1, 2); axis 2 is left out in 2D.
        config_scaling_range: (0.85, 1.25), half of the draws below 1. A factor above 1 makes structures smaller.
        config_rotations_angleX: ±15° in radians; the only angle in 2D. Likewise `config_rotations_angleY` and
            `config_rotations_angleZ`.
        config_elastic_deform_alpha: (0, 900), the strength of the displacements.
        config_elastic_deform_sigma: (9, 13) voxels, their smoothness.
        config_brightness_range: (0.5, 2), uniform.
        config_contrast_range: (0.3, 3.0), half of the draws below 1.
        config_contrast_preserverange: Contrast clips to the value range before it, True.
        config_gamma_range: (0.7, 1.5), half of the draws below 1.
        config_gaussian_noise_range: (0, 0.05), standard deviation.
        coloraug_per_channel: Brightness, contrast and gamma are drawn for each channel, True.
        seg_augmentation: Segmentations follow the image, True. False: the target is a class, and not changed.
        cropping: `run` crops each sample at a random position to `cropping_patch_shape`, False.
        cropping_patch_shape: ``(x, y[, z])`` or None.
        infaug: ``Neural_Network.predict`` averages over flipped images, too, False.
        infaug_all: It averages over all combinations of flips, 8 views in 3D and 4 in 2D, as nnU-Net does, instead of
            one flip for each axis; False.
        infaug_flip_current: The axis (of a batch) that `run_infaug` flips; None flips nothing.
        infaug_flip_list: The axes of a batch that are flipped one after the other, [1, 2, 3].

    Raises:
        ConfigurationError: If `cycles` is below 1, or a setting does not exist.

    Example:
        >>> augmentation = Data_Augmentation(mirror=True, gamma=False)
        >>> augmentation.config_p_per_sample = 0.3
        >>> images = np.random.default_rng(0).normal(size=(2, 16, 16, 16, 1)).astype("float32")
        >>> segmentations = np.eye(3, dtype="float32")[np.zeros((2, 16, 16, 16), int)]
        >>> images, segmentations = augmentation.run(images, segmentations)
        >>> images.shape, segmentations.shape
        ((2, 16, 16, 16, 1), (2, 16, 16, 16, 3))
    """

    def __init__(
        self,
        cycles: int = 1,
        scaling: bool = True,
        rotations: bool = True,
        elastic_deform: bool = False,
        mirror: bool = False,
        brightness: bool = True,
        contrast: bool = True,
        gamma: bool = True,
        gaussian_noise: bool = True,
        **settings: Any,
    ) -> None:
        self.cycles = cycles
        self.scaling = scaling
        self.rotations = rotations
        self.elastic_deform = elastic_deform
        self.mirror = mirror
        self.brightness = brightness
        self.contrast = contrast
        self.gamma = gamma
        self.gaussian_noise = gaussian_noise

        fifteen_degrees = 15 / 360 * 2 * math.pi
        self.config_p_per_sample: float = 0.15
        self.config_mirror_axes: Sequence[int] = (0, 1, 2)
        self.config_contrast_range: Sequence[float] = (0.3, 3.0)
        self.config_brightness_range: Sequence[float] = (0.5, 2)
        self.config_gamma_range: Sequence[float] = (0.7, 1.5)
        self.config_gaussian_noise_range: Sequence[float] = (0, 0.05)
        self.config_elastic_deform_alpha: Sequence[float] = (0, 900)
        self.config_elastic_deform_sigma: Sequence[float] = (9, 13)
        self.config_rotations_angleX: Sequence[float] = (-fifteen_degrees, fifteen_degrees)
        self.config_rotations_angleY: Sequence[float] = (-fifteen_degrees, fifteen_degrees)
        self.config_rotations_angleZ: Sequence[float] = (-fifteen_degrees, fifteen_degrees)
        self.config_scaling_range: Sequence[float] = (0.85, 1.25)
        self.config_contrast_preserverange: bool = True
        self.coloraug_per_channel: bool = True
        self.cropping: bool = False
        self.cropping_patch_shape: Sequence[int] | None = None
        self.seg_augmentation: bool = True
        self.infaug: bool = False
        self.infaug_all: bool = False
        self.infaug_flip_current: int | None = None
        self.infaug_flip_list: list[int] = [1, 2, 3]

        for name, value in settings.items():
            self._check_setting(name)
            # JSON turns tuples into lists.
            setattr(self, name, tuple(value) if isinstance(value, list) else value)
        if not _is_sequence(self.infaug_flip_list):
            raise ConfigurationError(
                f"infaug_flip_list={self.infaug_flip_list!r} must be a list of axes of a batch, such as [1, 2, 3]"
            )
        self.infaug_flip_list = list(self.infaug_flip_list)
        self.validate()

    def draw(self, rng: np.random.Generator, patch_shape: Sequence[int], channels: int) -> Augmentation:
        """Draw the augmentation of one sample.

        Several threads can draw at once, because only the attributes are read. The same state of `rng` gives the same
        augmentation.

        Args:
            rng: Source of the random numbers.
            patch_shape: Shape of the sample, ``(x, y[, z])``.
            channels: Number of channels.

        Raises:
            ConfigurationError: If a setting is invalid, or `patch_shape` does not have two or three axes.

        Example:
            >>> augmentation = Data_Augmentation()
            >>> volume, position = np.zeros((64, 64, 64, 1), np.float32), (20, 20, 20)
            >>> drawn = augmentation.draw(np.random.default_rng(1), (16, 16, 16), channels=1)
            >>> start, shape = drawn.region((16, 16, 16))
            >>> region = tuple(slice(p + s, p + s + n) for p, s, n in zip(position, start, shape))
            >>> image, _ = drawn.apply(volume[region], None, (16, 16, 16))
            >>> image.shape
            (16, 16, 16, 1)
        """
        self.validate()
        shape = tuple(int(size) for size in patch_shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ConfigurationError(
                f"patch_shape {tuple(patch_shape)} must be (x, y) or (x, y, z) of at least 1 voxel"
            )
        mirror = self._draw_mirror(rng, len(shape))
        spatial = self._draw_spatial(rng, shape)
        return Augmentation(shape, mirror, spatial, self._draw_intensity(rng, channels), bool(self.seg_augmentation))

    def run(
        self, img: np.ndarray, seg: np.ndarray | None = None, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment a batch.

        Voxels that a rotation or scaling needs from outside a sample repeat its border, and are background (class 0) in
        the segmentation. With `cropping` the surroundings of the crop are used where they exist.

        Args:
            img: Images ``(n, x, y[, z], channels)``.
            seg: One-hot segmentations ``(n, x, y[, z], classes)``; or label maps, with a last axis of 1; with
                ``seg_augmentation=False`` anything that has n entries; or None.
            rng: Source of the random numbers; a new generator by default.

        Returns:
            Images and segmentations, new arrays, `cycles` times as many: all samples, then all again. Floating-point
            images keep their dtype, others become float32. One-hot segmentations are float32, label maps keep their
            dtype. Samples for which nothing was drawn are unchanged, bit for bit.

        Raises:
            ConfigurationError: If a setting is invalid, or `img` is not a batch.
            DataError: If `seg` does not fit `img`.
        """
        self.validate()
        img = np.asarray(img)
        if img.ndim not in (4, 5):
            raise ConfigurationError(f"img must be a batch (n, x, y[, z], channels); got shape {img.shape}")
        if seg is not None:
            seg = self._check_seg(np.asarray(seg), img)
        rng = np.random.default_rng() if rng is None else rng
        full = img.shape[1:-1]
        shape = self._crop_shape(full)
        dtype = img.dtype if np.issubdtype(img.dtype, np.floating) else np.dtype(np.float32)
        images = np.empty((self.cycles * len(img), *shape, img.shape[-1]), dtype)
        if seg is None or not self.seg_augmentation:
            segs = None if seg is None else np.concatenate([seg] * self.cycles)
            seg = None
        else:
            seg_dtype = seg.dtype if seg.shape[-1] == 1 else np.dtype(np.float32)
            segs = np.empty((self.cycles * len(img), *shape, seg.shape[-1]), seg_dtype)
        for position in range(len(images)):
            sample = position % len(img)
            start = draw_start(rng, full, shape)
            drawn = self.draw(rng, shape, img.shape[-1])
            images[position] = image_at(drawn, img[sample], start)
            if seg is not None and segs is not None:
                segs[position] = segmentation_at(drawn, seg[sample], start)
        return images, segs

    def run_infaug(self, data: np.ndarray, axis: int | None = None) -> np.ndarray:
        """Flip a batch for prediction; flipping the result again undoes it.

        Args:
            data: Batch ``(n, x, y[, z], channels)``.
            axis: The axis of the batch to flip, 1 to the number of spatial axes; by default `infaug_flip_current`.
                Nothing is flipped if both are None.

        Returns:
            A view of `data`.

        Raises:
            ConfigurationError: If the axis is not spatial.
        """
        axis = self.infaug_flip_current if axis is None else axis
        if axis is None:
            return data
        if axis not in range(1, data.ndim - 1):
            raise ConfigurationError(
                f"infaug_flip_current={axis!r} is not a spatial axis of a batch of shape {data.shape}; choose one of "
                f"{list(range(1, data.ndim - 1))}"
            )
        return np.flip(data, axis)

    def get_config(self, inherited: bool = False) -> dict[str, Any]:
        """Return switches and settings as JSON types; ``from_config(config)`` of the class builds an equal object.

        The constructor arguments of a subclass are included; it must store them in attributes of the same name.

        Args:
            inherited: Leave out the arguments of a subclass.

        Raises:
            ConfigurationError: If a subclass does not store an argument.
        """
        names = dict.fromkeys(SWITCHES + SETTINGS)
        if not inherited:
            parameters = inspect.signature(type(self)).parameters.values()
            names |= dict.fromkeys(
                one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
            )
        cls = type(self).__name__
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise ConfigurationError(
                f"{cls} does not keep its constructor argument {missing[0]!r}: set self.{missing[0]} in __init__, or "
                "give the class a get_config() method"
            )
        return {name: plain(getattr(self, name), f"{cls}.{name}") for name in names}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Data_Augmentation:
        """Create the object that `get_config` described."""
        return cls(**config)

    def validate(self) -> None:
        """Check all settings that are in use.

        Raises:
            ConfigurationError: With the attribute, its value and the values that are allowed.
        """
        if isinstance(self.cycles, bool) or not isinstance(self.cycles, int | np.integer) or self.cycles < 1:
            raise ConfigurationError(
                f"cycles={self.cycles!r} must be a whole number of at least 1, the number of times that each sample is "
                "augmented. To train without augmentation, pass data_aug=None to the Preprocessor"
            )
        if not (isinstance(self.config_p_per_sample, numbers.Real) and 0 <= self.config_p_per_sample <= 1):
            raise ConfigurationError(f"config_p_per_sample={self.config_p_per_sample!r} must be a probability, 0 to 1")
        for name in _FLAGS:
            flag(getattr(self, name), name)
        for name, switch, least in _RANGES:
            if getattr(self, switch):
                _check_range(name, getattr(self, name), least)
        if self.mirror and not (
            _is_sequence(self.config_mirror_axes) and all(_is_axis(axis) for axis in self.config_mirror_axes)
        ):
            raise ConfigurationError(
                f"config_mirror_axes={self.config_mirror_axes!r} must be some of the spatial axes (0, 1, 2)"
            )

    def __eq__(self, other: object) -> bool:
        """Return whether both were constructed with the same switches (the settings may differ)."""
        if not isinstance(other, Data_Augmentation):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in SWITCHES)

    # A mutable object cannot be a key.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in SWITCHES)})"

    def _draw_mirror(self, rng: np.random.Generator, ndim: int) -> tuple[int, ...]:
        if not self.mirror:
            return ()
        return tuple(axis for axis in sorted(set(self.config_mirror_axes)) if axis < ndim and happens(rng, 0.5))

    def _draw_spatial(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Spatial | None:
        probability = self.config_p_per_sample
        elastic, angles, scale = None, None, None
        if self.elastic_deform and happens(rng, probability):
            alpha = draw_uniform(rng, self.config_elastic_deform_alpha)
            elastic = Elastic(alpha, draw_uniform(rng, self.config_elastic_deform_sigma), draw_seed(rng))
        if self.rotations and happens(rng, probability):
            ranges = [self.config_rotations_angleX, self.config_rotations_angleY, self.config_rotations_angleZ]
            angles = tuple(draw_uniform(rng, limits) for limits in (ranges if len(shape) == 3 else ranges[:1]))
        if self.scaling and happens(rng, probability):
            scale = draw_around_one(rng, self.config_scaling_range)
        if elastic is None and angles is None and scale is None:
            return None
        return Spatial(shape, angles, scale, elastic)

    def _draw_intensity(self, rng: np.random.Generator, channels: int) -> tuple[Intensity, ...]:
        probability, each = self.config_p_per_sample, bool(self.coloraug_per_channel)
        drawn: list[Intensity] = []
        if self.brightness and happens(rng, probability):
            drawn.append(Brightness(draw_factors(rng, self.config_brightness_range, channels, each, centred=False)))
        if self.contrast and happens(rng, probability):
            factors = draw_factors(rng, self.config_contrast_range, channels, each, centred=True)
            drawn.append(Contrast(factors, bool(self.config_contrast_preserverange)))
        if self.gamma and happens(rng, probability):
            drawn.append(Gamma(draw_factors(rng, self.config_gamma_range, channels, each, centred=True), each))
        if self.gaussian_noise and happens(rng, probability):
            drawn.append(Noise(draw_uniform(rng, self.config_gaussian_noise_range), draw_seed(rng)))
        return tuple(drawn)

    @staticmethod
    def _check_setting(name: str) -> None:
        if name not in SETTINGS:
            hint = did_you_mean(name, SWITCHES + SETTINGS) or f" There are: {', '.join(SWITCHES + SETTINGS)}"
            raise ConfigurationError(f"Data_Augmentation has no setting {name!r}.{hint}")

    def _check_seg(self, seg: np.ndarray, img: np.ndarray) -> np.ndarray:
        wanted = img.shape[:-1] if self.seg_augmentation else img.shape[:1]
        if seg.shape[: len(wanted)] != wanted or (self.seg_augmentation and seg.ndim != img.ndim):
            raise DataError(
                f"seg has shape {seg.shape}, but img {img.shape}: both must have the same samples and voxels, and the "
                "last axis of seg must be the classes. For other targets, set seg_augmentation = False"
            )
        return seg

    def _crop_shape(self, full: tuple[int, ...]) -> tuple[int, ...]:
        if not self.cropping:
            return full
        shape = self.cropping_patch_shape
        if shape is None or not _is_sequence(shape) or len(shape) != len(full) or min(shape) < 1:
            raise ConfigurationError(
                f"cropping_patch_shape={shape!r} must be {len(full)} sizes of at least 1 for images of {full} voxels; "
                "correct it, or set cropping = False"
            )
        return tuple(int(size) for size in shape)


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray | range) and not isinstance(value, str)


def _is_axis(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value in (0, 1, 2)


def _check_range(name: str, limits: Any, least: float) -> None:
    try:
        low, high = (float(limit) for limit in limits)
    except (TypeError, ValueError, OverflowError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and least <= low <= high):
        bound = "" if least == -math.inf else " above 0" if least > 0 else " of at least 0"
        raise ConfigurationError(f"{name}={limits!r} must be two numbers (low, high){bound}, the lower one first")
