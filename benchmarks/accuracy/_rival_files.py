"""Files and clock of the rivals in `accuracy.py`; requires numpy, nibabel and Pillow only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image


class Run:
    """A training and prediction, as `accuracy.py` asks for it in the file of the first argument.

    Attributes:
        settings: The contents of the file.
        seconds: Seconds of each part that has ended.
        steps: Number of training steps.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self.output = Path(self.settings["output"])
        (self.output / "predictions").mkdir(parents=True, exist_ok=True)
        self._last = time.perf_counter()

    def ended(self, part: str) -> None:
        """Record the seconds since the last part ended."""
        now = time.perf_counter()
        self.seconds[part] = now - self._last
        self._last = now

    def steps_of_time(self) -> Iterator[float]:
        """Yield the share of the time that has elapsed before each step, until it is over."""
        limit, begin = 60 * self.settings["minutes"], time.perf_counter()
        while (share := (time.perf_counter() - begin) / limit) < 1:
            yield share
            self.steps += 1

    def training_files(self) -> list[dict[str, Any]]:
        """Return name, image files and label file of each training sample."""
        raw = Path(self.settings["raw"])
        return [
            {**sample, "labels": raw / "labelsTr" / f"{sample['name']}{self.settings['ending']}"}
            for sample in self._samples(raw / "imagesTr")
        ]

    def images(self) -> list[dict[str, Any]]:
        """Return name and image files of each sample to segment."""
        return self._samples(Path(self.settings["images"]))

    def _samples(self, folder: Path) -> list[dict[str, Any]]:
        found: dict[str, list[Path]] = {}
        for file in sorted(folder.iterdir()):
            found.setdefault(file.name.removesuffix(self.settings["ending"])[:-5], []).append(file)
        return [{"name": name, "images": files} for name, files in found.items()]

    def write(self, name: str, labels: np.ndarray, affine: np.ndarray) -> None:
        """Write a predicted label map."""
        file, labels = self.output / "predictions" / f"{name}{self.settings['ending']}", labels.astype(np.uint8)
        if file.suffix == ".png":
            Image.fromarray(labels).save(file)
        else:
            nib.save(nib.Nifti1Image(labels, affine), file)

    def finish(self, version: str, **facts: Any) -> None:
        """Write the record of the run."""
        record = {"steps": self.steps, "seconds": self.seconds, "version": version, **facts}
        (self.output / "facts.json").write_text(json.dumps(record), encoding="utf-8")


def read(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image ``(channels, x, y[, z])`` or label map in float32, and its affine."""
    if files[0].suffix == ".png":
        with Image.open(files[0]) as image:
            pixels = np.asarray(image).astype(np.float32)
        return (pixels[np.newaxis] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)), np.eye(4)
    volumes = [nib.load(file) for file in files]
    return np.stack([np.asarray(volume.dataobj, np.float32) for volume in volumes]), volumes[0].affine


def normalised(image: np.ndarray, window: list[float] | None) -> np.ndarray:
    """Clip an image to a window, and scale each channel to mean 0 and standard deviation 1."""
    if window is not None:
        image = np.clip(image, *window)
    axes = tuple(range(1, image.ndim))
    spread = np.maximum(image.std(axes, keepdims=True), 1e-8)
    return np.asarray((image - image.mean(axes, keepdims=True)) / spread, np.float32)
