"""Damaged volumes: what is read is what SimpleITK or nibabel reads, or there is one error of ours."""

from __future__ import annotations

import warnings
from itertools import chain
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from fuzzing import fuzz, how_many, mutations
from PIL import Image

from miscnn_tf.data_loading.formats.image_file import read_colours
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo
from miscnn_tf.data_loading.formats.volumes import check_size, read_info, read_voxels, write_volume
from tests.layout_data import oblique

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def voxels() -> np.ndarray:
    return (np.arange(60) * 37 % 101).astype(np.int16).reshape(3, 4, 5)


def source(folder: Path, name: str) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name.replace("packed", "plain")
    if path.suffix in (".mgh", ".mgz", ".npy", ".npz", ".tif"):
        write_volume(path, voxels(), {"affine": oblique(), "spacing": np.array([1.0, 2, 3])})
    else:
        image = sitk.GetImageFromArray(voxels().T)
        image.SetSpacing((0.5, 1.5, 2.0))
        image.SetOrigin((3.0, -4.0, 5.0))
        image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        sitk.WriteImage(image, str(path), name.startswith("packed"))
    return path.read_bytes()


def read(path: Path) -> tuple[VolumeInfo, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = read_info(path)
        check_size(info)
        return info, read_voxels(info)


def as_others(path: Path, result: tuple[VolumeInfo, np.ndarray]) -> str | None:
    """Compare voxels and grid with another library, if that reads the file."""
    info, found = result
    try:
        if path.suffix in (".nrrd", ".mha"):
            image = sitk.ReadImage(str(path))
            if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() > 1:
                return None
            expected = sitk.GetArrayFromImage(image).T
            affine = np.eye(4)
            affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
            affine[:3, 3] = image.GetOrigin()
            affine = LPS @ affine
        elif path.suffix in (".mgh", ".mgz"):
            loaded = nibabel.load(path)
            expected, affine = np.asanyarray(loaded.dataobj), loaded.affine
        else:
            return None
    except Exception:
        return None
    # ITK returns arbitrary values if CompressedDataSize is damaged.
    right = np.array_equal(found, voxels()) or np.array_equal(found, expected.astype(found.dtype), equal_nan=True)
    if found.shape != expected.shape or not right:
        return f"shape {found.shape} against {expected.shape}, or other voxels"
    if not np.allclose(info.affine, affine, rtol=1e-4, atol=1e-4):
        return f"affine {info.affine.tolist()} against {affine.tolist()}"
    return None


@how_many
@pytest.mark.parametrize(
    "name", ["plain.nrrd", "packed.nrrd", "plain.mha", "packed.mha", "a.mgh", "a.mgz", "a.npy", "a.npz", "a.tif"]
)
def test_damaged_volumes(tmp_path, name, number):
    content = source(tmp_path / "source", name)
    fuzzed = fuzz(
        *(read, chain(mutations(content, number, 17), [content]), tmp_path / "fuzz", name.replace("packed", "plain")),
        judge=as_others,
    )
    assert not fuzzed.failures, "\n".join(fuzzed.failures[:10])
    assert fuzzed.results
    assert fuzzed.refused


def read_gif(path: Path) -> np.ndarray:
    return read_colours(path, "rgb")


@how_many
def test_damaged_gif(tmp_path, number):
    labels = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 200])
    picture.save(tmp_path / "a.gif")
    content = (tmp_path / "a.gif").read_bytes()

    def same(path: Path, result: np.ndarray) -> str | None:
        try:
            expected = np.asarray(Image.open(path).convert("RGB"))
        except Exception:
            return None
        return None if np.array_equal(expected, result) else "Pillow reads other colours"

    inputs = chain(mutations(content, number, 5), [content])
    fuzzed = fuzz(read_gif, inputs, tmp_path / "fuzz", "a.gif", judge=same)
    assert not fuzzed.failures, "\n".join(fuzzed.failures[:10])
    assert fuzzed.results
    assert fuzzed.refused
