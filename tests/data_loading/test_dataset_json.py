"""The file dataset.json, whoever wrote it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_data import MSD, NNUNET, write_description

from miscnn_tf.data_loading._discovery.dataset_json import DatasetDescription, read_description
from miscnn_tf.errors import DataError, RepeatedWarning


def read(folder, description) -> DatasetDescription:
    write_description(folder, description)
    found = read_description(folder)
    assert found is not None
    return found


class TestWhatItSays:
    def test_the_decathlons(self, tmp_path):
        found = read(tmp_path, MSD)
        assert found.channel_names == ("MRI",)
        assert found.labels == {0: "background", 1: "Anterior", 2: "Posterior"}
        assert found.class_names() == ("background", "Anterior", "Posterior")
        assert found.training == [
            ("imagesTr/hippocampus_367.nii.gz", "labelsTr/hippocampus_367.nii.gz"),
            ("imagesTr/hippocampus_304.nii.gz", "labelsTr/hippocampus_304.nii.gz"),
        ]
        assert found.test == ["imagesTs/hippocampus_267.nii.gz"]
        assert found.cases_expected == 2

    def test_nnunets(self, tmp_path):
        found = read(tmp_path, NNUNET)
        assert found.channel_names == ("T2", "ADC")
        assert found.class_names() == ("background", "PZ", "TZ")
        assert found.file_ending == ".nii.gz"
        assert found.training is None
        assert found.test is None

    def test_none(self, tmp_path):
        assert read_description(tmp_path) is None

    def test_with_a_byte_order_mark_as_windows_writes_it(self, tmp_path):
        (tmp_path / "dataset.json").write_text(json.dumps(NNUNET), encoding="utf-8-sig")
        assert read_description(tmp_path).class_names() == ("background", "PZ", "TZ")

    def test_channels_in_the_order_of_their_numbers(self, tmp_path):
        names = {str(number): f"channel {number}" for number in (10, 2, *range(2), *range(3, 10))}
        assert read(tmp_path, {"modality": names}).channel_names == tuple(f"channel {number}" for number in range(11))

    @pytest.mark.parametrize("modality", [["T1"], "T1", {"0": "T1"}])
    def test_one_channel_in_any_form(self, tmp_path, modality):
        assert read(tmp_path, {"modality": modality}).channel_names == ("T1",)

    def test_the_modality_may_name_the_same_channels(self, tmp_path):
        both = {"channel_names": {"0": "a", "1": "b"}, "modality": ["x", "y"]}
        assert read(tmp_path, both).channel_names == ("a", "b")
        write_description(tmp_path, both | {"modality": ["x"]})
        with pytest.raises(
            DataError, match='"channel_names" names 2 channels and "modality" names 1 channels; correct'
        ):
            read_description(tmp_path)

    @pytest.mark.parametrize("number", [2, 2.0, "2", "2.0"])
    def test_number_of_cases_in_any_form(self, tmp_path, number):
        assert read(tmp_path, {"numTraining": number}).cases_expected == 2

    @pytest.mark.parametrize("ending", [".nii.gz", "nii.gz", ".NII.GZ", "NII.gz", " .nii.gz "])
    def test_file_ending_without_a_dot_or_in_capitals(self, tmp_path, ending):
        assert read(tmp_path, {"file_ending": ending}).file_ending == ".nii.gz"

    def test_backslashes_and_absolute_paths_inside_the_folder(self, tmp_path):
        pair = {"image": ".\\imagesTr\\a.nii.gz", "label": str(tmp_path / "labelsTr" / "a.nii.gz")}
        assert read(tmp_path, {"training": [pair]}).training == [("imagesTr/a.nii.gz", "labelsTr/a.nii.gz")]

    def test_absolute_paths_after_the_folder_was_moved(self, tmp_path):
        (tmp_path / "imagesTr").mkdir()
        (tmp_path / "imagesTr" / "a.nii.gz").write_bytes(b"")
        write_description(tmp_path, {"test": ["/home/other/Task04/imagesTr/a.nii.gz"]})
        with pytest.warns(
            RepeatedWarning, match=r"another folder, such as '/home/.*imagesTr/a\.nii\.gz is read instead"
        ):
            assert read_description(tmp_path).test == ["imagesTr/a.nii.gz"]

    @pytest.mark.parametrize("name", ["Dataset.json", "DATASET.JSON"])
    def test_its_name_in_any_case_of_letters(self, tmp_path, name):
        write_description(tmp_path, NNUNET).rename(tmp_path / name)
        assert read_description(tmp_path).class_names() == ("background", "PZ", "TZ")

    def test_in_utf_16_as_powershell_writes_it(self, tmp_path):
        (tmp_path / "dataset.json").write_text(json.dumps(NNUNET), encoding="utf-16")
        assert read_description(tmp_path).class_names() == ("background", "PZ", "TZ")

    def test_a_link_that_leads_nowhere_is_not_overlooked(self, tmp_path):
        (tmp_path / "dataset.json").symlink_to(tmp_path / "nowhere.json")
        with pytest.raises(DataError, match=r"dataset\.json: the file does not exist"):
            read_description(tmp_path)

    def test_hidden_files_that_are_listed_are_left_out(self, tmp_path):
        entry = {"image": "./imagesTr/._a.nii.gz", "label": "./labelsTr/._a.nii.gz"}
        found = read(tmp_path, {**MSD, "training": [entry, *MSD["training"]], "test": ["./imagesTs/._b.nii.gz"]})
        assert len(found.training) == 2
        assert found.test is None


class TestLabels:
    @pytest.mark.parametrize(
        "labels",
        [
            {"1": "liver", "0": "background"},
            {"background": 0, "liver": 1},
            {"liver": 1},
            {"background": "0", "liver": "1"},
            {"background": 0.0, "liver": 1.0},
            {"background": "0.0", "liver": "1.0"},
            {"background": [0], "liver": [1]},
            {"background": 0, "liver": ["1"]},
            {"0.0": "background", "1.0": "liver"},
            {"0": "background", "liver": 1},
        ],
    )
    def test_both_directions(self, tmp_path, labels):
        assert read(tmp_path, {"labels": labels}).class_names() == ("background", "liver")

    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            # All values are numbers, so that the names are the keys: nnU-Net 2.
            ({"background": 0, "1": 2, "2": 1}, ("background", "2", "1")),
            # All keys are numbers, so that the names are the values: the Decathlon.
            ({"0": "background", "1": 2, "2": 1}, ("background", "2", "1")),
            ({"1": 1, "2": 2}, ("background", "1", "2")),
        ],
    )
    def test_names_that_are_numbers(self, tmp_path, labels, names):
        assert read(tmp_path, {"labels": labels}).class_names() == names

    def test_gaps_are_told_with_the_label_map_to_pass(self, tmp_path):
        found = read(tmp_path, {"labels": {"0": "background", "1": "edema", "2": "core", "4": "enhancing"}})
        with pytest.raises(DataError, match=r"labels are 0, 1, 2, 4, .* label_map=\{4: 3\}"):
            found.class_names()
        assert found.class_names({4: 3}) == ("background", "edema", "core", "enhancing")

    @pytest.mark.parametrize("name", ["ignore", "Ignore"])
    @pytest.mark.parametrize("value", [2, [2], "2"])
    def test_voxels_to_ignore_have_no_class(self, tmp_path, name, value):
        found = read(tmp_path, {"labels": {"background": 0, "liver": 1, name: value}})
        assert found.class_names() == ("background", "liver")
        assert found.ignored == 2

    def test_merged_labels_keep_the_first_name(self, tmp_path):
        found = read(tmp_path, {"labels": {"background": 0, "kidney": 1, "tumour": 2}})
        assert found.class_names({2: 1}) == ("background", "kidney")

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ({"background": 0, "liver": 1, "spleen": 1}, "two names for 1, 'liver' and 'spleen'"),
            ({"background": 0, "liver": -1}, "'liver': -1"),
            ({"background": 0, "liver": 1.5}, "'liver': 1.5"),
            ({"background": 0, "liver": True}, "'liver': True"),
            ({"0": None}, "'0': None"),
            ({"background": 0, "liver": []}, r"'liver': \[\]"),
            ({"background": 0, "liver": [[1, 2]]}, r"'liver': \[\[1, 2\]\]"),
            ({"0": "background", "1": ["liver", "spleen"]}, r"the entry '1': \['liver', 'spleen'\]"),
            ({"background": 0, "liver": float("nan")}, "'liver': nan"),
            ({"background": 0, "liver": float("inf")}, "'liver': inf"),
            ({"1": 2, "2": 1}, "the entry '1': 2, where either may be the value"),
            ({}, "is needed"),
            (["background", "liver"], "is needed"),
            (None, "is needed"),
        ],
    )
    def test_what_cannot_be_used_is_said_when_it_is_needed(self, tmp_path, labels, reason):
        found = read(tmp_path, {"labels": labels})
        with pytest.raises(DataError, match=rf"dataset\.json: \"labels\".*{reason}"):
            found.class_names()


OUTSIDE = ("../elsewhere/a.nii.gz", "imagesTr/../../a.nii.gz", "/etc/passwd", "C:/a.nii.gz", "..\\a.nii.gz")


class TestHostile:
    @pytest.mark.parametrize("text", ["", "{", "[1, 2", "\0", "[" * 100_000, "{'labels': 1}"])
    def test_no_json(self, tmp_path, text):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(DataError, match=r"dataset\.json is damaged .*correct it"):
            read_description(tmp_path)

    @pytest.mark.parametrize("content", [[], [1], "x", 3, None, True])
    def test_no_object(self, tmp_path, content):
        write_description(tmp_path, content)
        with pytest.raises(DataError, match=r"dataset\.json must hold an object .* not a \w+; correct it"):
            read_description(tmp_path)

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            *((path, "is outside .*, and only files inside are read") for path in OUTSIDE),
            *((path, "is not a path") for path in ("", " ", "imagesTr\0/a.nii.gz")),
            (".", "is the folder itself"),
        ],
    )
    @pytest.mark.parametrize("place", ["image", "label", "test"])
    def test_paths_that_cannot_be_used_have_their_true_reason(self, tmp_path, path, reason, place):
        pair = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
        content = {"training": [pair | {place: path}]} if place != "test" else {"test": [path]}
        write_description(tmp_path, content)
        with pytest.raises(DataError, match=rf"dataset\.json: the file .* {reason}"):
            read_description(tmp_path)

    def test_a_path_with_half_of_a_surrogate_pair_is_named(self, tmp_path):
        write_description(tmp_path, {"test": ["\ud800"]})
        with pytest.raises(DataError, match=r"dataset\.json is damaged \(test\.0: half of a surrogate pair"):
            read_description(tmp_path)

    @pytest.mark.parametrize(
        "content",
        [
            {"training": "imagesTr"},
            {"training": [3]},
            {"training": [{"label": "a.nii.gz"}]},
            {"training": [{"image": ["a.nii.gz"]}]},
            {"training": {"a": "b"}},
            {"test": [{"file": "a"}]},
            {"modality": {"0": "T1", "2": "T2"}},
            {"modality": {"T1": "0"}},
            {"modality": 1},
            {"file_ending": 3},
            {"file_ending": "../x"},
            {"file_ending": "."},
        ],
    )
    def test_entries_of_the_wrong_kind(self, tmp_path, content):
        write_description(tmp_path, content)
        with pytest.raises(DataError, match=r"dataset\.json: "):
            read_description(tmp_path)

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    )
    KEYS = ("labels", "modality", "channel_names", "training", "test", "file_ending", "numTraining", "dataset")

    @given(st.dictionaries(st.sampled_from(KEYS), JSON))
    @settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_anything_gives_an_answer_or_one_clear_error(self, tmp_path, content):
        write_description(tmp_path, content)
        with contextlib.suppress(DataError):
            names = read_description(tmp_path).class_names()
            assert names
            assert all(isinstance(name, str) for name in names)
