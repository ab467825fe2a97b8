from __future__ import annotations

import ast
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Broken, Killed, ToyInterface

import miscnn_tf
from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
from miscnn_tf.data_loading.labels import one_hot
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.assembling import assemble_maps, maps_to_image
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.blending import Slab
from miscnn_tf.processing.preparation import run_subfunctions
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.processing.subfunctions.padding import Padding
from miscnn_tf.processing.subfunctions.resampling import Resampling
from miscnn_tf.processing.subfunctions.resize import Resize


def make(io, **arguments):
    return Preprocessor(io, **{"batch_size": 2, "patch_shape": (8, 8, 8), "seed": 5, **arguments})


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"analysis": "patchwise"}, "analysis='patchwise'"),
        ({"patch_shape": None}, "patch_shape=None"),
        ({"patch_shape": (8, 8)}, "3 positive whole numbers"),
        ({"patch_shape": 8}, "patch_shape=8"),
        ({"patch_shape": (8, 0, 8)}, "patch_shape"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number.*1.5"),
        ({"subfunctions": [Normalization]}, "add parentheses"),
        ({"data_aug": "none"}, "data_aug"),
        ({"data_aug": Data_Augmentation}, "data_aug must be a Data_Augmentation"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_wrong_arguments_are_named(toy_io, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(toy_io(), **arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patchwise_overlap", (8, 0, 0)),
        ("patchwise_overlap", (1, 2)),
        ("patchwise_overlap", (1.5, 1, 1)),
        ("patchwise_overlap", "x"),
        ("patchwise_blending", "gausian"),
    ],
)
def test_what_would_fail_in_prediction_is_told_before_training(toy_io, name, value):
    preprocessor = make(toy_io())
    setattr(preprocessor, name, value)
    with pytest.raises(ConfigurationError, match=name):
        preprocessor.run(["case_0"])


@pytest.mark.parametrize("divisor", [0, (4, 4), "x", (2, 2.5, 2)])
def test_a_wrong_divisor_is_named(toy_io, divisor):
    preprocessor = make(toy_io(), analysis="fullimage", patch_shape=None)
    preprocessor.fullimage_divisor = divisor
    with pytest.raises(ConfigurationError, match="fullimage_divisor"):
        preprocessor.plan()


def test_a_plan_is_a_value_of_its_own(toy_io):
    preprocessor = make(toy_io())
    plan = preprocessor.plan((2, 2, 2))
    assert plan == preprocessor.plan((4, 4, 4))  # patches are not padded
    preprocessor.patchwise_overlap, preprocessor.seed = 4, 6
    assert (plan.overlap, plan.seed) == ((0, 0, 0), 5)
    assert preprocessor.plan() != plan
    with pytest.raises(AttributeError):
        plan.seed = 7
    whole = make(toy_io(), analysis="fullimage", patch_shape=None)
    assert whole.plan((2, 4, 4)) != whole.plan((4, 4, 4)) != whole.plan()


def test_nothing_but_the_user_writes_its_settings():
    """Defect: networks and trainings wrote `fullimage_divisor` and `seed` of a preprocessor that others share."""
    written = {
        f"{path.name}:{node.lineno}"
        for path in Path(miscnn_tf.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if node.attr == "fullimage_divisor" or (node.attr == "seed" and "preprocessor" in ast.unparse(node.value))
        if path.name != "preprocessor.py"
    }
    assert written == set()


def test_one_number_is_the_overlap_of_every_axis(toy_io):
    io = toy_io(shape=(12, 12, 12))
    preprocessor = make(io, batch_size=100)
    preprocessor.patchwise_overlap = 4
    assert preprocessor.run("case_0", training=False)[0][0].shape[0] == 8


def test_half_of_a_patch_may_be_a_float(toy_io):
    preprocessor = make(toy_io(shape=(12, 12, 12)), batch_size=100)
    preprocessor.patchwise_overlap = tuple(np.array(preprocessor.patch_shape) / 2)
    assert preprocessor.run("case_0", training=False)[0][0].shape[0] == 8


@pytest.mark.parametrize("overlap", [0.5, (0.5, 0.5, 0.5), (4, 0.5, 0.5)])
def test_a_fraction_follows_the_patch_shape(toy_io, overlap):
    """Defect: after a change of patch_shape alone, the overlap no longer fitted, and had to be changed, too."""
    preprocessor = make(toy_io(shape=(12, 12, 12)))
    preprocessor.patchwise_overlap = overlap
    assert preprocessor.plan().overlap == (4, 4, 4)
    preprocessor.patch_shape = (12, 6, 5)
    assert preprocessor.plan().overlap == ((4 if overlap == (4, 0.5, 0.5) else 6), 3, 2)


@pytest.mark.parametrize("threads", [0, "two"])
def test_the_number_of_threads_is_a_whole_number(toy_io, threads):
    preprocessor = make(toy_io())
    preprocessor.mp_threads = threads
    with pytest.raises(ConfigurationError, match=f"mp_threads must be a whole number of at least 1, got {threads!r}"):
        preprocessor.run_subfunctions(["case_0"])


def test_a_share_of_foreground_is_a_number(toy_io):
    preprocessor = make(toy_io())
    preprocessor.patchwise_foreground = "x"
    with pytest.raises(ConfigurationError, match="foreground must be a probability between 0 and 1; got 'x'"):
        preprocessor.run(["case_0"])


def test_cropping_is_not_silently_ignored(toy_io):
    preprocessor = make(toy_io())
    preprocessor.data_augmentation.cropping = True
    preprocessor.data_augmentation.cropping_patch_shape = (4, 4, 4)
    with pytest.raises(ConfigurationError, match="patchwise-crop"):
        preprocessor.run(["case_0"])


def test_a_sample_in_memory_is_not_hashed_for_every_patch(toy_io):
    io = toy_io(cases=2)
    asked = []
    original = io.interface.fingerprint
    io.interface.fingerprint = lambda index, path: asked.append(index) or original(index, path)
    batches = make(io).training_batches(io.get_indiceslist(), iterations=20)
    for step in range(20):
        batches.batch(0, step)
    assert sorted(asked) == ["case_0", "case_1"]


def test_a_container_with_little_memory_gets_a_small_cache(toy_io, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "1000000" if "memory.max" in str(self) else "max")
    assert make(toy_io()).cache_bytes == 250_000
    assert make(toy_io(), cache_bytes="1.5GB").cache_bytes == 1_500_000_000
    with pytest.raises(ConfigurationError, match="cache_bytes must be a number of bytes"):
        make(toy_io(), cache_bytes="much")


def test_validation_sees_other_crops_than_training_and_the_same_in_every_epoch(toy_io):
    io = toy_io(cases=4)
    training, validation = (
        make(io, data_aug=None).training_batches(io.get_indiceslist(), validation=held_out)
        for held_out in (False, True)
    )
    crops = [batches.batch(epoch, 0)[0] for batches in (training, validation) for epoch in range(2)]
    np.testing.assert_array_equal(crops[2], crops[3])
    assert not np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])


def test_attributes_have_the_defaults_of_the_interface(toy_io):
    preprocessor = make(toy_io())
    assert preprocessor.patchwise_overlap == (0, 0, 0)
    assert preprocessor.patchwise_skip_blanks is False
    assert preprocessor.patchwise_skip_class == 0
    assert preprocessor.mp_threads == 5
    assert isinstance(preprocessor.data_augmentation, Data_Augmentation)
    assert make(toy_io(), data_aug=None).data_augmentation is None


def test_default_augmentation_and_steps_are_not_shared(toy_io):
    first, second = make(toy_io()), make(toy_io())
    assert first.data_augmentation is not second.data_augmentation
    first.subfunctions.append(Clipping(0, 1))
    assert second.subfunctions == []


# ---------------------------------------------------------------- batches


def test_run_gives_one_hot_batches_and_a_smaller_last_one(toy_io):
    io = toy_io(cases=5, classes=3)
    batches = make(io).run(io.get_indiceslist(), training=True)
    assert [len(images) for images, _ in batches] == [2, 2, 1]
    for images, segmentations in batches:
        assert images.dtype == segmentations.dtype == np.float32
        assert images.shape[1:] == (8, 8, 8, 1)
        assert segmentations.shape[1:] == (8, 8, 8, 3)
        np.testing.assert_array_equal(segmentations.sum(-1), 1)


def test_prediction_batches_go_by_grid_each_samples_own(toy_io):
    io = toy_io(shape=(16, 8, 9), cases=2)
    preprocessor = make(io, batch_size=3)
    batches = preprocessor.run(io.get_indiceslist(), training=False)
    # 2 x 1 x 2 patches each: three and one.
    assert [len(images) for images, _ in batches] == [3, 1, 3, 1]
    assert all(segmentation is None for _, segmentation in batches)
    image = io.sample_loader("case_0").img_data
    np.testing.assert_array_equal(batches[0][0][1], image[:8, :8, 1:9])


def test_fullimage_batches_hold_whole_images_and_differing_sizes_are_refused(toy_io, monkeypatch):
    io = toy_io(shape=(9, 10, 11), cases=2)
    preprocessor = make(io, analysis="fullimage", patch_shape=None, data_aug=None)
    ((images, segmentations),) = preprocessor.run(io.get_indiceslist())
    assert images.shape == (2, 9, 10, 11, 1)
    np.testing.assert_array_equal(segmentations[0].argmax(-1), io.interface.load_segmentation("case_0"))
    original = io.interface._labels
    monkeypatch.setattr(io.interface, "_labels", lambda index: original(index)[: 8 if index == "case_1" else 9])
    monkeypatch.setattr(
        io.interface,
        "load_image",
        lambda index: (io.interface._labels(index).astype(np.float32), {"spacing": (1, 1, 1)}),
    )
    fresh = make(io, analysis="fullimage", patch_shape=None, data_aug=None)
    with pytest.raises(ConfigurationError, match=r"different sizes.*case_0.*case_1"):
        fresh.run(io.get_indiceslist())
    with pytest.raises(ConfigurationError, match=r"different sizes.*case_0.*case_1"):
        fresh.run_subfunctions(io.get_indiceslist())


def test_fullimages_are_not_cropped_after_another_object_cropped(toy_io):
    """Defect: the augmentation was one instance for all, so that a crop set for one object was made for all."""
    io = toy_io(shape=(9, 10, 11))
    cropping = make(io)
    cropping.data_augmentation.cropping = True
    cropping.data_augmentation.cropping_patch_shape = (4, 4, 4)
    whole = make(io, analysis="fullimage", patch_shape=None)
    assert whole.run(["case_0"])[0][0].shape == (1, 9, 10, 11, 1)


def test_an_image_smaller_than_the_patch_is_padded(toy_io):
    io = toy_io(shape=(6, 20, 5))
    (images, segmentations), *_ = make(io, data_aug=None).run(["case_0"])
    assert images.shape == (1, 8, 8, 8, 1)
    np.testing.assert_array_equal(segmentations.sum(-1), 1)


def test_that_small_images_are_padded_is_said_once(toy_io, caplog):
    io = toy_io(shape=(6, 20, 3), cases=3)
    make(io).run_subfunctions(io.get_indiceslist())
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("3 of 3 samples are less than half as large as patch_shape=(8, 8, 8), such as 'case_0'")
    assert "(6, 20, 3)" in message
    caplog.clear()
    large = toy_io(shape=(7, 20, 4))
    make(large).run_subfunctions(large.get_indiceslist())
    assert not caplog.records


def test_prepared_batches_lie_on_disk(toy_io):
    io = toy_io(cases=5)
    preprocessor = make(io, prepare_batches=True)
    assert preprocessor.run(io.get_indiceslist()) == 2
    assert io.batch_load(2, img=True).shape == (1, 8, 8, 8, 1)
    assert io.batch_load(2, img=False).shape == (1, 8, 8, 8, 2)
    io.batch_cleanup()


def test_every_training_patch_of_the_grid_is_seen(toy_io):
    """Defect: an epoch of a grid saw 10 of 80 patches."""
    io = toy_io(shape=(16, 16, 16), cases=10)
    preprocessor = make(io, analysis="patchwise-grid", data_aug=None)
    batches = preprocessor.run(io.get_indiceslist(), training=True)
    assert sum(len(images) for images, _ in batches) == 80
    unique = {images[i].tobytes() for images, _ in batches for i in range(len(images))}
    assert len(unique) == 80


def test_blank_patches_are_skipped_and_a_sample_without_foreground_does_not_raise(toy_io):
    """Defect: skip blanks raised where a sample had no foreground."""
    io = toy_io(shape=(16, 16, 16), cases=3, empty=("case_1",))
    preprocessor = make(io, analysis="patchwise-grid", data_aug=None)
    preprocessor.patchwise_skip_blanks = True
    for _, segmentations in preprocessor.run(io.get_indiceslist()):
        assert segmentations[..., 1].any(axis=(1, 2, 3)).all()
    preprocessor.analysis = "patchwise-crop"
    assert len(preprocessor.run(["case_1"])) == 1
    preprocessor.analysis = "patchwise-grid"
    with pytest.raises(DataError, match="patchwise_skip_blanks"):
        preprocessor.run(["case_1"])


def test_the_three_analyses_give_tuples(toy_io):
    io = toy_io(shape=(16, 16, 16), classes=3)
    preprocessor = make(io)
    sample = io.sample_loader("case_0")
    assert [p[0].shape for p in preprocessor.analysis_patchwise_grid(sample, training=False, data_aug=False)] == [
        (8, 8, 8, 1)
    ] * 8
    ((image, segmentation),) = preprocessor.analysis_patchwise_crop(sample, data_aug=True)
    assert image.shape == (8, 8, 8, 1)
    assert segmentation.shape == (8, 8, 8, 3)
    whole = make(io, analysis="fullimage", patch_shape=None)
    ((image, segmentation),) = whole.analysis_fullimage(sample, training=True, data_aug=False)
    np.testing.assert_array_equal(image, sample.img_data)
    np.testing.assert_array_equal(segmentation.argmax(-1), sample.seg_data[..., 0])


def test_a_sample_that_patches_were_cut_from_may_go_through_further_steps(toy_io):
    """Defect: what cutting needs was noted in the caller's sample, and was out of date after the next step."""
    io = toy_io(shape=(6, 40, 40))
    preprocessor = make(io, data_aug=None)
    preprocessor.patchwise_foreground = 1
    sample = io.sample_loader("case_0")
    sample.img_data, sample.details = sample.img_data.astype(np.float64), {"mine": 1}
    preprocessor.analysis_patchwise_crop(sample, data_aug=False)
    assert sample.img_data.dtype == np.float64
    assert sample.details == {"mine": 1}
    sample.img_data = sample.img_data + 100
    sample.seg_data = np.zeros_like(sample.seg_data)
    sample.seg_data[0, 36, 3] = 1
    ((image, segmentation),) = preprocessor.analysis_patchwise_crop(sample, data_aug=False)
    assert image[0, 0, 0, 0] == pytest.approx(sample.img_data.min())  # outside of the image
    assert segmentation[..., 1].sum() == 1


def test_rare_foreground_is_drawn_more_often_than_chance(toy_io):
    io = toy_io(shape=(64, 64), cases=1)
    labels = np.zeros((64, 64), np.uint8)
    labels[5, 60] = 1
    io.interface._labels = lambda index: labels

    def share(foreground):
        preprocessor = make(io, patch_shape=(8, 8), data_aug=None, batch_size=1)
        preprocessor.patchwise_foreground = foreground
        return np.mean([preprocessor.run(["case_0"])[0][1][..., 1].any() for _ in range(200)])

    assert share(0) < 0.1
    assert 0.25 < share(1 / 3) < 0.45
    assert share(1) == 1


def test_two_dimensional_samples_work_alike(toy_io):
    io = toy_io(shape=(20, 24), channels=3, classes=3)
    batches = make(io, patch_shape=(8, 16)).run(io.get_indiceslist())
    assert batches[0][0].shape == (2, 8, 16, 3)
    assert batches[0][1].shape == (2, 8, 16, 3)


# ---------------------------------------------------------------- preparation


def test_a_sample_is_decoded_once(toy_io):
    io = toy_io(cases=3)
    preprocessor = make(io, subfunctions=[Normalization()])
    preprocessor.run_subfunctions(io.get_indiceslist())
    for _ in range(3):
        preprocessor.run(io.get_indiceslist())
    assert sorted(io.interface.loads) == io.get_indiceslist()


def test_a_second_run_finds_the_prepared_samples(toy_io, tmp_path):
    from miscnn_tf.data_loading.data_io import Data_IO

    io = toy_io(cases=3)
    make(io, subfunctions=[Normalization()], prepare_subfunctions=True).run_subfunctions(io.get_indiceslist())
    again = Data_IO(type(io.interface)(cases=3), "toy", batch_path=tmp_path / "batches")
    preprocessor = make(again, subfunctions=[Normalization()], prepare_subfunctions=True)
    preprocessor.run_subfunctions(again.get_indiceslist())
    assert again.interface.loads == []
    assert isinstance(preprocessor.prepare_sample_subfunctions("case_0").img_data, np.memmap)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_sample_that_was_trained_on_is_not_decoded_again_to_predict_it(toy_io, persistent):
    io = toy_io(cases=3)
    preprocessor = make(io, subfunctions=[Normalization()], prepare_subfunctions=persistent)
    preprocessor.run_subfunctions(io.get_indiceslist())
    trained_on = preprocessor.prepare_sample_subfunctions("case_1")
    predicted = preprocessor.prepare_sample_subfunctions("case_1", training=False)
    assert len(io.interface.loads) == 3
    np.testing.assert_array_equal(predicted.img_data, trained_on.img_data)
    assert predicted.seg_data is None
    assert preprocessor.prepare_sample_subfunctions("case_1").seg_data is not None


def test_a_users_step_may_treat_images_otherwise_in_training(toy_io):
    class Training(Abstract_Subfunction):
        def preprocessing(self, sample, training=True):
            sample.img_data = sample.img_data * 0 + training

    preprocessor = make(toy_io(cases=1), subfunctions=[Training()])
    assert preprocessor.prepare_sample_subfunctions("case_0").img_data.max() == 1
    assert preprocessor.prepare_sample_subfunctions("case_0", training=False).img_data.max() == 0


def test_another_fold_prepares_nothing_twice(toy_io):
    io = toy_io(cases=4)
    preprocessor = make(io)
    preprocessor.run_subfunctions(["case_0", "case_1", "case_2"])
    preprocessor.run_subfunctions(["case_1", "case_2", "case_3"])
    assert sorted(io.interface.loads) == io.get_indiceslist()


def test_the_cache_is_an_instances_own_and_can_be_replaced(toy_io, tmp_path):
    io = toy_io()
    first, second = make(io), make(io)
    assert first.cache is not second.cache
    store = PreparedStore(tmp_path / "store", budget=10**6, persistent=False)
    first.cache = store
    assert first.cache is store
    first.cache = None
    assert first.cache is not store
    with pytest.raises(ConfigurationError, match="cache must be a PreparedStore"):
        first.cache = {}


def test_threads_that_all_come_first_get_one_cache(toy_io, monkeypatch):
    made, asking = [], threading.Semaphore(0)

    def make_when_all_ask(*arguments, **options):
        assert all(asking.acquire(timeout=30) for _ in range(4))
        made.append(PreparedStore(*arguments, **options))
        return made[-1]

    def ask(_):
        asking.release()
        return preprocessor.cache

    monkeypatch.setattr("miscnn_tf.processing.preprocessor.PreparedStore", make_when_all_ask)
    preprocessor = make(toy_io())
    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(ask, range(4)))
    assert len(made) == 1
    assert all(cache is made[0] for cache in caches)


