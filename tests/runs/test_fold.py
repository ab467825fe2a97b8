import functools
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.runs.fold import Fold, FoldRecord, matching_record, read_record
from miscnn_tf.runs.model_settings import training_settings
from miscnn_tf.runs.names import RECORD_FILE


def tversky(y_true, y_pred): ...


def other_loss(y_true, y_pred): ...


class Configured:
    def __init__(self, alpha: float = 0.5) -> None:
        self.alpha = alpha


class Same:
    """Another class of the same name, as all architectures are called Architecture."""

    def __init__(self, alpha: float = 0.5) -> None:
        self.alpha = alpha


Same.__module__ = "elsewhere"
Same.__qualname__ = "Configured"


class Forgetful:
    def __init__(self, alpha: float = 0.5) -> None: ...


def network(**changes) -> SimpleNamespace:
    preprocessor = {"batch_size": 2, "patch_shape": (4, 4), "subfunctions": [], "data_augmentation": Configured()}
    attributes = {"architecture": Configured(), "loss": tversky, "metrics": [tversky], "learning_rate": 1e-3}
    return SimpleNamespace(
        **{name: changes.pop(name, value) for name, value in attributes.items()},
        preprocessor=SimpleNamespace(**{**preprocessor, **changes}),
    )


RECORD = FoldRecord(
    Fold(("a", ("b", 1)), (3,)), training_settings(network(), 5, None), {"loss": [0.5], "val_loss": [0.25]}
)


def test_record_survives_the_file(tmp_path):
    RECORD.write(tmp_path)
    assert read_record(tmp_path) == RECORD
    replace(RECORD, detailed=True).write(tmp_path)
    assert read_record(tmp_path) == replace(RECORD, detailed=True)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


def test_unfinished_fold_has_none(tmp_path):
    assert read_record(tmp_path) is None
    assert matching_record(tmp_path / "missing", RECORD.fold, {}) is None


def test_order_of_the_samples_does_not_matter(tmp_path):
    RECORD.write(tmp_path)
    assert matching_record(tmp_path, Fold((("b", 1), "a"), (3,)), RECORD.settings) == RECORD
    with pytest.raises(ConfigurationError, match="split differently"):
        matching_record(tmp_path, Fold(("a",), (3, ("b", 1))), RECORD.settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": Configured(0.7)}, r"architecture\.config\.alpha was 0\.5, now 0\.7"),
        ({"architecture": Same()}, r"architecture\.class_name"),
        ({"loss": other_loss}, "loss was 'tversky', now 'other_loss'"),
        ({"metrics": []}, "metrics"),
        ({"learning_rate": 0.5}, r"learning_rate was 0\.001, now 0\.5"),
        ({"patch_shape": [4, 8]}, r"patch_shape was \[4, 4\], now \[4, 8\]"),
        ({"patchwise_skip_class": 1}, "patchwise_skip_class was None, now 1"),
        ({"subfunctions": [Configured()]}, "subfunctions"),
        ({"data_augmentation": None}, "data_augmentation"),
        ({"architecture": Forgetful()}, "architecture"),
    ],
)
def test_each_change_of_a_setting_is_noticed_and_named(tmp_path, change, message):
    RECORD.write(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        matching_record(tmp_path, RECORD.fold, training_settings(network(**change), 5, None))


def test_equal_settings_match_after_the_file(tmp_path):
    RECORD.write(tmp_path)
    again = training_settings(network(patch_shape=[4, 4], architecture=Configured()), 5, None)
    assert matching_record(tmp_path, RECORD.fold, again) == RECORD
    assert json.loads(json.dumps(again)) == again


@pytest.mark.parametrize("content", ["{", "[]", '{"TRAINING": [], "VALIDATION": []}'])
def test_damaged_record_is_named(tmp_path, content):
    (tmp_path / RECORD_FILE).write_text(content)
    with pytest.raises(DataError, match=r"completed\.json"):
        read_record(tmp_path)


def test_settings_bound_to_a_loss_are_noticed():
    def settings(**bound):
        return training_settings(network(loss=functools.partial(tversky, **bound)), 5, None)

    assert settings(alpha=0.3) == settings(alpha=0.3) == json.loads(json.dumps(settings(alpha=0.3)))
    assert settings(alpha=0.3) != settings(alpha=0.7)
    assert settings(inner=tversky) != settings(inner=other_loss)
