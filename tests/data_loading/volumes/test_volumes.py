"""Volumes of every format: voxels and geometry as SimpleITK, nibabel and tifffile read them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.freesurfer.mghformat import MGHImage
from scipy.spatial.transform import Rotation

from miscnn_tf.data_loading import geometry
from miscnn_tf.data_loading.formats.volumes import (
    FORMATS,
    WRITTEN,
    check_size,
    files_of,
    format_of,
    is_volume,
    prediction_ending,
    read_info,
    read_voxels,
    write_volume,
)
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from tests.layout_data import oblique

SHAPE = (4, 5, 6)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

AFFINES = {
    "plain": np.diag([0.7, 0.9, 3, 1.0]),
    "flipped": np.array([[-0.5, 0, 0, 12], [0, -2, 0, -7.25], [0, 0, -1.5, 100], [0, 0, 0, 1.0]]),
    "permuted": np.array([[0, 0, 3, -10], [0.8, 0, 0, 20], [0, -0.9, 0, 30], [0, 0, 0, 1.0]]),
    "oblique": oblique(),
    "left-handed": oblique() @ np.diag([-1, 1, 1, 1.0]),
}


def voxels(dtype: type = np.int16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 37 % 251).reshape(shape).astype(dtype)


def itk_affine(image: sitk.Image) -> np.ndarray:
    """The affine of a SimpleITK image in NIfTI's world."""
    axes = image.GetDimension()
    affine = np.eye(4)
    affine[:axes, :axes] = np.array(image.GetDirection()).reshape(axes, axes) * image.GetSpacing()
    affine[:axes, 3] = image.GetOrigin()
    return LPS @ affine


def itk_image(array: np.ndarray, affine: np.ndarray, channels: bool = False) -> sitk.Image:
    image = sitk.GetImageFromArray(np.moveaxis(array, -1, 0).T if channels else array.T, isVector=channels)
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def itk_array(image: sitk.Image) -> np.ndarray:
    array = sitk.GetArrayFromImage(image)
    return np.moveaxis(array.T, 0, -1) if image.GetNumberOfComponentsPerPixel() > 1 else array.T


def require_same(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    info = read_info(path)
    check_size(info)
    found = read_voxels(info)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == info.dtype
    assert found.flags.f_contiguous
    assert info.affine is not None
    assert info.spacing is not None
    np.testing.assert_allclose(info.affine, affine, atol=1e-4)
    np.testing.assert_allclose(info.spacing, np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-5)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("name", AFFINES)
def test_files_of_itk_are_read_as_itk_reads_them(tmp_path, name, ending, compressed):
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(itk_image(voxels(), AFFINES[name]), str(path), compressed)
    require_same(path, voxels(), itk_affine(sitk.ReadImage(str(path))))
    require_same(path, voxels(), AFFINES[name])


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_every_type_of_itk(tmp_path, ending, dtype):
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(itk_image(voxels(dtype), np.eye(4)), str(path))
    require_same(path, voxels(dtype), np.eye(4))
    assert read_info(path).dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_channels_are_the_last_axis(tmp_path, ending):
    array = voxels(np.float32, (*SHAPE, 2))
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(itk_image(array, oblique(), channels=True), str(path))
    require_same(path, array, oblique())
    assert read_info(path).form() == (2, True)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32])
@pytest.mark.parametrize("name", AFFINES)
def test_itk_reads_what_is_written(tmp_path, name, ending, dtype):
    path = tmp_path / f"a{ending}"
    write_volume(path, voxels(dtype), {"affine": AFFINES[name]})
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(itk_array(image), voxels(dtype))
    np.testing.assert_allclose(itk_affine(image), AFFINES[name], atol=1e-6)
    require_same(path, voxels(dtype), AFFINES[name])


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_itk_reads_probabilities(tmp_path, ending):
    array = np.random.default_rng(0).random((*SHAPE, 3), np.float32)
    write_volume(tmp_path / f"a{ending}", array, {"affine": oblique()})
    image = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(itk_array(image), array)
    np.testing.assert_allclose(itk_affine(image), oblique(), atol=1e-6)
    require_same(tmp_path / f"a{ending}", array, oblique())


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_images_of_two_axes(tmp_path, ending):
    affine = np.diag([0.5, 2.0, 1, 1])
    write_volume(tmp_path / f"a{ending}", voxels(np.uint8, (7, 5)), {"affine": affine})
    image = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    assert image.GetSize() == (7, 5)
    assert image.GetSpacing() == (0.5, 2.0)
    require_same(tmp_path / f"a{ending}", voxels(np.uint8, (7, 5)), affine)
    assert read_info(tmp_path / f"a{ending}").form() == (1, False)