@pytest.mark.parametrize("processes", [False, True])
def test_an_error_in_a_step_names_the_step_and_the_sample(toy_io, processes):
    preprocessor = make(toy_io(cases=1), subfunctions=[Broken()], use_multiprocessing=processes)
    preprocessor.mp_threads = 1
    with pytest.raises(ValueError, match="boom") as caught:
        preprocessor.run_subfunctions(["case_0"])
    assert "while Broken prepared the sample 'case_0'" in "".join(caught.value.__notes__)


def test_a_killed_process_is_noticed(toy_io):
    preprocessor = make(toy_io(cases=2), subfunctions=[Killed()], use_multiprocessing=True)
    preprocessor.mp_threads = 1
    with pytest.raises(DataError, match=r"(?s)killed, with sample 'case_.*mp_threads \(now 1\)"):
        preprocessor.run_subfunctions(["case_0", "case_1"])


def test_classes_that_are_rare_or_missing_are_told(toy_io, caplog):
    io = toy_io(cases=2, shape=(128, 128, 16), classes=4)
    labels = np.zeros((128, 128, 16), np.uint8)
    labels[3:9, 3:9, 3:9] = 1
    labels[1, 1, 1:3] = 2
    io.interface._labels = lambda index: labels
    make(io).run_subfunctions(io.get_indiceslist())
    rare, missing = [record.getMessage() for record in caplog.records]
    assert rare.startswith("class 2 is rare: 4 of 524288 voxels, in 2 of 2 samples")
    assert missing.startswith("class 3 has no voxel in any of the 2 samples")


