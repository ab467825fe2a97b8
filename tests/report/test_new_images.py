"""New images on the page of a run."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from miscnn_tf.errors import DataError
from miscnn_tf.report import new_images
from miscnn_tf.report.new_images import read_new_images, record_new_images


@pytest.fixture
def folders(tmp_path):
    """A run, and predictions beside it with three pictures, one in a folder."""
    run, predictions = tmp_path / "x y" / "training", tmp_path / "x y" / "predictions"
    (predictions / "overlays" / "b").mkdir(parents=True)
    run.mkdir()
    for number, name in enumerate(("a.png", "b/c.png", "d.png")):
        picture = np.full((40, 60, 3), 255, np.uint8)
        picture[10:30, 20:50] = (number * 50, 0, 0)  # the drawing in its white margin
        Image.fromarray(picture).save(predictions / "overlays" / name)
    return run, predictions


def test_the_pictures_are_in_the_page_without_their_margin(folders):
    run, predictions = folders
    assert read_new_images(run, run / "report.html") is None
    record_new_images(run, predictions)
    found = read_new_images(run, run / "report.html")
    assert [one.name for one in found.shown] == ["a", "b/c", "d"]
    assert (found.folder, found.address, found.number) == (str(predictions), "../predictions/", 3)
    head, data = found.shown[2].picture.split(",")
    assert head == "data:image/webp;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert picture.shape[:2] == (20, 30)
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), (100, 0, 0), atol=6)
    # A page elsewhere has other addresses.
    assert read_new_images(run, run.parent / "page.html").address == "predictions/"


def test_many_images_are_counted(folders, monkeypatch):
    run, predictions = folders
    record_new_images(run, predictions)
    monkeypatch.setattr(new_images, "MOST_PICTURES", 2)
    found = read_new_images(run, run / "report.html")
    assert (len(found.shown), found.number) == (2, 3)


def test_both_folders_can_be_moved_together(folders):
    run, predictions = folders
    record_new_images(run, predictions)
    moved = run.parent.rename(run.parent.parent / "elsewhere")
    assert read_new_images(moved / "training", moved / "training" / "report.html").number == 3


def test_removed_pictures_and_damage(folders):
    run, predictions = folders
    record_new_images(run, predictions)
    for path in predictions.rglob("*.png"):
        path.unlink()
    assert read_new_images(run, run / "report.html") is None
    (run / "new_images.json").write_text('{"folder": 5}')
    with pytest.raises(DataError, match=r"new_images.json.*delete it"):
        read_new_images(run, run / "report.html")
