"""Interface for a folder of images and a folder of masks."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from miscnn_tf._base.files import inside
from miscnn_tf._base.messages import plural, some_of
from miscnn_tf.data_loading._discovery.annotators import first_masks
from miscnn_tf.data_loading._discovery.field_of_view import FOLDER
from miscnn_tf.data_loading._discovery.mask_folders import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MaskFolder,
    choose_mask_folder,
    fitting_folders,
)
from miscnn_tf.data_loading._discovery.sibling_folders import (
    FolderPair,
    has_sibling_pairs,
    several_pairs,
    sibling_pairs,
)
from miscnn_tf.data_loading.file_names import (
    bare_image,
    bare_mask,
    composed,
    distinct,
    folder_entries,
    folders_in,
    list_files,
    matches,
    name_expression,
    pair,
    visible_files,
    without_ending,
)
from miscnn_tf.data_loading.formats.image_file import LOSSY, MASKS
from miscnn_tf.data_loading.formats.volumes import VOLUME_ENDINGS, has_volume_ending
from miscnn_tf.data_loading.interfaces.listed_files import (
    PARTS,
    FoundFiles,
    ListedFiles_interface,
    common_ending,
)
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

logger = logging.getLogger(__name__)

# Folders that are read together, such as volume_pt1 to volume_pt5 of LiTS.
_NUMBERED = re.compile(r"(?:images?|imgs?|volumes?|scans?)[-_ ]?(?:pt|part|batch)?[-_ ]?\d+", re.IGNORECASE | re.ASCII)

_LOSSLESS = (*VOLUME_ENDINGS, *(f".{ending}" for ending in MASKS))
_READ = (*_LOSSLESS, *(f".{ending}" for ending in LOSSY))
_CHANNEL = re.compile(r"(.+)_(\d{4})")


class Paired_interface(ListedFiles_interface):
    """Interface for a folder of images beside a folder of masks.

    ::

        data/
          images/         or image, imgs, img
            cell_01.png
            cell_02.png
          masks/          or labels, annotations, groundtruth, gt, segmentations, 1st_manual, …
            cell_01.png   or cell_01_mask.png, cell_01-seg.tif, …; img_01.png has mask_01.png
            cell_02.png

    Other folders are found by their names and files: ``train`` and ``train_masks`` (Carvana),
    ``ISIC2018_Task1-2_Training_Input`` and ``ISIC2018_Task1_Training_GroundTruth``. So are ``volume-0.nii`` and
    ``segmentation-0.nii`` (LiTS) in one folder, or in ``volume_pt1``, ``volume_pt2``, … and ``segmentations``.

    Of masks by several annotators (CHASE, DRIVE, STARE), those of the first are used by default. A folder ``mask`` of
    fields of view, outside of which the images are black, is left out beside another folder of masks.

    Images are PNG, TIFF, BMP, JPEG, GIF or PPM, grey or in colours; or volumes, NIfTI, ``.nrrd``, ``.mha``, ``.mgz``,
    TIFF stacks, …, with several channels as 4D or as ``scan_0000.nii.gz``, ``scan_0001.nii.gz``. Masks are read as by
    `Image_interface` or `NIFTI_interface`. Both may be in one folder if the masks are recognisable by their names; with
    ``part="all"``, images alone may be in the data folder itself. A sample is named like its image without the ending.
    Masks of 0 and 255 need ``label_map={255: 1}``.

    The chosen folders are logged, and stored in the attribute ``found_in``. If the files of several folders match the
    images, `initialize` raises an error, and `mask_folder` must be given: DRIVE has the field of view in ``mask/`` and
    the vessels in ``1st_manual/``.

    Predictions are ``<output_path>/<name>.nii.gz``, or in the format of the images, or PNG if that is lossy.

    Args:
        channels: 1, 3 for colours, or more (NIfTI); None: from the images' headers.
        classes: Number of classes, background included.
        three_dim: Whether the images are volumes (NIfTI); None: like the majority of the images.
        pattern: Regular expression that a sample's whole name must match; None takes all.
        image_folder: Folder of the images, relative to the data folder (``"train/images"``); None: by the usual names.
        mask_folder: Folder of the masks, likewise.
        mask_pattern: Regular expression that a mask's whole name without the ending must match, to choose one of
            several annotators, ``".*_1stHO"`` in CHASE; None takes all.
        part: "training" (images with a mask), "test" (images without) or "all".
        label_map: Labels for values in the masks, ``{255: 1}``; other values are kept. Predictions are written in the
            same values.
        class_names: A name per class, background first.
        file_ending: Ending of the files if no data are available; `initialize` detects it.

    Example:
        >>> interface = Paired_interface(classes=2, label_map={255: 1})
        >>> interface.initialize("data")  # doctest: +SKIP
        ['cell_01', 'cell_02']
    """

    layout_description: ClassVar[str] = """\
