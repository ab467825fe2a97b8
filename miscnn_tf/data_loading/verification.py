"""Verification of all samples of a data set, with a list of all findings.

`Data_IO.check` reads headers only; `verify` decodes images and label maps, and compares the samples with each other.
"""

from __future__ import annotations

import hashlib
import re
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import list_files
from miscnn_tf.data_loading.interfaces.nifti_slicer_io import SEPARATOR, NIFTIslicer_interface
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import NotFiniteWarning, check_labels, count_voxels
from miscnn_tf.data_loading.overlapping_masks import OverlapWarning
from miscnn_tf.data_loading.sample import Sample, memory_for
from miscnn_tf.errors import GridError, LabelError, MemoryBudgetError, MiscnnError, MissingDataError, RepeatedWarning

#: Findings that make a sample unusable.
BAD: Final[dict[str, str]] = {
    "missing": "files are missing",
    "unreadable": "files cannot be read, are damaged or do not match",
    "grid": "image and label map on different grids",
    "labels": "labels that are not classes",
    "not finite": "NaN or infinite voxels",
}
#: Findings that may be intended, but should be checked.
SUSPICIOUS: Final[dict[str, str]] = {
    "left out": "folders that hold no image",
    "spacing": "voxel size unlike the others'",
    "empty": "label map without foreground",
    "constant": "image of a single value",
    "duplicate": "the same image more than once",
    "class": "classes that no sample has",
    "overlap": "structures that overlap",
    "warning": "other warnings while reading",
}

# Share of samples with one voxel size from which other sizes are exceptions.
_RULE = 0.75
# Smaller differences of sizes are rounding in headers.
_SAME_SPACING = 0.01
# In data sets with many voxel sizes, those that differ from the median by this factor are reported.
_FAR = 3.0


@dataclass(frozen=True)
class Finding:
    """Finding about a sample or the data set.

    Attributes:
        index: The sample; None for the whole data set.
        kind: A key of `BAD` or `SUSPICIOUS`.
        message: The fault, the file, and the advice.
    """

    index: Hashable | None
    kind: str
    message: str

    @property
    def bad(self) -> bool:
        """True if the sample cannot be used unchanged."""
        return self.kind in BAD


