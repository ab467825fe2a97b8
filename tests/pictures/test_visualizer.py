"""The GIFs of samples, read back pixel by pixel."""

from __future__ import annotations

import copy
import subprocess
import sys
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

import miscnn_tf
from miscnn_tf._base.class_colours import class_colours
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, StorageError
from miscnn_tf.pictures.animation import Sheet
from miscnn_tf.pictures.visualizer import OUTCOMES, visualize_prediction_overlap_3D, visualize_samples
from miscnn_tf.processing.subfunctions import Clipping, Padding, Resampling, Resize
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

SIZE = 80


def frames_of(path):
    with Image.open(path) as gif:
        found = []
        for number in range(gif.n_frames):
            gif.seek(number)
            found.append(np.asarray(gif.convert("RGB")))
        return found


def panels_of(path, panel, count):
    """The panels' pixels in each frame: an array ``(frames, panels, rows, columns, 3)``."""
    corners = Sheet("", ("",) * count, panel).corners()
    return np.array(
        [[frame[top : top + panel[1], left : left + panel[0]] for left, top in corners] for frame in frames_of(path)]
    )


def case(shape=(6, 8, 10), classes=3, index="case", affine=None, spacing=None):
    """A sample without any symmetry, its greys from 0 to 255, its prediction shifted."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, shape).astype(np.int16)
    truth = generator.integers(0, classes, shape).astype(np.uint8)
    facts = {name: value for name, value in (("affine", affine), ("spacing", spacing)) if value is not None}
    sample = Sample(index, image, 1, classes, facts, three_dim=len(shape) == 3)
    sample.add_segmentation(truth)
    sample.add_prediction(np.roll(truth, 1, axis=0))
    return sample


def mixed(grey, labels, colours, alpha):
    """The closed form of an overlay."""
    share = np.where(labels > 0, alpha, 0.0)[..., None]
    return (1 - share) * grey[..., None] + share * colours[labels]


# ---------------------------------------------------------------- samples


@pytest.mark.parametrize("alpha", [0.45, 0.8])
def test_each_frame_is_a_slice_with_truth_beside_prediction(tmp_path, alpha):
    sample = case()
    paths = visualize_samples(
        [sample], tmp_path / "vis", mask_seg=True, levels=(0, 255), size=SIZE, alpha=alpha, preprocessing=None
    )
    assert paths == [tmp_path / "vis" / "case.gif"]
    # Slices across the last axis; columns are the first axis, rows the second from top down; 10 pixels per voxel.
    found = panels_of(paths[0], (60, 80), 2)
    assert found.shape == (10, 2, 80, 60, 3)
    for at in range(10):
        for panel, labels in enumerate((sample.seg_data, sample.pred_data)):
            expected = mixed(sample.img_data[..., at, 0], labels[..., at, 0], class_colours(3), alpha)
            expected = expected[:, ::-1].transpose(1, 0, 2)
            # Half the distance of two shades of the palette, and rounding.
            np.testing.assert_allclose(found[at, panel][5::10, 5::10], expected, atol=5.5)
            blocks = found[at, panel].reshape(8, 10, 6, 10, 3)
            assert np.ptp(blocks, axis=(1, 3)).max() == 0


@pytest.mark.parametrize(
    ("seg", "pred", "names"),
    [(True, False, ["seg_data"]), (False, True, ["pred_data"]), (True, True, ["seg_data", "pred_data"]), (0, 0, [])],
)
def test_what_is_asked_for_is_shown(tmp_path, seg, pred, names):
    sample = case((8, 6))
    (path,) = visualize_samples(sample, tmp_path, seg, pred, levels=(0, 255), size=SIZE, alpha=1.0)
    found = panels_of(path, (60, 80), max(1, len(names)))
    assert found.shape[:2] == (1, max(1, len(names)))
    maps = [getattr(sample, name)[..., 0] for name in names] or [np.zeros((8, 6), int)]
    for panel, labels in zip(found[0], maps, strict=True):
        expected = mixed(sample.img_data[..., 0], labels, class_colours(3), 1.0)
        np.testing.assert_allclose(panel[5::10, 5::10], expected, atol=1)


def orientations():
    for order in permutations(range(3)):
        for signs in product((0, 1), repeat=3):
            yield "".join(("RL", "AP", "SI")[axis][sign] for axis, sign in zip(order, signs, strict=True))


@pytest.mark.parametrize("codes", list(orientations()))
def test_all_orientations_give_the_same_anatomical_picture(tmp_path, codes):
    """users.md: tested for all 48 axis orientations."""
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    plain = case((6, 4, 3), affine=affine, spacing=(1, 2, 3))
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = copy.copy(plain)
    for name in ("img_data", "seg_data", "pred_data"):
        array = nib.orientations.apply_orientation(getattr(plain, name), turn)
        setattr(turned, name, np.ascontiguousarray(array))
    turned.extended = {"affine": affine @ inv_ornt_aff(turn, plain.img_data.shape[:-1])}
    assert "".join(nib.aff2axcodes(turned.extended["affine"])) == codes
    for draw, count in ((visualize_samples, 2), (visualize_prediction_overlap_3D, 2)):
        paths = []
        for number, sample in enumerate((plain, turned)):
            folder = tmp_path / f"{draw.__name__}{number}"
            if draw is visualize_samples:
                paths += draw([sample], folder, mask_seg=True, levels=(0, 255), size=SIZE)
            else:
                paths.append(draw(sample, None, folder, levels=(0, 255), size=SIZE))
        first, second = (panels_of(path, (60, 80), count) for path in paths)
        np.testing.assert_array_equal(first, second)
    # From the feet up, the front on top, the patient's right (high x here, in RAS) on the left.
    front_left = first[0, 0][5, 5]
    code = (plain.seg_data[..., 0] == 1) + 2 * (plain.pred_data[..., 0] == 1)
    label = code[5, 3, 0]
    colours = np.zeros((4, 3), int)
    colours[[1, 2, 3]] = [
        tuple(bytes.fromhex(OUTCOMES[name][1:])) for name in ("false negative", "false positive", "true positive")
    ]
    np.testing.assert_allclose(front_left, mixed(plain.img_data[5, 3, 0, 0], label, colours, 0.6), atol=5)


def test_the_slices_number_is_the_arrays(tmp_path, monkeypatch):
    captions = []
    frame = Sheet.frame
    monkeypatch.setattr(
        Sheet, "frame", lambda self, blank, panels, text: captions.append(text) or frame(self, blank, panels, text)
    )
    downwards = np.diag([1.0, 1.0, -2.0, 1.0])
    visualize_samples(case((5, 6, 4), affine=downwards), tmp_path, size=SIZE)
    assert captions == ["slice 3", "slice 2", "slice 1", "slice 0"]
    captions.clear()
    visualize_samples(case((5, 6)), tmp_path, size=SIZE)
    assert captions == [""]


def test_thick_volumes_are_sampled_evenly_from_end_to_end(tmp_path):
    image = np.repeat(np.arange(200.0, dtype=np.float32)[:, None, None], 4, axis=1).repeat(4, axis=2)
    sample = Sample("thick", image, 1, 2, {"spacing": (3, 1, 1)}, three_dim=True)
    (path,) = visualize_samples(sample, tmp_path, mask_pred=False, levels=(0, 255), size=SIZE, frames=9)
    shown = panels_of(path, (80, 80), 1)[:, 0, 40, 40, 0]
    np.testing.assert_allclose(shown, np.linspace(0, 199, 9), atol=2)
    (path,) = visualize_samples(sample, tmp_path, mask_pred=False, size=SIZE)
    assert len(frames_of(path)) == 60


def test_volumes_are_never_held_in_colour(tmp_path):
    code = f"""
