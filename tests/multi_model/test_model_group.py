import logging
import os

import numpy as np
import pytest
from own_model import Constant
from toy import ToyInterface

from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.errors import ConfigurationError, DataError, MemoryBudgetError, ModelGroupError
from miscnn_tf.evaluation.detailed_validation import detailed_validation
from miscnn_tf.multi_model import Model_Group
from miscnn_tf.neural_network import memory_budget
from miscnn_tf.neural_network.memory_budget import MemoryBudget


@pytest.fixture(scope="module")
def group(kit):
    made = Model_Group(kit.networks, kit.preprocessor)
    made.verbose = 0
    return made


def probabilities(kit, names=("case_0", "case_1")):
    return np.stack(
        [network.predict(names, return_output=True, activation_output=True) for network in kit.networks]
    )  # (members, samples, x, y, classes)


# ---------------------------------------------------------------- prediction


def test_the_mean_is_that_of_the_members_probabilities(kit, group):
    members = probabilities(kit)
    expected = members.astype(np.float64).mean(axis=0)
    assert np.abs(members[0] - members[1]).max() > 0.01  # they do differ
    found = group.predict(["case_0", "case_1"], "mean", activation_output=True, return_output=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    labels = group.predict(["case_0", "case_1"], return_output=True)
    clear = np.diff(np.sort(expected, axis=-1)[..., -2:], axis=-1)[..., 0] > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(np.stack(labels)[clear], expected.argmax(axis=-1)[clear])
    assert labels[0].dtype == np.uint8


@pytest.mark.parametrize("activation_output", [False, True])
def test_a_group_of_one_gives_what_its_member_gives(kit, activation_output):
    network = kit.networks[0]
    alone = Model_Group([network], kit.preprocessor)
    (expected,) = network.predict(["case_1"], return_output=True, activation_output=activation_output)
    functions = ["mean"] if activation_output else ["mean", "majority", "staple"]
    for function in functions:
        (found,) = alone.predict(["case_1"], function, activation_output, return_output=True)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_the_majority_is_of_the_members_labels(kit, group):
    labels = np.stack([network.predict(["case_2"], return_output=True)[0] for network in kit.networks])
    votes = np.stack([(labels == label).sum(axis=0) for label in range(3)], axis=-1)
    (found,) = group.predict("case_2", "majority", return_output=True)
    np.testing.assert_array_equal(found, votes.argmax(axis=-1))
    (shares,) = group.predict("case_2", "majority", activation_output=True, return_output=True)
    np.testing.assert_allclose(shares, votes / 3, atol=1e-6)


def test_a_function_of_the_users_own_gets_the_sample_and_every_prediction(kit, group):
    seen = []

    def widest(sample, predictions):
        seen.append((sample, len(predictions), predictions[0].dtype, isinstance(predictions[0], np.memmap)))
        with pytest.raises(ValueError, match="read-only"):
            predictions[0][0] = 0
        return np.max(predictions, axis=0)

    labels = np.stack([network.predict(["case_0"], return_output=True)[0] for network in kit.networks])
    (found,) = group.predict(["case_0"], widest, return_output=True)
    np.testing.assert_array_equal(found, labels.max(axis=0))
    assert not isinstance(found, np.memmap)
    (found,) = group.predict(["case_0"], widest, activation_output=True, return_output=True)
    np.testing.assert_allclose(found, probabilities(kit, ["case_0"]).max(axis=0)[0], atol=1e-6)
    (sample, number, dtype, mapped), (_, _, second_dtype, _) = seen
    assert (sample.index, number, dtype, mapped, second_dtype) == ("case_0", 3, np.uint8, True, np.float32)
    # The image is the one that the interface reads, on the grid of the predictions, not the resampled one.
    np.testing.assert_array_equal(sample.img_data, kit.io.sample_loader("case_0").img_data)


def test_members_share_the_prepared_sample(kit, group):
    loads = kit.io.interface.loads
    for function in ("mean", "majority"):
        loads.clear()
        group.predict(["case_3"], function, return_output=True)
        assert loads == ["case_3"]


def test_no_members_prediction_of_a_whole_image_exists_for_the_mean(kit, group, monkeypatch):
    whole = []
    assemble = memory_budget.assemble

    def count(sample, patches, plan, steps, activation_output, **settings):
        whole.append(activation_output)
        return assemble(sample, patches, plan, steps, activation_output, **settings)

    monkeypatch.setattr(memory_budget, "assemble", count)
    group.predict(["case_0"], "mean", return_output=True)
    assert whole == [False]  # once for all members, and labels are decided in it


def test_temporary_files_are_in_the_groups_folder_and_go(kit, group, monkeypatch):
    before = set(kit.folder.rglob("*"))
    files = []

    def look(sample, predictions):
        files.extend(path for path in kit.folder.rglob("*.npy") if path not in before)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        group.predict(["case_0"], look)
    assert len(files) == 3
    assert {path.relative_to(kit.folder).parts[:2] for path in files} == {("batches", f"group_{group.id}")}
    left = set(kit.folder.rglob("*")) - before
    assert {path for path in left if path.is_file()} == set()
    assert not (kit.folder / "batches").exists() or (kit.folder / "batches") in before


def test_predictions_are_saved_by_the_interface_only(kit, group):
    before = {path for path in kit.folder.rglob("*") if path.is_file()}
    for function in ("mean", "majority", lambda sample, predictions: predictions[1]):
        assert group.predict(["case_1"], function) is None
        (expected,) = group.predict(["case_1"], function, return_output=True)
        saved = np.load(kit.folder / "predictions" / "case_1.npy")
        np.testing.assert_array_equal(saved[..., 0], expected)
    after = {path for path in kit.folder.rglob("*") if path.is_file()}
    assert after - before <= {kit.folder / "predictions" / "case_1.npy"}


def test_predict_array_is_the_same_without_a_name(kit, group):
    sample = kit.io.sample_loader("case_0")
    for function in ("mean", "majority", lambda sample, predictions: predictions[0]):
        (expected,) = group.predict(["case_0"], function, return_output=True)
        found = group.predict_array(sample.img_data, sample.spacing, function)
        np.testing.assert_array_equal(found, expected)


def test_wrong_names_and_functions_are_told_before_anything_is_predicted(kit, group, monkeypatch):
    monkeypatch.setattr(type(kit.networks[0]), "predict_patches", lambda *_: pytest.fail("predicted for nothing"))
    with pytest.raises(ConfigurationError, match="the aggregation function 'maen' is unknown"):
        group.predict(["case_0"], "maen")
    with pytest.raises(DataError, match="case_9"):
        group.predict(["case_9"])


def test_members_average_over_flips_where_the_augmentation_says_so(make_kit):
    from miscnn_tf.processing.data_augmentation import Data_Augmentation

    kit = make_kit(data_aug=Data_Augmentation(mirror=True))
    network = kit.network(0)
    group = Model_Group([network], kit.preprocessor)
    (plain,) = group.predict(["case_0"], activation_output=True, return_output=True)
    kit.preprocessor.data_augmentation.infaug = True
    (found,) = group.predict(["case_0"], activation_output=True, return_output=True)
    flipped = [np.asarray(each) for each in network.predict_augmentated("case_0")]
    np.testing.assert_allclose(found, np.mean([plain, *flipped], axis=0), atol=1e-6)
    assert np.abs(found - plain).max() > 1e-3


def test_whole_images_of_networks_of_different_depths(make_kit):
    kit = make_kit(shape=(10, 14), analysis="fullimage", patch_shape=None, batch_size=1)
    networks = [kit.network(0, depth=1), kit.network(1, depth=2)]  # padded to 10 x 14, and to 12 x 16
    group = Model_Group(networks, kit.preprocessor)
    expected = np.mean(
        [network.predict(["case_0"], return_output=True, activation_output=True)[0] for network in networks], axis=0
    )
    (found,) = group.predict(["case_0"], "mean", activation_output=True, return_output=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_members_with_preprocessors_of_their_own(make_kit, kit):
    from miscnn_tf.processing.preprocessor import Preprocessor

    wide = Preprocessor(kit.io, batch_size=1, patch_shape=(16, 16), data_aug=None)
    networks = [kit.networks[0], kit.network(7, on=wide), kit.networks[1]]
    with pytest.raises(RuntimeError, match=r"models\[1\] has another preprocessor"):
        Model_Group(networks, kit.preprocessor)
    group = Model_Group(networks, kit.preprocessor, verify_preprocessor=False)
    members = [network.predict(["case_0"], return_output=True, activation_output=True)[0] for network in networks]
    (found,) = group.predict(["case_0"], activation_output=True, return_output=True)
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-6)
    (found,) = group.predict(["case_0"], lambda sample, predictions: predictions[1], True, return_output=True)
    np.testing.assert_array_equal(found, members[1])
    other = make_kit(classes=2)
    with pytest.raises(ModelGroupError, match="2 classes in 2D"):
        Model_Group([kit.networks[0], other.network()], kit.preprocessor, verify_preprocessor=False)


@pytest.mark.parametrize("function", ["mean", "majority"])
def test_groups_in_a_group_segment_arrays_too(kit, group, function):
    """`load_group(...).predict_file` is how a group is used on a new scan, whatever its members are."""
    outer = Model_Group([group, kit.network(5)], kit.preprocessor)
    image = kit.preprocessor.data_io.interface.load_image("case_1")[0]
    probable = function == "mean"
    (expected,) = outer.predict(["case_1"], function, activation_output=probable, return_output=True)
    found = outer.predict_array(image, (1.0, 1.0), function, activation_output=probable)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_users_own_model_and_a_group_are_members(kit, group):
    constant = Constant(kit.preprocessor, label=2)
    mixed = Model_Group([constant, group], kit.preprocessor)
    (found,) = mixed.predict(["case_0"], activation_output=True, return_output=True)
    expected = probabilities(kit, ["case_0"])[:, 0].mean(axis=0) / 2
    expected[..., 2] += 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ConfigurationError, match="Constant in the group predicts samples"):
        mixed.predict_array(np.zeros((20, 22)), (1, 1))