@dataclass(frozen=True)
class Seen:
    """Properties of a sample that are compared with the others.

    Attributes:
        shape: Spatial shape.
        spacing: Voxel size in mm; None if the format does not store it.
        digest: Digest of the image's voxels; None if they were not read, or are all equal.
        voxels: Number of voxels per class; None without a label map.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    digest: str | None
    voxels: Sequence[int] | None


@dataclass
class Verification:
    """Result of `verify`.

    Attributes:
        samples: Names of all samples.
        findings: Findings in the order of the samples; those about the whole data set come last.
        quick: Whether only headers were read.
    """

    samples: list[Hashable]
    findings: list[Finding] = field(default_factory=list)
    quick: bool = False

    @property
    def bad(self) -> list[Hashable]:
        """Names of the samples that cannot be used unchanged, and of folders with missing files."""
        return list(dict.fromkeys(finding.index for finding in self.findings if finding.bad))

    def of_kind(self, kind: str) -> list[Hashable]:
        """Return the names of the samples with a finding of this kind."""
        return list(dict.fromkeys(finding.index for finding in self.findings if finding.kind == kind))


def verify(data_io: Data_IO, *, labels: bool = True, quick: bool = False) -> Verification:
    """Read every sample and list all faults; one sample is in memory at a time.

    Bad samples: files missing, damaged, or of other axes or channels than the interface was made for; image and label
    map on different grids; labels that are not classes; NaN. Suspicious ones: voxel sizes unlike the others', label
    maps without foreground, images of a single value, the same image twice. Nothing is changed.

    Args:
        data_io: The data set.
        labels: Whether the samples need label maps; False for images to predict.
        quick: Read headers only: missing files, grids, axes, channels and voxel sizes.

    Returns:
        All findings.

    Example:
        >>> import numpy as np
        >>> from miscnn_tf.data_loading.interfaces import Dictionary_interface
        >>> data = {"a": (np.arange(8).reshape(2, 2, 2), np.full((2, 2, 2), 7))}
        >>> found = verify(Data_IO(Dictionary_interface(data, classes=2), ""))
        >>> found.bad, found.findings[0].kind
        (['a'], 'labels')
    """
    verification = Verification(data_io.get_indiceslist(), quick=quick)
    verification.findings += _left_out(data_io)
    seen: dict[Hashable, Seen] = {}
    reported: set[Hashable] = set()
    with _kept_warnings() as kept:
        for index in tqdm(verification.samples, desc="Verifying", unit="sample", disable=None):
            try:
                with memory_for(index, "looking at its voxels"):
                    findings, facts = _look_at(data_io, index, labels, quick)
            except MemoryBudgetError as error:
                findings, facts = [Finding(index, "unreadable", str(error))], None
            verification.findings += findings
            for warning in kept():
                # The check of the headers and the reading may both report it.
                key = _key(index, warning)
                if key not in reported:
                    reported.add(key)
                    verification.findings.append(_of_warning(index, warning))
            if facts is not None:
                seen[index] = facts
    # Slices without foreground, or of air only, are not reported.
    if not isinstance(data_io.interface, NIFTIslicer_interface):
        verification.findings += _empty(seen)
        verification.findings += _duplicates(seen)
    verification.findings += _spacings(seen)
    position = {index: number for number, index in enumerate(verification.samples)}
    verification.findings.sort(key=lambda finding: position.get(finding.index, -1))
    verification.findings += _unused_classes(seen, data_io.interface)
    return verification


def _look_at(data_io: Data_IO, index: Hashable, labels: bool, quick: bool) -> tuple[list[Finding], Seen | None]:
    """Return the findings about one sample by itself, and its properties."""
    found: list[Finding] = []
    headers = _error_of(lambda: _check_headers(data_io, index, labels))
    if isinstance(headers, GridError):
        found.append(_of_error(index, headers))
    if quick:
        facts = None
        if headers is None:
            facts = _seen_in_headers(data_io, index)
        elif not found:
            found.append(_of_error(index, headers))
        return found, facts

    sample, voxels = None, None
    try:
        sample = data_io.sample_loader(index, load_seg=False)
    except Exception as error:  # the other samples must still be checked
        found.append(_of_error(index, error))
    if labels:
        try:
            with memory_for(index, "reading its label map"):
                voxels = _count_labels(data_io, index, sample)
        except Exception as error:
            # The check of the headers describes differences of grids in more detail.
            if not (isinstance(error, GridError) and found):
                found.append(_of_error(index, error))
    if headers is not None and not found:
        found.append(_of_error(index, headers))
    if sample is None:
        return found, None
    digest = _digest(sample.img_data)
    if digest is None and not isinstance(data_io.interface, NIFTIslicer_interface):
        value = sample.img_data.flat[0]
        found.append(Finding(index, "constant", f"every voxel of the image is {value}; check the export"))
    return found, Seen(sample.shape[:-1], sample.spacing, digest, voxels)


def _check_headers(data_io: Data_IO, index: Hashable, labels: bool) -> None:
    check = getattr(data_io.interface, "check", None)
    if check is not None:
        check(index, labels)


def _count_labels(data_io: Data_IO, index: Hashable, sample: Sample | None) -> list[int]:
    interface = data_io.interface
    segmentation = interface.load_segmentation(index)
    if segmentation is None:
        raise MissingDataError("the label map is missing; add one, or verify only the images")
    array = check_labels(np.asarray(segmentation), scheme_of(interface).labels, f"sample {index!r}: label map")
    if sample is not None:
        sample.add_segmentation(array)
    return count_voxels(array, interface.classes)


def _seen_in_headers(data_io: Data_IO, index: Hashable) -> Seen | None:
    try:
        spacing = data_io.interface.load_extended(index).get("spacing")
    except Exception:  # a user's own format; the full verification reports the fault
        return None
    return Seen((), None if spacing is None else tuple(float(value) for value in spacing), None, None)


def _digest(image: np.ndarray) -> str | None:
    """Compute the digest of shape, type and voxels in one pass; None for an image of a single value."""
    if image.size == 0 or (image == image.flat[0]).all():
        return None
    ordered = image.T if image.flags.f_contiguous and not image.flags.c_contiguous else image
    digest = hashlib.blake2b(f"{image.dtype.str}{image.shape}{ordered is image}".encode(), digest_size=16)
    for part in ordered:
        digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# ---------------------------------------------------------------- the samples against each other


def _left_out(data_io: Data_IO) -> list[Finding]:
    """Report folders beside the samples' that hold no image, such as samples whose image is missing.

    Applies only to layouts with a folder per sample below the input path.
    """
    root = Path(str(data_io.input_path))
    used = {str(index).partition(SEPARATOR)[0] for index in data_io.indices_list}
    if not root.is_dir() or not all((root / name).is_dir() for name in used):
        return []
    pattern = getattr(data_io.interface, "pattern", None)
    found = []
    for folder in sorted(root.iterdir()):
        name = folder.name
        skipped = name in used or name.startswith(".") or not folder.is_dir()
        if skipped or (pattern is not None and not re.fullmatch(pattern, name)):
            continue
        holds = f"{folder} holds no image that {type(data_io.interface).__name__} reads (found: {list_files(folder)})"
        if any(path.name.lower().startswith(("segmentation", "imaging")) for path in folder.iterdir()):
            found.append(Finding(name, "missing", f"{holds}; add or rename the image, or remove the folder"))
        else:
            found.append(Finding(name, "left out", f"{holds}; it is not a sample"))
    return found


def _spacings(seen: dict[Hashable, Seen]) -> Iterator[Finding]:
    known = {index: facts.spacing for index, facts in seen.items() if facts.spacing is not None}
    axes = Counter(map(len, known.values()))
    if len(known) < 3 or len(axes) != 1:
        return
    table = np.array(list(known.values()))
    middle = np.median(table, axis=0)
    usual = np.isclose(table, middle, rtol=_SAME_SPACING, atol=0).all(axis=1)
    ratios = np.maximum(table / middle, middle / table).max(axis=1)
    ruled = usual.mean() >= _RULE
    unlike = ~usual if ruled else ratios > _FAR
    rule = f"{int(usual.sum())} of {len(known)} samples have" if ruled else "the median is"
    for (index, spacing), strange in zip(known.items(), unlike, strict=True):
        if strange:
            yield Finding(
                index,
                "spacing",
                f"the voxels are {_millimetres(spacing)}, {rule} {_millimetres(middle)}; if that is correct, use "
                "a Resampling subfunction, else correct the header",
            )


def _empty(seen: dict[Hashable, Seen]) -> Iterator[Finding]:
    for index, facts in seen.items():
        if facts.voxels is not None and not any(facts.voxels[1:]):
            yield Finding(index, "empty", "the label map holds only background; check that the image has no foreground")


def _duplicates(seen: dict[Hashable, Seen]) -> Iterator[Finding]:
    groups: defaultdict[str, list[Hashable]] = defaultdict(list)
    for index, facts in seen.items():
        if facts.digest is not None:
            groups[facts.digest].append(index)
    for first, *others in groups.values():
        for index in others:
            yield Finding(
                index,
                "duplicate",
                f"the image equals that of {first!r} in all voxels; on both sides of a split it would bias the "
                "scores: remove one, or keep them together (groups=…)",
            )


def _unused_classes(seen: dict[Hashable, Seen], interface: Any) -> Iterator[Finding]:
    counted = [facts.voxels for facts in seen.values() if facts.voxels is not None]
    if not counted:
        return
    unused = [str(label) for label, voxels in enumerate(np.sum(counted, axis=0)) if label and not voxels]
    if unused and len(unused) < interface.classes - 1:
        yield Finding(
            None,
            "class",
            f"no sample has a voxel of class {some_of(unused, 10)} (classes={interface.classes}): it cannot be "
            "learned; check the number of classes and the label map",
        )


# ---------------------------------------------------------------- errors and warnings as findings


def _error_of(action: Callable[[], None]) -> Exception | None:
    try:
        action()
    except Exception as error:
        return error
    return None


def _of_error(index: Hashable, error: Exception) -> Finding:
    kinds = {GridError: "grid", LabelError: "labels", MissingDataError: "missing"}
    kind = next((name for cls, name in kinds.items() if isinstance(error, cls)), "unreadable")
    text = " ".join(str(error).split()) or "no message"
    # Unexpected errors are clearer with the name of their type.
    return Finding(index, kind, text if isinstance(error, MiscnnError) else f"{type(error).__name__}: {text}")


def _key(index: Hashable, warning: Warning) -> Hashable:
    """Return what warnings have in common of which one is reported."""
    # Overlaps of the same structures have another number of voxels in each sample.
    if isinstance(warning, RepeatedWarning) and not isinstance(warning, OverlapWarning):
        return (None, warning.key)
    return (index, str(warning))


def _of_warning(index: Hashable, warning: Warning) -> Finding:
    kinds = {NotFiniteWarning: "not finite", OverlapWarning: "overlap"}
    kind = next((name for cls, name in kinds.items() if isinstance(warning, cls)), "warning")
    return Finding(index, kind, " ".join(str(warning).split()))


@contextmanager
def _kept_warnings() -> Iterator[Callable[[], list[Warning]]]:
    """Record warnings of data instead of printing them; yield a function that returns those since its last call."""
    here = threading.get_ident()
    collected: list[Warning] = []

    def keep(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if threading.get_ident() == here and issubclass(category, UserWarning):
            collected.append(message if isinstance(message, Warning) else category(message))
        else:
            before(message, category, *rest, **more)

    def taken() -> list[Warning]:
        taken = list(collected)
        collected.clear()
        return taken

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        # Warnings of nonstandard dates and texts, which do not affect the voxels.
        warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)(\.|$)")
        before = warnings.showwarning
        warnings.showwarning = keep
        yield taken


def _millimetres(spacing: Sequence[float] | np.ndarray) -> str:
    return " × ".join(f"{float(value):.4g}" for value in spacing) + " mm"