@pytest.mark.parametrize("persistent", [True, False])
def test_prepared_samples_are_made_anew_when_the_subfunctions_change(toy_io, persistent):
    """Defect: prepared samples were reused although the subfunctions had changed."""
    io = toy_io(cases=1)
    preprocessor = make(io, subfunctions=[Clipping(min=0, max=1)], prepare_subfunctions=persistent)
    assert preprocessor.prepare_sample_subfunctions("case_0").img_data.max() == 1
    preprocessor.subfunctions[0].max = 0.5
    assert preprocessor.prepare_sample_subfunctions("case_0").img_data.max() == 0.5
    preprocessor.subfunctions.append(Resize((8, 8, 8)))
    assert preprocessor.prepare_sample_subfunctions("case_0").img_data.shape == (8, 8, 8, 1)


def test_a_users_step_that_keeps_no_arguments_is_still_told_apart(toy_io):
    class Add(Abstract_Subfunction):
        def __init__(self, number):
            self.secret = number

        def preprocessing(self, sample, training=True):
            sample.img_data = sample.img_data + self.secret

    io = toy_io(cases=1)
    images = [make(io, subfunctions=[Add(n)]).prepare_sample_subfunctions("case_0").img_data for n in (0, 10)]
    np.testing.assert_allclose(images[1] - images[0], 10, atol=1e-5)
    preprocessor = make(io, subfunctions=[Add(0)])
    before = preprocessor.prepare_sample_subfunctions("case_0").img_data
    preprocessor.subfunctions[0].secret = 3
    np.testing.assert_allclose(preprocessor.prepare_sample_subfunctions("case_0").img_data - before, 3, atol=1e-5)