a folder of images beside a folder of masks
  images/x.png                    or imgs/; .tif, .bmp, .jpg, .nii.gz
  masks/x.png                     or labels/, annotations/, gt/, 1st_manual/, …; x_mask.png
                                  likewise train/ and train_masks/; volume-0.nii and segmentation-0.nii"""
    recognition_order: ClassVar[int] = 40

    def __init__(
        self,
        channels: int | None = None,
        classes: int | None = 2,
        three_dim: bool | None = None,
        pattern: str | None = None,
        *,
        image_folder: str | None = None,
        mask_folder: str | None = None,
        mask_pattern: str | None = None,
        part: str = "training",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        file_ending: str | None = None,
    ) -> None:
        super().__init__(
            channels,
            classes,
            three_dim,
            pattern,
            part=part,
            label_map=label_map,
            class_names=class_names,
            file_ending=file_ending,
        )
        self.image_folder = image_folder
        self.mask_folder = mask_folder
        self.mask_pattern = mask_pattern

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: folders of images and masks that exist or are given, or files with such names."""
        given = [settings[name] for name in ("image_folder", "mask_folder") if settings.get(name) is not None]
        if any((folder / str(name)).is_dir() for name in given):
            return "its folders of images and masks are given"
        if not is_paired(folder, labelled=settings.get("part", PARTS[0]) == PARTS[0]):
            return None
        return "it holds images and masks that match by name, or images alone"

    def find_files(self, root: Path) -> FoundFiles:
        """Find the images and their masks.

        Raises:
            MissingDataError: If a folder is missing or empty, or no image has a mask.
            DataError: If the pairing is ambiguous.
        """
        siblings = self._siblings(root)
        image_folders = self._image_folders(root) if siblings is None else [siblings.images]
        images, masks = _by_stem(*image_folders), {}
        if siblings is None:
            mask_folder, remark = self._mask_folder(root, image_folders, images) or (None, "")
        else:
            mask_folder, remark = siblings.masks, ""
        if mask_folder in image_folders:
            masks = {stem: path for stem, path in images.items() if bare_mask(stem) != stem}
            images = {stem: path for stem, path in images.items() if stem not in masks}
        elif mask_folder is not None:
            masks = _by_stem(mask_folder)
        wanted = name_expression(self.mask_pattern)
        masks = {stem: path for stem, path in masks.items() if matches(wanted, stem)}
        if self.mask_pattern is None and (first := first_masks(masks)) is not None:
            masks = {stem: path for stem, path in masks.items() if stem in first.names}
            remark = "; ".join(filter(None, (remark, first.remark)))
        shown = some_of(map(str, image_folders))
        where = shown if mask_folder in image_folders else f"{shown} and {mask_folder or 'no masks'}"
        if not images:
            raise MissingDataError(
                f"{shown} holds no images (found: {list_files(image_folders[0])}) that end in {', '.join(_READ)}"
                f"{_deeper(root, image_folders[0])}"
            )
        if not masks and mask_folder is not None and self.part == "training":
            raise MissingDataError(
                f"{mask_folder} holds no masks (found: {list_files(mask_folder)}) that end in "
                f"{', '.join(_LOSSLESS)}; convert others"
            )
        both, single = self._pair_up(images, masks, where)
        samples = {"training": both, "test": single, "all": both | single}[self.part]
        if not samples:
            raise MissingDataError(self._nothing(where, sorted(images), sorted(masks)))
        found_in = _found_in(image_folders, mask_folder) + (f"; {remark}" if remark else "")
        logger.info("%s: %s", root, found_in)
        ending = common_ending(samples.values(), where)
        return FoundFiles(samples, ending, found_in=found_in)

    def _pair_up(
        self, images: Mapping[str, Path], masks: Mapping[str, Path], where: str
    ) -> tuple[dict[str, SampleFiles], dict[str, SampleFiles]]:
        """Return the samples with a mask, and those without; log images and masks without a partner."""
        pairs = pair(images, masks, where)
        groups = _channel_groups(pairs.images_alone, pairs.masks_alone, images)
        if not masks and self.part != "training":
            groups = _numbered_channels(images)
        grouped = {part for parts in groups.values() for part in parts}
        alone = [name for name in pairs.images_alone if name not in grouped]
        lonely = [name for name in pairs.masks_alone if name not in groups]
        both = {name: SampleFiles((images[name],), masks[mask]) for name, mask in pairs.masks.items()}
        single = {name: SampleFiles((images[name],)) for name in alone}
        for name, parts in groups.items():
            kind = both if name in masks else single
            kind[name] = SampleFiles(tuple(images[part] for part in parts), masks.get(name))
        if lonely:
            logger.warning("%s: %s without an image: %s", where, plural(len(lonely), "mask"), some_of(lonely))
        if self.part == "training" and alone and both:
            logger.warning(
                "%s: %s without a mask, left out: %s (part='all' includes them for prediction)",
                *(where, plural(len(alone), "image"), some_of(alone)),
            )
        return both, single

    def _nothing(self, where: str, images: list[str], masks: list[str]) -> str:
        if self.part == "test":
            return f"{where}: every image has a mask; part='training' or part='all' includes these"
        named = distinct([*images, *masks])
        images, masks = named[: len(images)], named[len(images) :]
        return (
            f"{where}: no mask matches an image by name (images: {some_of(images, 3)}; masks: {some_of(masks, 3)}). "
            "Name a mask like its image, or x_mask for x, or mask_1 for img_1; part='all' includes images without masks"
        )

    def _siblings(self, root: Path) -> FolderPair | None:
        """Return folders such as ``train`` and ``train_masks``; None if folders are given or have the usual names."""
        given = self.image_folder is not None or self.mask_folder is not None
        if given or _image_folders_in(root) or is_flat(root):
            return None
        pairs = sibling_pairs(root)
        if len(pairs) > 1:
            raise several_pairs(root, pairs)
        return pairs[0] if pairs else None

    def _image_folders(self, root: Path) -> list[Path]:
        images = self._folder(root, self.image_folder, IMAGE_FOLDERS, "image_folder")
        if images is not None:
            return [images]
        if numbered := _numbered(root):
            return numbered
        if self.mask_folder is None and not _called(root, MASK_FOLDERS) and is_flat(root):
            return [root]
        if self.part != "training" and _by_stem(root):
            return [root]
        inner = [path.parent for path in sorted(root.glob("*/*")) if _is_called(path, IMAGE_FOLDERS)]
        hint = "; rename it, or give image_folder"
        if inner:
            hint = f"; give {' or '.join(str(path) for path in inner[:3])}, or image_folder"
        raise MissingDataError(
            f"{root} holds no folder of images named {', '.join(IMAGE_FOLDERS)} (found: {list_files(root)}){hint}"
        )

    def _mask_folder(self, root: Path, image_folders: Sequence[Path], images: Mapping[str, Path]) -> MaskFolder | None:
        """Return the folder of the masks, if any; the images' own if it also holds masks.

        Raises:
            MissingDataError: If it is missing, but masks are needed.
            DataError: If several folders match.
        """
        if self.mask_folder is not None:
            given = self._folder(root, self.mask_folder, MASK_FOLDERS, "mask_folder")
            return None if given is None else MaskFolder(given)
        if root in image_folders and not _called(root, MASK_FOLDERS):
            return MaskFolder(root) if is_flat(root) else None
        masks = choose_mask_folder(root, image_folders, images)
        if masks is None and self.part == "training":
            fitting = fitting_folders(root, image_folders, images)
            hint = f"give mask_folder={fitting[0].name!r}" if fitting else "rename it, or give mask_folder"
            if fitting and fitting[0].name.lower() == FOLDER:
                hint = (
                    f"{fitting[0].name} seems to hold fields of view, since the images are black outside of them; if "
                    f"they are annotations, {hint}"
                )
            raise MissingDataError(
                f"{root} holds no folder of masks named {', '.join(MASK_FOLDERS)} (found: {list_files(root)}); "
                f"{hint}; part='all' includes images without masks"
            )
        return masks

    @staticmethod
    def _folder(root: Path, given: str | None, names: Sequence[str], argument: str) -> Path | None:
        if given is not None:
            try:
                folder = root if str(given) in ("", ".") else inside(root, given)
            except DataError:
                raise ConfigurationError(
                    f"{argument}={given!r} is not a folder below {root}; give a relative path such as 'train/images'"
                ) from None
            if not folder.is_dir():
                raise MissingDataError(
                    f"{argument}={given!r}: the folder {folder} does not exist; {root} holds {list_files(root)}"
                )
            return folder
        found = _called(root, names)
        if len(found) > 1:
            raise DataError(
                f"{root} holds {', '.join(path.name for path in found)}; choose one with {argument}={found[0].name!r}"
            )
        return found[0] if found else None


