"""Interface for data of the Cell Tracking Challenge: a folder per sequence beside folders of its annotations."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from miscnn_tf._base.messages import did_you_mean, plural, some_of
from miscnn_tf.data_loading.file_names import folders_in, list_files, visible_files
from miscnn_tf.data_loading.interfaces.listed_files import (
    PARTS,
    FoundFiles,
    ListedFiles_interface,
    common_ending,
    needs_labels,
)
from miscnn_tf.data_loading.interfaces.sample_paths import MaskFile, SampleFiles
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.errors import ConfigurationError, MissingDataError

_SEQUENCE = re.compile(r"\d{2}", re.ASCII)
_FRAME = re.compile(r"t(\d{3,})\.tiff?", re.IGNORECASE | re.ASCII)
_MASK = re.compile(r"man_seg(\d{3,})\.tiff?", re.IGNORECASE | re.ASCII)
# Mask of one slice of a volume.
_SLICE = re.compile(r"man_seg_(\d{3,})_\d{3,}\.tiff?", re.IGNORECASE | re.ASCII)
#: Silver truth, and gold truth.
_TRUTHS = ("ST", "GT")


class _Annotations(NamedTuple):
    """Annotations of a sequence by the number of the frame, as text.

    Attributes:
        frames: Masks of whole frames.
        in_slices: Frames of which single slices are annotated.
    """

    frames: dict[str, Path]
    in_slices: frozenset[str]


class CellTracking_interface(ListedFiles_interface):
    """Interface for unmodified data of the Cell Tracking Challenge, segmented as cells and background.

    ::

        DIC-C2DH-HeLa/
          01/t000.tif
          01_GT/SEG/man_seg000.tif        gold truth: people annotated some cells in some frames
          01_ST/SEG/man_seg000.tif        silver truth: all cells, by the challenge's algorithms
          02/…

    The silver truth is used if there is one, because cells that the gold truth lacks would be background. Frames may
    be volumes; those of which people annotated single slices (``man_seg_000_005.tif``) are left out of training, with a
    warning.

    A sample is a frame with its sequence: ``"01_t000"``. The files number the cells of a frame; all of them are the
    class "cell", so that cells that touch are one region. Frames of a sequence resemble each other; the configuration
    of ``miscnn-tf init`` keeps a sequence on one side of the split.

    Args:
        channels: Number of channels; None: from the images' headers.
        classes: Number of classes, background included; None: 2.
        three_dim: Whether the images are volumes.
        pattern: Regular expression that a sample's whole name must match; None takes all.
        truth: "ST" or "GT"; None: ST if it has masks of whole frames.
        part: "training" (frames with a mask), "test" (the others) or "all".
        class_names: A name per class; None: background and cell.
        file_ending: Ending of the files if no data are available; `initialize` detects it.

    Example:
        >>> interface = CellTracking_interface(truth="ST")
        >>> interface.initialize("DIC-C2DH-HeLa")[0]  # doctest: +SKIP
        '01_t000'
    """

    layout_description: ClassVar[str] = """\
sequences of frames with numbered cells, as in the Cell Tracking Challenge
  01/t000.tif
  01_GT/SEG/man_seg000.tif        or 01_ST/SEG/man_seg000.tif"""
    recognition_order: ClassVar[int] = 15
    sample_groups: str | None = r"(.+)_t\d+"

    def __init__(
        self,
        channels: int | None = None,
        classes: int | None = None,
        three_dim: bool | None = None,
        pattern: str | None = None,
        *,
        truth: str | None = None,
        part: str = "training",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        file_ending: str | None = None,
    ) -> None:
        super().__init__(channels, classes, three_dim, pattern, part, label_map, class_names, file_ending)
        if truth not in (None, *_TRUTHS):
            raise ConfigurationError(
                f"truth={truth!r}: choose one of {', '.join(_TRUTHS)}.{did_you_mean(truth, _TRUTHS)}"
            )
        self.truth = truth

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: a sequence's folder with frames and, if needed, a folder of masks beside it."""
        for sequence in _sequences(folder):
            frame = next((path for path in visible_files(sequence) if _FRAME.fullmatch(path.name)), None)
            masks = [truth for truth in _TRUTHS if any(_annotations(sequence, truth))]
            if frame is not None and (masks or not needs_labels(settings)):
                beside = "".join(f" and {sequence.name}_{truth}/SEG" for truth in masks)
                return f"it holds {sequence.name}/{frame.name}{beside}"
        return None

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return True: the classes are background and cell."""
        return True

    def find_files(self, root: Path) -> FoundFiles:
        """Find the frames.

        Raises:
            MissingDataError: If there are none.
        """
        sequences = _sequences(root)
        there = [truth for truth in _TRUTHS if any(_annotations(sequence, truth).frames for sequence in sequences)]
        truth = self.truth or next(iter(there), _TRUTHS[-1])
        samples: dict[str, SampleFiles] = {}
        in_slices: set[str] = set()
        for sequence in sequences:
            masks, sliced = _annotations(sequence, truth)
            for path in visible_files(sequence):
                frame = _FRAME.fullmatch(path.name)
                if frame:
                    mask = masks.get(frame[1])
                    cells = () if mask is None else (MaskFile(mask, 1, "cell", numbered=True),)
                    name = f"{sequence.name}_{path.stem}"
                    samples[name] = SampleFiles((path,), masks=cells)
                    if mask is None and frame[1] in sliced:
                        in_slices.add(name)
        if not samples:
            raise MissingDataError(f"{root} holds no frames, such as 01/t000.tif (found: {list_files(root)})")
        if self.part == PARTS[0] and in_slices:
            samples = self._without_slices(root, samples, in_slices, truth)
        wanted = self.choose_part(root, samples, f"<sequence>_{truth}/SEG/man_seg<frame>.tif")
        ending = common_ending(wanted.values(), root)
        names = some_of(path.name for path in sequences)
        found_in = f"sequences {names}, the cells of *_{truth}/SEG as one class"
        if self.truth is None and len(there) > 1:
            found_in += "; the gold truth may lack cells, which would be background: choose it with truth='GT'"
        return FoundFiles(wanted, ending, class_names=("background", "cell"), found_in=found_in)

    def _without_slices(
        self, root: Path, samples: Mapping[str, SampleFiles], in_slices: Set[str], truth: str
    ) -> dict[str, SampleFiles]:
        """Return the samples without those of which single slices are annotated; warn of them."""
        kept = {name: files for name, files in samples.items() if name not in in_slices}
        what = (
            f"{root}: {plural(len(in_slices), 'frame')} with single annotated slices (*_{truth}/SEG/man_seg_<frame>_"
            f"<slice>.tif): {some_of(sorted(in_slices))}"
        )
        if not any(files.labelled for files in kept.values()):
            raise MissingDataError(
                f"{what}; no frame is annotated completely. Add the silver truth, *_ST/SEG, or annotate whole frames; "
                "part='all' takes the frames without masks"
            )
        warnings.warn(f"{what}; left out", stacklevel=2)
        return kept


def _sequences(root: Path) -> list[Path]:
    return [path for path in folders_in(root) if _SEQUENCE.fullmatch(path.name)]


def _annotations(sequence: Path, truth: str) -> _Annotations:
    folder = sequence.with_name(f"{sequence.name}_{truth}") / "SEG"
    files = visible_files(folder) if folder.is_dir() else []
    return _Annotations(
        {match[1]: path for path in files if (match := _MASK.fullmatch(path.name))},
        frozenset(match[1] for path in files if (match := _SLICE.fullmatch(path.name))),
    )