@pytest.mark.parametrize("ending", [".mgz", ".mgh"])
@pytest.mark.parametrize("name", AFFINES)
def test_files_of_freesurfer(tmp_path, name, ending):
    path = tmp_path / f"a{ending}"
    nibabel.save(MGHImage(voxels(), AFFINES[name]), path)
    require_same(path, voxels(), nibabel.load(path).affine)
    require_same(path, voxels(), AFFINES[name])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", AFFINES)
def test_nibabel_reads_mgz_that_is_written(tmp_path, name, dtype):
    write_volume(tmp_path / "a.mgz", voxels(dtype), {"affine": AFFINES[name]})
    image = nibabel.load(tmp_path / "a.mgz")
    np.testing.assert_array_equal(image.get_fdata(), voxels(dtype))
    np.testing.assert_allclose(image.affine, AFFINES[name], atol=1e-4)
    again = voxels(np.int32 if dtype == np.uint16 else dtype)
    require_same(tmp_path / "a.mgz", again, AFFINES[name])


def test_mgz_holds_at_most_32_bits(tmp_path):
    with pytest.raises(ConfigurationError, match="MGH files hold 32-bit integers"):
        write_volume(tmp_path / "a.mgz", np.full(SHAPE, 2**40), {})


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("name", AFFINES)
def test_pairs_of_nifti_files(tmp_path, name, kind):
    nibabel.save(kind(voxels(), AFFINES[name]), tmp_path / "a.img")
    require_same(tmp_path / "a.hdr", voxels(), nibabel.load(tmp_path / "a.hdr").affine)
    assert [path.name for path in files_of(tmp_path / "a.hdr")] == ["a.hdr", "a.img"]
    assert prediction_ending(".hdr") == ".nii.gz"


def test_analyze_files_have_the_directions_that_itk_assumes(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(voxels(), np.diag([-2, 3, 4, 1.0])), tmp_path / "a.img")
    with pytest.warns(UserWarning, match="Analyze files do not store which side is left"):
        require_same(tmp_path / "a.hdr", voxels(), itk_affine(sitk.ReadImage(str(tmp_path / "a.hdr"))))
    (tmp_path / "a.mat").write_bytes(b"MATLAB")
    with pytest.raises(DataError, match=r"a\.mat holds the directions"):
        read_info(tmp_path / "a.hdr")


def test_spaces_of_nrrd_are_turned(tmp_path):
    """3D Slicer writes left-posterior-superior, other programs right-anterior-superior.

    The signs follow from the definition, since older releases of ITK read some of the names otherwise.
    """
    write_volume(tmp_path / "a.nrrd", voxels(), {"affine": oblique()})
    content = (tmp_path / "a.nrrd").read_bytes()
    spaces = {
        **dict.fromkeys((b"right-anterior-superior", b"RAS"), (-1, -1, 1, 1)),
        **dict.fromkeys((b"left-anterior-superior", b"LAS"), (1, -1, 1, 1)),
        **dict.fromkeys((b"left-posterior-superior", b"LPS", b"scanner-xyz"), (1, 1, 1, 1)),
    }
    for space, signs in spaces.items():
        (tmp_path / "b.nrrd").write_bytes(content.replace(b"left-posterior-superior", space))
        require_same(tmp_path / "b.nrrd", voxels(), np.diag(signs) @ oblique())
    (tmp_path / "b.nrrd").write_bytes(content.replace(b"left-posterior-superior", b"left-handed"))
    with pytest.raises(DataError, match="the space is 'left-handed'"):
        read_info(tmp_path / "b.nrrd")


NRRD = """NRRD0004
# a comment
type: {type}
dimension: {dimension}
sizes: {sizes}
{lines}encoding: raw

"""


