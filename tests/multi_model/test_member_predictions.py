"""Networks without TensorFlow: their patches are noise around a number of their own."""

import errno
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from toy import ToyInterface

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import ConfigurationError, StorageError
from miscnn_tf.multi_model.member_predictions import MemberPredictions
from miscnn_tf.processing.preprocessor import Preprocessor

CLASSES = 4
SHAPE = (128, 40, 40)


class Noise:
    """Its probabilities of a patch depend on the seed and the patch's place only."""

    kind, channels, classes, three_dim, model, verbose = "Noise", 1, CLASSES, True, None, 0

    def __init__(self, preprocessor, seed):
        self.preprocessor, self.seed, self.id = preprocessor, seed, str(seed)

    @property
    def plan(self):
        return self.preprocessor.plan()

    def views(self, ndim):
        return 1

    def patch_predictor(self):
        return SimpleNamespace(batch_size=1)

    def in_float32(self):
        return None

    def prepared(self, index):
        return self.preprocessor.prepare_sample_subfunctions(index, training=False)

    def segment(self, prepare, activation_output=False, index=None):
        return self.predict_sample(prepare(self.preprocessor), activation_output)

    def predict_sample(self, sample, activation_output=False, flips=None):
        return self.preprocessor.assemble(sample, self.predict_patches(sample), activation_output)

    def predict_patches(self, sample, numbers=None):
        shape = self.plan.patch_shape_for(sample.img_data.shape[:-1])
        for place in range(len(self.plan.grid_starts(sample))) if numbers is None else numbers:
            noise = np.random.default_rng([self.seed, place]).random((*shape, CLASSES), np.float32)
            yield noise / noise.sum(axis=-1, keepdims=True)


@pytest.fixture
def preprocessor(tmp_path):
    io = Data_IO(ToyInterface(shape=SHAPE, classes=CLASSES, cases=1), "toy", tmp_path, tmp_path)
    made = Preprocessor(io, 1, patch_shape=(8, 20, 20), data_aug=None)
    made.patchwise_overlap = (4, 10, 10)
    return made


def members(preprocessor, number):
    sample = preprocessor.prepare_sample_subfunctions("case_0", training=False)
    models = [Noise(preprocessor, seed) for seed in range(number)]
    return MemberPredictions(models, "case_0", lambda _: sample)


def test_the_mean_of_windows_is_the_mean_of_images(preprocessor):
    asked = members(preprocessor, 3)
    each = [prediction for _, prediction in asked.each(activation_output=True)]
    np.testing.assert_allclose(asked.mean(activation_output=True), np.mean(each, axis=0, dtype=np.float64), atol=1e-6)


def test_the_memory_of_the_mean_does_not_grow_with_the_members(preprocessor):
    def peak(number):
        asked = members(preprocessor, number)
        tracemalloc.start()
        asked.mean(activation_output=False)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    window = 8 * 20 * 20 * CLASSES * 4
    image = int(np.prod(SHAPE)) * CLASSES * 4
    peak(1)  # what is imported and cached on the first call
    one, eight = peak(1), peak(8)
    # Of each further member the window that it has made last, and where its windows lie.
    assert eight < one + 8 * 2 * window
    assert eight < image / 2


def test_of_members_with_preprocessors_of_their_own_the_sum_and_one_prediction_are_held(preprocessor):
    sample = preprocessor.prepare_sample_subfunctions("case_0", training=False)
    others = [Preprocessor(preprocessor.data_io, 1, patch_shape=(8, 40, 40), data_aug=None) for _ in range(3)]
    asked = MemberPredictions(
        [Noise(own, seed) for seed, own in enumerate([preprocessor, *others])], "case_0", lambda _: sample
    )
    asked.mean(activation_output=True)  # what is imported and cached on the first call
    tracemalloc.start()
    mean = asked.mean(activation_output=True)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    image = int(np.prod(SHAPE)) * CLASSES * 4
    assert mean.nbytes == image
    assert highest < 2.8 * image


def test_a_full_disk_is_told_and_nothing_stays(preprocessor, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with (
        pytest.raises(StorageError, match=r"member_0\.npy.*No space left"),
        members(preprocessor, 2).on_disk(tmp_path / "group_a", True),
    ):
        pass
    assert not (tmp_path / "group_a").exists()


def test_predictions_on_disk_are_in_the_members_order_whatever_their_preprocessors(preprocessor, tmp_path):
    other = Preprocessor(preprocessor.data_io, 1, patch_shape=(16, 40, 40), data_aug=None)
    sample = preprocessor.prepare_sample_subfunctions("case_0", training=False)
    prepared = []

    def prepare(preprocessor):
        prepared.append(preprocessor)
        return sample

    models = [Noise(preprocessor, 0), Noise(other, 1), Noise(preprocessor, 2)]
    with MemberPredictions(models, "case_0", prepare).on_disk(tmp_path / "group_a", True) as maps:
        found = [np.array(each) for each in maps]
        assert all(isinstance(each, np.memmap) for each in maps)
        assert len(list((tmp_path / "group_a").rglob("*.npy"))) == 3
    assert prepared == [preprocessor, other]
    assert not (tmp_path / "group_a").exists()
    for model, map_ in zip(models, found, strict=True):
        np.testing.assert_array_equal(
            map_, model.preprocessor.assemble(sample, model.predict_patches(sample), activation_output=True)
        )


@pytest.mark.parametrize("answer", [None, []])
def test_a_model_that_returns_nothing_is_told(preprocessor, answer):
    class Silent:
        def __init__(self):
            self.preprocessor = preprocessor

        def predict(self, *_, **__):
            return answer

    with pytest.raises(ConfigurationError, match=r"Silent\.predict"):
        MemberPredictions([Silent()], "case_0", lambda _: None).mean(True)
