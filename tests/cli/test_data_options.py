from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layout_data import labels_of, save_image
from small_data import write_cases, write_volume

from miscnn_tf.cli import main as cli
from miscnn_tf.cli.data_options import TYPES, add_data_arguments, data_folder
from miscnn_tf.cli.data_set import describe_data, open_data
from miscnn_tf.data_loading.interfaces import NIFTI_interface, miscnn_data_interfaces
from miscnn_tf.errors import DataError


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("arguments", [["data"], ["--data_dir", "data"], ["--data-dir", "data"], ["--data_dir=data"]])
def test_the_folder_is_given_in_either_way(arguments: list[str]) -> None:
    assert data_folder(parse(*arguments)) == "data"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of the arguments FOLDER --data_dir"),
        (["a", "--data_dir", "b"], "not allowed with"),
        (["a", "--classes", "0"], "whole number of at least 1"),
        (["a", "--label-map", "255"], "255=1"),
        (["a", "--label-map", "255=one"], "255=1"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("verify", "data_exp"):
        assert cli.main([command, *arguments]) == 2
        assert said in capsys.readouterr().err


def test_everything_is_handed_on(tmp_path: Path) -> None:
    write_cases(tmp_path, 3)
    data_io = open_data(
        parse(
            str(tmp_path), "-t", "nifti", "--channels", "1", "--classes", "4", "--pattern", "case_[01]",
            "--label-map", "7=1", "8=2", "--label-map", "9=3",
        )
    )  # fmt: skip
    interface = data_io.interface
    assert data_io.indices_list == ["case_0", "case_1"]
    assert (interface.channels, interface.classes) == (1, 4)
    assert interface.label_map == {7: 1, 8: 2, 9: 3}  # type: ignore[attr-defined]
    assert "2 samples in" in describe_data(data_io)


def test_what_is_left_out_is_guessed(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    data_io = open_data(parse("--data_dir", str(tmp_path)))
    assert "NIFTI_interface: 3D, 1 channel, 3 classes" in describe_data(data_io)


def test_structures_of_dicom_are_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from miscnn_tf.data_loading import layout_detection as layouts

    got = {}

    def find(path: object, name: object, **settings: object) -> object:
        got.update(settings)
        raise DataError("enough")

    monkeypatch.setattr(layouts, "find_interface", find)
    with pytest.raises(DataError, match="enough"):
        open_data(parse(str(tmp_path), "-t", "DICOM", "--structures", "Lung=L=1", "Heart=2", "--annotation-tag", "RT"))
    assert not {"series", "modality", "frames"} & set(got)
    with pytest.raises(DataError, match="enough"):
        open_data(parse(str(tmp_path), "-t", "DICOM", "--series", "a.*", "--modality", "CT", "--frames", "EchoTime=8"))
    assert (got["series"], got["modality"], got["frames"]) == ("a.*", "CT", {"EchoTime": "8"})
    assert got["structure_dict"] == {"Lung=L": 1, "Heart": 2}
    assert got["annotation_tag"] == "RT"


def test_an_unknown_type_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path, 2)
    assert cli.main(["verify", str(tmp_path), "--type", "NIFTY"]) == 1
    printed = capsys.readouterr().err
    assert "Did you mean 'NIFTI'" in printed
    assert printed.count("\n") == 1


def test_the_types_in_the_help_are_registered() -> None:
    from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces

    # DICOM's needs an extra, and is not there without it.
    assert set(TYPES) - {"DICOM"} <= set(miscnn_data_interfaces)


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, miscnn_tf.cli.main as cli\n"
        "for name in ('verify', 'data_exp', 'cleanup', 'doctor'): cli.main([name, '--help'])\n"
        "heavy = ('tensorflow', 'keras', 'numpy', 'scipy', 'matplotlib', 'nibabel', 'jinja2', 'packaging')\n"
        "print('HEAVY', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize("command", ["verify", "data_exp", "cleanup"])
def test_the_commands_need_no_tensorflow(command: str, tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 2)
    arguments = [str(tmp_path / "data")] if command != "cleanup" else [str(tmp_path), "--dry-run"]
    code = (
        "import sys, miscnn_tf.cli.main as cli\n"
        f"code = cli.main([{command!r}, *{arguments!r}])\n"
        "print('LOADED', code, [name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED 0 []", done.stderr


def test_types_in_any_letters_and_those_of_other_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert parse("data", "-t", "nifti").type == "NIFTI"
    write_cases(tmp_path)
    monkeypatch.setitem(miscnn_data_interfaces, "my_format", NIFTI_interface)
    data_io = open_data(parse(str(tmp_path), "-t", "my_format", "--channels", "1", "--classes", "2"))
    assert type(data_io.interface) is NIFTI_interface
    assert cli.main(["init", str(tmp_path), "-o", str(tmp_path / "new.toml"), "--layout", "nifti"]) == 0
    assert 'layout = "NIFTI"' in (tmp_path / "new.toml").read_text(encoding="utf-8")


DRIVE = {"images": "{}_training.png", "1st_manual": "{}_manual1.png", "mask": "{}_training_mask.png"}


def write_drive(root: Path) -> Path:
    for number in (21, 22):
        for folder, name in DRIVE.items():
            labels = labels_of(f"{folder}{number}", (6, 9), 2) * np.uint8(255)
            save_image(root / folder / name.format(number), labels)
    return root


def test_verify_stops_before_drives_field_of_view_is_taken_for_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drive(tmp_path)
    assert cli.main(["verify", str(tmp_path)]) == 1
    assert "folders of masks, 1st_manual, mask; choose one" in capsys.readouterr().err
    assert cli.main(["verify", str(tmp_path), "--mask-folder", "1st_manual"]) == 0
    assert f"images from {tmp_path / 'images'}, masks from {tmp_path / '1st_manual'}" in capsys.readouterr().out


def test_folders_that_are_given_are_read(tmp_path: Path) -> None:
    write_drive(tmp_path / "training")
    data_io = open_data(parse(str(tmp_path), "--image-folder", "training/images", "--mask-folder", "training/mask"))
    expected = labels_of("mask21", (6, 9), 2)
    np.testing.assert_array_equal(data_io.interface.load_segmentation("21_training"), expected)


def test_verify_names_the_one_sample_that_is_unlike_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = write_cases(tmp_path, 6)
    for name in ("imaging", "segmentation"):
        write_volume(cases[0] / f"{name}.nii.gz", np.eye(12, 10, dtype=np.uint8))
    assert cli.main(["verify", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "read by NIFTI_interface: 3D, 1 channel" in printed.out
    assert [line.split()[1] for line in printed.out.splitlines() if line.startswith("BAD")] == ["case_0"]
