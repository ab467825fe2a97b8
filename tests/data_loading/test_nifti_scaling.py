"""``scl_slope`` and ``scl_inter`` are applied by every reader, whatever the stored type is."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf import Data_IO, Preprocessor
from miscnn_tf.data_loading.formats import voxel_file
from miscnn_tf.data_loading.formats.nifti_reader import read_info
from miscnn_tf.data_loading.formats.volumes import read_voxels
from miscnn_tf.data_loading.formats.voxel_file import map_voxels, scaled_values
from miscnn_tf.data_loading.interfaces import NIFTI_interface, NIFTIslicer_interface
from miscnn_tf.errors import DataError

TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
SHAPE = (4, 5, 6)


def save(
    path: Path,
    array: np.ndarray,
    slope: float = math.nan,
    inter: float = math.nan,
    order: str = "<",
    kind: type = nibabel.Nifti1Image,
) -> Path:
    """A file that stores `array` as it is, with these two numbers in its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype.newbyteorder(order))
    plain = path.with_name("plain.nii")
    nibabel.save(kind(array, np.diag([0.7, 0.9, 3, 1]), header), plain)
    content = bytearray(plain.read_bytes())
    plain.unlink()
    place, form = (112, "2f") if kind is nibabel.Nifti1Image else (176, "2d")
    struct.pack_into(order + form, content, place, slope, inter)
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def as_nibabel(path: Path) -> np.ndarray:
    """Nibabel's values as float32, since volumes are never float64 here."""
    with np.errstate(over="ignore"):
        return np.asanyarray(nibabel.load(path).dataobj).astype(np.float32)