import resource, sys
import numpy as np
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.pictures.visualizer import visualize_samples
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
image = np.zeros((300, 400, 400), np.int16)
image[:, 100:300, 100:300] = 100
sample = Sample("a", image, 1, 2, three_dim=True)
sample.add_segmentation((image > 0).view(np.uint8))
visualize_samples(Sample("b", image[:2], 1, 2, three_dim=True), {str(tmp_path)!r}, mask_pred=False)
before = peak()
visualize_samples(sample, {str(tmp_path)!r}, mask_seg=True, mask_pred=False, frames=20)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # In colour it would be 144 MB, as one label map more 48 MB.
    assert int(done.stdout) < 110


def test_proportions_come_from_the_spacing_or_the_affine(tmp_path):
    for facts in ({"spacing": (1, 2, 3)}, {"affine": np.diag([1.0, 2, 3, 1])}):
        sample = case((8, 8, 4), **facts)
        (path,) = visualize_samples(sample, tmp_path, size=SIZE)
        assert panels_of(path, (40, 80), 1).shape == (4, 1, 80, 40, 3)
        assert frames_of(path)[0].shape[1] == 300


def test_colour_images_and_channels(tmp_path, rng):
    image = np.zeros((8, 6, 3), np.uint8)
    image[..., 0], image[..., 1] = 200, np.arange(0, 240, 30)[:, None]
    sample = Sample("colour", image, 3, 2, three_dim=False)
    (path,) = visualize_samples(sample, tmp_path, mask_pred=False, size=SIZE)
    np.testing.assert_allclose(panels_of(path, (60, 80), 1)[0, 0][5::10, 5::10], image, atol=3)
    channels = Sample("four", rng.integers(0, 256, (8, 6, 2, 4)), 4, 2, three_dim=True)
    (path,) = visualize_samples(channels, tmp_path, mask_pred=False, size=SIZE, levels=(0, 255))
    expected = channels.img_data[..., 0, 0].T[::-1]
    np.testing.assert_allclose(panels_of(path, (80, 60), 1)[0, 0, 5::10, 5::10, 0], expected, atol=1)


