"""``miscnn-tf init`` on data sets as they are downloaded: what it prints, and the split that it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from downloaded_data import DOWNLOADS, acdc, brats, cell_tracking, drive, totalsegmentator, train_and_val
from layout_data import save_image

from miscnn_tf.cli import main as cli
from miscnn_tf.datasets import write_brats_phantoms
from miscnn_tf.experiment.build import make_data_io, make_split
from miscnn_tf.experiment.toml_file import read_experiment


def init(*arguments: object) -> int:
    return cli.main(["init", *map(str, arguments)])


@pytest.mark.parametrize("name", DOWNLOADS)
def test_a_configuration_that_reads_the_same_samples(name: str, tmp_path: Path, capsys) -> None:
    download = DOWNLOADS[name]
    root, path = download.write(tmp_path / "data"), tmp_path / "x.toml"
    assert init(root, "-o", path) == 0, capsys.readouterr().err
    assert f"{len(download.samples)} samples, layout {download.layout}" in capsys.readouterr().out
    made = read_experiment(path)
    data_io = make_data_io(made, tmp_path)
    assert data_io.get_indiceslist() == list(download.samples)
    assert data_io.interface.class_names == download.names
    assert data_io.interface.values_of_classes() == download.values
    fold = make_split(made, data_io.get_indiceslist())
    assert fold.training
    assert {*fold.training}.isdisjoint(fold.validation)
    if download.validation:
        assert list(fold.validation) == list(download.validation)


def test_what_is_printed(tmp_path: Path, capsys) -> None:
    assert init(brats(tmp_path / "b"), "-o", tmp_path / "b.toml") == 0
    assert "layout BRATS: the channels are t1, t1ce, t2, flair" in capsys.readouterr().out
    assert init(totalsegmentator(tmp_path / "t"), "-o", tmp_path / "t.toml") == 0
    assert "layout TOTALSEGMENTATOR: 3 structures, a mask for each" in capsys.readouterr().out
    assert init(cell_tracking(tmp_path / "c"), "-o", tmp_path / "c.toml") == 0
    assert "sequences 01, 02, the cells of *_ST/SEG as one class; the gold" in (printed := capsys.readouterr().out)
    assert "choose it with --set 'data.settings.truth=\"GT\"'" in printed
    assert init(train_and_val(tmp_path / "s"), "-o", tmp_path / "s.toml") == 0
    printed = capsys.readouterr().out
    assert "layout SPLIT: PAIRED in train (3 training samples), val (2 validation samples); images from" in printed
    text = (tmp_path / "s.toml").read_text(encoding="utf-8")
    assert 'file = "s.split.json"  # the folders of the data set: 3 training samples, 2 for validation' in text
    assert "validation_share" not in text


def test_the_user_may_split_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    assert init(train_and_val(tmp_path / "s"), "-o", path, "--set", "split.validation_share=0.4") == 0
    assert read_experiment(path).split.file is None
    assert not (tmp_path / "s.split.json").exists()


def test_samples_that_belong_together_stay_together(tmp_path: Path) -> None:
    for write, share in ((acdc, r"(.+)_frame\d+"), (cell_tracking, r"(.+)_t\d+")):
        root, path = write(tmp_path / write.__name__), tmp_path / f"{write.__name__}.toml"
        assert init(root, "-o", path) == 0
        made = read_experiment(path)
        assert made.split.groups == share
        fold = make_split(made, make_data_io(made, tmp_path).get_indiceslist())
        sides = [{str(name).rpartition("_")[0] for name in side} for side in (fold.training, fold.validation)]
        assert all(sides)
        assert not sides[0] & sides[1]
    # One patient cannot be divided.
    assert init(acdc(tmp_path / "one", ("patient001",)), "-o", tmp_path / "one.toml") == 0
    assert read_experiment(tmp_path / "one.toml").split.groups is None


def test_the_data_may_be_in_a_folder_in_the_folder(tmp_path: Path, capsys) -> None:
    inner = write_brats_phantoms(tmp_path / "archive" / "data", 2, shape=(12, 12, 12), progress=False)
    root, path = tmp_path / "archive", tmp_path / "x.toml"
    assert init(root, "-o", path) == 0
    assert f"{root} holds the data in {root / 'data'}, which is used" in capsys.readouterr().out
    made = read_experiment(path)
    assert (made.data.path, made.data.label_map) == (str(root / "data"), {"4": 3})
    assert make_data_io(made, tmp_path).get_indiceslist() == inner
    assert cli.main(["verify", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "which is used" in printed
    assert "4 channels, 4 classes" in printed


def test_several_data_sets_in_a_folder(tmp_path: Path, capsys) -> None:
    brats(tmp_path / "old")
    brats(tmp_path / "new")
    assert init(tmp_path, "-o", tmp_path / "x.toml") == 1
    error = capsys.readouterr().err
    assert "2 folders in it do; give one of them" in error
    assert str(tmp_path / "old") in error
    assert str(tmp_path / "new") in error


def test_a_layout_is_chosen_among_several(tmp_path: Path, capsys) -> None:
    acdc(brats(tmp_path / "mixed"))
    path = tmp_path / "x.toml"
    assert init(tmp_path / "mixed", "-o", path) == 1
    assert "--layout" in capsys.readouterr().err
    assert init(tmp_path / "mixed", "-o", path, "-t", "acdc") == 0
    assert cli.main(["verify", str(tmp_path / "mixed"), "--layout", "BRATS"]) == 0
    assert "2 samples in" in capsys.readouterr().out


def test_the_masks_of_drive_are_chosen_for_both_parts(tmp_path: Path, capsys) -> None:
    root, path = drive(tmp_path / "DRIVE"), tmp_path / "x.toml"
    for part, number in (("training", "21"), ("test", "01")):
        save_image(root / part / "mask" / f"{number}_{part}_mask.png", np.full((20, 24), 255, np.uint8))
    assert init(root, "-o", path) == 1
    assert "1st_manual, mask; choose one: --mask-folder 1st_manual" in capsys.readouterr().err
    assert init(root, "-o", path, "--set", "data.settings.mask_folder='1st_manual'") == 0
    assert f"masks from {root / 'training' / '1st_manual'}" in capsys.readouterr().out
    made = read_experiment(path)
    assert made.data.settings == {"part_settings": {"mask_folder": "1st_manual"}}
    assert make_data_io(made, tmp_path).get_indiceslist() == ["21_training", "22_training"]


def test_structures_are_chosen_by_an_option(tmp_path: Path, capsys) -> None:
    root = totalsegmentator(tmp_path)
    assert cli.main(["verify", str(root), "--structures", "liver=1", "spleen=2"]) == 0
    assert "1 channel, 3 classes" in capsys.readouterr().out


def test_training_on_brats_phantoms_and_prediction(tmp_path: Path) -> None:
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture
    from miscnn_tf.neural_network.model import Neural_Network
    from miscnn_tf.processing.preprocessor import Preprocessor

    write_brats_phantoms(tmp_path / "data", 3, shape=(16, 16, 16), progress=False)
    assert init(tmp_path / "data", "-o", tmp_path / "x.toml") == 0
    data_io = make_data_io(read_experiment(tmp_path / "x.toml"), tmp_path / "run")
    preprocessor = Preprocessor(data_io, batch_size=1, patch_shape=(16, 16, 16), data_aug=None, seed=1)
    network = Neural_Network(preprocessor, Architecture(n_filters=2, depth=1))
    network.verbose = 0
    names = data_io.get_indiceslist()
    history = network.train(names[:2], epochs=1, iterations=1)
    assert np.isfinite(history.history["loss"]).all()
    network.predict(names[2:])
    written = list((tmp_path / "run" / "predictions").iterdir())
    assert [path.name for path in written] == ["BraTS20_Training_003.nii.gz"]