def test_that_the_next_run_will_not_find_prepared_samples_is_said_once(toy_io, caplog):
    """Defect: each run filled the disk with samples that nobody could find again, in silence."""

    class Add(Abstract_Subfunction):
        def __init__(self, number):
            self.secret = number

        def preprocessing(self, sample, training=True):
            sample.img_data = sample.img_data + self.secret

    io = toy_io(cases=2)
    for persistent in (False, True):
        preprocessor = make(io, subfunctions=[Add(1), Clipping(0, 1)], prepare_subfunctions=persistent)
        preprocessor.run_subfunctions(io.get_indiceslist())
        preprocessor.run_subfunctions(io.get_indiceslist())
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(
        "the next run will not find these prepared samples again: the arguments of Add are unknown"
    )
    caplog.clear()
    io.interface.fingerprint = lambda index, path: None
    make(io, prepare_subfunctions=True).run_subfunctions(io.get_indiceslist())
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.endswith("a change of a sample's files would not be noticed")


def test_a_source_that_does_not_tell_its_changes_serves_one_data_io_only(toy_io):
    for factor in (1, 2):
        io = toy_io(cases=1)
        io.interface.fingerprint = lambda index, path: None
        original = io.interface.load_image
        io.interface.load_image = lambda index, factor=factor, original=original: (original(index)[0] * factor, {})
        preprocessor = make(io, prepare_subfunctions=True)
        for _ in range(2):
            image = preprocessor.prepare_sample_subfunctions("case_0").img_data
        assert io.interface.loads == ["case_0"]
        np.testing.assert_array_equal(image, factor * ToyInterface(cases=1).load_image("case_0")[0])


