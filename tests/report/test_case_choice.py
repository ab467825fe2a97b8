from __future__ import annotations

import math

import pytest

from miscnn_tf.report.case_choice import choose_cases, rank_cases


def rows(means):
    return [{"sample_id": f"c{number}", "class": label, "dice": dice if label else 0.5}
            for number, dice in enumerate(means) for label in (0, 1)]  # fmt: skip


def test_cases_are_ranked_by_their_mean_without_background():
    table = [
        {"sample_id": "a", "fold": 0, "class": 0, "dice": 0.1},
        {"sample_id": "a", "fold": 0, "class": 1, "dice": 0.9},
        {"sample_id": "a", "fold": 0, "class": 2, "dice": math.nan},
        {"sample_id": "b", "fold": 1, "class": 1, "dice": 0.9},
        {"sample_id": "b", "fold": 1, "class": 2, "dice": 0.5},
        {"sample_id": "none", "fold": 1, "class": 1, "dice": math.nan},
    ]
    ranked = rank_cases(table)
    assert [(case.name, case.fold) for case in ranked] == [("b", 1), ("a", 0), ("none", 1)]
    assert ranked[0].mean == pytest.approx(0.7)
    assert ranked[1].mean == pytest.approx(0.9)
    assert list(ranked[0].dice) == [1, 2]


@pytest.mark.parametrize("number", range(12))
def test_each_chosen_case_is_chosen_once_and_the_ends_are_in(number):
    ranked = rank_cases(rows([place / 20 for place in range(number)]))
    chosen = choose_cases(ranked)
    names = [case.name for case in chosen]
    assert len(set(names)) == len(names) == min(number, 7)
    assert [case.mean for case in chosen] == sorted(case.mean for case in chosen)
    if number >= 7:
        assert names[:3] == ["c0", "c1", "c2"]
        assert names[-3:] == [f"c{number - 3}", f"c{number - 2}", f"c{number - 1}"]
        assert [case.place for case in chosen] == ["worst"] * 3 + ["typical"] + ["best"] * 3
    if number >= 2:
        assert (chosen[0].place, chosen[-1].place) == ("worst", "best")


def test_cases_without_a_dice_are_shown_only_where_there_are_no_others():
    assert [case.name for case in choose_cases(rank_cases(rows([math.nan, 0.5])))] == ["c1"]
    assert [case.name for case in choose_cases(rank_cases(rows([math.nan])))] == ["c0"]