def test_3d_volumes_are_saved_in_the_geometry_of_the_scan(make_kit, tmp_path):
    import nibabel as nib

    rng = np.random.default_rng(5)
    affine = np.array([[0, -1.5, 0, 3], [0.8, 0, 0, -7], [0, 0, 2, 11], [0, 0, 0, 1.0]])
    folder = tmp_path / "data" / "case_0"
    folder.mkdir(parents=True)
    scan = nib.Nifti1Image(rng.normal(size=(12, 10, 9)).astype(np.float32), affine)
    scan.set_qform(affine, 1)
    nib.save(scan, folder / "imaging.nii.gz")

    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.processing.preprocessor import Preprocessor
    from miscnn_tf.processing.subfunctions import Resampling

    io = Data_IO(NIFTI_interface(channels=1, classes=2), tmp_path / "data", tmp_path / "out", tmp_path / "batches")
    preprocessor = Preprocessor(io, 1, [Resampling((1, 1, 1))], data_aug=None, patch_shape=(8, 8, 8), seed=1)
    make = make_kit(shape=(12, 10, 9), classes=2).network
    group = Model_Group([make(seed, on=preprocessor) for seed in (0, 1)], preprocessor)
    group.predict(["case_0"], "mean")
    written = nib.load(tmp_path / "out" / "case_0.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    assert written.shape == scan.shape
    found = group.predict_file(folder / "imaging.nii.gz", tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), found)
    single = nib.load(tmp_path / "seg.nii.gz")
    np.testing.assert_allclose(single.affine, affine)
    np.testing.assert_array_equal(np.asarray(single.dataobj), found)


