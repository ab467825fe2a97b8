"""Animations of samples: label maps over the image, and errors of predictions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from miscnn_tf._base.arguments import positive, spacings, whole_number
from miscnn_tf._base.class_colours import OKABE_ITO, class_colours
from miscnn_tf._base.files import inside
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.geometry import is_usable, spacing_of
from miscnn_tf.data_loading.labels import (
    MOST_CLASSES,
    check_labels,
    chosen_classes,
    count_voxels,
    decide_labels,
    label_dtype,
)
from miscnn_tf.data_loading.sample import Sample, as_index_list
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.pictures.animation import Sheet, overlay_palette, panel_size, write_gif
from miscnn_tf.pictures.overlay import overlay
from miscnn_tf.pictures.slices import View, displayed, interesting_slices, levels_around, window_levels
from miscnn_tf.processing.preparation import run_subfunctions
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

_YELLOW, _VERMILION, _SKY_BLUE = OKABE_ITO[4], OKABE_ITO[3], OKABE_ITO[1]
# The three colours of Okabe & Ito that differ most over grey, for any colour vision.
OUTCOMES = {"true positive": _YELLOW, "false positive": _VERMILION, "false negative": _SKY_BLUE}
# Code of a voxel: 1 if the truth has the class, plus 2 if the prediction has it.
_CODES = {"false negative": 1, "false positive": 2, "true positive": 3}

_LEVEL_SLICES = 5
_WHOLE_LEGEND = 8
_PROGRESS_AFTER = 2.0  # seconds

Samples = Sequence[Hashable] | Sequence[Sample] | Sample | Hashable
#: Function from the position of a slice to its label map ``(rows, columns)``.
Slicer = Callable[[int], np.ndarray]


def visualize_samples(
    sample_list: Samples,
    out_dir: str | Path = "vis",
    mask_seg: bool = False,
    mask_pred: bool = True,
    data_io: Data_IO | None = None,
    preprocessing: Preprocessor | Sequence[Abstract_Subfunction] | Abstract_Subfunction | None = None,
    *,
    class_names: Sequence[str] | None = None,
    alpha: float = 0.45,
    levels: tuple[float, float] | None = None,
    frames: int = 60,
    size: int = 384,
    seconds: float = 0.15,
) -> list[Path]:
    """Write a GIF of the slices of each sample, with label maps over the image side by side.

    Volumes with an affine are shown in radiological convention: axial slices from the feet up, the patient's right on
    the left, the front at the top. Without one, slices are perpendicular to the axis of the largest spacing. The GIF of
    a 2D image has one frame. The samples are not changed.

    Args:
        sample_list: Names of samples or `Sample` objects, or a single one.
        out_dir: Folder of the files ``<out_dir>/<name>.gif``; created if it does not exist.
        mask_seg: Show the segmentation.
        mask_pred: Show the prediction, or the most probable class of class probabilities.
        data_io: Data_IO of the names. A `Preprocessor` as `preprocessing` has its own.
        preprocessing: Subfunctions to apply to the samples, or a `Preprocessor` with them. They treat predictions like
            segmentations.
        class_names: A name per class, background first; by default those of the interface.
        alpha: Opacity, 0 to 1, of the colours.
        levels: Values shown as black and white; by default a range for the marked structures.
        frames: Maximum number of frames; of thicker volumes evenly spaced slices are shown.
        size: Approximate length of the longer side of an image in pixels.
        seconds: Duration of a frame.

    Returns:
        The files.

    Raises:
        ConfigurationError: If an argument is invalid, or two samples have the same name.
        MissingDataError: If a requested segmentation or prediction does not exist.
        DataError: If a label map does not fit its image, or a name is not a valid file name.
        StorageError: If a file cannot be written.

    Warns:
        LabelWarning: If a label map has labels without a class; they are shown as ``label <number>``.

    Example:
        >>> visualize_samples(["case_00000"], mask_seg=True, data_io=data_io)  # doctest: +SKIP
        [PosixPath('vis/case_00000.gif')]
    """
    steps, data_io = _steps(preprocessing, data_io)
    listed = _listed(sample_list, data_io)
    paths = []
    silent = None if len(listed) > 1 else True
    for name in tqdm(listed, desc="Pictures", unit="sample", delay=_PROGRESS_AFTER, disable=silent, leave=False):
        case = _Case.of(_loaded(name, data_io, mask_seg, mask_pred), mask_seg, mask_pred, steps)
        names = _names(class_names, data_io, case)
        panels: list[tuple[str, Slicer | None]] = [(kind, labels.__getitem__) for kind, labels in case.maps.items()]
        path = inside(out_dir, case.index, ".gif")
        case.draw(
            path,
            panels or [("image", None)],
            class_colours(case.classes),
            [(names[number], number) for number in case.legend_classes()],
            alpha,
            levels,
            frames,
            size,
            seconds,
        )
        paths.append(path)
    return paths


def visualize_prediction_overlap_3D(
    sample: Sample | Hashable,
    classes: Sequence[int] | int | None = None,
    visualization_path: str | Path = "visualization",
    alpha: float = 0.6,
    *,
    data_io: Data_IO | None = None,
    class_names: Sequence[str] | None = None,
    levels: tuple[float, float] | None = None,
    frames: int = 60,
    size: int = 384,
    seconds: float = 0.15,
) -> Path:
    """Write a GIF of the slices of a sample, with the errors of its prediction for each class.

    True positives are yellow, false positives vermilion, false negatives sky blue: colours that are distinct for any
    colour vision. Each class has its own panel, because a voxel may be a false negative of one class and a false
    positive of another. 2D images are supported. See `visualize_samples` for the orientation of volumes.

    Args:
        sample: A `Sample` with segmentation and prediction, or its name.
        classes: The classes to show; by default all of the segmentation and the prediction, except the background.
        visualization_path: Folder of the file ``<visualization_path>/<name>.overlap.gif``; created if it does not
            exist.
        alpha: Opacity, 0 to 1, of the colours.
        data_io: Data_IO of the name.
        class_names: A name per class, background first; by default those of the interface.
        levels: As for `visualize_samples`.
        frames: As for `visualize_samples`.
        size: As for `visualize_samples`.
        seconds: As for `visualize_samples`.

    Returns:
        The file.

    Raises:
        ConfigurationError: If an argument is invalid.
        MissingDataError: If the sample has no segmentation or no prediction.
        DataError: If a label map does not fit the image, or the name is not a valid file name.
        StorageError: If the file cannot be written.

    Example:
        >>> visualize_prediction_overlap_3D("case_00000", data_io=data_io)  # doctest: +SKIP
        PosixPath('visualization/case_00000.overlap.gif')
    """
    (name,) = _listed([sample], data_io)
    case = _Case.of(_loaded(name, data_io, True, True), True, True, [])
    names = _names(class_names, data_io, case)
    shown = case.present() or [min(1, case.classes - 1)] if classes is None else chosen_classes(classes, case.classes)
    truth, prediction = case.maps["ground truth"], case.maps["prediction"]

    def outcomes(number: int) -> Slicer:
        return lambda at: (truth[at] == number) + 2 * (prediction[at] == number).astype(np.uint8)

    colours = np.zeros((4, 3), np.uint8)
    for outcome, colour in OUTCOMES.items():
        colours[_CODES[outcome]] = tuple(bytes.fromhex(colour[1:]))
    path = inside(visualization_path, case.index, ".overlap.gif")
    case.draw(
        path,
        [(names[number], outcomes(number)) for number in shown],
        colours,
        [(outcome, _CODES[outcome]) for outcome in OUTCOMES],
        alpha,
        levels,
        frames,
        size,
        seconds,
    )
    return path


@dataclass(frozen=True)
class _Case:
    """A sample in its view: image and label maps, not copied."""

    index: Hashable
    image: np.ndarray
    colour: bool
    maps: dict[str, np.ndarray]
    view: View
    classes: int
    known_classes: int
    three_dim: bool

    @classmethod
    def of(cls, sample: Sample, with_truth: bool, with_prediction: bool, steps: list[Abstract_Subfunction]) -> _Case:
        where = f"sample {sample.index!r}"
        maps: dict[str, np.ndarray] = {}
        if with_truth:
            if sample.seg_data is None:
                raise MissingDataError(
                    f"{where} has no segmentation; load it with load_seg=True, or use mask_seg=False"
                )
            maps["ground truth"] = _labels(sample, sample.seg_data, "segmentation")
        if with_prediction:
            if sample.pred_data is None:
                raise MissingDataError(
                    f"{where} has no prediction; load it with load_pred=True, or use mask_pred=False"
                )
            maps["prediction"] = _labels(sample, sample.pred_data, "prediction")
        if steps:
            sample, maps = _stepped(sample, maps, steps)
        # Labels without a class are also shown.
        classes = max([sample.classes, *(int(labels.max()) + 1 for labels in maps.values())])
        affine = sample.extended.get("affine") if sample.three_dim else None
        if affine is not None and not is_usable(affine):
            affine = None
        view = View.of(sample.img_data.shape[:-1], _spacing(sample, affine), affine)
        image, colour = displayed(sample.img_data, sample.ndim)
        turned = {kind: view.turn(labels) for kind, labels in maps.items()}
        return cls(sample.index, view.turn(image), colour, turned, view, classes, sample.classes, sample.three_dim)

    def present(self) -> list[int]:
        """Return the classes of the label maps, except the background."""
        counted = np.sum([count_voxels(labels, self.classes) for labels in self.maps.values()], axis=0)
        return [number for number in np.flatnonzero(counted).tolist() if number > 0]

    def legend_classes(self) -> list[int]:
        """Return the classes of the legend: all classes if they are few, otherwise those of the sample."""
        if not self.maps:
            return []
        return list(range(1, self.classes)) if self.classes <= _WHOLE_LEGEND else self.present()

    def levels(self) -> tuple[float, float] | None:
        if self.colour:
            return None
        maps = list(self.maps.values())
        # Without marked voxels, as without a label map, the whole image determines the levels.
        if not any(labels.any() for labels in maps):
            return window_levels(self.image)
        chosen = interesting_slices(maps, _LEVEL_SLICES)
        return levels_around(self.image[chosen], np.any([labels[chosen] > 0 for labels in maps], axis=0))

    def draw(
        self,
        path: Path,
        panels: Sequence[tuple[str, Slicer | None]],
        colours: np.ndarray,
        legend: Sequence[tuple[str, int]],
        alpha: float,
        levels: tuple[float, float] | None,
        frames: int,
        size: int,
        seconds: float,
    ) -> None:
        """Write the GIF with a panel per entry of `panels`."""
        frames = whole_number(frames, "frames", 1)
        size = whole_number(size, "size", 16)
        seconds = positive(seconds, "seconds")
        if levels is None:
            levels = self.levels()
        elif not levels[0] < levels[1]:
            raise ConfigurationError(
                f"levels={levels!r} must be two values in ascending order, shown as black and white"
            )
        keys = tuple((name, tuple(colours[number].tolist())) for name, number in legend)
        sheet = Sheet(
            str(self.index), tuple(name for name, _ in panels), panel_size(self.view, self.image.shape, size), keys
        )

        def drawn() -> Iterator[Image.Image]:
            blank = sheet.blank()
            count = len(self.image)
            for at in np.unique(np.linspace(0, count - 1, min(count, frames)).round().astype(int)).tolist():
                pixels = [
                    overlay(
                        self.image[at], None if labels is None else labels(at), len(colours), alpha, levels, colours
                    )
                    for _, labels in panels
                ]
                caption = f"slice {self.view.number(at)}" if self.three_dim else ""
                yield sheet.frame(blank, pixels, caption)

        # Colour images need most of the 256 colours.
        write_gif(
            path, drawn(), seconds, np.unique(colours, axis=0) if self.colour else overlay_palette(colours, alpha)
        )


def _steps(preprocessing: object, data_io: Data_IO | None) -> tuple[list[Abstract_Subfunction], Data_IO | None]:
    if preprocessing is None:
        return [], data_io
    if isinstance(preprocessing, Preprocessor):
        return list(preprocessing.subfunctions), data_io or preprocessing.data_io
    steps: list[Any] = list(preprocessing) if isinstance(preprocessing, list | tuple) else [preprocessing]
    for step in steps:
        if not isinstance(step, Abstract_Subfunction):
            raise ConfigurationError(f"preprocessing must be a Preprocessor or subfunctions, got {step!r}")
    return steps, data_io


def _listed(samples: Any, data_io: Data_IO | None) -> list[Hashable | Sample]:
    if isinstance(samples, Sample):
        return [samples]
    if isinstance(samples, Iterable) and not isinstance(samples, str | bytes | set | frozenset | np.ndarray):
        samples = list(samples)
    if isinstance(samples, list) and any(isinstance(sample, Sample) for sample in samples):
        listed: list[Hashable | Sample] = samples
    else:
        listed = list(as_index_list(samples))
    seen = set()
    for sample in listed:
        name = sample.index if isinstance(sample, Sample) else sample
        if data_io is None and not isinstance(sample, Sample):
            raise ConfigurationError(f"{name!r} is the name of a sample; pass data_io, or a Sample instead")
        if name in seen:
            raise ConfigurationError(f"sample {name!r} occurs twice, but each needs its own file; remove one")
        seen.add(name)
    return listed


def _loaded(sample: Hashable | Sample, data_io: Data_IO | None, load_seg: bool, load_pred: bool) -> Sample:
    if isinstance(sample, Sample):
        return sample
    assert data_io is not None  # checked by _listed
    return data_io.sample_loader(sample, load_seg=load_seg, load_pred=load_pred)


def _labels(sample: Sample, labels: np.ndarray, what: str) -> np.ndarray:
    """Return a label map of the sample without the channel axis."""
    if labels.ndim == sample.ndim + 1:
        labels = decide_labels(labels) if labels.shape[-1] == sample.classes > 1 else labels[..., 0]
    where = f"sample {sample.index!r}"
    if labels.shape != sample.img_data.shape[:-1]:
        raise DataError(
            f"{where}: the {what} is {labels.shape}, but the image is {sample.img_data.shape[:-1]}; they must be equal"
        )
    return _checked(labels, f"{where}: {what}")


def _checked(labels: np.ndarray, where: str) -> np.ndarray:
    """Check labels, which may exceed the number of classes, and return them in the smallest type."""
    if labels.dtype == np.uint8:
        return labels
    labels = check_labels(labels, MOST_CLASSES, where)
    return labels.astype(label_dtype(int(labels.max()) + 1), copy=False)


def _stepped(
    sample: Sample, maps: dict[str, np.ndarray], steps: list[Abstract_Subfunction]
) -> tuple[Sample, dict[str, np.ndarray]]:
    """Apply the steps to a copy of the sample, and to each label map as its segmentation."""

    def run(labels: np.ndarray | None) -> Sample:
        done = copy.copy(sample)
        # Steps of users may modify their arrays.
        done.img_data = sample.img_data.copy()
        done.seg_data = None if labels is None else labels[..., np.newaxis].copy()
        done.pred_data = None
        done.extended, done.details, done.history = copy.deepcopy((sample.extended, sample.details, sample.history))
        run_subfunctions(done, steps, training=labels is not None)
        return done

    if not maps:
        return run(None), {}
    changed = {}
    for kind, labels in maps.items():
        done = run(labels)
        assert done.seg_data is not None
        changed[kind] = _checked(done.seg_data[..., 0], f"sample {sample.index!r} after the steps")
    return done, changed


def _spacing(sample: Sample, affine: np.ndarray | None) -> tuple[float, ...]:
    if sample.spacing is None:
        return tuple(spacing_of(affine).tolist()) if affine is not None else (1.0,) * sample.ndim
    spacing = spacings(sample.spacing, f"the spacing of sample {sample.index!r}")
    if len(spacing) != sample.ndim:
        raise ConfigurationError(
            f"sample {sample.index!r}: its spacing {spacing} has {len(spacing)} lengths, but the image has "
            f"{sample.ndim} axes; the interface must return one per axis"
        )
    return spacing


def _names(class_names: Sequence[str] | None, data_io: Data_IO | None, case: _Case) -> list[str]:
    """Return the names of the classes of the sample, and numbers for other labels."""
    known = _names_of_classes(class_names, data_io, case.known_classes)
    return [*known, *(f"label {number}" for number in range(len(known), case.classes))]


def _names_of_classes(class_names: Sequence[str] | None, data_io: Data_IO | None, classes: int) -> list[str]:
    if class_names is None and data_io is not None and getattr(data_io.interface, "class_names", None) is not None:
        return list(data_io.interface.names_of_classes())
    if class_names is None:
        return ["background", *(f"class {number}" for number in range(1, classes))]
    if len(class_names) != classes:
        raise ConfigurationError(f"class_names={tuple(class_names)!r} must be {classes} names, background first")
    return [str(name) for name in class_names]