def nrrd(path: Path, array: np.ndarray, lines: str = "", **fields: object) -> Path:
    """A file without compression; `array` has the first axis fastest."""
    known = {"type": "short", "dimension": array.ndim, "sizes": " ".join(map(str, array.shape)), **fields}
    order = "endian: little\n" if "endian" not in lines else ""
    path.write_bytes(NRRD.format(lines=order + lines, **known).encode() + array.tobytes(order="F"))
    return path


def test_nrrd_with_spacings_alone_is_read_as_by_itk(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", voxels(), "spacings: 0.5 1.5 2\nsegment name:=liver\nsample:=a: b\n")
    require_same(path, voxels(), itk_affine(sitk.ReadImage(str(path))))


def test_names_of_fields_without_blanks(tmp_path):
    """Defect: "spacedirections" was passed over, and the steps were 1 mm."""
    lines = "space: left-posterior-superior\nspacedirections: (0,-0.5,0) (1.5,0,0) (0,0,2)\nspaceorigin: (3,-4,5)\n"
    path = nrrd(tmp_path / "a.nrrd", voxels(), lines)
    require_same(path, voxels(), itk_affine(sitk.ReadImage(str(path))))
    assert read_info(path).spacing.tolist() == [0.5, 1.5, 2]


def test_nrrd_of_big_endian_values(tmp_path):
    require_same(nrrd(tmp_path / "a.nrrd", voxels(">i2"), "endian: big\n"), voxels(), LPS)


def test_nrrd_with_channels_before_and_after_the_axes(tmp_path):
    first = voxels(np.int16, (2, *SHAPE))
    path = nrrd(tmp_path / "a.nrrd", first, "kinds: vector domain domain domain\n")
    require_same(path, np.moveaxis(first, 0, -1), LPS)
    for mark in ("none", "(nan,nan,nan)"):
        steps = f"space: RAS\nspace directions: {mark} (1,0,0) (0,2,0) (0,0,3)\nspace origin: (1,2,3)\n"
        affine = np.array([[1, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1.0]])
        require_same(nrrd(tmp_path / "e.nrrd", first, steps), np.moveaxis(first, 0, -1), affine)
    last = voxels(np.int16, (*SHAPE, 3))
    require_same(nrrd(tmp_path / "b.nrrd", last, "kinds: domain domain domain list\n"), last, LPS)
    path = nrrd(tmp_path / "c.nrrd", first, "kinds: domain list domain domain\n")
    with pytest.raises(DataError, match="before or after one of channels"):
        read_info(path)
    with pytest.raises(DataError, match="of 4 axes, 4 are spatial"):
        read_info(nrrd(tmp_path / "d.nrrd", first))


def test_the_last_bytes_of_a_data_file(tmp_path):
    """byte skip -1 of NRRD and HeaderSize -1 of MetaImage: a header of unknown length."""
    (tmp_path / "a.raw").write_bytes(b"header of a scanner" + voxels("<i2").tobytes(order="F"))
    fields = "encoding: raw\nendian: little\nbyte skip: -1\ndata file: a.raw"
    (tmp_path / "a.nhdr").write_text(f"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 5 6\n{fields}\n")
    require_same(tmp_path / "a.nhdr", voxels(), LPS)
    fields = "ElementType = MET_SHORT\nHeaderSize = -1\nElementDataFile = a.raw"
    (tmp_path / "a.mhd").write_text(f"NDims = 3\nDimSize = 4 5 6\n{fields}\n")
    require_same(tmp_path / "a.mhd", voxels(), LPS)


@pytest.mark.parametrize("name", ["/etc/hostname", "../a.raw", "sub/../../a.raw", "..\\a.raw"])
def test_a_data_file_elsewhere_is_not_read(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "a.raw").write_bytes(bytes(240))
    (tmp_path / "data" / "a.mhd").write_text(
        f"NDims = 3\nDimSize = 4 5 6\nElementType = MET_SHORT\nElementDataFile = {name}\n"
    )
    (tmp_path / "data" / "a.nhdr").write_text(
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 5 6\nendian: little\nencoding: raw\ndata file: {name}\n"
    )
    for ending in ("mhd", "nhdr"):
        with pytest.raises(DataError, match="which is not in its folder"):
            read_info(tmp_path / "data" / f"a.{ending}")


def test_a_missing_data_file_is_named(tmp_path):
    sitk.WriteImage(itk_image(voxels(), np.eye(4)), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(MissingDataError, match=r"a\.mhd: the data file .*a\.raw does not exist"):
        read_info(tmp_path / "a.mhd")
    nibabel.save(nibabel.Nifti1Pair(voxels(), np.eye(4)), tmp_path / "b.img")
    (tmp_path / "b.img").unlink()
    with pytest.raises(MissingDataError, match=r"the data file b\.img does not exist"):
        read_info(tmp_path / "b.hdr")


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".mgz", ".mgh", ".npy", ".npz", ".tif"])
def test_a_file_cut_anywhere_gives_one_error(tmp_path, ending):
    whole = tmp_path / f"a{ending}"
    write_volume(whole, voxels(np.uint8), {"affine": oblique(), "spacing": np.array([1.0, 2.0, 3.0])})
    content = whole.read_bytes()
    needed = len(content) - (0 if ending != ".tif" else 4)
    # The end of an MGH file is a footer that is not needed.
    needed = 284 + 120 if ending == ".mgh" else needed
    for size in {*range(0, needed, max(1, needed // 40)), needed - 1}:
        cut = tmp_path / f"cut{ending}"
        cut.write_bytes(content[:size])
        with pytest.raises(DataError, match=f"cut{ending}"):
            read_voxels(read_info(cut))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_header_cannot_claim_memory(tmp_path, ending):
    write_volume(tmp_path / f"a{ending}", voxels(np.uint8), {})
    content = (tmp_path / f"a{ending}").read_bytes()
    (tmp_path / f"b{ending}").write_bytes(content.replace(b"4 5 6", b"40000 50000 60000"))
    with pytest.raises(DataError, match="the header declares more data than the file holds"):
        check_size(read_info(tmp_path / f"b{ending}"))
    with pytest.raises(DataError, match="the header declares more data than the file holds"):
        read_voxels(read_info(tmp_path / f"b{ending}"))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"NRRD0005", b"NRRX0005", "not a NRRD file"),
        (b"type: uint8", b"type: block#", "type 'block#_t'"),
        (b"sizes: 4 5 6", b"sizes: 4 5", "3 numbers are needed"),
        (b"sizes: 4 5 6", b"sizes: 4 -5 6", "whole numbers of at least 1"),
        (b"sizes: 4 5 6", b"sizes: 4 5 x", "3 numbers are needed"),
        (b"encoding: gzip", b"encoding: hex", "the encoding is 'hex'"),
        (b"encoding: gzip\n", b"", "no field 'encoding'"),
        (b"space directions: (", b"space directions: (nan,", "space directions"),
        (b"dimension: 3", b"dimension: three", "dimension is 'three'"),
        (b"kinds: domain domain", b"kinds: domain", "kinds has 2 entries for 3 axes"),
        (b"type: uint8", b"type: uint8\ntype: int8", "the field 'type' twice"),
        (b"type: uint8", b"type: uint8\nno field", "which is not a field"),
        (b"space directions: ", b"space direction: ", "'space direction', which is not a field of NRRD"),
    ],
)
def test_faults_of_nrrd(tmp_path, old, new, fault):
    write_volume(tmp_path / "a.nrrd", voxels(np.uint8), {})
    content = (tmp_path / "a.nrrd").read_bytes()
    assert old in content
    (tmp_path / "a.nrrd").write_bytes(content.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"a\.nrrd: .*{fault}"):
        read_info(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"NDims = 3", b"NDims = 5", "NDims is 5"),
        (b"NDims = 3", b"Dims = 3", "no NDims"),
        (b"MET_UCHAR", b"MET_LONG", "ElementType 'MET_LONG'"),
        (b"BinaryData = True", b"BinaryData = False", "voxels as text"),
        (b"CompressedData = True", b"CompressedData = maybe", "True or False"),
        (b"ElementSpacing = 1.0", b"ElementSpacing = 0.0", "span no volume"),
        (b"= LOCAL", b"= LIST", "several files"),
        (b"ObjectType = Image", b"ObjectType = Image\nElementToIntensityFunctionSlope = 2", "not applied by ITK"),
        (b"ObjectType = Image", b"ObjectType Image", "not a MetaImage file"),
        (b"ElementSpacing", b"ElementSpacing\x01", "not a MetaImage file"),
    ],
)
def test_faults_of_metaimage(tmp_path, old, new, fault):
    write_volume(tmp_path / "a.mha", voxels(np.uint8), {})
    content = (tmp_path / "a.mha").read_bytes()
    assert old in content
    (tmp_path / "a.mha").write_bytes(content.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"a\.mha: .*{fault}"):
        read_info(tmp_path / "a.mha")


