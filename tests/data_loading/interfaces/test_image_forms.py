"""What the images of a data set are like."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from layout_data import image_of, save_image, save_nifti

from miscnn_tf.data_loading._discovery import image_forms
from miscnn_tf.data_loading._discovery.image_forms import have_colours, nifti_form, usual_nifti_form
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.errors import DataError, MissingDataError

GREY = np.zeros((4, 5), np.uint8)
COLOURS = np.stack([GREY, GREY, GREY + 1], axis=-1)
VOLUME, SLICE, TWO = (5, 6, 7), (5, 6, 1), (5, 6, 7, 2)


@pytest.fixture
def form_of(tmp_path):
    """The usual form of images of these shapes."""

    def ask(shapes, **known):
        for number, shape in enumerate(shapes):
            save_nifti(tmp_path / f"{number:03d}.nii", image_of("a", shape=shape))
        names = [f"{number:03d}" for number in range(len(shapes))]
        return usual_nifti_form(names, lambda name: [tmp_path / f"{name}.nii"], "data", **known)

    return ask


@pytest.mark.parametrize(
    ("shape", "files", "form"),
    [
        ((5, 6, 7), 1, (1, True)),
        ((5, 6, 7), 3, (3, True)),
        ((5, 6, 7, 4), 1, (4, True)),
        ((5, 6), 1, (1, False)),
        ((5, 6, 1), 1, (1, False)),
        ((5, 6, 1), 2, (2, False)),
        ((5, 6, 1, 3), 1, (3, False)),
    ],
)
def test_channels_and_dimension_of_nifti_files(tmp_path, shape, files, form):
    path = save_nifti(tmp_path / "a.nii.gz", image_of("a", shape=shape))
    assert nifti_form([path] * files) == form


@pytest.mark.parametrize(
    ("shapes", "known", "form"),
    [
        ([SLICE, *[VOLUME] * 5], {}, (1, True)),
        ([VOLUME, *[SLICE] * 5], {}, (1, False)),
        ([TWO, VOLUME, VOLUME], {}, (1, True)),
        ([TWO, TWO, VOLUME], {}, (2, True)),
        ([TWO, TWO, VOLUME], {"channels": 1}, (1, True)),
        ([VOLUME, VOLUME, SLICE], {"three_dim": False}, (1, False)),
        ([VOLUME, SLICE], {"three_dim": True}, (1, True)),
        ([VOLUME, VOLUME], {"channels": 4}, (1, True)),
    ],
)
def test_most_samples_decide(form_of, shapes, known, form):
    assert form_of(shapes, **known) == form


def test_the_odd_sample_is_named(form_of, caplog):
    form_of([SLICE, *[VOLUME] * 5])
    assert "data: 5 of 6 samples are 3D with 1 channel, which is assumed for all" in caplog.text
    assert "the others are: 000 (2D with 1 channel)" in caplog.text


def test_nothing_is_said_where_all_are_alike(form_of, caplog):
    form_of([VOLUME] * 3)
    assert not caplog.text


def test_a_tie_is_an_error_that_names_both_kinds(form_of):
    with pytest.raises(DataError, match=r"3D with 1 channel: 000, 002; 2D with 1 channel: 001, 003\)\. Give"):
        form_of([VOLUME, SLICE, VOLUME, SLICE])


def test_files_that_cannot_be_read_do_not_count(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"x")
    save_nifti(tmp_path / "c.nii", image_of("c"))
    assert usual_nifti_form("abc", lambda name: [tmp_path / f"{name}.nii"], "data") == (1, True)
    assert usual_nifti_form("cd", lambda name: [tmp_path / "c.nii", tmp_path / f"{name}.nii"], "data") == (2, True)
    with pytest.raises(DataError, match=r"a\.nii"):
        usual_nifti_form("ab", lambda name: [tmp_path / f"{name}.nii"], "data")
    with pytest.raises(MissingDataError, match="data: none of the samples exist"):
        usual_nifti_form([], lambda name: [], "data")


def test_at_most_50_headers_are_read(monkeypatch, tmp_path):
    read = []
    monkeypatch.setattr(image_forms, "nifti_form", lambda paths: read.append(paths) or (1, True))
    usual_nifti_form(range(1000), lambda name: [tmp_path], "data")
    assert len(read) == 50


def test_the_headers_beyond_50_are_read_if_those_are_damaged(monkeypatch, tmp_path):
    def form(paths):
        if paths[0].name != "7":
            raise DataError("damaged")
        return 1, True

    (tmp_path / "7").write_bytes(b"")
    monkeypatch.setattr(image_forms, "nifti_form", form)
    assert usual_nifti_form(range(1000), lambda name: [tmp_path / str(name)], "data") == (1, True)


def test_one_image_in_colours_is_enough_and_named(tmp_path, caplog):
    save_image(tmp_path / "a.png", GREY)
    save_image(tmp_path / "b.png", COLOURS)
    (tmp_path / "bad.png").write_bytes(b"x")
    assert have_colours(["a", "bad", "none", "b"], lambda name: tmp_path / f"{name}.png", "data")
    assert "1 image in colours: b (channels=1" in caplog.text
    caplog.clear()
    assert not have_colours(["a", "bad"], lambda name: tmp_path / f"{name}.png", "data")
    assert have_colours("ab", lambda name: tmp_path / f"{name}.png", "data", warn=False)
    assert not caplog.text


def test_the_one_grey_image_is_named(tmp_path, caplog):
    for name in "abc":
        save_image(tmp_path / f"{name}.png", GREY if name == "b" else COLOURS)
    assert have_colours("abc", lambda name: tmp_path / f"{name}.png", "data")
    assert "1 image in grey: b" in caplog.text


def test_an_image_in_colours_behind_many_grey_ones_is_found(monkeypatch, caplog):
    monkeypatch.setattr(image_file, "is_coloured", lambda name: name == 301)
    with caplog.at_level(logging.WARNING):
        assert have_colours(range(1000), lambda name: name, "data")
    assert "1 image in colours: 301" in caplog.text