def ramp(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    start = 0 if dtype.startswith("u") else -60
    return (np.arange(math.prod(shape)) + start).reshape(shape).astype(dtype)


def test_nifti_scl_slope_is_applied_to_float32(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.full(SHAPE, 2, np.float32), 3, -100)
    found = read_voxels(read_info(path))
    assert found.dtype == np.float32
    assert (found == -94).all()
    np.testing.assert_array_equal(found, as_nibabel(path))


def test_nifti_scl_slope_is_applied_to_a_float32_label_map(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.float32)
    labels[1] = 2
    save(tmp_path / "a" / "imaging.nii.gz", ramp("i2"))
    save(tmp_path / "a" / "segmentation.nii.gz", labels, 0.5, 0)
    interface = NIFTI_interface(classes=2)
    interface.initialize(tmp_path)
    found = interface.load_segmentation("a")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels / 2)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_int16_label_map_with_a_slope_is_whole_within_rounding(tmp_path: Path, ending: str) -> None:
    """255 times the float32 next to 1/255 is 1.0000000236."""
    labels = np.zeros(SHAPE, np.int16)
    labels[2], labels[3] = 255, 510
    save(tmp_path / "a" / f"imaging{ending}", ramp("i2"))
    save(tmp_path / "a" / f"segmentation{ending}", labels, 1 / 255, 0)
    interface = NIFTI_interface(classes=3)
    interface.initialize(tmp_path)
    np.testing.assert_array_equal(interface.load_segmentation("a"), labels // 255)
    slices = NIFTIslicer_interface(classes=3, slice_axis=0)
    slices.initialize(tmp_path)
    assert [int(slices.load_segmentation(f"a:#:{place}").max()) for place in range(4)] == [0, 0, 1, 2]


scalings = st.tuples(
    st.sampled_from([0.0, math.nan, 1.0, -1.0, -2.5, 3.0, 1 / 255, 1e-20, 1e20]),
    st.sampled_from([0.0, 1.0, -100.0, 0.1]),
)


@settings(deadline=None, max_examples=150)
@given(
    dtype=st.sampled_from(TYPES),
    order=st.sampled_from("<>"),
    ending=st.sampled_from([".nii", ".nii.gz"]),
    kind=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    scaling=scalings,
    chunk=st.sampled_from([16, 200, 2**23]),
    axis=st.integers(0, 2),
)
def test_every_type_slope_and_byte_order_against_nibabel(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    order: str,
    ending: str,
    kind: type,
    scaling: tuple[float, float],
    chunk: int,
    axis: int,
) -> None:
    root = tmp_path_factory.mktemp("x")
    path = save(root / "a" / f"imaging{ending}", ramp(dtype), *scaling, order=order, kind=kind)
    expected = as_nibabel(path)
    info = read_info(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voxel_file, "_CHUNK", chunk)
        whole = read_voxels(info)
    assert info.scaled == (
        (scaling[0] not in (0, 1) and not math.isnan(scaling[0])) or scaling == (1, scaling[1]) != (1, 0)
    )
    assert whole.dtype == (np.float32 if info.scaled or dtype.startswith("f") else np.dtype(dtype))
    np.testing.assert_array_equal(whole.astype(np.float32), expected)
    if ending == ".nii":
        np.testing.assert_array_equal(scaled_values(map_voxels(info)[1:3], info).astype(np.float32), expected[1:3])
    slices = NIFTIslicer_interface(slice_axis=axis)
    slices.initialize(root)
    plane, _ = slices.load_image("a:#:2")
    np.testing.assert_array_equal(plane.astype(np.float32), expected.take(2, axis))


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(TYPES),
    order=st.sampled_from("<>"),
    ending=st.sampled_from([".nii", ".nii.gz"]),
    step=st.sampled_from([1, 2, 50]),
    slope=st.sampled_from([0.0, math.nan, 1.0, -1.0, 1 / 255, 1 / 3]),
    inter=st.sampled_from([0.0, 1.0, -3.0, 0.25]),
)
def test_label_maps_of_every_type_slope_and_byte_order_against_nibabel(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    order: str,
    ending: str,
    step: int,
    slope: float,
    inter: float,
) -> None:
    """They are nibabel's values, rounded, or refused where these are not whole numbers of 0 to 9."""
    root = tmp_path_factory.mktemp("x")
    stored = (ramp("u1") % 3 * step).astype(dtype)
    save(root / "a" / f"imaging{ending}", ramp("i2"))
    path = save(root / "a" / f"segmentation{ending}", stored, slope, inter, order=order)
    expected = as_nibabel(path)
    interface, slices = NIFTI_interface(classes=10), NIFTIslicer_interface(classes=10)
    for each in (interface, slices):
        each.initialize(root)
    whole = np.rint(expected)
    if np.abs(expected - whole).max() <= 1e-3 and whole.min() >= 0 and whole.max() < 10:
        np.testing.assert_array_equal(interface.load_segmentation("a"), whole)
        np.testing.assert_array_equal(slices.load_segmentation("a:#:1"), whole[1])
    else:
        with pytest.raises(DataError, match=r"segmentation\.nii.*the label map holds"):
            interface.load_segmentation("a")


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_patches_and_prepared_samples_hold_scaled_values(tmp_path: Path, ending: str, persistent: bool) -> None:
    labels = (ramp("u1", (8, 8, 8)) % 2).astype(np.float32) * 255
    path = save(tmp_path / "data" / "a" / f"imaging{ending}", ramp("f4", (8, 8, 8)), 3, -100)
    save(tmp_path / "data" / "a" / f"segmentation{ending}", labels, 1 / 255, 0)
    data_io = Data_IO(NIFTI_interface(), tmp_path / "data", batch_path=str(tmp_path / "batches"))
    preprocessor = Preprocessor(
        data_io,
        data_aug=None,
        batch_size=1,
        analysis="patchwise-grid",
        patch_shape=(4, 4, 4),
        prepare_subfunctions=persistent,
    )
    expected = as_nibabel(path)
    batches = preprocessor.run(["a"], training=True)
    patches = np.concatenate([images[..., 0] for images, _ in batches])
    assert sorted(patches.ravel().tolist()) == sorted(expected.ravel().tolist())
    truth = np.concatenate([np.argmax(segmentations, axis=-1) for _, segmentations in batches])
    assert truth.mean() == 0.5


@pytest.mark.parametrize(("slope", "inter"), [(math.inf, 0), (-math.inf, 0), (2, math.nan), (1, math.inf)])
def test_a_scaling_that_is_not_finite_is_refused_with_the_tags_name(tmp_path: Path, slope: float, inter: float) -> None:
    path = save(tmp_path / "a.nii", ramp("i2"), slope, inter)
    with pytest.raises(DataError, match=r"a\.nii: the NIfTI header is damaged \(scl_slope .*scl_inter"):
        read_info(path)


def test_float128_which_numpy_does_not_have_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp("f8"))
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, 70, 1536, 128)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii: the NIfTI header is damaged .*1536"):
        read_info(path)


def test_scaling_large_values_warns_of_infinite_voxels(tmp_path: Path) -> None:
    save(tmp_path / "a" / "imaging.nii", np.full(SHAPE, 1e200))
    interface = NIFTI_interface()
    interface.initialize(tmp_path)
    with pytest.warns(UserWarning, match="120 of 120 voxels are NaN or infinite"):
        interface.load_image("a")
