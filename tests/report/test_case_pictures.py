from __future__ import annotations

import base64
import io
import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from toy import ToyInterface

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import DataError
from miscnn_tf.report.case_pictures import Case, choose_cases, draw_slices, load_case, pack_labels, rank_cases


def unpack(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Another reader than the page's, of the same format."""
    numbers, value, shift = [], 0, 0
    for byte in base64.b64decode(text):
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            numbers.append(value)
            value = shift = 0
    return np.repeat(numbers[::2], numbers[1::2]).reshape(shape)


def picture(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def case(labels: np.ndarray, image: np.ndarray | None = None, spacing=(1.0, 1.0, 1.0), affine=None) -> Case:
    return Case(image if image is not None else 100.0 * labels, labels, labels, spacing, affine, 1, [])


@given(arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 700)))
def test_packed_labels_are_the_labels(labels):
    np.testing.assert_array_equal(unpack(pack_labels(labels), labels.shape), labels)


def test_slices_hold_the_structure_and_its_rim():
    labels = np.zeros((40, 40, 30), np.uint8)
    labels[10:20, 10:20, 8:15] = 1
    drawn = draw_slices(case(labels))
    assert [one["number"] for one in drawn["slices"]] == list(range(6, 17))
    assert drawn["total"] == 30
    shape = (drawn["height"], drawn["width"])
    for one in drawn["slices"]:
        assert unpack(one["truth"], shape).sum() == labels[:, :, one["number"]].sum()
        assert picture(one["image"]).shape[:2] == shape
    assert 2 <= drawn["start"] <= 8


