from __future__ import annotations

import nibabel as nib
import numpy as np

from miscnn_tf.datasets.scan_files import write_volume


def test_what_is_written_is_read_by_nibabel_and_the_bytes_do_not_depend_on_the_time(tmp_path, rng):
    array = rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    affine = np.array([[0, 0, 2.0, 5], [-1.5, 0, 0, 6], [0, 3.0, 0, 7], [0, 0, 0, 1]])
    for name in ("a", "b"):
        write_volume(tmp_path / name / "volume.nii.gz", array, affine)
    assert (tmp_path / "a" / "volume.nii.gz").read_bytes() == (tmp_path / "b" / "volume.nii.gz").read_bytes()
    assert (tmp_path / "a" / "volume.nii.gz").read_bytes()[4:8] == b"\0\0\0\0"
    read = nib.load(tmp_path / "a" / "volume.nii.gz")
    np.testing.assert_array_equal(np.asarray(read.dataobj), array)
    assert read.get_data_dtype() == np.int16
    np.testing.assert_allclose(read.header.get_sform(), affine)
    np.testing.assert_allclose(read.header.get_qform(), affine, atol=1e-5)
    assert read.header.get_xyzt_units()[0] == "mm"
