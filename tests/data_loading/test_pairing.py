"""Masks find their images by name."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.data_loading.file_names import bare_mask, pair
from miscnn_tf.errors import DataError


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("x", "x"),
        ("x", "x_mask"),
        ("x", "x-mask"),
        ("x", "x_Mask"),
        ("x", "x_seg"),
        ("x", "x_label"),
        ("x", "x.labels"),
        ("x", "x_segmentation"),
        ("x", "mask_x"),
        ("x", "gt_x"),
        ("x", "x_groundtruth"),
        ("x", "x_ground_truth"),
        ("x", "x annotation"),
        ("img_001", "mask_001"),
        ("image-7", "label-7"),
        ("7_image", "7_mask"),
        ("TCGA_CS_4941_19960909_1", "TCGA_CS_4941_19960909_1_mask"),
        ("img_001", "001"),
    ],
)
def test_usual_names(image, mask):
    others = ["other_1", "other_2"]
    found = pair([image, *others], [mask, *others])
    assert found.masks == {image: mask, "other_1": "other_1", "other_2": "other_2"}
    assert found.images_alone == found.masks_alone == []


@pytest.mark.parametrize(("image", "mask"), [("x1", "x2"), ("x", "xmask"), ("mask", "seg"), ("x", "x_masked")])
def test_what_does_not_belong_together_stays_alone(image, mask):
    assert pair([image], [mask]) == ({}, [image], [mask])


def test_who_is_alone_is_told():
    found = pair(["a", "b", "c"], ["b", "d_mask", "e"])
    assert found == ({"b": "b"}, ["a", "c"], ["d_mask", "e"])


@pytest.mark.parametrize(
    ("images", "masks", "named"),
    [
        (["x"], ["x", "x_mask"], ["'x'", "'x_mask'"]),
        (["x"], ["x_mask", "x_seg"], ["'x_mask'", "'x_seg'"]),
        (["img_1", "scan_1"], ["mask_1"], ["'mask_1'", "'img_1'", "'scan_1'"]),
        (["1", "mask_1"], ["mask_1"], ["'mask_1'", "'1'"]),
    ],
)
def test_what_is_ambiguous_is_named(images, masks, named):
    with pytest.raises(DataError, match="data/images: ") as caught:
        pair(images, masks, "data/images")
    assert all(name in str(caught.value) for name in named)


WORDS = st.text("abcxyz019_-. ", min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(WORDS, unique=True, max_size=8), st.lists(WORDS, unique=True, max_size=8), st.integers(0, 100))
def test_no_mask_is_given_twice_and_the_order_does_not_count(images, masks, seed):
    try:
        found = pair(images, masks)
    except DataError:
        return
    assert len(set(found.masks.values())) == len(found.masks)
    assert sorted([*found.masks, *found.images_alone]) == sorted(images)
    assert sorted([*found.masks.values(), *found.masks_alone]) == sorted(masks)
    assert all(found.masks.get(name) == name for name in set(images) & set(masks))
    shuffled = random.Random(seed)
    assert pair(shuffled.sample(images, len(images)), shuffled.sample(masks, len(masks))) == found


@settings(deadline=None)
@given(st.lists(WORDS, unique=True, min_size=1, max_size=8), st.sampled_from(["{}_mask", "seg-{}", "{}.label"]))
def test_one_suffix_for_all_masks_pairs_all(images, form):
    images = [name for name in images if bare_mask(name) == name and bare_mask(form.format(name)) == name]
    assert pair(images, [form.format(name) for name in images]).masks == {name: form.format(name) for name in images}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("21_training", "21_manual1"),
        ("01_test", "01_manual2"),
        ("21_training", "21_training_mask"),
        ("Image_01L", "Image_01L_1stHO"),
        ("Image_01L", "Image_01L_2ndHO"),
        ("01_dr", "01_dr"),
        ("im0001", "im0001.ah"),
        ("im0001", "im0001.vk"),
    ],
)
def test_vessels_in_the_eye_as_drive_chase_hrf_and_stare_name_them(image, mask):
    assert pair([image], [mask]).masks == {image: mask}
