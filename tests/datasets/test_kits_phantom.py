from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.datasets import Phantom, make_kits_phantom, write_kits_phantoms
from miscnn_tf.errors import ConfigurationError, MiscnnError, StorageError

SMALL = (16, 36, 48)


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [make_kits_phantom([11, number], (20, 44, 60)) for number in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantoms")
    assert write_kits_phantoms(path, cases=4, shape=SMALL, seed=5, progress=False) == [
        f"case_0000{number}" for number in range(4)
    ]
    return path


def digests(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*.nii.gz"))
    }


def test_same_seed_same_bytes_and_more_cases_keep_the_first(folder: Path, tmp_path: Path) -> None:
    write_kits_phantoms(tmp_path, cases=5, shape=SMALL, seed=5, progress=False)
    again = digests(tmp_path)
    assert len(again) == 10
    assert {name: digest for name, digest in again.items() if "case_00004" not in name} == digests(folder)


def test_another_seed_or_case_makes_another_patient(folder: Path, tmp_path: Path) -> None:
    write_kits_phantoms(tmp_path, cases=1, shape=SMALL, seed=6, progress=False)
    assert len(set(digests(folder).values()) | set(digests(tmp_path).values())) == 10


def test_gzip_headers_hold_no_time(folder: Path) -> None:
    for file in folder.rglob("*.nii.gz"):
        assert file.read_bytes()[4:8] == b"\0\0\0\0"


def test_layout_is_read_by_our_interface_and_simpleitk(folder: Path) -> None:
    interface = NIFTI_interface(pattern="case_0000[0-9]", channels=1, classes=3)
    indices = interface.initialize(str(folder))
    assert indices == [f"case_0000{number}" for number in range(4)]
    for number, index in enumerate(indices):
        phantom = make_kits_phantom([5, number], SMALL)
        image, extended = interface.load_image(index)
        np.testing.assert_array_equal(image.reshape(SMALL), phantom.image)
        np.testing.assert_array_equal(interface.load_segmentation(index).reshape(SMALL), phantom.labels)
        np.testing.assert_allclose(extended["affine"], phantom.affine, atol=1e-3)
        # An independent reader finds the same place in the world: NIfTI is RAS, ITK is LPS, the axes are reversed.
        read = sitk.ReadImage(str(folder / str(index) / "imaging.nii.gz"))
        assert read.GetSize() == SMALL
        corner = np.array(read.TransformIndexToPhysicalPoint((3, 5, 7))) * (-1, -1, 1)
        np.testing.assert_allclose(corner, (phantom.affine @ (3, 5, 7, 1))[:3], atol=1e-2)


def test_both_affines_of_the_header_agree(folder: Path) -> None:
    for file in folder.rglob("*.nii.gz"):
        header = nib.load(file).header
        assert int(header["sform_code"]) == int(header["qform_code"]) == 1
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-3)
        assert header.get_xyzt_units()[0] == "mm"


def test_types_and_range(phantoms: list[Phantom]) -> None:
    for image, labels, affine in phantoms:
        assert image.dtype == np.int16
        assert labels.dtype == np.uint8
        assert affine.shape == (4, 4)
        assert image.shape == labels.shape == (20, 44, 60)
        assert image.min() >= -1024
        assert image.max() <= 3071
        assert set(np.unique(labels)) <= {0, 1, 2}


def test_every_case_has_a_kidney_and_most_a_tumour(phantoms: list[Phantom]) -> None:
    for _, labels, affine in phantoms:
        millilitres = np.sum(labels == 1) * abs(np.linalg.det(affine[:3, :3])) / 1000
        # An adult's kidneys without their fat: 100 to 200 ml each, one shrunken or single at the least.
        assert 60 < millilitres < 450, millilitres
    assert sum(bool(np.any(labels == 2)) for _, labels, _ in phantoms) >= 6


def test_hounsfield_units_of_the_tissues(phantoms: list[Phantom]) -> None:
    for image, labels, _ in phantoms:
        inner_kidney = ndimage.binary_erosion(labels == 1)
        assert 90 < np.median(image[inner_kidney]) < 215
        if (tumour := ndimage.binary_erosion(labels == 2)).sum() > 20:
            assert 5 < np.median(image[tumour]) < 130
            assert np.median(image[tumour]) < np.median(image[inner_kidney]) - 15
        air, fat, bone = image < -900, (image > -150) & (image < -60), image > 250
        assert air.mean() > 0.1
        assert fat.mean() > 0.08
        assert 0.003 < bone.mean() < 0.1


def test_partial_volume_between_kidney_and_fat() -> None:
    """A kidney voxel inside is kidney, one far outside is not; on the border there are voxels of values between."""
    image, labels, _ = make_kits_phantom([1, 2], (40, 80, 112), oblique=False, tumours=0)
    kidney = labels == 1
    distance = ndimage.distance_transform_edt(~kidney)
    border = image[(distance > 0) & (distance <= 1)]
    # Fat is about -100, kidney about 150: thresholding a hard edge would leave next to nothing in the middle.
    between = (border > -40) & (border < 90)
    assert between.mean() > 0.25
    # And a sharp label edge drawn on noise alone would not make it: fat varies by less than 40.
    far = image[(distance > 2) & (distance <= 3)]
    assert (far < -60).sum() > 300


