"""Geometry through the whole pipeline: a network whose answer is known, on files that lie in every way in the world.

One body, defined by a formula in world coordinates, is scanned on several grids. The network finds it by a threshold,
so that whatever is wrong in a saved prediction is the pipeline's doing. Where the predictions lie is SimpleITK's word.
"""

from __future__ import annotations

import itertools

import keras
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.processing.subfunctions import Normalization, Padding, Resampling

CENTRE = np.array([14.0, -31.0, 52.0])
# A large ball and two smaller ones, on axes of their own: neither a flip nor an exchange of axes maps it onto itself.
BALLS = [((-3, -2, 1), 7.5), ((6, 3, 2), 5.5), ((-2, 8, -5), 4.5)]
EXTENT = np.array([34.0, 36.0, 32.0])  # mm of the world that every scan covers


class Threshold(Abstract_Architecture):
    """Class 1 where the image is above 0.5."""

    def create_model_3D(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        layer = keras.layers.Conv3D(n_labels, 1, activation="softmax")
        model = keras.Model(image, layer(image))
        layer.set_weights([np.array([-20.0, 20.0]).reshape(1, 1, 1, 1, 2), np.array([10.0, -10.0])])
        return model


def depth_in_body(points: np.ndarray) -> np.ndarray:
    """How far points ``(…, 3)`` of the RAS world lie inside the body, mm; negative outside."""
    return np.max([radius - np.linalg.norm(points - CENTRE - ball, axis=-1) for ball, radius in BALLS], axis=0)


def points_of(affine: np.ndarray, shape) -> np.ndarray:
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def grid(spacing, order=(0, 1, 2), signs=(1, 1, 1), turn=(0, 0, 0)) -> tuple[np.ndarray, tuple[int, ...]]:
    """The affine and shape of a grid over the body: array axis i runs along ±world axis ``order[i]``, then turned."""
    steps = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        steps[world, axis] = sign * spacing[axis]
    steps = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ steps
    # One voxel more from axis to axis, so that no two sizes are alike by chance.
    shape = tuple(int(np.ceil(EXTENT[world] / spacing[axis])) + axis for axis, world in enumerate(order))
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = CENTRE + (0.7, -0.4, 0.3) - steps @ ((np.array(shape) - 1) / 2)
    return affine, shape


GRIDS = {
    "as_the_world": grid((1.5, 1.5, 1.5)),
    "flipped_anisotropic": grid((1.2, 1.4, 3.0), signs=(-1, -1, 1)),
    "permuted": grid((2.5, 1.1, 1.3), order=(2, 0, 1)),
    "permuted_flipped": grid((1.1, 3.0, 1.4), order=(1, 2, 0), signs=(-1, 1, -1)),
    "oblique": grid((1.2, 1.2, 2.5), turn=(25, -15, 40)),
    "oblique_permuted_flipped": grid((3.3, 1.0, 1.1), order=(2, 1, 0), signs=(1, -1, -1), turn=(-20, 30, 10)),
    "qform_only": grid((1.3, 1.2, 2.0), order=(1, 0, 2), signs=(1, 1, -1), turn=(10, 20, -30)),
}


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """The folder with a prediction of each grid, after one run of `predict` over all of them."""
    folder = tmp_path_factory.mktemp("geometry")
    for name, (affine, shape) in GRIDS.items():
        # The body's edge is a slope some millimetres wide, which passes the half at the edge.
        image = 100 / (1 + np.exp(-0.8 * depth_in_body(points_of(affine, shape))))
        file = nibabel.Nifti1Image(image.astype(np.float32), affine)
        if name == "qform_only":
            file.set_qform(affine, 1)
            file.set_sform(None, 0)
        (folder / "data" / name).mkdir(parents=True)
        nibabel.save(file, folder / "data" / name / "imaging.nii.gz")
    io = miscnn_tf.Data_IO(NIFTI_interface(), folder / "data", folder / "predictions", folder / "batches")
    # The least size is odd and larger than most resampled scans: unequal margins are padded and cropped again.
    steps = [Normalization("minmax"), Resampling((1.5, 1.5, 1.5)), Padding((27, 29, 25))]
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=2, subfunctions=steps, patch_shape=(16, 16, 16))
    preprocessor.patchwise_overlap = (8, 8, 8)
    network = miscnn_tf.Neural_Network(preprocessor, Threshold(), precision="float32")
    network.verbose = 0
    network.predict(list(GRIDS))
    io.output_path = folder / "probabilities"
    network.predict("oblique_permuted_flipped", activation_output=True)
    return folder