def test_a_group_is_measured_like_a_network(kit, group, tmp_path):
    scores = detailed_validation(["case_0"], group, tmp_path)
    assert len(scores) == 1
    assert (group.classes, group.channels, group.three_dim) == (3, 1, False)


# ---------------------------------------------------------------- members


@pytest.mark.parametrize("wrong", ["no model", None, dict])
def test_what_is_no_model_is_refused(kit, wrong):
    with pytest.raises(RuntimeError, match=r"models\[1\] is .* not a model"):
        Model_Group([kit.networks[0], wrong], kit.preprocessor)


def test_a_group_needs_members_and_each_once(kit):
    for wrong in ([], kit.networks[0], None):
        with pytest.raises(ModelGroupError, match="at least one model"):
            Model_Group(wrong, kit.preprocessor)
    with pytest.raises(ModelGroupError, match="in the list already"):
        Model_Group([kit.networks[0]] * 2, kit.preprocessor)
    with pytest.raises(ModelGroupError, match=r"Neural_Network'> *, which is not a model"):
        Model_Group([type(kit.networks[0])], kit.preprocessor)


# ---------------------------------------------------------------- training and state


def test_members_are_trained_and_the_callers_lists_stay(kit):
    models = [Constant(kit.preprocessor, 1), Constant(kit.preprocessor, 2)]
    group = Model_Group(models, kit.preprocessor)
    samples, callbacks = ["case_0", "case_1"], []
    assert group.train(samples, 3, 5, callbacks, {0: 1, 1: 2, 2: 3}) == [1, 2]
    assert samples == ["case_0", "case_1"]
    assert [model.asked for model in models] == [[("train", 3, 5, [], {0: 1, 1: 2, 2: 3})]] * 2
    group.reset()
    assert [model.asked[-1] for model in models] == ["reset"] * 2


