"""What is DICOM: by the beginning of the file, with and without the preamble of the standard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from dicom_series import make_series, random_volume, save_series
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from miscnn_tf.data_loading.dicom import recognition
from miscnn_tf.data_loading.dicom.header import read_header
from miscnn_tf.data_loading.dicom.recognition import begins_like_dicom, is_dicom
from miscnn_tf.data_loading.dicom.series import grid_of_files, scan_folder
from miscnn_tf.data_loading.dicom.volume import read_volume
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.layout_detection import recognise
from miscnn_tf.errors import DataError, MissingDataError, MissingExtraError


def without_preamble(path, name, *, meta=False):
    """The file as older programs write it: it begins with its first element, or with its meta information."""
    content = path.read_bytes()
    at = 132 if meta else 132 + 12 + int.from_bytes(content[140:144], "little")
    path.with_name(name).write_bytes(content[at:])
    path.unlink()
    return path.with_name(name)


@pytest.mark.parametrize("name", ["000002", "000002.IMA", "000002.ima", "IM.0002"])
@pytest.mark.parametrize("meta", [False, True])
def test_dicom_slice_without_preamble_and_without_dcm_is_part_of_the_series(tmp_path, rng, name, meta):
    stored = random_volume(rng)
    paths = save_series(tmp_path, make_series(stored), order=range(6))
    assert is_dicom(without_preamble(paths[5], name, meta=meta))
    np.testing.assert_array_equal(read_volume(grid_of_files([tmp_path])), stored - 1024)


@pytest.mark.parametrize("ending", [".IMA", ".ima", ".DICOM", ".DCM", ""])
def test_dicom_series_with_siemens_ima_endings(tmp_path, rng, ending):
    stored = random_volume(rng)
    save_series(tmp_path / "data" / "a", make_series(stored), "MR{}" + ending)
    assert recognise(tmp_path / "data") == "DICOM"
    np.testing.assert_array_equal(read_volume(grid_of_files([tmp_path / "data" / "a"])), stored - 1024)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_dicom_without_preamble_in_every_byte_order(tmp_path, rng, syntax):
    (one,) = make_series(random_volume(rng, (1, 4, 5)))
    one.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
    (path,) = save_series(tmp_path, [one])
    wanted = read_volume(grid_of_files([path]))
    # Deflated data can only be known from the meta information.
    bare = without_preamble(path, "bare", meta=syntax == DeflatedExplicitVRLittleEndian)
    assert is_dicom(bare)
    np.testing.assert_array_equal(read_volume(grid_of_files([bare])), wanted)


@pytest.mark.parametrize("name", ["ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "no_meta_group_length.dcm"])
def test_files_without_meta_information_that_pydicom_ships(tmp_path, name):
    shutil.copy(get_testdata_file(name, download=False), tmp_path / "slice")
    assert is_dicom(tmp_path / "slice")


def test_text_archives_and_nifti_are_not_taken_for_dicom(tmp_path):
    files = {
        "notes.txt": b"patient moved during the scan\n" * 20,
        "short": b"a",
        "empty": b"",
        "Thumbs.db": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600),
        "a.json": json.dumps({"Modality": "MR", "0008": "0016" * 100}).encode(),
        "a.xml": b'<?xml version="1.0"?>' + b"<a/>" * 100,
        "raw": bytes(4096),
        "steps.raw": np.arange(8, 2000, dtype="<u2").tobytes(),
        "eights.raw": np.full(2000, 8, "<u2").tobytes(),
        "a.zip": b"PK\x03\x04" + bytes(500),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert not is_dicom(tmp_path / name), name
        assert read_header(tmp_path / name) is None
    write_nifti(tmp_path / "a.nii", np.zeros((8, 8, 8), np.uint8), {"affine": np.eye(4)})
    np.save(tmp_path / "a.npy", np.zeros(500))
    assert not is_dicom(tmp_path / "a.nii")
    assert not is_dicom(tmp_path / "a.npy")


def test_a_slice_with_a_damaged_mark_is_reported_not_left_out(tmp_path, rng):
    paths = save_series(tmp_path, make_series(random_volume(rng)), "IM{}", order=range(6))
    content = bytearray(paths[5].read_bytes())
    content[129] ^= 1
    paths[5].write_bytes(content)
    with pytest.raises(DataError, match=r"IM5: the DICOM header is damaged"):
        scan_folder(tmp_path)


@pytest.mark.parametrize("content", [bytes(128) + b"DICM", b"not DICOM at all " * 30])
def test_a_slice_with_nothing_of_dicom_in_it_is_reported_not_left_out(tmp_path, rng, content):
    paths = save_series(tmp_path, make_series(random_volume(rng)), order=range(6))
    paths[5].write_bytes(content)
    with pytest.raises(DataError, match=r"000005\.dcm: the DICOM header is damaged, or this is not a DICOM file"):
        scan_folder(tmp_path)


def test_a_link_to_a_slice_that_is_gone_and_a_pipe_are_reported(tmp_path, rng):
    save_series(tmp_path / "a", make_series(random_volume(rng)), order=range(6))
    (tmp_path / "a" / "000006.dcm").symlink_to("../elsewhere/000006.dcm")
    with pytest.raises(MissingDataError, match=r"000006\.dcm: the file does not exist"):
        scan_folder(tmp_path / "a")
    save_series(tmp_path / "b", make_series(random_volume(rng)))
    os.mkfifo(tmp_path / "b" / "pipe")
    with pytest.raises(DataError, match="pipe: not a regular file but a named pipe"):
        scan_folder(tmp_path / "b")


def test_elements_must_follow_each_other_and_fit_into_the_file():
    element = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    following = b"\x08\x00\x08\x00CS\x08\x00ORIGINAL"
    assert begins_like_dicom(element + following, 200)
    assert not begins_like_dicom(following + element, 200)
    assert not begins_like_dicom(element + following, 16)
    assert not begins_like_dicom(element.replace(b"CS", b"cs") + following, 200)


def test_a_file_that_is_named_like_the_slices_but_not_dicom_is_reported(tmp_path, rng):
    save_series(tmp_path, make_series(random_volume(rng)), "IM{}")
    (tmp_path / "IM6").write_bytes(b"not DICOM" * 30)
    (tmp_path / "notes.txt").write_bytes(b"not DICOM" * 30)
    with pytest.warns(UserWarning, match="IM6: not DICOM and left out, but named like the slices") as told:
        assert len(scan_folder(tmp_path).series) == 1
    assert "notes" not in str(told[0].message)


# Python finds no package of this name, as if it were not installed.
HIDE = """
    import sys
    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {"pydicom", "highdicom"}:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Hidden())