@pytest.fixture(scope="module")
def truth():
    """The depth in the body on a fine grid of its own, made by SimpleITK in its world (left, posterior, superior)."""
    spacing, size = 0.6, 80
    image = sitk.Image([size] * 3, sitk.sitkFloat32)
    image.SetSpacing([spacing] * 3)
    first = CENTRE * (-1, -1, 1) - spacing * (size - 1) / 2
    image.SetOrigin(first.tolist())
    points = first + spacing * np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    depth = depth_in_body(points * (-1, -1, 1))
    filled = sitk.GetImageFromArray(depth.astype(np.float32).transpose(2, 1, 0))
    filled.CopyInformation(image)
    return filled


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0)


def rasterised(image: sitk.Image) -> np.ndarray:
    """The formula at every voxel of an image, where SimpleITK says that they lie."""
    steps = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, image.GetOrigin()
    return depth_in_body(points_of(affine, image.GetSize()) * (-1, -1, 1)) > 0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("name", GRIDS)
def test_a_saved_prediction_lies_over_the_truth_in_the_world(predictions, truth, name):
    prediction = sitk.ReadImage(str(predictions / "predictions" / f"{name}.nii.gz"))
    found = voxels(prediction) == 1
    resampled = voxels(sitk.Resample(truth, prediction, sitk.Transform(), sitk.sitkLinear, -100)) > 0
    assert dice(found, resampled) > 0.95
    assert dice(found, rasterised(prediction)) > 0.95
    # As an array, it is the formula on the grid of the file that was written.
    affine, shape = GRIDS[name]
    points = points_of(affine, shape)
    expected = depth_in_body(points) > 0
    assert found.shape == shape
    assert dice(found, expected) > 0.95
    # Half a voxel's shift, the usual fault of resampling there and back, would be 0.5 mm or more.
    np.testing.assert_allclose(points[found].mean(0), points[expected].mean(0), atol=0.25)


@pytest.mark.parametrize("name", GRIDS)
def test_a_flipped_prediction_would_not_pass(predictions, name):
    prediction = sitk.ReadImage(str(predictions / "predictions" / f"{name}.nii.gz"))
    found, expected = voxels(prediction) == 1, rasterised(prediction)
    for number in (1, 2, 3):
        for axes in itertools.combinations(range(3), number):
            assert dice(np.flip(found, axes), expected) < 0.85, axes


def test_predictions_of_one_body_on_all_grids_agree(predictions):
    images = [sitk.ReadImage(str(predictions / "predictions" / f"{name}.nii.gz")) for name in GRIDS]
    for other in images[1:]:
        moved = sitk.Resample(other, images[0], sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        # Nearest voxels of slices three millimetres thick make steps at the body's edge.
        assert dice(voxels(moved) == 1, voxels(images[0]) == 1) > 0.88


def test_saved_probabilities_lie_there_too(predictions):
    path = predictions / "probabilities" / "oblique_permuted_flipped.nii.gz"
    both = sitk.ReadImage(str(path))
    size = [*both.GetSize()[:3], 0]
    assert both.GetSize() == (*GRIDS["oblique_permuted_flipped"][1], 2)
    background, body = (sitk.Extract(both, size, [0, 0, 0, label]) for label in (0, 1))
    np.testing.assert_allclose(voxels(background) + voxels(body), 1, atol=1e-5)
    labels = nibabel.load(predictions / "predictions" / path.name)
    np.testing.assert_array_equal(voxels(body) > 0.5, np.asarray(labels.dataobj) == 1)
    np.testing.assert_allclose(nibabel.load(path).affine, labels.affine, atol=1e-6)
    # Three axes of a 4D direction: read where the labels' file says they lie.
    placed = sitk.ReadImage(str(predictions / "predictions" / path.name))
    assert dice(voxels(body) > 0.5, rasterised(placed)) > 0.95
