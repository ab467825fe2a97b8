import pytest

from miscnn_tf.runs.score_names import is_difference, is_share, measured, score_title


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("dice", "Dice"),
        ("hd95_voxels", "HD95 (voxels)"),
        ("nsd_2.5mm", "surface Dice at 2.5 mm"),
        ("area_difference_mm2", "area difference (mm²)"),
        ("volume_truth_ml", "volume, truth (ml)"),
        ("something", "something"),
    ],
)
def test_titles(column, title):
    assert score_title(column) == title


def test_kinds_of_scores():
    names = ["fold", "sample_id", "class", "dice", "volume_truth_ml", "volume_difference_ml", "hd95_mm", "nsd_1mm"]
    assert measured(names) == ["dice", "volume_difference_ml", "hd95_mm", "nsd_1mm"]
    assert [name for name in names if is_share(name)] == ["dice", "nsd_1mm"]
    assert [name for name in names if is_difference(name)] == ["volume_difference_ml"]
