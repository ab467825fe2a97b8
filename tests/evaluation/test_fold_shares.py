"""Stratified and grouped folds, against their definition and scikit-learn's."""

import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.folds import leave_out, make_folds

#: A stratum and a group for each sample.
labelled = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=4, max_size=60)


def as_samples(labels):
    strata = {f"case_{i:03d}": stratum for i, (stratum, _) in enumerate(labels)}
    groups = {f"case_{i:03d}": group for i, (_, group) in enumerate(labels)}
    return list(strata), strata, groups


def require_partition(folds, samples):
    validated = [name for fold in folds for name in fold.validation]
    assert sorted(validated) == sorted(samples)
    for fold in folds:
        assert fold.validation
        assert fold.training
        assert sorted([*fold.training, *fold.validation]) == sorted(samples)


@given(labels=labelled, seed=st.integers(0, 1000), data=st.data())
def test_each_fold_has_its_share_of_each_stratum(labels, seed, data):
    samples, strata, _ = as_samples(labels)
    k_fold = data.draw(st.integers(2, len(samples)))
    folds = make_folds(samples, k_fold, seed, strata=strata)
    require_partition(folds, samples)
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for stratum in set(strata.values()):
        counts = [sum(strata[name] == stratum for name in fold.validation) for fold in folds]
        assert max(counts) - min(counts) <= 1


@given(labels=labelled, seed=st.integers(0, 1000), data=st.data(), stratified=st.booleans())
def test_a_group_is_never_on_both_sides(labels, seed, data, stratified):
    samples, strata, groups = as_samples(labels)
    number = len(set(groups.values()))
    if number < 2:
        return
    folds = make_folds(
        samples, data.draw(st.integers(2, number)), seed, groups=groups, strata=strata if stratified else None
    )
    require_partition(folds, samples)
    for fold in folds:
        assert not {groups[name] for name in fold.training} & {groups[name] for name in fold.validation}


@given(labels=labelled, seed=st.integers(0, 1000))
def test_grouped_folds_are_as_even_as_scikit_learns(labels, seed):
    samples, _, groups = as_samples(labels)
    k_fold = min(3, len(set(groups.values())))
    if k_fold < 2:
        return
    theirs = GroupKFold(k_fold).split(samples, groups=list(groups.values()))
    ours = make_folds(samples, k_fold, seed, groups=groups)
    assert sorted(len(fold.validation) for fold in ours) == sorted(len(test) for _, test in theirs)


def test_stratified_and_grouped_folds_are_as_even_as_scikit_learns():
    """Mean deviation of the strata's shares over many data sets; a single one may fall out either way."""
    rng = np.random.default_rng(5)
    ours, theirs, blind = [], [], []
    for trial in range(40):
        groups = rng.integers(0, 30, 120)
        strata = (rng.random(30) < 0.3).astype(int)[groups] + (rng.random(120) < 0.2)
        samples = list(range(120))

        def unevenness(parts, strata=strata):
            counts = np.array([np.bincount(strata[list(part)], minlength=3) for part in parts])
            return float(np.mean(np.std(counts / counts.sum(axis=0), axis=0)))

        folds = make_folds(samples, 5, trial, strata=lambda i, s=strata: s[i], groups=lambda i, g=groups: g[i])
        ours.append(unevenness([fold.validation for fold in folds]))
        folds = make_folds(samples, 5, trial, groups=lambda i, g=groups: g[i])
        blind.append(unevenness([fold.validation for fold in folds]))
        splitter = StratifiedGroupKFold(5)
        theirs.append(unevenness([test for _, test in splitter.split(samples, strata, groups)]))
    assert np.mean(ours) <= np.mean(theirs) * 1.05
    assert np.mean(ours) < np.mean(blind) * 0.7  # strata do something


@given(labels=labelled, seed=st.integers(0, 1000), data=st.data())
def test_the_order_of_the_names_does_not_matter(labels, seed, data):
    samples, strata, groups = as_samples(labels)
    if len(set(groups.values())) < 2:
        return
    shuffled = data.draw(st.permutations(samples))
    arguments = {"strata": strata, "groups": groups}
    assert make_folds(samples, 2, seed, **arguments) == make_folds(shuffled, 2, seed, **arguments)
    assert leave_out(samples, 0.3, seed, **arguments) == leave_out(shuffled, 0.3, seed, **arguments)


