import math

import numpy as np
import pytest
from PIL import Image

from miscnn_tf.errors import StorageError
from miscnn_tf.evaluation.score_figures import draw_scores, plot_scores
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.runs.score_table import with_sample


def rows(rng, cases=4, classes=3, spacing=(1.0, 1.0, 1.0)):
    shape = (6, 7, 8) if spacing is None else (6, 7, 8)[: len(spacing)]
    found = []
    for number in range(cases):
        truth, pred = rng.integers(0, classes, (2, *shape))
        found += with_sample(score_label_maps(truth, pred, classes, spacing), f"case_{number}")
    return found


def points(axes):
    """The cases' points, by class; boxes and whiskers have no marker."""
    return [line.get_ydata() for line in axes.get_lines() if line.get_marker() == "o" and len(line.get_ydata())]


def titles(figure):
    return [axes.get_ylabel() for axes in figure.axes if axes.axison]


def test_every_case_is_a_point_in_the_panel_of_its_score(rng):
    scores = rows(rng)
    figure = draw_scores(scores)
    assert titles(figure) == [
        "Dice", "IoU", "sensitivity", "specificity", "precision", "volume difference (ml)", "HD95 (mm)",
        "average surface distance (mm)", "surface Dice at 1 mm",
    ]  # fmt: skip
    for axes, name in zip(figure.axes, ("dice", "iou", "sensitivity"), strict=False):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
        for label, drawn in zip((1, 2), points(axes), strict=True):
            np.testing.assert_array_equal(drawn, [row[name] for row in scores if row["class"] == label])


def test_units_are_named(rng):
    assert {"area difference (mm²)", "HD95 (mm)"} <= set(titles(draw_scores(rows(rng, spacing=(1.0, 2.0)))))
    expected = {"volume difference (voxels)", "HD95 (voxels)", "surface Dice at 1 voxel"}
    assert expected <= set(titles(draw_scores(rows(rng, spacing=None))))


def test_infinite_scores_are_counted_and_undefined_ones_left_out():
    values = [1.0, math.inf, math.inf, math.nan, 2.0]
    axes = draw_scores([{"sample_id": str(i), "class": 1, "hd95_mm": value} for i, value in enumerate(values)]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\n2×∞"]
    np.testing.assert_array_equal(points(axes), [[1.0, 2.0]])


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [{"sample_id": "a", "class": 0, "dice": 0.5}],
        [{"sample_id": "a", "class": 1, "dice": math.nan}],
        [{"sample_id": "a", "class": label, "dice": 0.9} for label in range(105)],
    ],
    ids=["none", "background alone", "nothing defined", "very many classes"],
)
def test_unusual_tables_are_drawn(scores, tmp_path):
    path = plot_scores(scores, tmp_path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert max(picture.size) < 8000


def test_the_picture_is_the_same_each_time(rng, tmp_path):
    scores = rows(rng)
    first = plot_scores(scores, tmp_path / "a").read_bytes()
    assert plot_scores(scores, tmp_path / "b").read_bytes() == first


def test_an_earlier_picture_stays_whole_when_writing_fails(rng, tmp_path, monkeypatch):
    (tmp_path / "scores.png").write_bytes(b"earlier")

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(StorageError, match=r"scores\.png.*No space"):
        plot_scores(rows(rng), tmp_path)
    assert (tmp_path / "scores.png").read_bytes() == b"earlier"


def test_classes_have_their_names_where_they_are_known(rng, tmp_path):
    scores = rows(rng)
    for names, shown in (
        (["background", "kidney", "tumour"], ["kidney", "tumour"]),
        (["background", "left kidney", " "], ["left kidney", "2"]),
        (["background"], ["1", "2"]),
    ):
        axes = draw_scores(scores, names).axes[0]
        assert [label.get_text() for label in axes.get_xticklabels()] == shown
    assert plot_scores(scores, tmp_path / "a", names).read_bytes() == plot_scores(scores, tmp_path / "b").read_bytes()
