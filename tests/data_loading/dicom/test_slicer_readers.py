"""Readers of 3D Slicer: DCMTK and plastimatch (SlicerRT), dcmqi (Quantitative Reporting), and ITK for NRRD.

Slicer itself is not a package; these are the libraries that its modules for RTSTRUCT and SEG are built on.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import ORIENTATIONS, make_series, random_volume, save_series
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb

from miscnn_tf._base.class_colours import class_colours
from miscnn_tf.data_loading.dicom import write_rtstruct, write_seg

SHAPE = (6, 30, 36)
NAMES = {1: "Heart", 2: "Größe L"}


@pytest.fixture
def labels(rng) -> np.ndarray:
    """Blobs with holes, islands in them, and voxels at the border."""
    field = gaussian_filter(rng.standard_normal(SHAPE), (1, 2, 2))
    labels = np.zeros(SHAPE, np.uint8)
    labels[field > 0.3 * field.std()] = 1
    labels[field < -1.0 * field.std()] = 2
    labels[0, 0, 0] = labels[5, 29, 35] = 2
    return labels


def run(program: str, *arguments: str | Path) -> str:
    """The output of a program; the test is skipped where the program is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install dcmtk plastimatch)")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, timeout=120, check=False)
    text = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, text
    return text


def on_the_series(mask: Path, series: Path) -> np.ndarray:
    """A mask file on the grid of the images, through world coordinates."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    resampled = sitk.Resample(sitk.ReadImage(str(mask)), reader.Execute(), sitk.Transform(), sitk.sitkNearestNeighbor)
    return sitk.GetArrayFromImage(resampled) > 0


@pytest.fixture(params=ORIENTATIONS)
def series(request, tmp_path, rng) -> Path:
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE), ORIENTATIONS[request.param]))
    return tmp_path / "ct"


def test_dcmtk_and_plastimatch_read_an_rtstruct_voxel_by_voxel(tmp_path, series, labels):
    path = write_rtstruct(tmp_path / "rt.dcm", labels, series, NAMES)
    # The class for RT structure sets with which SlicerRT loads; it names what it misses.
    text = run("drtdump", "--verbose", path)
    assert "RT Structure Set object" in text
    assert "W: " not in text
    assert "E: " not in text
    run("plastimatch", "convert", "--input", path, "--referenced-ct", series,
        "--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd")  # fmt: skip
    for value, name in NAMES.items():
        np.testing.assert_array_equal(on_the_series(tmp_path / "masks" / f"{name}.nrrd", series), labels == value)


def test_dcmqi_reads_a_seg_voxel_by_voxel(tmp_path, series, labels):
    found = importlib.util.find_spec("dcmqi")
    if found is None:
        pytest.skip("dcmqi is not installed (pip install dcmqi)")
    path = write_seg(tmp_path / "seg.dcm", labels, series, NAMES)
    (tmp_path / "masks").mkdir()
    text = run(str(Path(found.origin).parent / "bin" / "segimage2itkimage"), "--inputDICOM", path,
               "--outputDirectory", tmp_path / "masks", "--outputType", "nrrd")  # fmt: skip
    assert "CIELab" not in text  # "Failed to get CIELab values"
    for value in NAMES:
        np.testing.assert_array_equal(on_the_series(tmp_path / "masks" / f"{value}.nrrd", series), labels == value)
    groups = json.loads((tmp_path / "masks" / "meta.json").read_text("utf-8"))["segmentAttributes"]
    segments = [one for group in groups for one in group]
    assert [one["SegmentLabel"] for one in segments] == list(NAMES.values())
    shown = [one["recommendedDisplayRGBValue"] for one in segments]
    np.testing.assert_allclose(shown, class_colours(3)[1:], atol=2)


def test_rtstruct_and_seg_have_the_colours_of_the_report(tmp_path, rng):
    """Defect: an RTSTRUCT had Okabe & Ito's colours in another order than the report, and a SEG had none."""
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE), ORIENTATIONS["axial"]))
    # Label 9 has the colour of class 9, although it is the third structure.
    names = {1: "Heart", 4: "Lung_L", 9: "Cord"}
    labels = rng.choice([0, *names], SHAPE).astype(np.uint8)
    expected = class_colours(10)[list(names)].tolist()
    structures = pydicom.dcmread(write_rtstruct(tmp_path / "rt.dcm", labels, tmp_path / "ct", names))
    assert [list(map(int, item.ROIDisplayColor)) for item in structures.ROIContourSequence] == expected
    segments = pydicom.dcmread(write_seg(tmp_path / "seg.dcm", labels, tmp_path / "ct", names)).SegmentSequence
    # 16 bits for 0 to 100 and for -128 to 127: DICOM PS3.3, C.10.7.1.1.
    stored = np.array([list(map(int, segment.RecommendedDisplayCIELabValue)) for segment in segments]) / 65535
    np.testing.assert_allclose(255 * lab2rgb(stored * (100, 255, 255) - (0, 128, 128)), expected, atol=6)
