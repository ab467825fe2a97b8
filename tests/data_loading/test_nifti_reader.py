"""Reading NIfTI files that cannot be trusted, and writing ones that every viewer places alike."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.data_loading.file_names import ending_of, stem_of
from miscnn_tf.data_loading.formats import voxel_file
from miscnn_tf.data_loading.formats.nifti_reader import read_info
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.formats.volumes import check_size, read_voxels
from miscnn_tf.data_loading.formats.voxel_file import map_voxels, scaled_values
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

AFFINE = np.diag([0.7, 0.9, 3.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, kind=nibabel.Nifti1Image, **header) -> Path:
    image = kind(array, affine, dtype=array.dtype)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def patched(path: Path, position: int, packed: bytes) -> Path:
    """Overwrite bytes of the header, through gzip where need be."""
    zipped = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    content[position : position + len(packed)] = packed
    path.write_bytes(gzip.compress(bytes(content)) if zipped else bytes(content))
    return path


def ramp(shape=(4, 5, 6), dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


class TestReading:
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
    @pytest.mark.parametrize("order", "<>")
    def test_every_type_in_both_byte_orders(self, tmp_path, ending, dtype, order):
        stored = np.dtype(dtype).newbyteorder(order)
        header = nibabel.Nifti1Header(endianness=order)
        array = ramp(dtype=dtype)
        header.set_data_dtype(stored)
        path = tmp_path / f"a{ending}"
        nibabel.save(nibabel.Nifti1Image(array, AFFINE, header), path)
        assert read_info(path).stored_dtype == stored
        found = read_voxels(read_info(path))
        expected = np.float32 if np.dtype(dtype).kind == "f" else np.dtype(dtype)
        assert found.dtype == expected
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, array)

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_nifti_2(self, tmp_path, ending):
        path = save(tmp_path / f"a{ending}", ramp(), kind=nibabel.Nifti2Image)
        info = read_info(path)
        assert info.offset == 544
        np.testing.assert_array_equal(read_voxels(info), ramp())

    @pytest.mark.parametrize("chunk", [64, 2**23])
    def test_scaled_values_are_float32_and_nibabels(self, tmp_path, chunk, monkeypatch):
        monkeypatch.setattr(voxel_file, "_CHUNK", chunk)
        image = nibabel.Nifti1Image(ramp() * 7, AFFINE)
        image.header.set_slope_inter(0.5, -1024)
        nibabel.save(image, tmp_path / "a.nii.gz")
        found = read_voxels(read_info(tmp_path / "a.nii.gz"))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, nibabel.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32))

    @settings(deadline=None, max_examples=25)
    @given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=5), chunk=st.sampled_from([16, 80, 2**23]))
    def test_reads_what_nibabel_reads(self, tmp_path_factory, shape, chunk):
        path = tmp_path_factory.mktemp("x") / "a.nii.gz"
        save(path, ramp(tuple(shape), np.int32))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(voxel_file, "_CHUNK", chunk)
            found = read_voxels(read_info(path))
        expected = np.asanyarray(nibabel.load(path).dataobj)
        np.testing.assert_array_equal(found.ravel("F"), expected.ravel("F"))
        assert found.ndim <= 4 or 1 not in found.shape[3:]

    def test_members_without_a_trusted_size(self, tmp_path, monkeypatch):
        """Concatenated gzip members end in the last one's size only: memory then grows with what was read."""
        monkeypatch.setattr(voxel_file, "_TRUSTED", 100)
        plain = save(tmp_path / "a.nii", ramp((10, 11, 12))).read_bytes()
        path = tmp_path / "a.nii.gz"
        path.write_bytes(b"".join(gzip.compress(plain[i : i + 500]) for i in range(0, len(plain), 500)))
        check_size(read_info(path))
        np.testing.assert_array_equal(read_voxels(read_info(path)), ramp((10, 11, 12)))

    def test_map_gives_the_same_values(self, tmp_path):
        header = nibabel.Nifti1Header(endianness=">")
        image = nibabel.Nifti1Image(ramp(dtype=">i2"), AFFINE, header)
        image.header.set_slope_inter(2, 1)
        nibabel.save(image, tmp_path / "a.nii")
        info = read_info(tmp_path / "a.nii")
        np.testing.assert_array_equal(scaled_values(map_voxels(info)[:, 2], info), read_voxels(info)[:, 2])

    def test_units_become_millimetres(self, tmp_path):
        image = nibabel.Nifti1Image(ramp(), np.diag([500.0, 500, 2000, 1]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, tmp_path / "a.nii.gz")
        info = read_info(tmp_path / "a.nii.gz")
        assert info.spacing.tolist() == [0.5, 0.5, 2]
        assert np.diag(info.affine).tolist() == [0.5, 0.5, 2, 1]

    def test_zooms_that_contradict_the_affine_lose(self, tmp_path):
        path = save(tmp_path / "a.nii", ramp())
        patched(path, 80, struct.pack("<3f", 1, 1, 1))
        assert read_info(path).spacing.tolist() == [0.7, 0.9, 3.0]


class TestHostileFiles:
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("read", [check_size, read_voxels])
    def test_a_header_that_claims_terabytes_allocates_nothing(self, tmp_path, ending, read):
        path = save(tmp_path / f"a{ending}", ramp())
        patched(path, 40, struct.pack("<4h", 3, 32767, 32767, 32767))
        info = read_info(path)
        tracemalloc.start()
        with pytest.raises(DataError, match=rf"a{ending}: the header declares more data than the file holds"):
            read(info)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20

    @pytest.mark.parametrize("read", [check_size, read_voxels])
    def test_a_claim_within_what_gzip_could_pack(self, tmp_path, read):
        path = save(tmp_path / "a.nii.gz", np.zeros((40, 40, 40), np.int16))
        patched(path, 40, struct.pack("<4h", 3, 40, 40, 44))
        with pytest.raises(DataError, match=r"declares more data than the file holds.*the file holds 128352"):
            read(read_info(path))

    @pytest.mark.parametrize("read", [check_size, read_voxels])
    @pytest.mark.parametrize("keep", [0.3, 0.9])
    def test_truncated_gzip(self, tmp_path, read, keep, rng):
        path = save(tmp_path / "a.nii.gz", rng.integers(0, 1000, (20, 20, 20)).astype(np.int16))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(DataError, match=r"a\.nii\.gz.*(truncated|declares more data)"):
            read(read_info(path))

    def test_truncated_within_the_header(self, tmp_path):
        path = save(tmp_path / "a.nii.gz", ramp())
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(DataError, match=r"a\.nii\.gz"):
            read_info(path)

    def test_damaged_gzip_is_noticed_by_its_checksum(self, tmp_path, rng):
        path = save(tmp_path / "a.nii.gz", rng.integers(0, 256, (100, 100, 100)).astype(np.uint8))
        content = bytearray(path.read_bytes())
        content[-6] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.nii\.gz: the compressed file is truncated or damaged"):
            read_voxels(read_info(path))

    def test_a_bomb_behind_the_voxels_is_not_unpacked(self, tmp_path):
        path = save(tmp_path / "a.nii", ramp())
        packed = tmp_path / "a.nii.gz"
        packed.write_bytes(gzip.compress(path.read_bytes() + bytes(2**26)))
        tracemalloc.start()
        np.testing.assert_array_equal(read_voxels(read_info(packed)), ramp())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**21

    @pytest.mark.parametrize("most_trailing", [2**28, 10**6])
    def test_a_damaged_header_that_claims_less_is_noticed_by_the_checksum(self, tmp_path, monkeypatch, most_trailing):
        """Half the slices would be left, and the checksum is behind the other half."""
        monkeypatch.setattr(voxel_file, "_MOST_TRAILING", most_trailing)
        path = save(tmp_path / "a.nii.gz", np.zeros((100, 100, 160), np.int16))
        original = gzip.decompress(path.read_bytes())
        patched(path, 40, struct.pack("<4h", 3, 100, 100, 10))
        path.write_bytes(path.read_bytes()[:-8] + struct.pack("<2I", zlib.crc32(original), len(original)))
        with pytest.raises(DataError, match=r"a\.nii\.gz: (the compressed file is|the header declares far less)"):
            read_voxels(read_info(path))

    def test_a_header_in_several_gzip_members(self, tmp_path):
        plain = save(tmp_path / "a.nii", ramp()).read_bytes()
        (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(plain[i : i + 7]) for i in range(0, len(plain), 7)))
        np.testing.assert_array_equal(read_voxels(read_info(tmp_path / "a.nii.gz")), ramp())

    def test_plain_file_that_is_called_gz(self, tmp_path):
        save(tmp_path / "a.nii", ramp()).rename(tmp_path / "a.nii.gz")
        with pytest.raises(DataError, match=r"a\.nii\.gz: .*not gzip-compressed; rename it to \.nii"):
            read_info(tmp_path / "a.nii.gz")

    def test_gzip_that_is_called_nii(self, tmp_path):
        save(tmp_path / "a.nii.gz", ramp()).rename(tmp_path / "a.nii")
        with pytest.raises(DataError, match=r"a\.nii: the file is gzip-compressed; rename it to \.nii\.gz"):
            read_info(tmp_path / "a.nii")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty"),
            (b"\x5c", "empty"),
            (b"no image at all" * 50, "not a NIfTI file"),
            (struct.pack("<i", 348) + bytes(20), "ends within its header"),
            (struct.pack("<i", 348) + bytes(600), "damaged"),
        ],
    )
    def test_no_nifti(self, tmp_path, content, message):
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.raises(DataError, match=rf"a\.nii: .*{message}"):
            read_info(tmp_path / "a.nii")

    def test_no_file(self, tmp_path):
        with pytest.raises(MissingDataError, match=r"a\.nii: the file does not exist"):
            read_info(tmp_path / "a.nii")

    def test_pair(self, tmp_path):
        path = save(tmp_path / "a.nii", ramp())
        patched(path, 344, b"ni1")
        with pytest.raises(DataError, match="pair"):
            read_info(path)

    @pytest.mark.parametrize(
        ("position", "packed", "message"),
        [
            (40, struct.pack("<2h", 3, 0), "shape"),
            (40, struct.pack("<2h", 3, -5), "shape"),
            (40, struct.pack("<h", 0), "shape"),
            (70, struct.pack("<h", 999), "damaged"),
            (108, struct.pack("<f", 17), "vox_offset|damaged"),
            (108, struct.pack("<f", np.nan), "vox_offset|damaged"),
            (108, struct.pack("<f", 1e30), "declares more"),
            (280, struct.pack("<f", np.nan), "affine"),
            (280, struct.pack("<4f", 0, 0, 0, 0), "affine"),
            (112, struct.pack("<2f", 2, np.inf), "damaged"),
        ],
    )
    def test_bad_header_fields(self, tmp_path, position, packed, message):
        path = patched(save(tmp_path / "a.nii", ramp()), position, packed)
        with pytest.raises(DataError, match=rf"a\.nii: .*({message})"):
            read_voxels(read_info(path))

    def test_colours_are_refused(self, tmp_path):
        colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        with pytest.raises(DataError, match=r"a\.nii: the voxels are RGB colours.*channels"):
            read_info(save(tmp_path / "a.nii", colours))

    def test_complex_numbers_are_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"a\.nii: the voxels are complex numbers"):
            read_info(save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.complex64)))


