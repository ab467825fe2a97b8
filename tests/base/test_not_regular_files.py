"""Pipes, devices and folders that are called like data files: one error, and no program that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from miscnn_tf.cli.input_images import find_images
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.formats.nifti_reader import read_info
from miscnn_tf.data_loading.formats.nifti_writer import was_written_here
from miscnn_tf.data_loading.interfaces import NIFTI_interface, NIFTIslicer_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.label_folders import find_label_maps

KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (os.mkfifo, "named pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "character device"),
    "folder": (Path.mkdir, "folder"),
}
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Callable[[Path], None], str]:
    return KINDS[request.param]


@pytest.fixture(params=["imaging", "segmentation"])
def data(request: pytest.FixtureRequest, tmp_path: Path, kind: tuple[Callable[[Path], None], str]) -> Path:
    """Two samples; a file of the second is not one."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file, value in (("imaging", 7), ("segmentation", 1)):
            image = np.full((4, 4, 4), value, np.uint8)
            image[0] = 0
            nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / name / f"{file}.nii.gz")
    path = tmp_path / "b" / f"{request.param}.nii.gz"
    path.unlink()
    kind[0](path)
    return tmp_path


def load(interface: NIFTI_interface | NIFTIslicer_interface, index: str) -> None:
    interface.load_image(index)
    interface.load_segmentation(index)


def test_reading_and_checking_say_what_it_is(data: Path, kind: tuple[Callable[[Path], None], str]) -> None:
    interface = NIFTI_interface()
    assert interface.initialize(data) == ["a", "b"]
    load(interface, "a")
    for read in (load, NIFTI_interface.check):
        with pytest.raises(DataError, match=rf"\.nii\.gz: not a regular file but a {kind[1]}"):
            read(interface, "b")


def test_verification_reports_the_one_sample(data: Path, kind: tuple[Callable[[Path], None], str]) -> None:
    data_io = Data_IO(NIFTI_interface(), data)
    for quick in (True, False):
        report = verify(data_io, quick=quick)
        assert [finding.index for finding in report.findings if kind[1] in finding.message] == ["b"]


def test_slices(data: Path, kind: tuple[Callable[[Path], None], str]) -> None:
    interface = NIFTIslicer_interface()
    with pytest.raises(DataError, match=rf"\.nii\.gz: not a regular file but a {kind[1]}"):
        load(interface, interface.initialize(data)[-1])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["pipe", "device"])
def test_predict_and_evaluate_do_not_leave_it_out(tmp_path: Path, name: str) -> None:
    KINDS[name][0](tmp_path / "x.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "y.nii.gz")
    for given, expected in ((tmp_path, ["x", "y"]), (tmp_path / "x.nii.gz", ["x"])):
        images = find_images(given, 1)
        assert images is not None
        assert [image.name for image in images] == expected
        maps = find_label_maps(given).maps
        assert list(maps) == expected
        with pytest.raises(DataError, match=rf"x\.nii\.gz: not a regular file but a {KINDS[name][1]}"):
            maps["x"].grid()


def test_cleanup_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.nii.gz")
    for read in (read_info, was_written_here):
        with pytest.raises(DataError, match="named pipe"):
            read(tmp_path / "x.nii.gz")


def test_predict_file_reports_a_pipe(tmp_path: Path) -> None:
    """In a process of its own, with a time limit: the fault is that it hangs."""
    os.mkfifo(tmp_path / "imaging.nii.gz")
    program = f"""
from miscnn_tf.data_loading.interfaces import NIFTI_interface
NIFTI_interface().read_file({str(tmp_path / "imaging.nii.gz")!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "imaging.nii.gz: not a regular file but a named pipe" in done.stderr
