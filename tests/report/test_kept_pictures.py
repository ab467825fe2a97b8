"""Pictures of an earlier page stay when they cannot be drawn again."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from report_pages import Page

from miscnn_tf.cli.main import main
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.report.kept_pictures import read_pictures
from miscnn_tf.report.run_page import write_page, write_report


def pictures(path):
    return {(case["fold"], case["name"]): case["pictures"] for case in Page(path).cases}


def test_pictures_stay_when_the_data_are_gone(make_run, tmp_path):
    """Defect: the page was written again without pictures, 76 KB in place of 539 KB."""
    folder = make_run()
    first = write_page(folder)
    before = pictures(first.path)
    assert (first.cases, first.kept, first.problem) == (7, 0, None)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    again = write_page(folder)
    assert pictures(again.path) == before
    assert (again.cases, again.kept) == (7, 7)
    assert "The pictures of 7 of 7 cases are those of the earlier page." in again.problem
    assert str(tmp_path / "data") in again.problem
    assert again.problem in Page(again.path).text
    # A page elsewhere takes them from that in the run folder.
    assert pictures(write_report(folder, tmp_path / "pages" / "page.html")) == before


def test_the_data_in_another_folder_are_drawn(make_run, tmp_path):
    folder = make_run()
    before = pictures(write_report(folder))
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    (folder / "report.html").unlink()
    again = write_page(folder, data=tmp_path / "elsewhere")
    assert pictures(again.path) == before
    assert (again.kept, again.problem) == (0, None)
    (folder / "run.json").unlink()  # the layout is detected
    again = write_page(folder, data=tmp_path / "elsewhere")
    assert (again.cases, again.kept) == (7, 0)


def test_a_folder_without_the_cases_is_an_error_and_the_page_stays(make_run, tmp_path):
    folder = make_run()
    page = write_report(folder)
    before = page.read_bytes()
    with pytest.raises(MissingDataError, match=r"folder of the data, .*nowhere, does not exist"):
        write_page(folder, data=tmp_path / "nowhere")
    shutil.copytree(tmp_path / "data" / "case_0", tmp_path / "others" / "another")
    with pytest.raises(DataError, match=r"no case can be shown with the data in .*others.*Nothing was written"):
        write_page(folder, data=tmp_path / "others")
    assert page.read_bytes() == before
    page.unlink()
    with pytest.raises(DataError, match="no case can be shown"):
        write_page(folder, data=tmp_path / "others")
    assert not page.exists()


def test_missing_predictions_do_not_replace_whole_pictures(make_run):
    folder = make_run()
    before = pictures(write_report(folder))
    shutil.rmtree(folder / "fold_0" / "predictions")
    again = write_page(folder)
    assert pictures(again.path) == before
    assert again.kept == sum(fold == 0 for fold, _ in before)
    assert "The prediction cannot be shown" in again.problem


def test_pictures_of_other_results_are_not_kept(make_run, tmp_path):
    folder = make_run()
    write_report(folder)
    shutil.rmtree(tmp_path / "data")
    table = (folder / "scores.csv").read_text().splitlines()
    changed = [re.sub(r"0\.\d+", "0.1", line, count=1) if "case_5" in line else line for line in table]
    assert changed != table
    (folder / "scores.csv").write_text("\n".join(changed) + "\n")
    (folder / "summary.json").unlink()
    again = write_page(folder)
    assert (again.cases, again.kept) == (6, 6)
    assert "case_5" not in {name for _, name in pictures(again.path)}
    assert "1 of 7 cases cannot be shown" in again.problem


def test_pages_of_version_0_2_keep_their_pictures(make_run, tmp_path):
    folder = make_run()
    page = write_report(folder)
    text = page.read_text(encoding="utf-8")

    def older(match):
        case = json.loads(match[2])
        del case["scores"], case["pictures"]["scale"], case["pictures"]["colours"]
        return match[1] + json.dumps(case).replace("<", "\\u003c") + "</script>"

    text = re.sub(r'(<script type="application/json" id="case-\d+">)(.*?)</script>', older, text)
    page.write_text(text, encoding="utf-8")
    shutil.rmtree(tmp_path / "data")
    assert write_page(folder).kept == 7


def test_damaged_and_hostile_pictures_are_left_out(make_run, tmp_path):
    folder = make_run()
    page = write_report(folder)
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="case-\d+">(.*?)</script>', text)
    cases = [json.loads(one) for one in found]
    cases[0]["pictures"]["slices"][0]["image"] = "https://example.org/x.png"
    cases[1]["pictures"]["width"] = 10**9
    cases[2]["pictures"]["start"] = 99
    del cases[3]["pictures"]["slices"][0]["truth"]
    for old, case in zip(found, cases, strict=True):
        text = text.replace(old, json.dumps(case).replace("<", "\\u003c"))
    page.write_text(text.replace(found[4], found[4][:-40]), encoding="utf-8")
    assert {name for _, name, _ in read_pictures(page)} == {case["name"] for case in cases[5:]}
    shutil.rmtree(tmp_path / "data")
    assert write_page(folder).kept == 2
    assert "example.org" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"<html>", b'<script type="application/json" id="case-0">7</script>']
)
def test_what_is_no_page_has_no_pictures(tmp_path, content):
    (tmp_path / "page.html").write_bytes(content)
    assert read_pictures(tmp_path / "page.html") == {}
    assert read_pictures(tmp_path / "missing.html") == {}
    assert read_pictures(tmp_path) == {}


def test_the_command_says_which_pictures_it_kept(make_run, tmp_path, capsys):
    folder = make_run()
    assert main(["report", str(folder)]) == 0
    assert "pictures of 7 cases" in capsys.readouterr().out
    size = (folder / "report.html").stat().st_size
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "pictures of 7 cases" in printed
    assert "Pictures: The pictures of 7 of 7 cases are those of the earlier page." in printed
    assert (folder / "report.html").stat().st_size >= size
    assert main(["report", str(folder), "--data", str(tmp_path / "elsewhere")]) == 0
    assert "Pictures:" not in capsys.readouterr().out
    assert main(["report", str(folder), "--data", str(tmp_path / "data")]) == 1
    assert f"the folder of the data, {tmp_path / 'data'}, does not exist" in capsys.readouterr().err
