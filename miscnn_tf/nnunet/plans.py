"""The plans of a model of nnU-Net version 2, in the order of our axes.

nnU-Net reads volumes as ``(z, y, x)``, then permutes the axes by ``transpose_forward``; a 2D network sees the slices
across the first axis of the result. Volumes are ``(x, y, z)`` here and stay so: patch, spacing, strides and kernels are
permuted instead, and the slices of a 2D network are patches of one voxel across that axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.messages import some_of
from miscnn_tf._base.plain_files import read_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.processing.subfunctions.resampling import KEEP

#: Name of the file.
PLANS_FILE: Final = "plans.json"
_ADVICE: Final = "take it from the model's archive again"
_NETWORKS: Final = {"PlainConvUNet": "nnunet_plain", "ResidualEncoderUNet": "nnunet_residual"}
#: Readers of nnU-Net for volumes whose axes are in the order of the file.
_VOLUMES: Final = ("SimpleITKIO", "NibabelIO")
_PICTURES: Final = "NaturalImage2DIO"
_MODES: Final = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "z-score",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "minmax",
    "RGBTo01Normalization": "rgb",
}
_RESAMPLING: Final = "resample_data_or_seg_to_shape"


@dataclass(frozen=True)
class ModelPlan:
    """Settings with which a model of nnU-Net predicts; lists of axes are in our order.

    Attributes:
        data_set: Name of the data set.
        configuration: ``2d``, ``3d_fullres`` or ``3d_lowres``, or a name of its own.
        three_dim: True for volumes.
        axes: Our axis for each axis of the network.
        spacing: Voxel size of the network, ``"keep"`` across the slices of a 2D network; None for pictures.
        patch_shape: Shape of a patch.
        batch_size: Batch of the training.
        architecture: ``nnunet_plain`` or ``nnunet_residual``.
        features: Filters of each level, finest first.
        strides: Strides of each level.
        kernel_sizes: Kernels of each level.
        convolutions: Convolutions, or residual blocks, of each level of the encoder.
        decoder_convolutions: Convolutions of each level of the decoder, finest first.
        modes: Normalisation of each channel.
        statistics: ``(lowest, highest, mean, standard deviation)`` of each channel in the data set.
        order: Order of the spline with which images are resampled.
        order_across: The same across thick slices.
        nonzero: True if the statistics of an image leave out the zeros around.
    """

    data_set: str
    configuration: str
    three_dim: bool
    axes: tuple[int, ...]
    spacing: tuple[float | str, ...] | None
    patch_shape: tuple[int, ...]
    batch_size: int
    architecture: str
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    convolutions: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    modes: tuple[str, ...]
    statistics: tuple[tuple[float, float, float, float], ...]
    nonzero: bool
    order: int
    order_across: int


class _Statistics(Document):
    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class _Plans(Document):
    dataset_name: str
    image_reader_writer: str
    transpose_forward: list[int]
    configurations: dict[str, dict[str, Any]]


class _Configuration(Document):
    spacing: list[float]
    patch_size: list[int]
    batch_size: int
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool]
    preprocessor_name: str = "DefaultPreprocessor"
    resampling_fn_data: str = _RESAMPLING
    resampling_fn_probabilities: str = _RESAMPLING
    previous_stage: str | None = None


class _Network(Document):
    features_per_stage: list[int]
    kernel_sizes: list[Any]
    strides: list[Any]
    n_conv_per_stage_decoder: list[int] | int


def read_plan(folder: Path, configuration: str) -> ModelPlan:
    """Read ``plans.json``.

    Args:
        folder: The folder of the trained model.
        configuration: The configuration of its checkpoints.

    Raises:
        ModelFileError: If the file is damaged.
        ConfigurationError: If the plans need something that is not supported; the message names it.
    """
    path = folder / PLANS_FILE
    content = read_json(path, "nnU-Net writes it beside the folds of a model", _ADVICE)
    require(_Plans, content, path, _ADVICE, error=ModelFileError)
    chosen = _resolved(content["configurations"], configuration, path)
    where = f"{path}, configuration {configuration}"
    require(_Configuration, chosen, where, _ADVICE, error=ModelFileError)
    _require_supported(chosen, where)
    if content.get("label_manager", "LabelManager") != "LabelManager":
        raise ConfigurationError(f"{path}: label_manager={content['label_manager']!r} is not supported")
    reader = content["image_reader_writer"]
    three_dim = reader in _VOLUMES
    if not three_dim and reader != _PICTURES:
        raise ConfigurationError(
            f"{path}: images were read by {reader}, which is not supported; only {', '.join(_VOLUMES)} and {_PICTURES}"
        )
    axes = _axes(content["transpose_forward"], len(chosen["patch_size"]), three_dim, path)

    def ours(values: Sequence[Any], across: Any) -> tuple[Any, ...]:
        """Return values of the network's axes in the order of ours, with one for the axis across slices."""
        if len(values) != len(axes):
            raise ModelFileError(f"{where}: {values!r} needs {len(axes)} values; {_ADVICE}")
        by_axis = dict(zip(axes, values, strict=True))
        return tuple(by_axis.get(axis, across) for axis in range(3 if three_dim else 2))

    network, kind = _network(chosen, where)
    levels = len(network["features_per_stage"])
    kernels, strides = (_per_level(network[name], levels, len(axes), where) for name in ("kernel_sizes", "strides"))
    encoder = network["n_conv_per_stage" if kind == "nnunet_plain" else "n_blocks_per_stage"]
    decoder = network["n_conv_per_stage_decoder"]
    images = _resampling(chosen, where)
    modes = tuple(_mode(name, where) for name in chosen["normalization_schemes"])
    return ModelPlan(
        data_set=content["dataset_name"],
        configuration=configuration,
        three_dim=three_dim,
        axes=axes,
        spacing=ours(chosen["spacing"], KEEP) if three_dim else None,
        patch_shape=ours(chosen["patch_size"], 1),
        batch_size=chosen["batch_size"],
        architecture=kind,
        features=tuple(network["features_per_stage"]),
        strides=tuple(ours(one, 1) for one in strides),
        kernel_sizes=tuple(ours(one, 1) for one in kernels),
        convolutions=tuple(_listed(encoder, levels)),
        decoder_convolutions=tuple(_listed(decoder, levels - 1))[::-1],
        modes=modes,
        statistics=_statistics(content, modes, path),
        nonzero=_nonzero(chosen["use_mask_for_norm"], modes, where),
        order=images["order"],
        order_across=images["order_z"],
    )