def test_after_a_bad_sample_the_others_are_not_prepared_first(toy_io):
    class Fails(Abstract_Subfunction):
        def preprocessing(self, sample, training=True):
            time.sleep(0.05)
            if sample.index == "case_0":
                raise ValueError("boom")

    io = toy_io(cases=40, shape=(8, 8, 8))
    preprocessor = make(io, subfunctions=[Fails()])
    preprocessor.mp_threads = 1
    with pytest.raises(ValueError, match="boom"):
        preprocessor.run_subfunctions(io.get_indiceslist())
    assert len(io.interface.loads) < 40


def test_memory_beyond_the_budget_goes_to_disk_and_is_gone_afterwards(toy_io, tmp_path):
    io = toy_io(cases=4)
    preprocessor = make(io, cache_bytes=60_000)
    preprocessor.run_subfunctions(io.get_indiceslist())
    kinds = [isinstance(preprocessor.prepare_sample_subfunctions(i).img_data, np.memmap) for i in io.get_indiceslist()]
    assert any(kinds)
    assert not all(kinds)
    preprocessor.cache.close()
    assert not list(tmp_path.rglob("*.npy"))


def test_a_bad_sample_is_named_before_anything_runs(toy_io):
    io = toy_io(cases=3)
    good = io.interface._labels
    io.interface.load_segmentation = lambda index: good(index) + (7 if index == "case_2" else 0)
    with pytest.raises(DataError, match="case_2"):
        make(io).run_subfunctions(io.get_indiceslist())


