"""Maps of files that lie in every way in the world: written files lie over the body that they tell of, by SimpleITK."""

from __future__ import annotations

import keras
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy.spatial.transform import Rotation

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface, NIFTIslicer_interface
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.processing.subfunctions import Normalization, Padding, Resampling
from miscnn_tf.xai import compute_certaintymap, compute_gradient_heatmap, occlusion_sensitivity

# Off the middle along every axis, so that no flip and no exchange of axes maps the ball onto itself.
BALL, RADIUS = np.array([17.0, -36.0, 60.0]), 5.0
MIDDLE, EXTENT = np.array([14.0, -31.0, 52.0]), np.array([34.0, 36.0, 38.0])


class Bright(Abstract_Architecture):
    """A feature map of what is above 0.5, from which class 1 is decided."""

    def create_model(self, input_shape, n_labels=2):
        axes = len(input_shape) - 1
        convolution = keras.layers.Conv2D if axes == 2 else keras.layers.Conv3D
        image = keras.Input(input_shape)
        bright = convolution(1, 1, activation="relu", name="bright")
        output = convolution(n_labels, 1, activation="softmax", name="output")
        model = keras.Model(image, output(bright(image)))
        bright.set_weights([np.full((1,) * axes + (1, 1), 2.0), np.array([-1.0])])
        output.set_weights([np.array([-8.0, 8.0]).reshape((1,) * axes + (1, 2)), np.array([3.0, -3.0])])
        return model


def affine_of(spacing, order=(0, 1, 2), signs=(1, 1, 1), turn=(0, 0, 0)):
    steps = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        steps[world, axis] = sign * spacing[axis]
    steps = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ steps
    shape = tuple(int(np.ceil(EXTENT[world] / spacing[axis])) + axis for axis, world in enumerate(order))
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = MIDDLE - steps @ ((np.array(shape) - 1) / 2)
    return affine, shape


GRIDS = {
    "flipped_anisotropic": affine_of((1.5, 1.7, 4.0), signs=(-1, -1, 1)),
    "permuted": affine_of((3.0, 1.6, 1.4), order=(2, 0, 1)),
    "oblique_flipped": affine_of((1.6, 2.2, 1.5), order=(1, 0, 2), signs=(1, -1, -1), turn=(25, -15, 40)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xai_geometry")
    for name, (affine, shape) in GRIDS.items():
        points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
        image = 100 / (1 + np.exp(1.2 * (np.linalg.norm(points - BALL, axis=-1) - RADIUS)))
        (folder / "data" / name).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), folder / "data" / name / "imaging.nii.gz")
    return folder


@pytest.fixture(scope="module")
def network(folder):
    io = miscnn_tf.Data_IO(NIFTI_interface(), folder / "data", folder / "predictions", folder / "batches")
    steps = [Normalization("minmax"), Resampling((2.0, 2.0, 2.0)), Padding((17, 19, 21))]
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=2, subfunctions=steps, patch_shape=(12, 12, 12))
    preprocessor.patchwise_overlap = (3, 3, 3)
    network = miscnn_tf.Neural_Network(preprocessor, Bright(), precision="float32")
    network.verbose = 0
    return network


def centre_in_the_world(path) -> np.ndarray:
    """Where the middle of a map's largest amounts lies, RAS mm."""
    image = sitk.ReadImage(str(path))
    values = np.abs(sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    values[values < values.max() / 2] = 0
    index = [float((values * grid).sum() / values.sum()) for grid in np.indices(values.shape)]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index)) * (-1, -1, 1)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
    ("explain", "kind", "arguments"),
    [
        (compute_gradient_heatmap, "gradcam", {}),
        (compute_certaintymap, "certainty", {}),
        (occlusion_sensitivity, "occlusion", {"size": 4}),
    ],
)
def test_a_written_map_lies_over_the_body_in_the_world(network, folder, name, explain, kind, arguments):
    explain(name, network, **arguments)
    path = folder / "predictions" / kind / f"{name}.{kind}.class-1.nii.gz"
    affine, shape = GRIDS[name]
    written = nibabel.load(path)
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    assert written.shape == shape
    assert written.get_data_dtype() == np.float32
    # A box of occlusion is 8 mm wide, and their grid does not centre on the ball.
    assert np.linalg.norm(centre_in_the_world(path) - BALL) < (3.0 if kind == "occlusion" else 1.0)
    with Image.open(path.with_name(f"{name}.{kind}.class-1.png")) as picture:
        assert min(picture.size) > 200
    (returned,) = explain(name, network, return_output=True, **arguments)
    np.testing.assert_array_equal(returned[..., 0], np.asarray(written.dataobj))


def test_maps_of_a_slice_lie_over_the_volume(folder, tmp_path):
    io = miscnn_tf.Data_IO(NIFTIslicer_interface(slice_axis=1), folder / "data", tmp_path / "p", tmp_path / "b")
    steps = [Normalization("minmax")]
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=1, subfunctions=steps, analysis="fullimage")
    network = miscnn_tf.Neural_Network(preprocessor, Bright(), precision="float32")
    network.verbose = 0
    affine, shape = GRIDS["oblique_flipped"]
    number = round(float((np.linalg.inv(affine) @ [*BALL, 1])[1]))
    compute_gradient_heatmap(f"oblique_flipped:#:{number}", network)
    (path,) = (tmp_path / "p" / "gradcam").glob("*.nii.gz")
    assert nibabel.load(path).shape == (shape[0], 1, shape[2])
    assert np.linalg.norm(centre_in_the_world(path) - BALL) < 1.5