def is_paired(root: Path, labelled: bool = True) -> bool:
    """Return True if a folder holds folders of images and of masks, or both in one.

    Folders have the usual names, or names such as ``train`` and ``train_masks``; files those such as ``x.png`` and
    ``x_mask.png``, or ``volume-1.nii`` and ``segmentation-1.nii``.

    Args:
        root: An existing folder.
        labelled: Whether masks are needed; if False, images alone are enough, in a folder or in `root` itself.
    """
    images, masks = bool(_image_folders_in(root)), bool(_called(root, MASK_FOLDERS))
    if images and (masks or not labelled):
        return True
    return (
        is_flat(root)
        or (not images and has_sibling_pairs(root))
        or (not labelled and any(without_ending(path.name, _READ) for path in visible_files(root)))
    )


def is_flat(root: Path) -> bool:
    """Return True if a folder itself holds images beside masks that are recognisable by their names."""
    stems = [composed(stem) for path in visible_files(root) if (stem := without_ending(path.name, _READ))]
    masks = {bare for stem in stems if (bare := bare_mask(stem)) != stem}
    return any(stem in masks or (bare_mask(stem) == stem and bare_image(stem) in masks) for stem in stems)


def _is_called(path: Path, names: Sequence[str]) -> bool:
    return path.name.lower() in names and path.is_dir()