def test_units_of_nrrd_are_warned_of(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", voxels(), 'space dimension: 3\nspace units: "um" "um" "um"\n')
    with pytest.warns(UserWarning, match='space units is "um" "um" "um", but voxel sizes are read as millimetres'):
        read_info(path)


def test_arrays(tmp_path):
    np.save(tmp_path / "a.npy", voxels())
    info = read_info(tmp_path / "a.npy")
    np.testing.assert_array_equal(read_voxels(info), voxels())
    assert (info.affine, info.spacing, info.form()) == (None, None, (1, True))
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "b.npz", scan=voxels(np.float64), spacing=(1, 2, 3))
        info = read_info(tmp_path / "b.npz")
        np.testing.assert_array_equal(read_voxels(info), voxels(np.float32))
        assert info.spacing.tolist() == [1, 2, 3]
    np.save(tmp_path / "c.npy", np.zeros((8, 9, 3), np.uint8))
    assert read_info(tmp_path / "c.npy").form() == (3, False)
    np.save(tmp_path / "d.npy", voxels() > 3)
    assert read_voxels(read_info(tmp_path / "d.npy")).dtype == np.uint8


def test_arrays_that_are_not_one_image(tmp_path):
    np.savez(tmp_path / "a.npz", image=voxels(), label=voxels())
    with pytest.raises(DataError, match="holds the arrays 'image', 'label'"):
        read_info(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="is damaged"):
        read_info(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.zeros(5))
    with pytest.raises(DataError, match=r"of float64 and shape \(5,\)"):
        read_info(tmp_path / "c.npy")
    np.savez(tmp_path / "d.npz", image=voxels(), spacing=(1, -2, 3))
    with pytest.raises(DataError, match=r"'spacing' is \[1.0, -2.0, 3.0\]"):
        read_info(tmp_path / "d.npz")