def test_preparing_in_processes_gives_the_same(toy_io):
    io = toy_io(cases=2)
    threads, processes = make(io), make(io, use_multiprocessing=True)
    processes.mp_threads = 1
    processes.run_subfunctions(io.get_indiceslist())
    assert io.interface.loads == []
    np.testing.assert_array_equal(
        processes.prepare_sample_subfunctions("case_1").img_data, threads.prepare_sample_subfunctions("case_1").img_data
    )


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i2", "<u2"])
def test_batches_do_not_depend_on_where_prepared_samples_lie_nor_on_who_came_first(toy_io, kind):
    def made_with(first, **arguments):
        io = toy_io(cases=4, shape=(24, 26, 22))  # of more foreground than places are remembered
        original = io.interface.load_image
        io.interface.load_image = lambda index: (
            np.asfortranarray(100 + 20 * original(index)[0]).astype(kind),
            {"spacing": (1, 1, 1)},
        )
        augmentation = Data_Augmentation(mirror=True, elastic_deform=True, config_p_per_sample=0.5)
        preprocessor = make(io, data_aug=augmentation, subfunctions=[Padding((30, 8, 8))], **arguments)
        for index in first:
            preprocessor.prepare_sample_subfunctions(index)
        batches = preprocessor.training_batches(io.get_indiceslist(), shuffle=True)
        made = [batches.batch(epoch, step) for epoch in range(2) for step in range(len(batches))]
        prepared = [preprocessor.prepare_sample_subfunctions(index).img_data for index in io.get_indiceslist()]
        mapped, size = sum(isinstance(image, np.memmap) for image in prepared), preprocessor.cache.info()["ram_bytes"]
        preprocessor.cache.close()
        return mapped, size, [(images.tobytes(), labels.tobytes()) for images, labels in made]

    in_memory, size, expected = made_with([])
    assert in_memory == 0
    for first, arguments, on_disk in (
        (["case_3", "case_1"], {"cache_bytes": 0}, 4),
        (["case_2"], {"cache_bytes": int(0.6 * size)}, 2),
        ([], {"prepare_subfunctions": True}, 4),
        ([], {"prepare_subfunctions": True}, 4),  # found on disk
    ):
        mapped, _, made = made_with(first, **arguments)
        assert mapped == on_disk
        assert made == expected


