from __future__ import annotations

import json
import math
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest
from report_pages import Page
from toy import ToyInterface

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import MissingDataError, StorageError
from miscnn_tf.report.page import script_source
from miscnn_tf.report.run_page import write_report

HOSTILE = '<script>alert("x")</script>&\'"<img src=x onerror=alert(1)>'


def test_the_page_has_all_that_the_run_has(make_run):
    path = write_report(make_run(settings={"epochs": 4, "patch_shape": [16, 16, 8]}))
    assert path.name == "report.html"
    page = Page(path)
    for said in ("2-fold cross-validation of 8 cases", "Dice, organ", "Dice, lesion", "16 × 16 × 8", "miscnn_tf",
                 "surface Dice at 1 mm", "Fold 1", "4 for training, 4 for validation", "HD95 (mm)"):  # fmt: skip
        assert said in page.text
    assert [case["place"] for case in page.cases] == ["worst"] * 3 + ["typical"] + ["best"] * 3
    assert page.cases[0]["name"] == "case_5"
    assert page.cases[0]["fold"] == 1
    assert page.data["colours"]["classes"][0] == {"label": 1, "name": "organ", "colour": "#E69F00"}
    # Two quantities in two folds, and nine scores.
    assert page.count("svg") == 4 + 9 + 4
    assert sum(tag == "tr" and "data-class" in attributes for tag, attributes in page.elements) == 24


def test_the_page_loads_nothing_and_runs_only_its_own_script(make_run):
    page = Page(write_report(make_run()))
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "poster", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:", "./")), (tag, name, address)
        assert not [name for name in attributes if name.startswith("on")]
    policy = next(a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    _, digest = script_source("run.js")
    assert f"script-src {digest}" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_figures_are_those_of_the_tables(make_run):
    folder = make_run()
    summary = json.loads((folder / "summary.json").read_text())
    page = Page(write_report(folder))
    for label in ("1", "2"):
        dice = summary["classes"][label]["dice"]
        assert f"{dice['mean']:.3f}" in page.text
        assert "95 % CI {:.3f} to {:.3f}".format(*dice["confidence_interval"]) in page.text


@pytest.mark.parametrize("two_dim", [False, True], ids=["3D", "2D"])
def test_pictures_need_no_program_only_the_folder(make_run, two_dim, tmp_path):
    folder = make_run(two_dim=two_dim)
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(folder, moved)
    page = Page(write_report(moved))
    assert len(page.cases) == 7
    assert all(case["pictures"]["slices"][0]["prediction"] for case in page.cases)
    assert len(page.cases[0]["pictures"]["slices"]) == (1 if two_dim else 12)


def test_images_have_pixels_and_areas_in_all_texts(make_run):
    text = Page(write_report(make_run(two_dim=True))).text.lower()
    assert "pixel" in text
    for word in ("voxel", "volume", "slice"):
        assert word not in text


def test_data_that_are_gone_are_told(make_run, tmp_path):
    folder = make_run()
    shutil.rmtree(tmp_path / "data")
    page = Page(write_report(folder))
    assert page.cases == []
    assert "There are no pictures" in page.text
    assert str(tmp_path / "data") in page.text


def test_one_case_that_is_gone_leaves_the_others(make_run, tmp_path):
    folder = make_run()
    shutil.rmtree(tmp_path / "data" / "case_5")
    page = Page(write_report(folder))
    assert len(page.cases) == 6
    assert "1 of 7 cases cannot be shown" in page.text
    assert "case_5" in page.text


def test_predictions_that_were_not_kept_leave_image_and_truth(make_run):
    folder = make_run()
    shutil.rmtree(folder / "fold_0" / "predictions")
    cases = Page(write_report(folder)).cases
    assert len(cases) == 7
    for case in cases:
        assert (case["pictures"]["slices"][0]["prediction"] is None) is (case["fold"] == 0)
        assert any("prediction cannot be shown" in text for text in case["pictures"]["problems"]) is (case["fold"] == 0)


def test_interfaces_of_ones_own_are_drawn_from_the_program(make_run, tmp_path):
    folder = make_run([f"case_{number}" for number in range(4)])
    record = json.loads((folder / "run.json").read_text())
    record["data"]["interface"] = {"class_name": "ToyInterface", "config": {"shape": [9, 9, 9]}}
    (folder / "run.json").write_text(json.dumps(record))
    page = Page(write_report(folder))
    assert page.cases == []
    assert "ToyInterface" in page.text
    interface = ToyInterface(shape=(9, 9, 9), classes=3)
    for number in (0, 1):
        for name in interface.initialize(""):
            np.save(folder / f"fold_{number}" / "predictions" / f"{name}.npy", interface.load_segmentation(name))
    assert len(Page(write_report(folder, data_io=Data_IO(interface, "toy"))).cases) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"scores": False},
        {"scores": False, "history": None},
        {"scores": False, "history": None, "record": False},
        {"history": None},
        {"history": {"loss": [0.5], "val_loss": [0.6]}},
        {"history": {"loss": [math.nan], "val_loss": [math.inf]}},
        {"history": {"loss": [0.5, 0.4]}},
        {"history": {}},
        {"names": ["only", "two"]},
        {"predict": lambda place, truth: truth * 0},
        {"predict": lambda place, truth: truth},
    ],
    ids=["no scores", "splits alone", "nothing", "no history", "one epoch", "not finite", "no validation", "no columns",
         "two cases", "empty predictions", "perfect"],
)  # fmt: skip
def test_whatever_is_missing_there_is_a_page(make_run, arguments):
    page = Page(write_report(make_run(**arguments)))
    assert "cross-validation" in page.text
    for wrong in ("None", "nan", "inf ", "undefined", "Undefined"):
        assert wrong not in re.sub(r"label_map=None|pattern=None", "", page.text)