def _called(root: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders in a folder that have one of these names, sorted."""
    return [root / entry.name for entry in folder_entries(root) if _is_called(root / entry.name, names)]


def _image_folders_in(root: Path) -> list[Path]:
    return _called(root, IMAGE_FOLDERS) or _numbered(root)


def _numbered(root: Path) -> list[Path]:
    """Return folders such as ``volume_pt1`` and ``volume_pt2`` beside a folder of masks,."""
    if not _called(root, MASK_FOLDERS):
        return []
    return [path for path in folders_in(root) if _NUMBERED.fullmatch(path.name)]


def _by_stem(*folders: Path) -> dict[str, Path]:
    """Return the images or masks in folders, by composed name without the ending."""
    stems: dict[str, Path] = {}
    for folder, entry in ((parent, entry) for parent in folders for entry in folder_entries(parent)):
        stem = without_ending(entry.name, _READ)
        if not stem:
            continue
        path = folder / entry.name
        if entry.is_dir():
            logger.warning("%s is a folder, not a file, and left out; move the file in it to the parent folder", path)
            continue
        other = stems.setdefault(composed(stem), path)
        if other != path:
            here = other.parent == folder
            names = " and ".join(distinct([other.name if here else str(other), path.name if here else str(path)]))
            raise DataError(f"{folder} holds several files of one sample, {names}; remove all but one")
    return stems


def _found_in(images: Sequence[Path], masks: Path | None) -> str:
    shown = some_of(map(str, images))
    if masks in images:
        return f"images and masks from {shown}"
    return f"images from {shown}, {'no masks' if masks is None else f'masks from {masks}'}"


def _deeper(root: Path, images: Path) -> str:
    """Return the advice for images in subfolders, such as ``images/train``."""
    inner = next((entry.name for entry in folder_entries(images) if entry.is_dir()), None)
    if inner is None:
        return ""
    # Also if the images are in the data folder itself.
    folder = (images / inner).relative_to(root).as_posix()
    return f". If they are in one of its folders, give image_folder={folder!r}, and mask_folder likewise"


def _channel_groups(
    images: Iterable[str], masks: Iterable[str], paths: Mapping[str, Path]
) -> dict[str, tuple[str, ...]]:
    """Group volumes ``x_0000``, ``x_0001``, … that share a mask ``x``."""
    wanted = set(masks)
    groups: dict[str, list[str]] = {}
    for name in sorted(images):
        match = _CHANNEL.fullmatch(name)
        if match and match[1] in wanted and has_volume_ending(paths[name]):
            groups.setdefault(match[1], []).append(name)
    for name, parts in groups.items():
        if parts != [f"{name}_{number:04d}" for number in range(len(parts))]:
            raise MissingDataError(
                f"{paths[parts[0]].parent}: a channel of {name!r} is missing (found: {', '.join(parts)}); channels are "
                "numbered from 0000 without gaps"
            )
    return {name: tuple(parts) for name, parts in groups.items()}


def _numbered_channels(images: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """Group volumes that are all named ``x_0000``, ``x_0001``, …, like nnU-Net's test cases; empty otherwise."""
    matches = [_CHANNEL.fullmatch(name) for name in images]
    if not all(match and has_volume_ending(images[match[0]]) for match in matches):
        return {}
    names = {match[1] for match in matches if match}
    if not all(f"{name}_0000" in images for name in names):
        return {}
    return _channel_groups(images, names, images)