# ---------------------------------------------------------------- postprocessing


@pytest.mark.parametrize("shape", [(20, 22, 18), (6, 30, 9), (5, 5, 5), (8, 8, 8)])
@pytest.mark.parametrize("overlap", [0, 4])
def test_predicted_patches_come_back_in_the_images_shape(toy_io, shape, overlap):
    """Defect: an image smaller than the patch in one axis and larger in another came back in the wrong shape."""
    io = toy_io(shape=shape, classes=3)
    preprocessor = make(io)
    preprocessor.patchwise_overlap = (overlap,) * 3
    truth = io.interface.load_segmentation("case_0")
    labels = io.sample_loader("case_0")
    labels.img_data = labels.seg_data.astype(np.float32)  # a network that knows the answer
    patches = preprocessor.analysis_patchwise_grid(labels, training=False, data_aug=False)
    prediction = np.stack([one_hot(patch[0][..., 0].astype(np.uint8), 3) for patch in patches])
    np.testing.assert_array_equal(preprocessor.postprocessing("case_0", prediction), truth)
    probabilities = preprocessor.postprocessing("case_0", prediction, activation_output=True)
    assert probabilities.shape == (*shape, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_a_wrong_number_of_patches_is_told(toy_io):
    preprocessor = make(toy_io(shape=(16, 16, 16)))
    with pytest.raises(ConfigurationError, match=r"has 8 patches.*7 were predicted"):
        preprocessor.postprocessing("case_0", np.zeros((7, 8, 8, 8, 2), np.float32))
    with pytest.raises(ConfigurationError, match=r"has 8 patches.*9 were predicted"):
        preprocessor.postprocessing("case_0", np.zeros((9, 8, 8, 8, 2), np.float32))


def test_maps_of_any_kind_come_to_the_original_image_as_probabilities_do(toy_io, rng):
    steps = [Resampling((2.0, 1.0, 1.0)), Padding((20, 28, 20))]
    preprocessor = Preprocessor(toy_io(), batch_size=1, subfunctions=steps, patch_shape=(8, 12, 8))
    preprocessor.patchwise_overlap = (2, 6, 4)
    sample = preprocessor.prepare_sample_subfunctions("case_0", training=False)
    plan = preprocessor.plan()
    patches = rng.normal(size=(len(plan.grid_starts(sample)), 8, 12, 8, 5)).astype(np.float32)
    maps = assemble_maps(sample, iter(patches), plan, steps, channels=5)
    assert maps.shape == (20, 22, 18, 5)  # more than there are classes
    expected = preprocessor.assemble(sample, iter(patches[..., 3:]), activation_output=True)
    np.testing.assert_allclose(maps[..., 3:], expected, atol=1e-6)
    # On the preprocessed image's grid, in slabs.
    whole = rng.normal(size=(*sample.img_data.shape[:-1], 1)).astype(np.float32)
    slabs = [Slab(0, 5, whole[:5]), Slab(5, len(whole), whole[5:])]
    brought = maps_to_image(sample, slabs, steps, channels=1)
    assert brought.shape == (20, 22, 18, 1)
    padding, resampling = steps[1], steps[0]
    cropped = padding.postprocessing(sample, whole, activation_output=True)
    np.testing.assert_allclose(brought, resampling.postprocessing(sample, cropped, activation_output=True), atol=1e-6)


# ---------------------------------------------------------------- in sections


@st.composite
def assemblies(draw):
    """A preprocessor with any grid and steps, a prepared sample, and a number of sections."""
    ndim = draw(st.integers(2, 3))
    sizes = st.tuples(*[st.integers(1, 16)] * ndim)
    patch = draw(st.tuples(*[st.integers(1, 9)] * ndim))
    shape, grid, large = draw(sizes), draw(sizes), draw(sizes)
    steps = draw(
        st.sampled_from(
            [
                [],
                [Resize(grid)],
                [Padding(large), Clipping(min=-1, max=1)],
                [Resize(grid), Padding(large)],
                [Padding(large), Resize(grid), Normalization(), Padding((17,) * ndim)],
                [Resize(large), Resize(grid)],
            ]
        )
    )
    classes = draw(st.integers(1, 4))
    interface = ToyInterface(shape=shape, classes=max(2, classes))
    preprocessor = Preprocessor(
        SimpleNamespace(interface=interface), batch_size=1, subfunctions=steps, patch_shape=patch, data_aug=None
    )
    preprocessor.patchwise_overlap = tuple(draw(st.integers(0, size // 2)) for size in patch)
    preprocessor.patchwise_blending = draw(st.sampled_from(["gaussian", "average"]))
    image = np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape).astype(np.float32)
    sample = Sample("a", image, 1, classes, three_dim=ndim == 3)
    run_subfunctions(sample, steps, training=False)
    return preprocessor, sample, draw(st.integers(2, 26))


@given(assemblies(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_image_in_sections_is_the_very_same(assembly, activation_output):
    preprocessor, sample, sections = assembly
    number_of_patches = len(preprocessor.plan().grid(sample.img_data.shape[:-1]))

    def predicted(numbers):
        for number in numbers:
            yield np.random.default_rng(number).random((*preprocessor.patch_shape, sample.classes), np.float32)

    streamed = preprocessor.assemble(sample, predicted(range(number_of_patches)), activation_output)
    whole = preprocessor.assemble(sample, predicted, activation_output)
    cut = preprocessor.assemble(sample, predicted, activation_output, sections=sections)
    np.testing.assert_array_equal(whole, streamed)
    np.testing.assert_array_equal(cut, streamed)


@pytest.mark.parametrize("steps", [[], [Resize((30, 22, 18))]])
@pytest.mark.parametrize("activation_output", [False, True])
def test_no_window_is_alive_while_the_next_one_is_predicted(toy_io, steps, activation_output):
    preprocessor = make(toy_io(), subfunctions=steps)
    sample = preprocessor.prepare_sample_subfunctions("case_0", training=False)
    made, alive = [], []

    def predicted(numbers):
        for _ in numbers:
            alive.append(sum(one() is not None for one in made))
            window = np.ones((8, 8, 8, 2), np.float32)
            made.append(weakref.ref(window))
            yield window
            del window

    preprocessor.assemble(sample, predicted, activation_output)
    assert len(alive) > 1
    assert not any(alive)


def test_sections_need_patches_that_can_be_made_again(toy_io):
    preprocessor = make(toy_io())
    sample = preprocessor.prepare_sample_subfunctions("case_0", training=False)
    with pytest.raises(ConfigurationError, match="sections=2 needs a function"):
        preprocessor.assemble(sample, iter([]), sections=2)


def test_a_look_at_the_sample_before_it_is_prepared(toy_io):
    preprocessor = make(toy_io(), subfunctions=[Resize((9, 9, 9))])
    seen = []
    preprocessor.prepare_sample_subfunctions(
        "case_0", training=False, keep=False, loaded=lambda sample: seen.append(sample.img_data.shape)
    )
    assert seen == [(20, 22, 18, 1)]
