"""Maps as files, as others read them."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from miscnn_tf.data_loading.formats.nifti_writer import write_map
from miscnn_tf.data_loading.sample import Sample


def sample_of(shape, **extended):
    return Sample("a", np.zeros(shape, np.float32), 1, 2, extended, three_dim=len(shape) == 3)


AFFINE = np.array([[0, -2.0, 0, 5], [0.9, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("shape", "facts", "written"),
    [
        ((4, 5, 6), {}, (4, 5, 6)),
        ((4, 5), {}, (4, 5)),
        ((4, 5), {"file_axes": 3}, (4, 5, 1)),
        ((4, 5), {"slice_axis": 0}, (1, 4, 5)),
    ],
)
def test_with_an_affine_it_is_nifti(tmp_path, rng, shape, facts, written):
    values = rng.normal(size=shape)
    path = write_map(tmp_path / "maps" / "a.b", values, sample_of(shape, affine=AFFINE, **facts))
    assert path == tmp_path / "maps" / "a.b.nii.gz"
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.float32
    assert image.shape == written
    np.testing.assert_array_equal(np.asarray(image.dataobj).reshape(shape), values.astype(np.float32))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)


def test_without_one_it_is_an_array(tmp_path, rng):
    values = rng.normal(size=(4, 5, 6))
    path = write_map(str(tmp_path / "a.b"), values, sample_of((4, 5, 6)))
    assert path == tmp_path / "a.b.npy"
    np.testing.assert_array_equal(np.load(path), values.astype(np.float32))
    assert list(tmp_path.iterdir()) == [path]