def test_model_group_evaluates_copies_and_resets(make_kit, caplog):
    # In MIScnn evaluate and copy raise.
    kit = make_kit(interface=ToyInterface(shape=(20, 22), cases=4))
    group = Model_Group([kit.network(0), kit.network(1)], kit.preprocessor)
    initial = [network.model.get_weights() for network in group.models]
    with caplog.at_level(logging.WARNING, "miscnn_tf"):
        histories = group.evaluate(["case_0", "case_1"], ["case_2"], epochs=1)
    assert not [record for record in caplog.records if "same weights" in record.message]
    assert all({"loss", "val_loss"} <= set(history.history) for history in histories)
    twin = group.copy()
    assert twin.id != group.id
    assert all(one is not other for one, other in zip(group.models, twin.models, strict=True))
    arguments = {"activation_output": True, "return_output": True}
    trained = group.predict(["case_3"], **arguments)[0]
    group.reset()
    for network, weights in zip(group.models, initial, strict=True):
        for found, expected in zip(network.model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert np.abs(group.predict(["case_3"], **arguments)[0] - trained).max() > 1e-5
    np.testing.assert_allclose(twin.predict(["case_3"], **arguments)[0], trained, atol=1e-6)


def test_a_copy_is_of_the_users_own_class(kit):
    class Named(Model_Group):
        def __init__(self, name, members):
            super().__init__(members, kit.preprocessor)
            self.name = name

    group = Named("mine", [Constant(kit.preprocessor, 1), Constant(kit.preprocessor, 2)])
    twin = group.copy()
    assert (type(twin), twin.name) == (Named, "mine")
    assert twin.id != group.id
    assert [member.label for member in twin.models] == [1, 2]
    assert not {*map(id, twin.models)} & {*map(id, group.models)}


def test_networks_that_would_learn_the_same_are_told(make_kit, caplog, monkeypatch):
    kit = make_kit()
    group = Model_Group([kit.network(0), kit.network(0)], kit.preprocessor)
    monkeypatch.setattr(type(group.models[0]), "train", lambda *_: None)
    with caplog.at_level(logging.WARNING, "miscnn_tf"):
        group.train(["case_0"])
    assert "0 and 1 start from the same weights" in caplog.text
    assert os.linesep not in caplog.records[0].message


# ---------------------------------------------------------------- memory


def test_a_budget_gives_the_same_mean_in_sections(kit, group, monkeypatch):
    whole = group.predict(["case_0"], activation_output=True, return_output=True)
    roomy = group.predict(["case_0"], activation_output=True, return_output=True, memory_budget="1TB")
    np.testing.assert_array_equal(roomy, whole)
    monkeypatch.setattr(MemoryBudget, "sections", lambda *_: 3)
    cut = group.predict(["case_0"], activation_output=True, return_output=True, memory_budget="1TB")
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    with pytest.raises(MemoryBudgetError, match="prepare"):
        group.predict(["case_0"], return_output=True, memory_budget="1MB")
    with pytest.raises(MemoryBudgetError, match="prepare"):
        group.predict_array(np.zeros((20, 22)), (1.0, 1.0), memory_budget="1MB")


def test_groups_that_cannot_keep_a_budget_say_so(kit, group):
    with pytest.raises(ConfigurationError, match='aggregation_func="mean"'):
        group.predict(["case_0"], "majority", return_output=True, memory_budget="1TB")
    nested = Model_Group([group, kit.networks[0].copy()], kit.preprocessor)
    with pytest.raises(ConfigurationError, match="share one preprocessor"):
        nested.predict(["case_0"], return_output=True, memory_budget="1TB")