def test_formats_that_are_not_written_are_refused_with_the_one_that_is(tmp_path):
    for ending, other in ((".mhd", ".mha"), (".hdr", ".nii.gz"), (".nhdr", ".nrrd")):
        with pytest.raises(ConfigurationError, match=rf"not written; name the output {other}"):
            write_volume(tmp_path / f"a{ending}", voxels(), {})


def test_every_format_writes_its_predictions():
    assert {one.written for one in FORMATS} <= set(WRITTEN)
    for one in FORMATS:
        assert all(format_of(f"scan{ending.upper()}") is one for ending in one.endings)


def test_a_file_of_another_format_is_reported(tmp_path):
    for ending in (".nrrd", ".mha", ".mgz", ".mgh", ".hdr", ".npy", ".npz", ".nii"):
        (tmp_path / f"a{ending}").write_bytes(b"something else\n" * 50)
        with pytest.raises(DataError, match=rf"a\{ending}"):
            read_info(tmp_path / f"a{ending}")
    assert not is_volume(tmp_path / "a.png")


def test_random_grids_survive_a_change_of_format(tmp_path):
    """From each format to each other one, in rotated, flipped and anisotropic grids."""
    rng = np.random.default_rng(3)
    array = voxels(np.uint8)
    for number in range(6):
        affine = np.eye(4)
        affine[:3, :3] = Rotation.random(rng=rng).as_matrix() * rng.uniform(0.2, 5, 3) * rng.choice([-1, 1], 3)
        affine[:3, 3] = rng.uniform(-500, 500, 3)
        facts = {"affine": affine}
        for ending in (".nrrd", ".mha", ".mgz", ".nii.gz"):
            write_volume(tmp_path / f"{number}{ending}", array, facts)
            info = read_info(tmp_path / f"{number}{ending}")
            assert geometry.grid_difference(SHAPE, affine, SHAPE, info.affine, tolerance=1e-3) is None
            np.testing.assert_array_equal(read_voxels(info), array)
            facts = info.geometry()
