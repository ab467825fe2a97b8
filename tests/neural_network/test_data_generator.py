from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.loader import BatchLoader
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.schedule import Share


def preprocessor_for(io, **arguments):
    return Preprocessor(io, **{"batch_size": 4, "patch_shape": (8, 8, 8), "seed": 5, **arguments})


def test_ten_samples_at_batch_size_four_make_three_full_batches(toy_io):
    io = toy_io(cases=10)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io), training=True)
    assert len(batches) == 3
    assert [images.shape[0] for images, _ in batches] == [4, 4, 4]
    assert batches[0][1].shape == (4, 8, 8, 8, 2)
    assert batches[0][1].dtype == np.float32
    assert batches.names(0, 2) == ["case_8", "case_9", "case_0", "case_1"]


def test_every_patch_of_the_grid_comes_through_the_queue(toy_io):
    """Defect: with the default batch queue an epoch of 5 batches saw 2 of 10 samples, 10 of 80 patches."""
    io = toy_io(shape=(16, 16, 16), cases=10)
    preprocessor = preprocessor_for(io, analysis="patchwise-grid", data_aug=None)
    batches = DataGenerator(io.get_indiceslist(), preprocessor, training=True, shuffle=True)
    stream = BatchLoader(batches.batch, len(batches), range(1), workers=2, queue_size=2).stream()
    assert len({image.tobytes() for images, _ in stream for image in images}) == 80


def test_cycles_lengthen_the_epoch_and_iterations_set_it(toy_io):
    io = toy_io(cases=5)
    twice = preprocessor_for(io, data_aug=Data_Augmentation(cycles=2))
    assert len(DataGenerator(io.get_indiceslist(), twice, training=True)) == 3
    assert len(DataGenerator(io.get_indiceslist(), twice, training=True, iterations=7)) == 7


def test_batch_size_two_with_one_sample_gives_two(toy_io):
    """Defect: batches of 1, silently."""
    io = toy_io(cases=1)
    batches = DataGenerator(["case_0"], preprocessor_for(io, batch_size=2), training=True)
    assert batches[0][0].shape[0] == 2


def test_prediction_batches_are_images_alone_each_samples_own(toy_io):
    io = toy_io(shape=(16, 16, 16), cases=2)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io, batch_size=5))
    assert [batch.shape for batch in batches] == [(5, 8, 8, 8, 1), (3, 8, 8, 8, 1)] * 2


def test_a_sequence_can_be_iterated_twice_and_epochs_differ(toy_io):
    io = toy_io(cases=4)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io), training=True, shuffle=True)
    first, again = [[images for images, _ in batches] for _ in range(2)]
    np.testing.assert_array_equal(first[0], again[0])
    batches.on_epoch_end()
    assert not np.array_equal(first[0], batches[0][0])


def test_validation_is_the_same_in_every_epoch_and_counts_each_sample_once(toy_io):
    io = toy_io(cases=5)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io), validation=True)
    assert [images.shape[0] for images, _ in batches] == [4, 1]
    before = batches[0]
    batches.on_epoch_end()
    np.testing.assert_array_equal(before[0], batches[0][0])


def test_validation_is_not_augmented(toy_io):
    io = toy_io(cases=2, shape=(8, 8, 8))
    augmentation = Data_Augmentation(mirror=True)
    augmentation.config_p_per_sample = 1.0
    batches = DataGenerator(
        io.get_indiceslist(), preprocessor_for(io, batch_size=1, data_aug=augmentation), validation=True
    )
    np.testing.assert_array_equal(batches[0][0][0], io.sample_loader("case_0").img_data)