def test_the_structures_set_the_contrast(tmp_path):
    """A CT: kidney and tumour, 50 HU apart, although air and bone are in the picture."""
    image = np.full((6, 80, 80), -1000, np.int16)
    image[:, 10:70, 10:70] = 40
    image[:, 60:66, 30:40] = 1200
    truth = np.zeros(image.shape, np.uint8)
    truth[:, 22:42, 30:50] = 1
    truth[:, 22:28, 30:36] = 2
    image[truth == 1], image[truth == 2] = 150, 100
    sample = Sample("ct", image, 1, 3, {"spacing": (3, 1, 1)}, three_dim=True)
    sample.add_segmentation(truth)
    (path,) = visualize_samples(sample, tmp_path, True, False, size=SIZE, alpha=0.0)
    plain = panels_of(path, (80, 80), 1)[0, 0, ..., 0].astype(int)
    assert plain[35, 40] - plain[25, 33] > 0.15 * 255
    assert plain[2, 2] == 0


@pytest.mark.parametrize("shape", [(6, 8), (5, 6, 4)])
def test_samples_are_not_changed(tmp_path, shape):
    class InPlace(Abstract_Subfunction):
        """What a step should not do, but may."""

        def preprocessing(self, sample, training=True):
            sample.img_data += 1
            sample.details["seen"] = True
            sample.extended["spacing"] = (9.0,) * sample.ndim
            if sample.seg_data is not None:
                sample.seg_data[:] = 0

    sample = case(shape, spacing=(1.0,) * len(shape))
    before = copy.deepcopy(vars(sample))
    visualize_samples(sample, tmp_path, True, True, preprocessing=[InPlace(), Clipping(3, 4)], size=SIZE)
    visualize_samples(sample, tmp_path, False, False, preprocessing=InPlace(), size=SIZE)
    visualize_prediction_overlap_3D(sample, None, tmp_path, size=SIZE)
    assert vars(sample).keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_equal(getattr(sample, name), value)


def test_probabilities_show_the_most_probable_class(tmp_path, rng):
    sample = case((8, 6))
    probabilities = rng.random((8, 6, 3)).astype(np.float32)
    sample.add_prediction(probabilities, activation_output=True)
    (path,) = visualize_samples(sample, tmp_path, levels=(0, 255), alpha=1.0, size=SIZE)
    labels = probabilities.argmax(axis=-1)
    expected = mixed(sample.img_data[..., 0], labels, class_colours(3), 1.0)
    np.testing.assert_allclose(panels_of(path, (60, 80), 1)[0, 0][5::10, 5::10], expected, atol=1)