class TestWriting:
    def test_forms_codes_and_units(self, tmp_path):
        write_nifti(tmp_path / "a.nii.gz", ramp(dtype=np.uint8), {"affine": AFFINE, "qform_code": 0, "sform_code": 4})
        header = nibabel.load(tmp_path / "a.nii.gz").header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (4, 4)
        np.testing.assert_allclose(header.get_qform(), AFFINE, atol=1e-6)
        np.testing.assert_allclose(header.get_sform(), AFFINE, atol=1e-6)
        assert header.get_xyzt_units()[0] == "mm"
        np.testing.assert_array_equal(header["pixdim"][1:4], np.float32([0.7, 0.9, 3]))

    def test_a_shear_goes_into_the_sform_only(self, tmp_path):
        sheared = AFFINE.copy()
        sheared[0, 2] = 0.5
        write_nifti(tmp_path / "a.nii.gz", ramp(dtype=np.uint8), {"affine": sheared, "qform_code": 1, "sform_code": 1})
        header = nibabel.load(tmp_path / "a.nii.gz").header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
        np.testing.assert_allclose(header.get_sform(), sheared, atol=1e-6)
        np.testing.assert_allclose(header["pixdim"][1:4], read_info(tmp_path / "a.nii.gz").spacing, rtol=1e-5)

    def test_two_different_forms_are_both_kept(self, tmp_path):
        image = nibabel.Nifti1Image(ramp(), None)
        image.set_sform(np.diag([-2.0, -2, 2, 1]), 4)
        image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
        nibabel.save(image, tmp_path / "a.nii.gz")
        info = read_info(tmp_path / "a.nii.gz")
        write_nifti(tmp_path / "b.nii.gz", ramp(dtype=np.uint8), info.geometry())
        header = nibabel.load(tmp_path / "b.nii.gz").header
        assert header.get_sform(coded=True)[1] == 4
        assert header.get_qform(coded=True)[1] == 1
        np.testing.assert_allclose(header.get_sform(), image.get_sform())
        np.testing.assert_allclose(header.get_qform(), image.get_qform())

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_without_forms_prediction_and_image_stay_together(self, tmp_path, ending):
        image = nibabel.Nifti1Image(ramp(), None)
        image.header.set_zooms((0.7, 0.9, 3))
        nibabel.save(image, tmp_path / f"a{ending}")
        info = read_info(tmp_path / f"a{ending}")
        assert (info.grid.qform_code, info.grid.sform_code) == (0, 0)
        write_nifti(tmp_path / f"b{ending}", ramp(dtype=np.uint8), info.geometry())
        first, second = (sitk.ReadImage(str(tmp_path / f"{name}{ending}")) for name in "ab")
        for ask in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(first, ask)(), getattr(second, ask)(), atol=1e-6)
        np.testing.assert_allclose(
            nibabel.load(tmp_path / f"a{ending}").affine, nibabel.load(tmp_path / f"b{ending}").affine, atol=1e-6
        )

    def test_same_content_same_bytes(self, tmp_path):
        for name in "ab":
            write_nifti(tmp_path / f"{name}.nii.gz", ramp(dtype=np.uint8), {"affine": AFFINE})
        assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()

    def test_spacing_alone(self, tmp_path):
        write_nifti(tmp_path / "a.nii.gz", ramp(dtype=np.uint8), {"spacing": (1, 2, 3)})
        assert nibabel.load(tmp_path / "a.nii.gz").header.get_zooms() == (1, 2, 3)

    def test_an_axis_too_long_for_nifti_1(self, tmp_path):
        write_nifti(tmp_path / "a.nii.gz", np.zeros((40000, 2), np.uint8), {})
        assert read_info(tmp_path / "a.nii.gz").shape == (40000, 2)

    def test_float64_is_written_as_float32(self, tmp_path):
        write_nifti(tmp_path / "a.nii", np.full((2, 2, 2, 3), 0.1), {})
        assert nibabel.load(tmp_path / "a.nii").get_data_dtype() == np.float32

    def test_another_ending(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"a\.png: NIfTI files end in \.nii\.gz"):
            write_nifti(tmp_path / "a.png", ramp(), {})
        assert list(tmp_path.iterdir()) == []


def test_endings() -> None:
    assert [ending_of(Path(name)) for name in ("a.nii.gz", "a.b.PNG", "a")] == [".nii.gz", ".png", ""]
    assert [stem_of(Path(name)) for name in ("a.nii.gz", "a.b.PNG", "a")] == ["a", "a.b", "a"]
