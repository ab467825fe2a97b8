"""Forms, voxel sizes and units of NIfTI headers, as nibabel and ITK read them; what these disagree about is refused."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from miscnn_tf.data_loading.formats.nifti_reader import NiftiInfo, read_info
from miscnn_tf.data_loading.formats.nifti_writer import was_written_here, write_nifti
from miscnn_tf.data_loading.formats.volumes import read_voxels
from miscnn_tf.data_loading.interfaces import NIFTI_interface, NIFTIslicer_interface
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError

SHAPE = (4, 5, 6)
AFFINE = np.array([[2.0, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
OTHER = np.array([[0.0, 3, 0, 50], [-2, 0, 0, 60], [0, 0, 4, 70], [0, 0, 0, 1]])
UNITS = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}

# Places of fields of NIfTI-1.
PIXDIM, UNIT, QFORM_CODE, SFORM_CODE, QUATERNION, SROW = 76, 123, 252, 254, 256, 280


def save(
    path: Path,
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    fields: Mapping[int, bytes] | None = None,
    array: np.ndarray | None = None,
) -> Path:
    """An image with these forms, and bytes of its header replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.arange(120, dtype=np.int16).reshape(SHAPE) if array is None else array
    image = nibabel.Nifti1Image(array, None)
    image.header.set_zooms((2, 3, 4, 1)[: array.ndim])
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_qform(qform, 0 if qform is None else 1)
    image.header.set_sform(sform, 0 if sform is None else 2)
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    for place, value in (fields or {}).items():
        content[place : place + len(value)] = value
    path.write_bytes(content)
    return path


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def shorts(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def itk_affine(path: Path) -> np.ndarray:
    """ITK's affine, in NIfTI's world."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1, 1, 1]) @ affine


class TestQuaternion:
    @pytest.mark.parametrize("excess", [1e-7, 2e-6, 1e-4, 9e-4])
    def test_norm_slightly_above_1_does_not_matter_beside_a_sform(self, tmp_path, excess):
        path = save(tmp_path / "a.nii", AFFINE, OTHER, {QUATERNION: floats(1 + excess, 0, 0)})
        np.testing.assert_array_equal(read_info(path).affine, nibabel.load(path).affine)
        np.testing.assert_array_equal(read_info(path).affine, AFFINE)

    @pytest.mark.parametrize("excess", [1e-7, 2e-6, 1e-4, 9e-4])
    def test_norm_slightly_above_1_is_rounding_where_there_is_only_a_qform(self, tmp_path, excess):
        turned = np.array([0.48, 0.64, 0.6]) * (1 + excess)
        path = save(tmp_path / "a.nii", None, AFFINE, {QUATERNION: floats(*turned)})
        expected = np.eye(4)
        expected[:3, :3] = Rotation.from_quat([0.48, 0.64, 0.6, 0]).as_matrix() * (2, 3, 4)
        expected[:3, 3] = 5, 6, 7
        np.testing.assert_allclose(read_info(path).affine, expected, atol=1e-5)
        np.testing.assert_allclose(read_info(path).affine, itk_affine(path), atol=1e-5)

    def test_a_rotation_that_nibabel_reads_is_nibabels(self, tmp_path, rng):
        for number, rotation in enumerate(Rotation.random(30, random_state=rng.integers(2**31))):
            affine = AFFINE.copy()
            affine[:3, :3] = rotation.as_matrix() * (2, 3, 4)
            path = save(tmp_path / f"{number}.nii", None, affine)
            np.testing.assert_allclose(read_info(path).affine, nibabel.load(path).affine, atol=1e-6)

    def test_norm_far_above_1_is_refused_where_there_is_only_a_qform(self, tmp_path):
        path = save(tmp_path / "a.nii", None, AFFINE, {QUATERNION: floats(0.9, 0.9, 0)})
        with pytest.raises(DataError, match=r"a\.nii: the qform.*quatern_b, quatern_c and quatern_d .*norm 1\.27"):
            read_info(path)

    @pytest.mark.parametrize(
        "fields",
        [
            {QUATERNION: floats(0.9, 0.9, 0)},
            {QUATERNION: floats(np.nan, 0, 0)},
            {QUATERNION + 12: floats(np.inf)},  # qoffset_x
            {PIXDIM: floats(-0.5)},
            {PIXDIM + 4: floats(-2)},
            {PIXDIM + 4: floats(np.nan)},
            {QFORM_CODE: shorts(77)},
        ],
    )
    def test_a_bad_qform_does_not_matter_beside_a_sform(self, tmp_path, fields):
        path = save(tmp_path / "a.nii", AFFINE, OTHER, fields)
        info = read_info(path)
        np.testing.assert_array_equal(info.affine, AFFINE)
        assert (info.grid.qform, info.grid.qform_code, info.grid.sform_code) == (None, 0, 2)
        assert info.spacing.tolist() == [2, 3, 4]
        write_nifti(tmp_path / "b.nii", np.zeros(SHAPE, np.uint8), info.geometry())
        np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").affine, AFFINE)
        np.testing.assert_allclose(itk_affine(tmp_path / "b.nii"), AFFINE, atol=1e-6)


class TestForms:
    @pytest.mark.parametrize("srow", [floats(np.nan), bytes(48), floats(np.inf)])
    def test_a_bad_sform_is_refused_with_the_hint_that_there_is_a_qform(self, tmp_path, srow):
        """Nibabel takes it, ITK falls back on the qform."""
        path = save(tmp_path / "a.nii", AFFINE, OTHER, {SROW: srow})
        with pytest.raises(DataError, match=r"the sform.* cannot be used.*set sform_code to 0 if the qform is correct"):
            read_info(path)

    def test_where_both_forms_are_bad_the_error_names_both(self, tmp_path):
        path = save(tmp_path / "a.nii", AFFINE, OTHER, {SROW: floats(np.nan), QUATERNION: floats(3)})
        with pytest.raises(DataError, match=r"the sform.*cannot be used: .*nor can the qform: quatern_b"):
            read_info(path)

    @pytest.mark.parametrize(("place", "name"), [(SFORM_CODE, "sform_code"), (QFORM_CODE, "qform_code")])
    def test_a_code_that_nifti_does_not_define_is_refused(self, tmp_path, place, name):
        """Nibabel ignores such a form, niftilib uses it."""
        sform = AFFINE if name == "sform_code" else None
        with pytest.raises(DataError, match=rf"{name} is 7, but NIfTI defines 0 to 5"):
            read_info(save(tmp_path / "a.nii", sform, OTHER, {place: shorts(7)}))

    def test_a_negative_code_is_no_form_for_all_readers(self, tmp_path):
        path = save(tmp_path / "a.nii", AFFINE, OTHER, {SFORM_CODE: shorts(-2)})
        np.testing.assert_allclose(read_info(path).affine, OTHER, atol=1e-6)
        np.testing.assert_allclose(itk_affine(path), OTHER, atol=1e-6)

    @pytest.mark.parametrize("qfac", [0.0, 1.0, -1.0, 0.5, 3.0, np.nan])
    def test_qfac(self, tmp_path, qfac):
        path = save(tmp_path / "a.nii", None, AFFINE, {PIXDIM: floats(qfac)})
        expected = AFFINE @ np.diag([1, 1, -1 if qfac == -1 else 1, 1])
        np.testing.assert_allclose(read_info(path).affine, expected, atol=1e-6)
        np.testing.assert_allclose(itk_affine(path), expected, atol=1e-6)

    @pytest.mark.parametrize("qfac", [-0.5, -3.0])
    def test_qfac_that_readers_disagree_about_is_refused(self, tmp_path, qfac):
        with pytest.raises(DataError, match=r"pixdim\[0\] \(qfac\) is -"):
            read_info(save(tmp_path / "a.nii", None, AFFINE, {PIXDIM: floats(qfac)}))

    @pytest.mark.parametrize("size", [-2.0, np.nan, np.inf])
    @pytest.mark.parametrize("qform", [None, AFFINE])
    def test_voxel_sizes_that_readers_disagree_about_are_refused(self, tmp_path, qform, size):
        with pytest.raises(DataError, match=r"pixdim\[2\] is (-2|nan|inf), but a voxel size is positive"):
            read_info(save(tmp_path / "a.nii", None, qform, {PIXDIM + 8: floats(size)}))

    def test_a_voxel_size_of_0_is_1_for_all_readers(self, tmp_path):
        path = save(tmp_path / "a.nii", None, AFFINE, {PIXDIM + 4: floats(0)})
        assert read_info(path).spacing.tolist() == [1, 3, 4]
        np.testing.assert_array_equal(read_info(path).affine, nibabel.load(path).affine)
        assert sitk.ReadImage(str(path)).GetSpacing() == (1, 3, 4)

    def test_forms_of_different_voxel_sizes_are_both_kept(self, tmp_path):
        """The voxel sizes in the header are the qform's, whatever the sform's are."""
        larger = AFFINE @ np.diag([2.0, 2, 2, 1])
        info = read_info(save(tmp_path / "a.nii", larger, AFFINE))
        write_nifti(tmp_path / "b.nii", np.zeros(SHAPE, np.uint8), info.geometry())
        written = nibabel.load(tmp_path / "b.nii").header
        np.testing.assert_allclose(written.get_sform(), larger, atol=1e-6)
        np.testing.assert_allclose(written.get_qform(), AFFINE, atol=1e-6)

    @pytest.mark.parametrize("size", [0.48828125, 0.12345678, 1 / 3, 0.7])
    @pytest.mark.parametrize("kind", ["none", "qform", "sform"])
    def test_voxel_sizes_of_a_prediction_are_the_images_to_the_bit(self, tmp_path, size, kind):
        affine = np.diag([np.float64(np.float32(size))] * 3 + [1.0])
        forms = {"none": (None, None), "qform": (None, affine), "sform": (affine, None)}[kind]
        path = save(tmp_path / "a.nii", *forms, {PIXDIM + 4: floats(size, size, size)})
        write_nifti(tmp_path / "b.nii", np.zeros(SHAPE, np.uint8), read_info(path).geometry())
        first, second = nibabel.load(path), nibabel.load(tmp_path / "b.nii")
        assert first.header.get_zooms() == second.header.get_zooms()
        np.testing.assert_array_equal(first.affine, second.affine)


def loaded(interface, index: str, labels: np.ndarray, activation: bool = False) -> Sample:
    image, extended = interface.load_image(index)
    sample = Sample(index, image, 1, interface.classes, extended, three_dim=interface.three_dim)
    sample.add_prediction(labels, activation_output=activation)
    return sample


class TestUnits:
    @pytest.mark.parametrize("unit", list(UNITS))
    @pytest.mark.parametrize("time", ["unknown", "sec", "msec"])
    @pytest.mark.parametrize("kind", ["none", "qform", "sform", "both"])
    def test_prediction_keeps_micron_and_metre_and_the_numbers(self, tmp_path, unit, time, kind):
        affine = np.diag([0.3, 0.7, 2.1, 1])
        affine[:3, 3] = (-3, 11, 7)
        image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), None)
        image.header.set_zooms((0.3, 0.7, 2.1))
        image.header.set_xyzt_units(unit, time)
        image.set_qform(affine if kind in ("qform", "both") else None, int(kind in ("qform", "both")))
        image.set_sform(affine if kind in ("sform", "both") else None, int(kind in ("sform", "both")))
        (tmp_path / "data" / "a").mkdir(parents=True)
        nibabel.save(image, tmp_path / "data" / "a" / "imaging.nii.gz")
        interface = NIFTI_interface()
        interface.initialize(tmp_path / "data")
        sample = loaded(interface, "a", np.zeros(SHAPE, np.uint8))
        np.testing.assert_allclose(sample.extended["spacing"], np.array([0.3, 0.7, 2.1]) * UNITS[unit], rtol=1e-6)
        interface.save_prediction(sample, tmp_path)
        first = nibabel.load(tmp_path / "data" / "a" / "imaging.nii.gz")
        second = nibabel.load(tmp_path / "a.nii.gz")
        np.testing.assert_allclose(second.affine, first.affine, rtol=2e-7)
        assert second.header.get_zooms() == first.header.get_zooms()
        assert second.header.get_xyzt_units() == first.header.get_xyzt_units() == (unit, time)
        np.testing.assert_allclose(
            itk_affine(tmp_path / "a.nii.gz"), itk_affine(tmp_path / "data" / "a" / "imaging.nii.gz"), rtol=1e-6
        )
        assert read_info(tmp_path / "a.nii.gz").spacing.tolist() == sample.extended["spacing"].tolist()
        assert was_written_here(tmp_path / "a.nii.gz")

    def test_the_classes_of_probabilities_are_not_a_time_axis(self, tmp_path):
        save(tmp_path / "data" / "a" / "imaging.nii", AFFINE)
        interface = NIFTI_interface()
        interface.initialize(tmp_path / "data")
        interface.save_prediction(loaded(interface, "a", np.zeros((*SHAPE, 2), np.float32), True), tmp_path)
        assert nibabel.load(tmp_path / "a.nii.gz").header.get_xyzt_units() == ("mm", "unknown")

    @pytest.mark.parametrize("unit", ["meter", "micron"])
    def test_slices_and_the_volume_put_together_from_them_keep_the_unit(self, tmp_path, unit):
        image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), OTHER)
        image.header.set_xyzt_units(unit)
        (tmp_path / "data" / "a").mkdir(parents=True)
        nibabel.save(image, tmp_path / "data" / "a" / "imaging.nii.gz")
        interface = NIFTIslicer_interface(slice_axis=2)
        for index in interface.initialize(tmp_path / "data"):
            interface.save_prediction(loaded(interface, index, np.zeros(SHAPE[:2], np.uint8)), tmp_path)
        slice_2 = nibabel.load(tmp_path / "a:#:2.nii.gz")
        np.testing.assert_allclose(slice_2.affine, image.slicer[:, :, 2:3].affine, rtol=2e-7)
        assert slice_2.header.get_xyzt_units()[0] == unit
        volume = nibabel.load(interface.assemble_volume("a", tmp_path))
        np.testing.assert_allclose(volume.affine, image.affine, rtol=2e-7)
        assert volume.header.get_xyzt_units()[0] == unit

    @pytest.mark.parametrize("unit", [4, 5, 7])
    def test_a_unit_that_nifti_does_not_define_is_refused(self, tmp_path, unit):
        with pytest.raises(DataError, match=rf"a\.nii: the header's xyzt_units is {unit + 8}"):
            read_info(save(tmp_path / "a.nii", AFFINE, None, {UNIT: bytes([unit + 8])}))

    @pytest.mark.parametrize("time", [8, 40, 56, 64, 192])
    def test_the_bits_of_time_do_not_change_millimetres(self, tmp_path, time):
        info = read_info(save(tmp_path / "a.nii", AFFINE, None, {UNIT: bytes([2 + time])}))
        np.testing.assert_array_equal(info.affine, AFFINE)


class TestMeaning:
    """Fields that do not change what the voxels are, and ones that do."""

    @pytest.mark.parametrize("intent", [0, 3, 1002, 1005, 1007, 2001, 2003])
    def test_intent_and_display_range_do_not_change_the_values(self, tmp_path, intent):
        fields = {68: shorts(intent), 124: floats(50, 10), 39: b"\x39"}  # intent_code, cal_max and cal_min, dim_info
        path = save(tmp_path / "a.nii", AFFINE, None, fields)
        np.testing.assert_array_equal(read_voxels(read_info(path)), np.asanyarray(nibabel.load(path).dataobj))

    @pytest.mark.parametrize(
        ("stored", "expected"),
        [
            ((4, 5, 6, 1), (4, 5, 6)),
            ((4, 5, 6, 1, 3), (4, 5, 6, 3)),
            ((4, 5, 1, 1, 3), (4, 5, 1, 3)),
            ((4, 5, 6, 2), (4, 5, 6, 2)),
            ((4, 5, 6, 1, 1, 1, 1), (4, 5, 6)),
            ((4, 5), (4, 5)),
        ],
    )
    def test_vector_images_and_axes_of_1(self, tmp_path, stored, expected):
        array = np.arange(np.prod(stored), dtype=np.float32).reshape(stored)
        path = tmp_path / "a.nii"
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
        info = read_info(path)
        assert info.shape == expected
        np.testing.assert_array_equal(read_voxels(info).ravel("F"), array.ravel("F"))

    def test_time_and_vector_axis_are_not_mixed(self, tmp_path):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2, 3), np.float32), AFFINE), tmp_path / "imaging.nii")
        with pytest.raises(DataError, match=r"imaging\.nii: the image has shape \(4, 5, 6, 2, 3\)"):
            NIFTI_interface(channels=6).read_file(tmp_path / "imaging.nii")

    @pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_extensions_between_header_and_voxels(self, tmp_path, kind, ending):
        array = np.arange(120, dtype=np.int16).reshape(SHAPE)
        image = kind(array, AFFINE)
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
        nibabel.save(image, tmp_path / f"a{ending}")
        info = read_info(tmp_path / f"a{ending}")
        assert info.offset > 1300
        np.testing.assert_array_equal(read_voxels(info), array)

    @pytest.mark.parametrize("axes", [-3, 0, 8, 9, 1000])
    def test_a_number_of_axes_that_cannot_be(self, tmp_path, axes):
        with pytest.raises(DataError, match=rf"a\.nii: .*dim\[0\].* is {axes}, not 1 to 7"):
            read_info(save(tmp_path / "a.nii", AFFINE, None, {40: shorts(axes)}))

    @pytest.mark.parametrize("offset", [np.inf, -np.inf, np.nan, -1e30, -352.0, 0.0, 348.0, 352.5])
    def test_vox_offset_that_cannot_be(self, tmp_path, offset):
        with pytest.raises(DataError, match=r"a\.nii: vox_offset, the position of the voxels, is .*, but must be"):
            read_info(save(tmp_path / "a.nii", AFFINE, None, {108: floats(offset)}))

    @pytest.mark.parametrize("offset", [400.0, 1e9, 3e38])
    def test_vox_offset_beyond_the_file(self, tmp_path, offset):
        info: NiftiInfo = read_info(save(tmp_path / "a.nii", AFFINE, None, {108: floats(offset)}))
        with pytest.raises(DataError, match=r"a\.nii: the header declares more data than the file holds"):
            read_voxels(info)

    def test_infinite_vox_offset_in_a_compressed_file(self, tmp_path):
        import gzip

        plain = save(tmp_path / "a.nii", AFFINE, None, {108: floats(-np.inf)})
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain.read_bytes()))
        with pytest.raises(DataError, match=r"a\.nii\.gz: .*vox_offset"):
            read_info(tmp_path / "a.nii.gz")