def test_infinite_distances_are_shown_as_such(make_run):
    page = Page(write_report(make_run(predict=lambda place, truth: truth * (place != 2))))
    assert "∞" in page.text
    assert "1 × ∞" in page.text
    assert "organ was not found at all in 1 of 8 cases that have it: case_2." in page.text


def test_names_are_text_everywhere(make_run):
    names = ("", HOSTILE, "}}{{ 7 * 7 }}")
    page = Page(write_report(make_run(["a&b", "<i>c<b>", "d"], class_names=names, settings={HOSTILE: HOSTILE})))
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert [one for one in scripts if one.get("type") != "application/json"] == [{}]
    assert page.count("img") == page.count("iframe") == 0
    assert HOSTILE in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert page.cases[0]["dice"][0]["name"] == HOSTILE


def test_another_place_keeps_the_links_right(make_run, tmp_path):
    folder = make_run()
    path = write_report(folder, tmp_path / "pages" / "a page.html")
    links = [a["href"] for t, a in Page(path).elements if t == "a" and str(a.get("href", "")).startswith("./")]
    assert "./../run/summary.json" in links
    assert all((path.parent / link).is_file() for link in links)


def test_the_page_of_a_fold(make_run):
    page = Page(write_report(make_run() / "fold_1"))
    assert "Training, validated on 4 cases" in page.text
    assert len(page.cases) == 4
    assert {case["fold"] for case in page.cases} == {None}


def test_very_many_rows_are_cut(make_run, monkeypatch):
    monkeypatch.setattr("miscnn_tf.report.run_page._MOST_ROWS", 10)
    page = Page(write_report(make_run()))
    assert sum(tag == "tr" and "data-class" in attributes for tag, attributes in page.elements) == 10
    assert "14 more rows" in page.text


def test_of_very_many_rows_the_lowest_are_kept_whatever_is_not_defined(make_run, monkeypatch):
    monkeypatch.setattr("miscnn_tf.report.run_page._MOST_ROWS", 3)
    folder = make_run()
    scores = {f"c{number}": score for number, score in enumerate([0.9, math.nan, 0.5, math.nan, 0.1, 0.7, math.nan])}
    lines = [f"{name},1,{score}" for name, score in scores.items()]
    (folder / "scores.csv").write_text("\n".join(["sample_id,class,dice", *lines]) + "\n")
    page = Page(write_report(folder))
    assert sum(tag == "tr" and "data-class" in attributes for tag, attributes in page.elements) == 3
    html = (folder / "report.html").read_text()
    shown = {name for name in scores if f'<th scope="row">{name}<' in html}
    assert {"c4", "c2", "c5"} == shown


def test_a_label_of_millions_makes_no_page_of_millions_of_colours(make_run):
    folder = make_run()
    (folder / "scores.csv").write_text("sample_id,class,dice\na,1,0.5\na,99999999,0.3\n")
    assert write_report(folder).stat().st_size < 400_000


def test_errors(tmp_path, make_run):
    with pytest.raises(MissingDataError, match="not the folder of a run"):
        write_report(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_report(make_run(), tmp_path / "file" / "report.html")


def test_the_words_fit_the_scores_and_the_end_of_the_training(make_run):
    """Defects: "mean of all classes" without the background, a deviation of one case, 1,000,000 epochs."""
    several = Page(write_report(make_run(settings={"epochs": 1_000_000, "minutes": 5.0})))
    assert "mean Dice without background" in several.text
    assert "Mean ± standard deviation of the cases" in several.text
    assert "precision also if the prediction does not have it" in several.text
    assert "1,000,000" not in several.text


def test_a_single_case_has_scores_without_a_deviation(make_run):
    """Defect: the words were "Mean ± standard deviation of the cases"."""
    single = Page(write_report(make_run(["only"], 1)))
    assert "The scores of the case." in single.text
    assert "±" not in single.text


def test_the_text_below_charts_is_inside(make_run):
    """Defect: the words below the charts were cut off, and long names of classes overlapped."""
    names = ("background", "left ventricle", "myocardium wall")
    path = write_report(make_run(class_names=names))
    for chart in re.finditer(r'<svg viewBox="0 0 (\d+) (\d+)"(.*?)</svg>', path.read_text("utf-8"), re.DOTALL):
        for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)"', chart[3]):
            assert float(y) + 4 <= float(chart[2])  # the descenders of letters
        below = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([^<]+)<title>', chart[3])
        for (left, first), (right, second) in pairwise(below):
            assert float(right) - float(left) >= 6.5 * (len(first) + len(second)) / 2 - 1
        for x, text in below:
            assert float(x) + 6.5 * len(text) / 2 <= float(chart[1]) + 1