def test_of_a_long_structure_slices_are_taken_evenly_within_the_budget():
    rng = np.random.default_rng(0)
    labels = np.zeros((64, 64, 200), np.uint8)
    labels[8:56, 8:56, 20:180] = 1
    noisy = case(labels, rng.normal(0, 1, labels.shape))
    drawn = draw_slices(noisy, most_slices=30)
    numbers = [one["number"] for one in drawn["slices"]]
    assert len(numbers) == 30
    assert (numbers[0], numbers[-1]) == (18, 181)
    assert set(np.diff(numbers)) <= {5, 6}
    size = sum(len(one["image"]) for one in drawn["slices"])
    fewer = draw_slices(noisy, most_slices=30, most_bytes=size // 3)
    assert 8 <= len(fewer["slices"]) <= 10
    assert sum(len(one["image"]) for one in fewer["slices"]) <= size // 3 * 1.1


def test_label_maps_of_noise_count_as_well(rng):
    noise = rng.integers(0, 3, (96, 96, 30)).astype(np.uint8)
    drawn = draw_slices(case(noise, np.zeros(noise.shape)), most_bytes=200_000)
    assert 1 <= len(drawn["slices"]) < 30
    assert sum(len(one[name]) for one in drawn["slices"] for name in ("image", "truth", "prediction")) < 220_000


def test_pictures_are_square_pixels_and_small_enough():
    labels = np.zeros((600, 100, 5), np.uint8)
    labels[50:550, 20:80, 2] = 1
    drawn = draw_slices(case(labels, spacing=(0.5, 2.0, 5.0)), most_pixels=200)
    # 300 mm times 200 mm, in whichever direction they are shown.
    assert max(drawn["width"], drawn["height"]) == 200
    assert min(drawn["width"], drawn["height"]) == pytest.approx(200 * 200 / 300, abs=1)


@pytest.mark.parametrize(("order", "signs"), product(permutations(range(3)), product((1, -1), repeat=3)))
def test_every_orientation_shows_the_same_picture_with_the_right_letters(order, signs):
    # In RAS: a block to the right, in front and above the middle.
    world = np.zeros((24, 26, 28), np.uint8)
    world[14:20, 16:24, 18:20] = 1
    labels = world.transpose(order)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (direction, sign) in enumerate(zip(order, signs, strict=True)):
        affine[direction, axis] = sign
    labels = labels[tuple(slice(None, None, sign) for sign in signs)]
    drawn = draw_slices(case(labels, affine=affine))
    assert drawn["sides"] == ["R", "L", "A", "P"]
    shape = (drawn["height"], drawn["width"])
    places = np.argwhere(unpack(drawn["slices"][drawn["start"]]["truth"], shape))
    reference = draw_slices(case(world, affine=np.eye(4)))
    expected = np.argwhere(unpack(reference["slices"][reference["start"]]["truth"], shape))
    np.testing.assert_array_equal(places, expected)
    assert len(drawn["slices"]) == 6


def test_the_slice_with_most_of_the_truth_is_shown_first_even_between_those_at_equal_distances():
    labels = np.zeros((40, 40, 200), np.uint8)
    labels[18:22, 18:22, 20:180] = 1
    labels[10:30, 10:30, 93] = 1
    prediction = np.zeros_like(labels)
    prediction[2:38, 2:38, 150] = 1  # a false alarm is not where to look first
    drawn = draw_slices(Case(100.0 * labels, labels, prediction, (1.0,) * 3, None, 1, []), most_slices=20)
    assert drawn["slices"][drawn["start"]]["number"] == 93
    assert len(drawn["slices"]) == 20
    numbers = [one["number"] for one in drawn["slices"]]
    assert numbers == sorted(numbers)
    size = sum(len(one[name]) for one in drawn["slices"] for name in ("image", "truth", "prediction"))
    few = draw_slices(
        Case(100.0 * labels, labels, prediction, (1.0,) * 3, None, 1, []), most_slices=20, most_bytes=size // 4
    )
    assert few["slices"][few["start"]]["number"] == 93
    # Without a truth, the prediction tells.
    drawn = draw_slices(Case(100.0 * labels, None, prediction, (1.0,) * 3, None, 1, []))
    assert drawn["slices"][drawn["start"]]["number"] == 150


def test_intensities_can_be_read_back_from_the_pictures_over_their_whole_range(rng):
    # Air, lung, water to liver, bone and metal in bands of eight columns.
    bands = np.repeat([-1000, -800, 0, 60, 120, 400, 1200, 3000], 8).astype(np.int16)
    image = np.broadcast_to(bands[:, None, None], (64, 64, 3)).copy()
    labels = np.zeros(image.shape, np.uint8)
    labels[16:40, 16:40] = 1
    drawn = draw_slices(case(labels, image))
    scale = drawn["scale"]
    assert scale["modality"] == "CT"
    greys = picture(drawn["slices"][0]["image"])[..., 1]
    values = np.interp(greys, scale["greys"], scale["values"])
    error = np.abs(np.median(values, axis=0) - np.repeat(bands, drawn["width"] // 64))
    black, white = scale["levels"]
    usual = (bands >= black) & (bands <= white)
    assert usual.sum() >= 24
    # 160 grey values for the usual window, 48 on each side, less the error of the compression.
    assert error[usual].max() <= 4 * (white - black) / 160
    assert error.max() <= 4 * max(black + 1000, 3000 - white) / 48


def test_images_of_other_kinds_have_their_own_scale():
    labels = np.zeros((16, 16, 4), np.uint8)
    labels[4:12, 4:12] = 1
    rng = np.random.default_rng(0)
    scale = draw_slices(case(labels, rng.normal(0, 1, labels.shape)))["scale"]
    assert scale["modality"] is None
    assert scale["greys"][0] == 0
    assert scale["greys"][-1] == 255
    assert scale["values"] == sorted(scale["values"])
    masks = draw_slices(case(labels, labels.astype(bool)))["scale"]
    assert (masks["levels"][0], masks["levels"][1]) == (masks["values"][0], masks["values"][-1])
    flat = draw_slices(case(labels, np.full(labels.shape, 7.0)))["scale"]
    assert flat["greys"] == [0, 255]
    assert flat["values"][0] < flat["values"][1]


def test_colour_images_and_single_slices():
    labels = np.zeros((30, 20), np.uint8)
    labels[5:10, 5:10] = 1
    image = np.zeros((30, 20, 3), np.uint8)
    image[..., 0] = 200
    drawn = draw_slices(Case(image, labels, None, (1.0, 1.0), None, 3, []))
    assert len(drawn["slices"]) == 1
    shown = picture(drawn["slices"][0]["image"])
    assert shown[..., 0].mean() > 180
    assert shown[..., 1].mean() < 20
    assert drawn["slices"][0]["prediction"] is None
    assert drawn["sides"] is None
    assert drawn["scale"] is None
    assert [200, 0, 0] in drawn["colours"]


def test_empty_label_maps_and_constant_images_give_pictures():
    labels = np.zeros((8, 9, 50), np.uint8)
    drawn = draw_slices(case(labels, np.full(labels.shape, np.nan)))
    assert len(drawn["slices"]) == 40
    assert draw_slices(Case(None, labels, labels, (1.0,) * 3, None, 1, []))["slices"][0]["image"] is None


def test_a_case_is_read_and_what_is_missing_is_told(tmp_path):
    data_io = Data_IO(ToyInterface(shape=(10, 12, 8), channels=2), "toy")
    read = load_case(data_io, "case_1", tmp_path)
    assert read.image.shape == (10, 12, 8)
    assert read.prediction is None
    assert any("prediction cannot be shown" in problem for problem in read.problems)
    assert any("first of 2 channels" in problem for problem in read.problems)
    np.save(tmp_path / "case_1.npy", data_io.interface.load_segmentation("case_1"))
    assert load_case(data_io, "case_1", tmp_path).prediction.shape == (10, 12, 8)
    np.save(tmp_path / "case_1.npy", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(DataError, match="shape"):
        load_case(data_io, "case_1", tmp_path)


def test_a_case_without_image_still_shows_its_label_maps(tmp_path):
    class NoImage(ToyInterface):
        def load_image(self, index):
            raise ValueError("lost")

    data_io = Data_IO(NoImage(shape=(10, 12, 8)), "toy")
    read = load_case(data_io, "case_1", tmp_path)
    assert read.image is None
    assert "ValueError: lost" in read.problems[0]
    assert draw_slices(read)["slices"]


def test_nothing_readable_is_an_error(tmp_path):
    class Nothing(ToyInterface):
        def load_segmentation(self, index):
            raise OSError("gone")

    with pytest.raises(DataError, match="gone"):
        load_case(Data_IO(Nothing(), "toy"), "case_1", tmp_path)


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