def test_noise_is_correlated_within_a_slice_only() -> None:
    first, second = (make_kits_phantom([4, 4], (24, 64, 64), oblique=False).image for _ in range(2))
    np.testing.assert_array_equal(first, second)
    # Fat around the middle of the body is plain; look at air outside instead: noise alone.
    air = first[:, :3, :].astype(float)
    air -= air.mean()
    within = np.mean(air[:, :, 1:] * air[:, :, :-1]) / air.var()
    across = np.mean(air[1:] * air[:-1]) / air.var()
    assert within > 0.3
    assert abs(across) < 0.1


def test_affines_vary_oblique_flipped_and_anisotropic() -> None:
    phantoms = [make_kits_phantom([3, number], (8, 18, 24)) for number in range(24)]
    codes = {nib.aff2axcodes(phantom.affine) for phantom in phantoms}
    assert ("I", "P", "L") in codes
    assert len(codes) >= 3
    oblique = [bool(np.any(nib.affines.obliquity(phantom.affine) > 0.01)) for phantom in phantoms]
    assert 3 < sum(oblique) < 20
    for phantom in phantoms:
        spacing = nib.affines.voxel_sizes(phantom.affine)
        assert spacing[0] > 1.2 * spacing[1]
        assert spacing[1] == pytest.approx(spacing[2])
        rotation = phantom.affine[:3, :3] / spacing
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
    assert len({tuple(nib.affines.voxel_sizes(phantom.affine).round(2)) for phantom in phantoms}) > 12


def test_orientation_changes_the_storage_not_the_patient() -> None:
    """The same patient stored in two orientations: turned into one, the organs lie in the same place."""
    kwargs = {"spacing": (5.0, 5.0, 5.0), "oblique": False, "tumours": 1}
    ras = make_kits_phantom(9, (72, 52, 34), orientation="RAS", **kwargs)
    ipl = make_kits_phantom(9, (34, 52, 72), orientation="IPL", **kwargs)
    assert nib.aff2axcodes(ras.affine) == ("R", "A", "S")
    assert nib.aff2axcodes(ipl.affine) == ("I", "P", "L")
    turned = nib.as_closest_canonical(nib.Nifti1Image(ipl.labels, ipl.affine))
    labels = np.asarray(turned.dataobj)
    np.testing.assert_allclose(turned.affine, ras.affine, atol=1e-6)
    # The texture is drawn per grid and moves an edge here and there.
    both = np.sum((labels > 0) & (ras.labels > 0))
    assert 2 * both / (np.sum(labels > 0) + np.sum(ras.labels > 0)) > 0.97


def test_asked_spacing_and_tumours_are_given() -> None:
    _, labels, affine = make_kits_phantom(2, SMALL, spacing=(9.0, 7.0, 7.5), tumours=0, oblique=True)
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), (9.0, 7.0, 7.5))
    assert nib.affines.obliquity(affine).max() > 0.01
    assert not np.any(labels == 2)
    assert np.any(make_kits_phantom(2, SMALL, tumours=3).labels == 2)


def test_a_generator_can_be_passed_in() -> None:
    first = make_kits_phantom(np.random.default_rng(8), (8, 16, 16))
    second = make_kits_phantom(np.random.default_rng(8), (8, 16, 16))
    np.testing.assert_array_equal(first.image, second.image)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"shape": (16, 32)}, "shape"),
        ({"shape": (4, 32, 32)}, "shape"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, 2.0)}, "spacing"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "spacing"),
        ({"orientation": "RAR"}, "orientation"),
        ({"orientation": "XYZ"}, "orientation"),
        ({"tumours": -1}, "tumours"),
        ({"spacing": (0.1, 0.1, 0.1), "shape": (8, 8, 8)}, "no kidney"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make_kits_phantom(0, **{"shape": (8, 16, 16), **arguments})


def test_no_cases_and_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cases"):
        write_kits_phantoms(tmp_path, cases=0)
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="taken"):
        write_kits_phantoms(tmp_path / "taken", cases=1, shape=(8, 16, 16))


def test_an_interrupted_write_leaves_no_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kits_phantoms(tmp_path, cases=1, shape=(8, 16, 16), progress=False)
    before = digests(tmp_path)

    def full(*args: object, **kwargs: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip, "compress", full)
    with pytest.raises(MiscnnError, match="No space left"):
        write_kits_phantoms(tmp_path, cases=1, shape=(8, 16, 16), seed=3, progress=False)
    assert digests(tmp_path) == before
    assert sorted(path.name for path in (tmp_path / "case_00000").iterdir()) == [
        "imaging.nii.gz",
        "segmentation.nii.gz",
    ]