@pytest.mark.parametrize("analysis", ["patchwise-crop", "patchwise-grid"])
def test_the_same_seed_gives_the_same_batches_with_any_number_of_workers(toy_io, analysis):
    def epoch_batches(workers):
        io = toy_io(cases=6, shape=(16, 16, 8))
        preprocessor = preprocessor_for(
            io, analysis=analysis, data_aug=Data_Augmentation(elastic_deform=True, mirror=True)
        )
        batches = DataGenerator(io.get_indiceslist(), preprocessor, training=True, shuffle=True, labels=True)
        return list(BatchLoader(batches.batch, len(batches), range(2), workers, queue_size=4).stream())

    one = epoch_batches(1)
    assert len(one) > 3
    for workers in (2, 4):
        for first, second in zip(one, epoch_batches(workers), strict=True):
            np.testing.assert_array_equal(first[0], second[0])
            np.testing.assert_array_equal(first[1], second[1])
    another = preprocessor_for(toy_io(cases=6, shape=(16, 16, 8)), analysis=analysis)
    another.seed = 6
    other = DataGenerator([f"case_{i}" for i in range(6)], another, training=True, shuffle=True, labels=True)[0]
    assert not np.array_equal(one[0][0], other[0])


def test_batches_made_beforehand_are_frozen_and_on_disk(toy_io, tmp_path):
    io = toy_io(cases=4)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io, prepare_batches=True), training=True)
    before = batches[0]
    batches.on_epoch_end()
    np.testing.assert_array_equal(before[0], batches[0][0])
    np.testing.assert_array_equal(before[1], batches[0][1])
    assert len(list((tmp_path / "batches").glob(f"{io.seed}.batch_img.*.npz"))) == 1
    with pytest.raises(IndexError):
        batches[1]


def test_batches_on_disk_serve_every_sample_and_every_generator_its_own(toy_io, tmp_path):
    io = toy_io(cases=6)
    preprocessor = preprocessor_for(io, batch_size=1, prepare_batches=True, data_aug=None)
    first = DataGenerator(io.get_indiceslist(), preprocessor, training=True, iterations=2)
    second = DataGenerator(["case_5"], preprocessor, training=True)
    assert len(first) == 2
    seen = [first.names(epoch, step)[0] for epoch in range(3) for step in range(2)]
    assert seen == io.get_indiceslist()
    assert not np.array_equal(first.batch(0, 0)[0], second.batch(0, 0)[0])
    np.testing.assert_array_equal(first.batch(0, 0)[0], first.batch(3, 0)[0])
    first.remove_batches()
    second.batch(0, 0)
    second.remove_batches()
    assert not (tmp_path / "batches").exists()


def test_the_queue_is_not_shared(toy_io):
    """Defect: the image queue was one for all instances."""
    io = toy_io(cases=4)
    first = DataGenerator(["case_0"], preprocessor_for(io, batch_size=1, data_aug=None), validation=True)
    second = DataGenerator(["case_1"], preprocessor_for(io, batch_size=1, data_aug=None), validation=True)
    image, other = first[0][0], second[0][0]
    np.testing.assert_array_equal(image, first[0][0])
    assert not np.array_equal(image, other)


@pytest.mark.parametrize("arguments", [{"training": True, "shuffle": True}, {"validation": True}])
@pytest.mark.parametrize("on_disk", [False, True])
def test_shares_of_several_machines_are_the_batch_of_one(toy_io, arguments, on_disk):
    """Six samples, batches of four; in validation the last one holds two, for three machines."""
    io = toy_io(cases=6)
    preprocessor = preprocessor_for(io, prepare_batches=on_disk)
    names = io.get_indiceslist()
    whole = DataGenerator(names, preprocessor, labels=True, **arguments)
    shares = [
        DataGenerator(names, preprocessor, labels=True, share=Share(of=3, first=first), **arguments)
        for first in range(3)
    ]
    for step in range(len(whole)):
        parts = [share.batch(0, step) for share in shares]
        assert [share.names(0, step) for share in shares] == [whole.names(0, step)] * 3
        for one, pieces in zip(whole.batch(0, step), zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(pieces), one)
    assert [len(share.batch(0, 1)[0]) for share in shares] == ([2, 1, 1] if "training" in arguments else [1, 1, 0])
    for each in (whole, *shares):
        each.remove_batches()