# ---------------------------------------------------------------- names, data and steps


@pytest.fixture
def data_io(tmp_path):
    samples = {f"case_{number}": case((5, 6, 4), index=f"case_{number}") for number in range(3)}
    interface = Dictionary_interface(
        {
            name: (sample.img_data[..., 0], sample.seg_data[..., 0], sample.pred_data[..., 0], {"spacing": (2, 1, 1)})
            for name, sample in samples.items()
        },
        classes=3,
    )
    return miscnn_tf.Data_IO(interface, tmp_path, output_path=tmp_path / "predictions")


def test_names_are_looked_up(data_io, tmp_path):
    paths = visualize_samples(data_io.get_indiceslist(), tmp_path / "vis", data_io=data_io, mask_seg=True, size=SIZE)
    assert [path.name for path in paths] == ["case_0.gif", "case_1.gif", "case_2.gif"]
    assert all(path.is_file() for path in paths)
    assert visualize_samples("case_1", tmp_path, data_io=data_io) == [tmp_path / "case_1.gif"]
    mixture = [data_io.sample_loader("case_0", load_pred=True), "case_2"]
    assert len(visualize_samples(mixture, tmp_path / "both", data_io=data_io)) == 2
    assert visualize_prediction_overlap_3D("case_1", data_io=data_io, visualization_path=tmp_path) == (
        tmp_path / "case_1.overlap.gif"
    )


def test_a_preprocessor_brings_its_steps_and_its_samples(data_io, tmp_path):
    steps = [Resampling((1, 1, 1)), Padding((12, 8, 4))]
    pre_processor = miscnn_tf.Preprocessor(data_io, 1, steps, patch_shape=(4, 4, 4))
    (first,) = visualize_samples("case_0", tmp_path / "a", True, preprocessing=pre_processor, size=SIZE)
    (second,) = visualize_samples("case_0", tmp_path / "b", True, data_io=data_io, preprocessing=steps, size=SIZE)
    assert first.read_bytes() == second.read_bytes()
    # 5 slices of 2 mm are 10 of 1 mm, padded to 12 and 6 x 4 to 8 x 4; spacings are alike: across the last axis.
    assert panels_of(first, (72, 48), 2).shape == (4, 2, 48, 72, 3)


def test_predictions_go_the_way_of_segmentations(tmp_path):
    sample = case((5, 6, 4))
    sample.add_prediction(sample.seg_data)
    (path,) = visualize_samples(sample, tmp_path, True, True, preprocessing=Resize((9, 12, 7)), size=SIZE)
    truth, prediction = np.moveaxis(panels_of(path, (54, 72), 2), 1, 0)
    np.testing.assert_array_equal(truth, prediction)
    assert np.ptp(truth, axis=-1).max() > 0


def test_the_legend_has_the_interfaces_names(data_io, tmp_path, monkeypatch):
    sheets = []
    frame = Sheet.frame
    monkeypatch.setattr(Sheet, "frame", lambda self, *rest: sheets.append(self) or frame(self, *rest))

    def legend(draw=visualize_samples, **arguments):
        sheets.clear()
        draw("case_0", data_io=data_io, size=SIZE, **arguments)
        return [name for name, _ in sheets[0].legend]

    assert legend(out_dir=tmp_path) == ["class 1", "class 2"]
    data_io.interface.class_names = ("background", "kidney", "tumour")
    assert legend(out_dir=tmp_path) == ["kidney", "tumour"]
    assert sheets[0].legend[0][1] == tuple(class_colours(2)[1])
    assert legend(out_dir=tmp_path, class_names=["", "a", "b"]) == ["a", "b"]
    assert legend(out_dir=tmp_path, mask_pred=False) == []
    assert legend(visualize_prediction_overlap_3D, visualization_path=tmp_path) == list(OUTCOMES)
    assert sheets[0].names == ("kidney", "tumour")
    assert sheets[0].title == "case_0"
    with pytest.raises(ConfigurationError, match="must be 3 names"):
        legend(out_dir=tmp_path, class_names=["a", "b"])


