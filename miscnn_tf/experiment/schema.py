"""Schema of a configuration: a class per table, a field per key.

Missing keys take the default of the Python interface; `build` passes the other keys to it. Only keys without a default
there have one here.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)

from miscnn_tf._base.arguments import byte_count
from miscnn_tf._base.configuration import make
from miscnn_tf._base.messages import did_you_mean, unknown_name
from miscnn_tf._base.plain_limits import shown
from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces
from miscnn_tf.data_loading.label_keys import parse_key
from miscnn_tf.data_loading.label_scan import ANY_CLASSES
from miscnn_tf.errors import ConfigurationError, MissingExtraError
from miscnn_tf.processing.data_augmentation import SETTINGS as AUGMENTATION_SETTINGS
from miscnn_tf.processing.data_augmentation import SWITCHES, Data_Augmentation
from miscnn_tf.processing.nnunet_augmentation import NNUNET_SETTINGS, NnUNetAugmentation
from miscnn_tf.processing.patching.blending import MODES as BLENDINGS
from miscnn_tf.processing.patching.patch_plan import ANALYSES
from miscnn_tf.processing.subfunctions import (
    Clipping,
    CropNonzero,
    Normalization,
    Orientation,
    Padding,
    Resampling,
    Resize,
    subfunctions,
)
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.normalization import MODES as NORMALIZATIONS
from miscnn_tf.processing.subfunctions.resampling import KEEP
from miscnn_tf.runs.best_model import BEST_BY

AUTO: Final = "auto"

#: Epochs of a training that ends only by its time limit.
UNLIMITED_EPOCHS: Final = 1_000_000

PositiveInt = Annotated[int, Field(ge=1)]
CacheBytes = Annotated[int, BeforeValidator(lambda value: byte_count(value, "cache_bytes", least=0))]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]
PerAxis = Annotated[list[PositiveInt], Field(min_length=2, max_length=3)]


def _overlap(value: Any) -> list[int] | float:
    if isinstance(value, float) and 0 < value < 1:
        return value
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)} is neither a fraction of the patch such as 0.5, nor a list of voxels")
    for number, one in enumerate(value, start=1):
        if type(one) is not int or one < 0:
            raise ValueError(f"entry {number} must be a whole number, at least 0, got {shown(one)}")
    return value


# A union would report the mistakes of both types.
Overlap = Annotated[
    Any,
    PlainValidator(_overlap),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "integer"}}]}),
]


def _voxel_length(value: Any) -> Any:
    if type(value) in (int, float) and 0 < value < math.inf:
        return float(value)
    if value == KEEP:
        return value
    raise ValueError(f"{shown(value)} is neither a positive length in mm nor {KEEP!r}")


# A union would report the mistakes of both types.
VoxelLength = Annotated[Any, PlainValidator(_voxel_length), WithJsonSchema({"type": "number"})]


def _normalizing(value: Any) -> dict[str, Any]:
    arguments = dict(value) if isinstance(value, Mapping) else {"mode": value}
    try:
        for one in modes if isinstance(modes := arguments.get("mode", "z-score"), list) else [modes]:
            if not isinstance(one, str):
                raise ValueError(f"{shown(one)} is not the name of a normalization, a list of names or a table")
            if one not in NORMALIZATIONS:
                raise ValueError(unknown_name("normalization", one, NORMALIZATIONS))
        check_arguments(Normalization, arguments, "normalization")
        make(Normalization, arguments, "normalization")
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return arguments


# A union would report the mistakes of all types.
Normalizing = Annotated[
    Any,
    PlainValidator(_normalizing),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "object"}]}),
]


def layouts() -> tuple[str, ...]:
    """Return the interfaces that read from a folder; arrays in memory cannot be named in a file."""
    return tuple(name for name in miscnn_data_interfaces.names() if name != "DICT")


class Table(BaseModel):
    """Base class of all tables: unknown keys and conversions of type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self, *names: str) -> dict[str, Any]:
        """Return these keys (by default all) as plain data, if the file has them."""
        return {
            name: value for name, value in self.model_dump(exclude_unset=True).items() if not names or name in names
        }