def test_folds_are_the_same_tomorrow():
    samples = list("abcdefgh")
    strata = {name: {"tumour", "kidney"} if name in "abc" else {"kidney"} for name in samples}
    groups = dict(zip(samples, "11223344", strict=True))
    found = [
        [fold.validation for fold in make_folds(samples, 2, seed=3, strata=strata)],
        [fold.validation for fold in make_folds(samples, 3, seed=3, groups=groups)],
        [fold.validation for fold in make_folds(samples, 2, seed=3, strata=strata, groups=groups)],
    ]
    assert found == [
        [("a", "c", "f", "h"), ("b", "d", "e", "g")],
        [("a", "b", "g", "h"), ("e", "f"), ("c", "d")],
        [("c", "d", "g", "h"), ("a", "b", "e", "f")],
    ]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_folds_are_the_same_in_every_process(hash_seed):
    code = (
        "from miscnn_tf.evaluation.folds import make_folds; samples = [f'case_{i}' for i in range(30)];"
        "print(make_folds(samples, 3, strata=lambda name: {'c' + d for d in name[5:]}))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout
        for seed in ("0", hash_seed)
    ]
    assert printed[0] == printed[1] != ""


def test_another_seed_gives_other_folds():
    samples = list(range(40))
    arguments = {"strata": lambda number: number % 3, "groups": lambda number: number // 2}
    assert make_folds(samples, 2, 0, **arguments) != make_folds(samples, 2, 1, **arguments)


def test_a_sample_of_several_strata_counts_in_each():
    # 20 cases, each with the kidney; the tumour in every second, the cyst in 4 of them.
    samples = list(range(20))
    folds = make_folds(
        samples, 4, strata=lambda i: {"kidney"} | ({"tumour"} if i % 2 else set()) | ({"cyst"} if i < 4 else set())
    )
    for fold in folds:
        assert len(fold.validation) == 5
        assert sum(i < 4 for i in fold.validation) == 1
        assert 2 <= sum(i % 2 for i in fold.validation) <= 3


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(2, 20), min_size=1, max_size=4), share=st.fractions(Fraction(1, 10), Fraction(1, 2)))
def test_the_share_that_is_left_out_is_that_of_each_stratum(sizes, share):
    samples = [f"{stratum}_{i}" for stratum, size in enumerate(sizes) for i in range(size)]
    fold = leave_out(samples, float(share), strata=lambda name: name[0])
    assert sorted([*fold.training, *fold.validation]) == sorted(samples)
    counts = Counter(name[0] for name in fold.validation)
    assert len(fold.validation) >= 1
    for stratum, size in enumerate(sizes):
        assert abs(counts[str(stratum)] - size * share) <= 1


@pytest.mark.parametrize("of_each", [1, 2, 3, 5])
@pytest.mark.parametrize("grouped", [False, True])
def test_many_small_strata_do_not_keep_the_share_small(of_each, grouped):
    samples = [f"{number // of_each:02}_{number}" for number in range(60)]
    groups = (lambda name: int(name[3:]) // 2) if grouped else None
    fold = leave_out(samples, 0.2, strata=lambda name: name[:2], groups=groups)
    assert len(fold.validation) == 12


def test_both_sides_have_a_group_however_small_the_share():
    for share in (0.001, 0.5, 0.999):
        fold = leave_out(["a1", "a2", "b1"], share, groups=lambda name: name[0])
        assert fold.training
        assert fold.validation
        assert not {name[0] for name in fold.training} & {name[0] for name in fold.validation}


def test_numpys_labels_are_labels():
    samples = list("abcd")
    plain = make_folds(samples, 2, groups={"a": 1, "b": 1, "c": 2, "d": 2})
    assert plain == make_folds(samples, 2, groups=dict(zip(samples, np.array([1, 1, 2, 2]), strict=True)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": {"a": 1}}, "groups has no entry for sample 'b'"),
        ({"strata": {"a": 1}}, "strata has no entry for sample 'b'"),
        ({"groups": [1, 1, 2, 2]}, r"dict\(zip"),
        ({"strata": "class"}, "mapping or a function"),
        ({"groups": lambda name: [name]}, "groups gives .* for sample 'a'"),
        ({"groups": lambda name: None}, "is not a stratum or group"),
        ({"strata": lambda name: float("nan")}, "strata gives nan for sample 'a'"),
        ({"groups": lambda name: "same"}, r"number of groups \(1\)"),
    ],
)
def test_mistakes_are_told(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        make_folds(list("abcd"), 2, **arguments)


def test_one_group_cannot_be_split():
    with pytest.raises(ConfigurationError, match="one group"):
        leave_out(list("abcd"), 0.5, groups=lambda name: "same")