"""


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HIDE) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_missing_package_and_the_extra_are_named(monkeypatch):
    monkeypatch.setattr(recognition.importlib.util, "find_spec", lambda name: None if name == "highdicom" else object())
    with pytest.raises(MissingExtraError, match=r"need the package highdicom: pip install 'miscnn_tf\[dicom\]'"):
        recognition.require_dicom()


def test_everything_else_works_without_it():
    run(
        """
        import miscnn_tf.data_loading.dicom, miscnn_tf.data_loading.interfaces as interfaces
        import miscnn_tf.datasets
        from miscnn_tf.errors import MissingExtraError
        assert interfaces.get_data_interface_from_file_term(".dcm") is interfaces.DICOM_interface
        for call in (interfaces.DICOM_interface, lambda: miscnn_tf.datasets.write_lctsc_phantoms("never")):
            try:
                call()
            except MissingExtraError as error:
                assert "pip install 'miscnn_tf[dicom]'" in str(error), error
            else:
                raise AssertionError("nothing was said")
        """
    )


def test_highdicom_is_not_imported_before_it_is_needed():
    script = """
        import sys
        import miscnn_tf.data_loading.interfaces, miscnn_tf.data_loading.dicom, miscnn_tf.datasets
        # nibabel looks for pydicom itself.
        assert "highdicom" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


def test_nothing_needs_an_older_pydicom():
    import pydicom

    assert int(pydicom.__version__.partition(".")[0]) >= 3