def test_of_many_classes_those_that_are_there_are_in_the_legend(tmp_path, monkeypatch):
    sheets = []
    frame = Sheet.frame
    monkeypatch.setattr(Sheet, "frame", lambda self, *rest: sheets.append(self) or frame(self, *rest))
    sample = case((6, 8), classes=105)
    sample.add_segmentation(np.where(sample.seg_data[..., 0] > 50, 104, 7))
    visualize_samples(sample, tmp_path, mask_seg=True, mask_pred=False)
    assert [name for name, _ in sheets[0].legend] == ["class 7", "class 104"]
    sample.add_prediction(np.full((6, 8), 9))
    visualize_prediction_overlap_3D(sample, None, tmp_path)
    assert sheets[-1].names == ("class 7", "class 9", "class 104")


# ---------------------------------------------------------------- right and wrong


@pytest.mark.parametrize("shape", [(8, 6), (6, 8, 5)])
def test_outcomes_of_each_class_voxel_by_voxel(tmp_path, shape):
    sample = case(shape, classes=4)
    path = visualize_prediction_overlap_3D(sample, [3, 1], tmp_path, 1.0, levels=(0, 255), size=SIZE)
    assert path.name == "case.overlap.gif"
    found = panels_of(path, (60, 80), 2)
    colours = {name: tuple(bytes.fromhex(colour[1:])) for name, colour in OUTCOMES.items()}
    for panel, number in enumerate((3, 1)):
        for at, frame in enumerate(found[:, panel]):
            image, truth, prediction = (
                array[..., 0] if len(shape) == 2 else array[..., at, 0][:, ::-1].T
                for array in (sample.img_data, sample.seg_data, sample.pred_data)
            )
            for row, column in np.ndindex(image.shape):
                is_there, is_said = truth[row, column] == number, prediction[row, column] == number
                if is_there and is_said:
                    expected = colours["true positive"]
                elif is_said:
                    expected = colours["false positive"]
                elif is_there:
                    expected = colours["false negative"]
                else:
                    expected = (image[row, column],) * 3
                np.testing.assert_allclose(frame[10 * row + 5, 10 * column + 5], expected, atol=1.5)


def test_one_class_may_be_named_alone_and_none_is_fine(tmp_path):
    sample = case((8, 6))
    path = visualize_prediction_overlap_3D(sample, 2, tmp_path, size=SIZE)
    assert frames_of(path)[0].shape[1] == 300
    for classes in (2, 1):
        empty = Sample("empty", np.zeros((8, 6)), 1, classes, three_dim=False)
        empty.add_segmentation(np.zeros((8, 6), int))
        empty.add_prediction(np.zeros((8, 6), int))
        assert visualize_prediction_overlap_3D(empty, None, tmp_path).is_file()


def test_outcomes_differ_from_each_other_and_from_grey_for_every_kind_of_colour_vision():
    """CIEDE2000 after simulating dichromacy (Machado et al. 2009, severity 1), over the same grey, at the default."""
    kinds = {
        "normal": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    colours = np.array([tuple(bytes.fromhex(colour[1:])) for colour in OUTCOMES.values()]) / 255
    greys = np.linspace(0, 1, 18)[:, None, None]
    # Over each grey: the three colours, and the grey itself.
    pictures = np.concatenate([0.4 * greys + 0.6 * colours, np.broadcast_to(greys, (18, 1, 3))], axis=1)
    linear = np.where(pictures <= 0.04045, pictures / 12.92, ((pictures + 0.055) / 1.055) ** 2.4)
    for matrix in kinds.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1)
        lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
        for first in range(4):
            for second in range(first):
                assert deltaE_ciede2000(lab[:, first], lab[:, second]).min() > 10


# ---------------------------------------------------------------- what does not fit