def _one_of(choices: tuple[str, ...], what: str) -> BeforeValidator:
    return BeforeValidator(lambda value: _checked(value, choices, what))


def _checked(value: Any, choices: tuple[str, ...], what: str) -> Any:
    if isinstance(value, str) and value not in choices:
        raise ValueError(unknown_name(what, value, choices))
    return value


class Named(Table):
    """Name of a registered object, and its arguments: ``{name = "unet_standard", depth = 3}``."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def arguments(self) -> dict[str, Any]:
        """Return all keys except the name."""
        return dict(self.model_extra or {})


class Step(Named):
    """Subfunction."""

    @model_validator(mode="after")
    def _can_be_made(self) -> Step:
        self.make()
        return self

    def make(self) -> Abstract_Subfunction:
        """Create the subfunction.

        Raises:
            ConfigurationError: If the name is unknown, or an argument is invalid.
        """
        step: Abstract_Subfunction = make_named(subfunctions, self.name, self.arguments, "subfunction")
        return step


class Data(Table):
    """Folder and layout of the samples."""

    path: str = Field(
        description="Folder of the data set. Relative paths, here and in other keys, start at the folder of this file."
    )
    layout: Annotated[str, BeforeValidator(lambda value: _checked(value, (AUTO, *layouts()), "layout"))] = Field(
        default=AUTO,
        description="Layout of the files: the name of a data interface, or `auto` to detect it.",
    )
    channels: PositiveInt | None = Field(default=None, description="Channels of an image. Default: detected.")
    classes: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Classes, background included. Default: from the data set's description or the segmentations.",
    )
    three_dim: bool | None = Field(default=None, description="`true` if the images are volumes. Default: detected.")
    class_names: list[str] | None = Field(
        default=None, description="Names of the classes for tables and figures, background first."
    )
    pattern: str | None = Field(
        default=None, description="Regular expression that must match the whole name of a sample."
    )
    label_map: dict[str, int | Literal["ignore"]] | None = Field(
        default=None,
        description="Labels for values in the segmentations, `{255 = 1}`; other values are kept. Also for all values "
        'but 0, `{nonzero = 1}`, from a threshold, `{"128+" = 1}`, and of colours, `{"#ff0000" = 1}`. Predictions are '
        'written in the same values. Voxels of values with `"ignore"` are left out of training and scores.',
    )
    ignore_label: PositiveInt | None = Field(
        default=None,
        description="Value of voxels without annotation in the segmentations, which are left out of training and "
        "scores. Default: from the data set's description.",
    )
    regions: dict[str, list[PositiveInt]] | None = Field(
        default=None,
        description="Overlapping regions that the network predicts instead of classes, as labels by name: "
        "`{whole_tumor = [1, 2, 3], tumor_core = [2, 3]}`. Default: from the data set's description; `{}`: classes.",
    )
    regions_class_order: list[PositiveInt] | None = Field(
        default=None,
        description="The label that predictions hold in each region. They are written in this order, so that later "
        "regions cover earlier ones.",
    )
    previous_stage: str | None = Field(
        default=None,
        description="For a cascade: run folder of the cross-validation of the previous stage, whose predictions of the "
        "samples become further channels of the patches; or a folder of label maps that are named like the samples.",
    )
    settings: dict[str, Any] = Field(
        default={}, description="Further arguments of the layout's interface, such as `slice_axis` or `structure_dict`."
    )

    @field_validator("pattern")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        return None if value is None else _expression(value)

    @field_validator("label_map")
    @classmethod
    def _has_numbers(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        for key in value or {}:
            try:
                parse_key(key)
            except ValueError:
                raise ValueError(
                    f'{key!r} is not a whole number; write it like {{255 = 1}}, {{nonzero = 1}}, {{"128+" = 1}} or '
                    f'{{"#ff0000" = 1}}'
                ) from None
        return value

    @model_validator(mode="after")
    def _fit(self) -> Data:
        if self.class_names is not None and self.classes is not None and len(self.class_names) != self.classes:
            raise ValueError(f"class_names has {len(self.class_names)} names, but classes = {self.classes}")
        if self.regions and len(self.regions_class_order or ()) != len(self.regions):
            raise ValueError(
                f"regions_class_order = {self.regions_class_order} needs a label for each of the {len(self.regions)} "
                "regions"
            )
        own = sorted(self.settings.keys() & Data.model_fields.keys())
        if own:
            raise ValueError(f"settings.{own[0]} is a key of the table itself; write {own[0]} = …")
        if self.layout != AUTO:
            what = f"the layout {self.layout!r}"
            interface = miscnn_data_interfaces[self.layout]
            check_arguments(interface, self.settings, what)
            classes = {}
            if "classes" in inspect.signature(interface).parameters:
                # Detected in the data if it is None, so that no label is too large here.
                classes = {"classes": ANY_CLASSES if self.classes is None else self.classes}
            with suppress(MissingExtraError):  # needed by the data, not by the configuration
                make(interface, {**classes, **self.settings}, what)
        return self


class Split(Table):
    """Split into training and validation samples."""

    validation_share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Share of the samples that `train` keeps for validation if neither `training` nor `file` "
        "is given; 0 for none.",
    )
    training: list[str] | None = Field(default=None, description="Names of the training samples.")
    validation: list[str] | None = Field(default=None, description="Names of the validation samples.")
    file: str | None = Field(
        default=None, description='A JSON file with the names: `{"TRAINING": […], "VALIDATION": […]}`.'
    )
    groups: str | None = Field(
        default=None,
        description="Samples that stay on one side of a split, such as all scans of a patient: a regular expression "
        "with one group in parentheses, which extracts the patient's name from a sample's name: `'(patient_\\d+)_.*'`.",
    )
    strata: str | None = Field(
        default=None,
        description="Category that is split proportionally, such as the hospital: a regular expression like `groups`.",
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Random seed of the split, which is then the same on every machine."
    )

    @field_validator("groups", "strata")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is not None and re.compile(_expression(value)).groups != 1:
            raise ValueError(
                f"{value!r} needs exactly one group in parentheses, such as '(patient_\\d+)_.*'; write (?:…) for others"
            )
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Split:
        if self.file is not None and self.training is not None:
            raise ValueError("file and training are both given; keep one of them")
        if self.validation is not None and self.training is None:
            raise ValueError("validation is given without training; add the training samples")
        return self


class Preprocessing(Table):
    """Steps that are applied to a sample before the network, and undone on its prediction."""

    orientation: str | None = Field(
        default=None,
        description="Flip and swap the axes of volumes so that they point in these directions: `RAS` for right, "
        "anterior, superior (the step `Orientation`).",
    )
    crop: Annotated[str, _one_of(("nonzero",), "crop")] | None = Field(
        default=None,
        description="`nonzero`: crop to the smallest box with all voxels that are not 0 (`CropNonzero`).",
    )
    clip: Range | None = Field(default=None, description="Clip intensities to `[minimum, maximum]` (`Clipping`).")
    normalization: Normalizing | None = Field(
        default=None,
        description="Normalize intensities (`Normalization`): `z-score`, `minmax`, `grayscale`, `rgb` or `none`, or a "
        "list with one of these per channel; or a table with the arguments of the step: "
        "`{mode = 'ct', statistics = [-75, 300, 60, 40]}`, `{mode = 'z-score', nonzero = true}`.",
    )
    spacing: list[VoxelLength] | None = Field(
        default=None,
        description="Resample to this voxel size in mm, one number per axis (`Resampling`); `'keep'` leaves an axis as "
        "it is in each sample.",
    )
    resize: PerAxis | None = Field(
        default=None, description="Interpolate to this shape instead, one number per axis (`Resize`)."
    )
    padding: PerAxis | None = Field(
        default=None, description="Pad to a minimum size, one number per axis (`Padding`). Not needed for patches."
    )
    steps: list[Step] | None = Field(
        default=None,
        description="Any steps in any order, instead of the seven keys above, which are applied in the order of this "
        "table: `[[preprocessing.steps]]` with the `name` of a subfunction and its arguments.",
    )
    analysis: Annotated[str, _one_of(ANALYSES, "analysis")] | None = Field(
        default=None,
        description="`patchwise-crop`: random patches; `patchwise-grid`: all patches of a grid; `fullimage`: whole "
        "images.",
    )
    patch_shape: PerAxis | None = Field(
        default=None,
        description="Size of a patch in voxels, after resampling, one number per axis. Not for `fullimage`.",
    )
    overlap: Overlap | None = Field(
        default=None,
        description="Overlap of patches in prediction: a fraction of the patch, `0.5`, or voxels, one number per axis. "
        "Half a patch is usual.",
    )
    blending: Annotated[str, _one_of(BLENDINGS, "blending")] | None = Field(
        default=None, description="How overlapping predictions are merged: `gaussian` or `average`."
    )
    foreground: Share | None = Field(
        default=None, description="Share of random patches that are drawn around the foreground."
    )
    skip_blanks: bool | None = Field(default=None, description="Omit training patches that contain `skip_class` only.")
    skip_class: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The class that makes a patch blank."
    )
    prepare_subfunctions: bool | None = Field(
        default=None, description="Store prepared samples on disk, for other folds and later runs."
    )
    prepare_batches: bool | None = Field(
        default=None, description="Create the batches of one epoch before the training, and use them in every epoch."
    )
    prepared_folder: str | None = Field(
        default=None, description="Folder for prepared samples and batches. Default: `batches` in the run folder."
    )
    cache_bytes: CacheBytes | None = Field(
        default=None,
        description="Memory for prepared samples, in bytes or as text such as `4GB`. Default: a quarter of the "
        "machine's.",
    )
    use_multiprocessing: bool | None = Field(
        default=None, description="Prepare samples in processes instead of threads."
    )
    threads: PositiveInt | None = Field(
        default=None, description="Number of threads or processes that prepare samples."
    )

    @model_validator(mode="after")
    def _fit(self) -> Preprocessing:
        short = [name for name in _SHORT_STEPS if getattr(self, name) is not None]
        if self.steps is not None and short:
            raise ValueError(f"{short[0]} and steps are both given; move {short[0]} into steps, or remove steps")
        if self.spacing is not None and self.resize is not None:
            raise ValueError("spacing and resize are both given; keep one of them, or use steps")
        if self.analysis == "fullimage" and self.patch_shape is not None:
            raise ValueError("patch_shape is not used with analysis = 'fullimage'; remove one of them")
        if self.analysis != "fullimage" and self.patch_shape is None:
            raise ValueError("patch_shape is missing; give it, or set analysis = 'fullimage' for whole images")
        self.make_steps()
        return self

    def make_steps(self) -> list[Abstract_Subfunction]:
        """Create all steps, in their order."""
        if self.steps is not None:
            return [step.make() for step in self.steps]
        return [make(getattr(self, name)) for name, make in _SHORT_STEPS.items() if getattr(self, name) is not None]


_SHORT_STEPS: Final[dict[str, Any]] = {
    "orientation": Orientation,
    "crop": lambda _: CropNonzero(),
    "clip": lambda limits: Clipping(*limits),
    "normalization": lambda arguments: Normalization(**arguments),
    "spacing": lambda spacing: Resampling(tuple(spacing)),
    "resize": lambda shape: Resize(tuple(shape)),
    "padding": lambda size: Padding(tuple(size)),
}


def _augmentation_key(name: str) -> str:
    """Return the key of a setting of `Data_Augmentation`, without its prefix."""
    return name.removeprefix("config_")


_NNUNET_KEYS: Final = ", ".join(f"`{_augmentation_key(name)}`" for name in NNUNET_SETTINGS)


class AugmentationBase(Table):
    """Random changes of training patches."""

    enabled: bool = Field(default=True, description="`false`: no augmentation.")
    recipe: Annotated[str, _one_of(("miscnn", "nnunet"), "recipe")] = Field(
        default="miscnn",
        description="`miscnn`: the switches and ranges below; `nnunet`: transforms, ranges and probabilities of "
        f"nnU-Net (`NnUNetAugmentation`), with only {_NNUNET_KEYS}.",
    )
    within_slices: int | str | None = Field(
        default=None,
        description="For `nnunet`: axis across thick slices, within which patches are rotated and scaled; `auto`: by "
        "the shape of the patch; `never`. Default: `auto`.",
    )
    masked_channels: list[int] | None = Field(
        default=None,
        description="For `nnunet`: channels, counted from 0, that stay 0 where all channels are 0. Default: none.",
    )

    @model_validator(mode="after")
    def _can_be_made(self) -> AugmentationBase:
        self.make()
        return self

    def make(self) -> Data_Augmentation | None:
        """Create the augmentation, or return None."""
        if not self.enabled:
            return None
        names = {_augmentation_key(name): name for name in (*SWITCHES, *AUGMENTATION_SETTINGS)}
        settings = {names[key]: value for key, value in self.given().items() if key in names}
        own = self.given("within_slices", "masked_channels")
        if own and self.recipe != "nnunet":
            key, value = next(iter(own.items()))
            raise ConfigurationError(f"{key} = {shown(value)} needs recipe = 'nnunet'; add it, or remove {key}")
        try:
            return NnUNetAugmentation(**own, **settings) if self.recipe == "nnunet" else Data_Augmentation(**settings)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace("config_", "")) from error


#: Descriptions of the attributes of `Data_Augmentation`, whose names are also those of the keys.
_AUGMENTATION_TEXTS: Final[dict[str, str]] = {
    "cycles": "Number of times that an epoch uses each sample.",
    "scaling": "Zoom all axes by one factor of `scaling_range`.",
    "rotations": "Rotate around each axis (2D: in the plane) by angles of `rotations_angleX`, `…Y`, `…Z`.",
    "elastic_deform": "Deform smoothly, by `elastic_deform_alpha` and `elastic_deform_sigma`.",
    "mirror": "Flip each of `mirror_axes` with probability 0.5.",
    "brightness": "Multiply by a factor of `brightness_range`.",
    "contrast": "Multiply the distance from the mean by a factor of `contrast_range`.",
    "gamma": "Gamma correction by an exponent of `gamma_range`.",
    "gaussian_noise": "Add noise of a standard deviation of `gaussian_noise_range`.",
    "config_p_per_sample": "Probability of each change except mirroring.",
    "config_mirror_axes": "Axes that may be flipped, counted from 0.",
    "config_contrast_range": "Minimum and maximum factor.",
    "config_brightness_range": "Minimum and maximum factor.",
    "config_gamma_range": "Minimum and maximum exponent.",
    "config_gaussian_noise_range": "Minimum and maximum standard deviation.",
    "config_elastic_deform_alpha": "Minimum and maximum strength.",
    "config_elastic_deform_sigma": "Minimum and maximum smoothness in voxels.",
    "config_rotations_angleX": "Minimum and maximum angle, in radians; the only one in 2D.",
    "config_rotations_angleY": "Minimum and maximum angle, in radians.",
    "config_rotations_angleZ": "Minimum and maximum angle, in radians.",
    "config_scaling_range": "Minimum and maximum factor; above 1 objects get smaller.",
    "config_contrast_preserverange": "Clip to the original range of values after changing the contrast.",
    "coloraug_per_channel": "Draw brightness, contrast and gamma for each channel separately.",
    "cropping": "Crop batches to `cropping_patch_shape`; not needed for patches.",
    "cropping_patch_shape": "Shape of the crop.",
    "seg_augmentation": "Transform label maps like the image.",
    "infaug": "Average predictions over flips along `infaug_flip_list`: more accurate with `mirror`, but slower.",
    "infaug_all": "Average over all combinations of these flips, 8 views in 3D and 4 in 2D, as nnU-Net does.",
    "infaug_flip_list": "Axes of these flips, counted from 1.",
}


def _augmentation_field(name: str) -> tuple[Any, Any]:
    default = getattr(Data_Augmentation(), name)
    kinds: dict[type, Any] = {bool: bool, int: PositiveInt, float: float}
    if type(default) in kinds:
        kind = kinds[type(default)]
    else:
        kind = list[int] if name in ("config_mirror_axes", "infaug_flip_list", "cropping_patch_shape") else Range
    return kind | None, Field(default=None, description=_AUGMENTATION_TEXTS[name])


if TYPE_CHECKING:

    class Augmentation(AugmentationBase):
        """Random changes of training patches."""
else:
    Augmentation = create_model(
        "Augmentation",
        __base__=AugmentationBase,
        __doc__=AugmentationBase.__doc__,
        **{_augmentation_key(name): _augmentation_field(name) for name in (*SWITCHES, *AUGMENTATION_SETTINGS)},
    )


class Network(Table):
    """Network and training."""

    architecture: Named | None = Field(
        default=None,
        description="Name of an architecture, or a table with `name` and its arguments: "
        "`{name = 'unet_standard', n_filters = 16, depth = 3}`.",
    )
    loss: Named | None = Field(
        default=None, description="Name of a loss, or a table: `{name = 'focal_tversky_loss', delta = 0.8}`."
    )
    metrics: list[Named] | None = Field(
        default=None, description="Names of metrics, or tables: `['dice_soft', {name = 'ClassDice', label = 2}]`."
    )
    batch_size: PositiveInt = Field(default=2, description="Patches or images per training step.")
    optimizer: Named | None = Field(
        default=None,
        description="Name of a Keras optimizer, or a table: `{name = 'SGD', momentum = 0.9}`. Default: Adam.",
    )
    learning_rate: PositiveFloat | None = Field(default=None, description="Initial learning rate of the optimizer.")
    schedule: Annotated[str, _one_of(("polynomial", "constant"), "schedule")] = Field(
        default="constant",
        description="`polynomial` decreases the learning rate to 0 at the end of the training; or `constant`.",
    )
    epochs: PositiveInt | None = Field(
        default=None, description="Number of epochs. If omitted with `minutes`: until the time limit."
    )
    iterations: PositiveInt | None = Field(default=None, description="Steps per epoch. Default: each sample once.")
    minutes: PositiveFloat | None = Field(
        default=None,
        description="Time limit of a training, or of each fold. It ends when `minutes` or `epochs` is reached.",
    )
    patience: PositiveInt | None = Field(
        default=None,
        description="Stop the training after this number of epochs without a lower `val_loss` (or `loss`).",
    )
    validation_batches: PositiveInt | None = Field(
        default=None,
        description="Batches of random patches in the validation after each epoch, the same in all epochs. Default: "
        "one patch of each sample.",
    )
    best_by: Annotated[str, _one_of(BEST_BY, "best_by")] | None = Field(
        default=None,
        description="Value that chooses the best epoch: the lowest `val_loss`, or the highest moving average of "
        "`val_pooled_dice`, which needs the metric `PooledDice`.",
    )
    class_weight: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = Field(
        default=None, description="Weight of each class in the loss, background first; only the ratios matter."
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Random seed of the initial weights, patches and augmentation. Default: random."
    )
    precision: Annotated[str, _one_of(("auto", "float32", "mixed_bfloat16", "mixed_float16"), "precision")] | None = (
        Field(default=None, description="Precision of the computation; `auto` chooses the fastest of the hardware.")
    )
    deterministic: bool | None = Field(
        default=None,
        description="Bitwise the same weights for the same seed on the same machine; slightly slower.",
    )
    jit_compile: bool | None = Field(
        default=None, description="Compile training and prediction with XLA. Default: on GPUs, for patches."
    )
    multi_gpu: bool | None = Field(default=None, description="Train on all GPUs.")
    shuffle_batches: bool | None = Field(default=None, description="Shuffle the samples in each epoch.")
    workers: PositiveInt | None = Field(default=None, description="Threads that create batches.")
    batch_queue_size: PositiveInt | None = Field(default=None, description="Number of batches that are created ahead.")
    weights: str | None = Field(
        default=None, description="Model file of the same architecture with the starting weights of each training."
    )
    load_head: bool | None = Field(
        default=None,
        description="`false`: the file in `weights` has other classes or channels; its output layer is not read.",
    )

    @model_validator(mode="after")
    def _fit(self) -> Network:
        if self.optimizer is not None and "learning_rate" in self.optimizer.arguments:
            raise ValueError("optimizer has a learning_rate; move it to the key learning_rate of [network]")
        if self.best_by == "val_pooled_dice" and "PooledDice" not in [one.name for one in self.metrics or ()]:
            raise ValueError(
                "best_by = 'val_pooled_dice' needs the metric PooledDice; add {name = 'PooledDice', classes = …} to "
                "metrics"
            )
        if self.load_head is not None and self.weights is None:
            raise ValueError("load_head is given without weights; add weights with the model file")
        return self


class CrossValidation(Table):
    """Settings of ``miscnn-tf cross-validate``; groups are set in ``[split]``."""

    k_fold: Annotated[int, Field(ge=2)] | None = Field(default=None, description="Number of folds.")


class Output(Table):
    """Folder and kinds of results."""

    folder: str | None = Field(
        default=None,
        description="Run folder. Default: the name of this file without its extension, followed by `_training` or "
        "`_cross_validation`. The option `--output` takes precedence.",
    )
    figures: bool = Field(default=True, description="Plot the curves of loss and metrics, and box plots of the scores.")
    backup_every: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="Epochs between two writes of the state, from which an interrupted training resumes; 0: never.",
    )


class Experiment(Table):
    """Configuration."""

    data: Data = Field(description="The samples.")
    split: Split = Field(default_factory=Split, description="Training and validation samples.")
    preprocessing: Preprocessing = Field(description="Preprocessing.")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="Augmentation.")
    network: Network = Field(default_factory=Network, description="Network and training.")
    cross_validation: CrossValidation = Field(default_factory=CrossValidation, description="Cross-validation.")
    output: Output = Field(default_factory=Output, description="Output.")


def make_named(known: Mapping[str, Any], name: str, arguments: Mapping[str, Any], kind: str) -> Any:
    """Create a registered object, with arguments from a file.

    Raises:
        ConfigurationError: If the name is unknown, or an argument is invalid; the message suggests the nearest name.
    """
    if name not in known:
        raise ConfigurationError(unknown_name(kind, name, known))
    check_arguments(known[name], arguments, f"the {kind} {name!r}")
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    return make(known[name], arguments, f"the {kind} {name!r}")


def listed_mistakes(lines: Sequence[str], where: str | Path) -> str:
    """Return the message for mistakes in a configuration: one line, or a list.

    Args:
        lines: The mistakes, at least one.
        where: The file.
    """
    lines = list(dict.fromkeys(lines))
    if len(lines) == 1:
        return f"{where}: {lines[0]}"
    return f"{where} has {len(lines)} mistakes:\n" + "\n".join(f"  {line}" for line in lines)


def check_arguments(function: Any, arguments: Mapping[str, Any], what: str) -> None:
    """Check that a class or function takes these arguments by name.

    Raises:
        ConfigurationError: If it does not have one; the message suggests the nearest name.
    """
    parameters = inspect.signature(function).parameters
    named = [name for name, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for argument in arguments:
        if argument not in named and not takes_any:
            hint = did_you_mean(argument, named)
            raise ConfigurationError(
                f"{what} has no argument {argument!r}.{hint} Known: {', '.join(named) or 'nothing'}"
            )


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{shown(value)} is not a valid regular expression ({error})") from error
    return value
