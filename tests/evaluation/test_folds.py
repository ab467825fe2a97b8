import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.evaluation.folds import check_samples, leave_one_out_folds, leave_out, make_folds
from miscnn_tf.runs.fold import load_disk2fold, write_fold2disk

names = st.lists(
    st.text(min_size=1) | st.integers() | st.tuples(st.text(), st.integers()), min_size=2, max_size=40, unique=True
)


@given(samples=names, data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_folds_are_a_partition(samples, data, seed):
    k_fold = data.draw(st.integers(2, len(samples)))
    folds = make_folds(samples, k_fold, seed)
    assert len(folds) == k_fold
    validated = [name for fold in folds for name in fold.validation]
    assert len(validated) == len(samples)
    assert set(validated) == set(samples)
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert sorted([*fold.training, *fold.validation], key=repr) == sorted(samples, key=repr)


@given(samples=names, seed=st.integers(0, 1000), data=st.data())
def test_folds_do_not_depend_on_the_order_of_the_names(samples, seed, data):
    shuffled = data.draw(st.permutations(samples))
    assert make_folds(samples, 2, seed) == make_folds(shuffled, 2, seed)


def test_folds_are_the_same_tomorrow():
    # Written down once; an interrupted cross-validation can go on only while this holds.
    assert [fold.validation for fold in make_folds(list("abcdefg"), 3)] == [("c", "d", "e"), ("f", "g"), ("a", "b")]


def test_another_seed_gives_other_folds():
    samples = [str(number) for number in range(40)]
    assert make_folds(samples, 2, seed=0) != make_folds(samples, 2, seed=1)


@pytest.mark.parametrize("k_fold", [1, 0, -1, 6, 2.0, "3", True, None])
def test_number_of_folds_is_checked(k_fold):
    with pytest.raises(ConfigurationError, match="k_fold"):
        make_folds(list("abcde"), k_fold)


@given(samples=names, percentage=st.floats(0.001, 0.999))
def test_split_leaves_out_the_asked_share(samples, percentage):
    fold = leave_out(samples, percentage)
    assert set(fold.training) | set(fold.validation) == set(samples)
    assert len(fold.training) + len(fold.validation) == len(samples)
    assert min(len(fold.training), len(fold.validation)) >= 1
    assert abs(len(fold.validation) - percentage * len(samples)) <= 1


@pytest.mark.parametrize("percentage", [0, 1, 20, -0.2, True, "0.2", float("nan")])
def test_share_is_checked(percentage):
    with pytest.raises(ConfigurationError, match="percentage"):
        leave_out(list("abcde"), percentage)


def test_each_sample_is_left_out_once():
    folds = leave_one_out_folds(["b", "c", "a"])
    assert [fold.validation for fold in folds] == [("a",), ("b",), ("c",)]
    assert folds[1].training == ("a", "c")


def test_one_sample_cannot_be_split():
    for split in (lambda: leave_out(["a"], 0.5), lambda: leave_one_out_folds(["a"]), lambda: make_folds(["a"], 2)):
        with pytest.raises(ConfigurationError):
            split()


@pytest.mark.parametrize(
    ("samples", "message"),
    [([], "empty"), ("case_000", "list"), (["a", "b", "a"], "'a' more than once"), (7, "list"), (None, "list")],
)
def test_mistakes_in_the_list_are_found(samples, message):
    with pytest.raises(ConfigurationError, match=message):
        check_samples(samples)


def test_unknown_samples_are_named(fake_model):
    with pytest.raises(ConfigurationError, match="'case_999'"):
        check_samples(["case_000", "case_999"], fake_model())


def test_names_may_come_in_an_array(fake_model):
    samples = check_samples(np.array(["case_000", "case_001"]), fake_model())
    assert samples == ["case_000", "case_001"]
    assert type(samples[0]) is str


@given(training=names, validation=names)
def test_split_survives_the_file(tmp_path_factory, training, validation):
    path = tmp_path_factory.mktemp("fold") / "sample_list.json"
    write_fold2disk(path, training, validation)
    assert load_disk2fold(path) == (training, validation)


def test_file_of_a_split_is_readable_json(tmp_path: Path):
    write_fold2disk(tmp_path / "fold_0" / "sample_list.json", ["a", np.str_("b")], [np.int64(3)])
    content = json.loads((tmp_path / "fold_0" / "sample_list.json").read_text())
    assert content == {"TRAINING": ["a", "b"], "VALIDATION": [3]}


def test_name_that_json_cannot_hold_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="frozenset"):
        write_fold2disk(tmp_path / "sample_list.json", [frozenset("a")], [])
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_files_are_named(tmp_path: Path):
    path = tmp_path / "sample_list.json"
    with pytest.raises(MissingDataError, match=r"sample_list\.json"):
        load_disk2fold(path)
    for content in ('{"TRAINING": ["a"', "[]", '{"TRAINING": ["a"]}', '{"TRAINING": "a", "VALIDATION": []}'):
        path.write_text(content)
        with pytest.raises(DataError, match=r"sample_list\.json"):
            load_disk2fold(path)