def test_names_below_the_folder_only(tmp_path):
    for index in ("../outside", "/etc/outside", "..", "", "a/../../b", "c:\\x", "a\0b"):
        with pytest.raises(DataError, match="cannot be a file name"):
            visualize_samples(case((4, 5), index=index), tmp_path / "vis")
        with pytest.raises(DataError, match="cannot be a file name"):
            visualize_prediction_overlap_3D(case((4, 5), index=index), None, tmp_path / "vis")
    assert not (tmp_path / "vis").exists()
    for index in ("a b", "$_$", "süß肾", "a:#:3", "-rf", "%n{}", "patient/visit 1", 7, "x\ny"):
        (path,) = visualize_samples(case((4, 5), index=index), tmp_path / "vis")
        assert path == tmp_path / "vis" / f"{index}.gif"
        assert path.is_file()
    with pytest.raises(StorageError):
        visualize_samples(case((4, 5), index="x" * 300), tmp_path / "vis")


def test_wrong_input_is_named(tmp_path, data_io):
    sample = case((4, 5))
    with pytest.raises(ConfigurationError, match="'case_0' is the name of a sample; pass data_io"):
        visualize_samples(["case_0"], tmp_path)
    with pytest.raises(ConfigurationError, match="'case' occurs twice"):
        visualize_samples([sample, case((4, 5))], tmp_path)
    with pytest.raises(ConfigurationError, match="empty"):
        visualize_samples([], tmp_path)
    with pytest.raises(ConfigurationError, match="levels"):
        visualize_samples(sample, tmp_path, levels=(3, 3))
    with pytest.raises(ConfigurationError, match="preprocessing must be"):
        visualize_samples(sample, tmp_path, preprocessing=["z-score"])
    with pytest.raises(ConfigurationError, match="alpha"):
        visualize_samples(sample, tmp_path, alpha=3)
    for argument in ("frames", "size", "seconds"):
        with pytest.raises(ConfigurationError, match=argument):
            visualize_samples(sample, tmp_path, **{argument: 0})
    with pytest.raises(ConfigurationError, match="classes"):
        visualize_prediction_overlap_3D(sample, [3], tmp_path)
    with pytest.raises(ConfigurationError, match=r"spacing \(1.0,\) has 1 lengths"):
        visualize_samples(case((4, 5), spacing=(1.0,)), tmp_path)
    sample.pred_data = sample.pred_data[1:]
    with pytest.raises(DataError, match=r"'case': the prediction is \(3, 5\), but the image is \(4, 5\)"):
        visualize_samples(sample, tmp_path)
    sample.pred_data = np.full((4, 5, 1), 0.5)
    with pytest.raises(DataError, match="'case': prediction"):
        visualize_samples(sample, tmp_path)
    sample.pred_data = None
    with pytest.raises(MissingDataError, match=r"no prediction.*mask_pred=False"):
        visualize_samples(sample, tmp_path)
    sample.seg_data = None
    with pytest.raises(MissingDataError, match="no segmentation"):
        visualize_prediction_overlap_3D(sample, None, tmp_path)
    with pytest.raises(MissingDataError, match="case_7"):
        visualize_samples(["case_7"], tmp_path, data_io=data_io)
    assert not list(tmp_path.glob("**/*.gif"))


def test_an_unusable_affine_is_no_orientation(tmp_path):
    (path,) = visualize_samples(case((4, 5, 3), affine=np.zeros((4, 4))), tmp_path, size=SIZE)
    assert len(frames_of(path)) == 3


def test_tensorflow_is_not_needed():
    code = "import miscnn_tf.pictures.visualizer, sys; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_real_mri(hippocampus, tmp_path):
    from miscnn_tf.data_loading.interfaces import NIFTI_interface

    data_io = miscnn_tf.Data_IO(NIFTI_interface(classes=3), hippocampus / "cases")
    name = data_io.get_indiceslist()[0]
    (path,) = visualize_samples(name, tmp_path, True, False, data_io)
    frames = frames_of(path)
    assert len(frames) > 20
    assert max(np.ptp(frame[60:-40].astype(int), axis=-1).max() for frame in frames) > 100
