"""Interface for images with one mask per object: a folder per image, as the Data Science Bowl 2018 has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from miscnn_tf.data_loading.file_names import composed, first_folders, folders_in, list_files, visible_files
from miscnn_tf.data_loading.formats.image_file import LOSSLESS
from miscnn_tf.data_loading.interfaces.image_io import Image_interface
from miscnn_tf.data_loading.interfaces.listed_files import (
    FoundFiles,
    ListedFiles_interface,
    common_ending,
    needs_labels,
)
from miscnn_tf.data_loading.interfaces.sample_paths import MaskFile, SampleFiles
from miscnn_tf.errors import MissingDataError


class ObjectMasks_interface(ListedFiles_interface):
    """Interface for images with a mask file per object, such as those of the Data Science Bowl 2018.

    ::

        stage1_train/
          00071198d059…/
            images/00071198d059….png        named like the folder
            masks/07a9bf1d7594….png         a file per nucleus
            masks/0e548d0af63a….png

    A sample is named like its folder. Its masks are united to one class, "object", so that objects that touch are one
    region. Predictions are ``<output_path>/<name>.png``.

    The arguments are those of `DatasetJSON_interface`.

    Example:
        >>> interface = ObjectMasks_interface()
        >>> interface.initialize("stage1_train")  # doctest: +SKIP
        ['00071198d059…', …]
    """

    layout_description: ClassVar[str] = """\
a folder per image with a mask per object, as in the Data Science Bowl 2018
  0a1b/images/0a1b.png
  0a1b/masks/2c3d.png             one per object"""
    recognition_order: ClassVar[int] = 15

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: a folder with one image that is named like it and, if needed, masks."""
        for sample in first_folders(folder, settings.get("pattern")):
            image = _image(sample)
            if image is not None and (_masks(sample) or not needs_labels(settings)):
                return f"it holds {image.relative_to(folder).as_posix()} and a mask per object"
        return None

    def images_of_folder(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Return the image of a sample's folder."""
        image = _image(folder)
        return {} if image is None else {folder.name: (image,)}

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return True: the classes are background and object."""
        return True

    def find_files(self, root: Path) -> FoundFiles:
        """Find the images and their masks.

        Raises:
            MissingDataError: If there are none.
        """
        images = {path.name: image for path in folders_in(root) if (image := _image(path)) is not None}
        if not images:
            raise MissingDataError(
                f"{root} holds no images such as <name>/images/<name>.png (found: {list_files(root)})"
            )
        samples = {
            name: SampleFiles((image,), masks=tuple(MaskFile(path, 1, "object") for path in _masks(root / name)))
            for name, image in images.items()
        }
        wanted = self.choose_part(root, samples, "<name>/masks/*.png")
        ending = common_ending(wanted.values(), root)
        return FoundFiles(
            wanted, ending, class_names=("background", "object"), found_in="a mask per object, united to one class"
        )


def _image(sample: Path) -> Path | None:
    """Return the image of a sample's folder; None unless ``images/`` holds one alone, named like the folder."""
    folder = sample / "images"
    files = visible_files(folder) if folder.is_dir() else []
    images = [path for path in files if Image_interface.check_file_termination(path.suffix)]
    named = len(images) == 1 and composed(images[0].stem) == composed(sample.name)
    return images[0] if named else None


def _masks(sample: Path) -> list[Path]:
    folder = sample / "masks"
    files = visible_files(folder) if folder.is_dir() else []
    return [path for path in files if path.suffix.lower().removeprefix(".") in LOSSLESS]