def _resolved(configurations: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Return a configuration with what it inherits."""
    found: dict[str, Any] = {}
    seen: list[str] = []
    wanted: Any = name
    while wanted is not None:
        if wanted in seen or not isinstance(configurations.get(wanted), dict):
            raise ModelFileError(
                f"{path}: the configuration {wanted!r} does not exist, or inherits from itself; there are "
                f"{some_of(sorted(configurations))}. {_ADVICE.capitalize()}"
            )
        seen.append(wanted)
        found = {**configurations[wanted], **found}
        wanted = configurations[wanted].get("inherits_from")
    return found


def _require_supported(chosen: Mapping[str, Any], where: str) -> None:
    unusual = {
        "preprocessor_name": "DefaultPreprocessor",
        "resampling_fn_data": _RESAMPLING,
        "resampling_fn_probabilities": _RESAMPLING,
    }
    for key, usual in unusual.items():
        if chosen.get(key, usual) != usual:
            raise ConfigurationError(f"{where}: {key}={chosen[key]!r} is not supported, only {usual!r}")
    if chosen.get("previous_stage") is not None:
        raise ConfigurationError(
            f"{where}: the second stage of a cascade is not supported; import its first stage, "
            f"{chosen['previous_stage']}, or another configuration"
        )


def _resampling(chosen: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the arguments of the resampling of images; that of predictions must be linear."""
    usual = {"order": 3, "order_z": 0, "force_separate_z": None}
    images = {**usual, **(chosen.get("resampling_fn_data_kwargs") or {})}
    predictions = {**usual, "order": 1, **(chosen.get("resampling_fn_probabilities_kwargs") or {})}
    if images["order_z"] not in (0, 1) or images["force_separate_z"] is not None:
        raise ConfigurationError(f"{where}: resampling_fn_data_kwargs={images!r} is not supported")
    if predictions["order"] != 1 or any(predictions[key] != images[key] for key in ("order_z", "force_separate_z")):
        raise ConfigurationError(f"{where}: resampling_fn_probabilities_kwargs={predictions!r} is not supported")
    return images


def _axes(transposed: Sequence[int], number: int, three_dim: bool, path: Path) -> tuple[int, ...]:
    """Return our axis for each axis of the network."""
    if sorted(transposed) != [0, 1, 2] or number not in (2, 3) or (number == 3 and not three_dim):
        raise ModelFileError(f"{path}: transpose_forward={transposed!r} does not fit {number} axes; {_ADVICE}")
    if three_dim:  # (z, y, x) there, (x, y, z) here
        return tuple(2 - axis for axis in transposed[3 - number :])
    if transposed[0] != 0:
        raise ConfigurationError(f"{path}: transpose_forward={transposed!r} of pictures is not supported")
    return tuple(axis - 1 for axis in transposed[1:])


def _network(chosen: Mapping[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """Return the arguments of the network, also of plans before nnU-Net 2.4, and its name here."""
    described = chosen.get("architecture")
    if described is None:
        name = str(chosen.get("UNet_class_name"))
        keys = ("UNet_base_num_features", "unet_max_num_features", "n_conv_per_stage_encoder", "conv_kernel_sizes")
        if missing := [key for key in (*keys, "pool_op_kernel_sizes", "n_conv_per_stage_decoder") if key not in chosen]:
            raise ModelFileError(f"{where}: {', '.join(missing)} is missing; {_ADVICE}")
        first, most, encoder, kernels = (chosen[key] for key in keys)
        arguments = {
            "features_per_stage": [min(first * 2**level, most) for level in range(len(encoder))],
            "kernel_sizes": kernels,
            "strides": chosen["pool_op_kernel_sizes"],
            "n_conv_per_stage": encoder,
            "n_blocks_per_stage": encoder,
            "n_conv_per_stage_decoder": chosen["n_conv_per_stage_decoder"],
        }
    else:
        name = str(described.get("network_class_name")).rpartition(".")[2]
        arguments = dict(described.get("arch_kwargs") or {})
    if name not in _NETWORKS:
        raise ConfigurationError(f"{where}: the network {name} is not supported, only {', '.join(_NETWORKS)}")
    require(_Network, arguments, where, _ADVICE, error=ModelFileError)
    usual = {
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "nonlin": "torch.nn.LeakyReLU",
    }
    for key, value in usual.items():
        if arguments.get(key, value) != value:
            raise ConfigurationError(f"{where}: {key}={arguments[key]!r} of the network is not supported")
    if "InstanceNorm" not in str(arguments.get("norm_op", "InstanceNorm")):
        raise ConfigurationError(f"{where}: norm_op={arguments['norm_op']!r} of the network is not supported")
    return arguments, _NETWORKS[name]


def _per_level(values: Sequence[Any], levels: int, axes: int, where: str) -> list[list[int]]:
    """Return a list of one number per axis for each level."""
    found = [[one] * axes if isinstance(one, int) else list(one) for one in values]
    if len(found) != levels:
        raise ModelFileError(f"{where}: {len(found)} strides or kernels are given for {levels} levels; {_ADVICE}")
    return found


def _listed(value: Any, number: int) -> list[int]:
    return [value] * number if isinstance(value, int) else list(value)


def _mode(name: str, where: str) -> str:
    if name not in _MODES:
        raise ConfigurationError(f"{where}: {name} is not supported, only {', '.join(_MODES)}")
    return _MODES[name]


def _nonzero(masked: Sequence[bool], modes: Sequence[str], where: str) -> bool:
    """Return True if channels with the z-score leave out the zeros around; nnU-Net's others never do."""
    chosen = {mask for mask, mode in zip(masked, modes, strict=True) if mode == "z-score"}
    if len(chosen) > 1:
        raise ConfigurationError(
            f"{where}: use_mask_for_norm={list(masked)!r} differs between channels, which is not supported"
        )
    return chosen == {True}


def _statistics(
    content: Mapping[str, Any], modes: Sequence[str], path: Path
) -> tuple[tuple[float, float, float, float], ...]:
    """Return the numbers of the data set for each channel; plans of nnU-Net's first releases name them differently."""
    if "ct" not in modes:
        return ()
    names = ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")
    every: dict[str, Any] = next((content[name] for name in names if isinstance(content.get(name), dict)), {})
    found = []
    for channel in range(len(modes)):
        one = every.get(str(channel), {})
        require(_Statistics, one, f"{path}, {names[0]}", _ADVICE, error=ModelFileError)
        found.append((one["percentile_00_5"], one["percentile_99_5"], one["mean"], one["std"]))
    return tuple(found)
