"""Files of a sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MaskFile:
    """File with the mask of one structure or object.

    Attributes:
        path: The file.
        label: Class of its voxels that are not 0.
        name: Name of the structure, for messages.
        numbered: Whether the file numbers objects of one class, 1, 2, …; otherwise it has one value beside 0.
    """

    path: Path
    label: int
    name: str
    numbered: bool = False


@dataclass(frozen=True)
class SampleFiles:
    """Files of one sample.

    Attributes:
        images: One file, or one per channel.
        segmentation: The label map; None if missing.
        masks: Instead of a label map, a mask per structure or object; they are united.
    """

    images: tuple[Path, ...]
    segmentation: Path | None = None
    masks: tuple[MaskFile, ...] = ()

    @property
    def labelled(self) -> bool:
        """True if there is a label map, or a mask."""
        return self.segmentation is not None or bool(self.masks)

    @property
    def all(self) -> list[Path]:
        """All files."""
        segmentation = [] if self.segmentation is None else [self.segmentation]
        return [*self.images, *segmentation, *(mask.path for mask in self.masks)]
