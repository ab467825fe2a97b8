"""Headers: what is DICOM and what is not, damaged files, frames of enhanced images."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_series import make_series, random_volume, save_series
from pydicom.data import get_testdata_file

from miscnn_tf.data_loading.dicom.header import read_header
from miscnn_tf.data_loading.dicom.series import scan_folder
from miscnn_tf.errors import DataError


def shipped(name: str):
    """A file that pydicom's wheel holds."""
    return get_testdata_file(name, download=False)


def test_what_a_ct_says(tmp_path):
    header = read_header(shipped("CT_small.dcm"))
    assert (header.modality, header.rows, header.columns, header.frames) == ("CT", 128, 128, 1)
    assert header.is_scan
    assert not header.is_annotation
    assert 128 * 128 * 2 < header.least_size <= Path(shipped("CT_small.dcm")).stat().st_size
    (plane,) = header.planes
    assert plane.spacing == (0.661468, 0.661468)
    assert plane.orientation == (1, 0, 0, 0, 1, 0)


def test_an_rtstruct_is_an_annotation_and_no_scan():
    header = read_header(shipped("rtstruct.dcm"))
    assert header.is_annotation
    assert not header.is_scan
    assert len(header.referenced_series) == 1
    assert len(header.referenced_frames) >= 1


@pytest.mark.parametrize("name", ["rtdose.dcm", "rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm"])
def test_doses_plans_and_reports_are_no_scans(name):
    header = read_header(shipped(name))
    assert not header.is_scan
    assert not header.is_annotation


def test_what_is_no_dicom_is_none(tmp_path):
    (tmp_path / "notes.txt").write_text("no DICOM, but rather longer than a preamble of 128 bytes would be " * 5)
    (tmp_path / "empty").write_bytes(b"")
    assert read_header(tmp_path / "notes.txt") is None
    assert read_header(tmp_path / "empty") is None
    assert read_header(shipped("DICOMDIR")) is None


def test_a_slice_that_is_empty_or_may_not_be_read_is_not_passed_over(tmp_path, rng, monkeypatch):
    save_series(tmp_path, make_series(random_volume(rng)), order=range(6))
    (tmp_path / "000005.dcm").write_bytes(b"")
    with pytest.raises(DataError, match=r"000005\.dcm is empty"):
        scan_folder(tmp_path)
    save_series(tmp_path / "other", make_series(random_volume(rng)), order=range(6))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("miscnn_tf._base.files.os.open", refuse)
    with pytest.raises(DataError, match=r"000000\.dcm: cannot be read \(Permission denied\)"):
        scan_folder(tmp_path / "other")


def test_a_file_need_not_be_called_dcm(tmp_path, rng):
    (path,) = save_series(tmp_path, make_series(random_volume(rng, (1, 4, 5))), name="IM{}")
    assert read_header(path).is_scan


def test_a_changed_file_is_read_again(tmp_path, rng):
    series = make_series(random_volume(rng, (1, 4, 5)))
    (path,) = save_series(tmp_path, series)
    assert read_header(path).description == "thorax"
    series[0].SeriesDescription = "another one"
    save_series(tmp_path, series)
    assert read_header(path).description == "another one"


def test_a_file_that_ends_within_its_header_is_refused(tmp_path, rng):
    (path,) = save_series(tmp_path, make_series(random_volume(rng, (1, 4, 5))))
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(DataError, match=r"000000\.dcm: the DICOM header is damaged"):
        read_header(path)
