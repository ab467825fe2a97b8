"""``miscnn-tf compare``: the best of cross-validations and their ensembles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.evaluation.postprocessing_choice import choose_for_predictions
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.multi_model import comparison, load_group
from miscnn_tf.multi_model.comparison import Candidate, Comparison, compare_runs
from miscnn_tf.runs.kept_predictions import KeptPredictions
from miscnn_tf.runs.score_table import read_scores


@pytest.fixture(scope="module")
def slices(experiment: Path, cross_validated: Path) -> Path:
    """A second cross-validation of the same folds, of slices of another voxel size."""
    folder = experiment.parent / "slices"
    changes = {
        "preprocessing.spacing": "['keep', 7.0, 7.0]",
        "preprocessing.patch_shape": "[1, 16, 16]",
        "preprocessing.overlap": "[0, 8, 8]",
        "network.epochs": "1",
        "network.architecture": "{name = 'nnunet_plain', features = [4, 8], strides = [[1, 1, 1], [1, 2, 2]], "
        "kernel_sizes = [[1, 3, 3], [1, 3, 3]], convolutions = [1, 1], decoder_convolutions = [1]}",
    }
    given = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    assert cli.main(["cross-validate", str(experiment), "--output", str(folder), *given]) == 0
    return folder


def test_the_best_is_kept_and_predicts(
    experiment: Path, cross_validated: Path, slices: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = tmp_path / "best one"
    command = ["compare", str(cross_validated), str(slices), "-o", str(best)]
    # Interrupted after the second sample: its prediction is not made again.
    saved: list[object] = []
    save = KeptPredictions.save

    def interrupted(self, index, prediction) -> None:
        save(self, index, prediction)
        saved.append(index)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(KeptPredictions, "save", interrupted)
    assert cli.main(command) == 130
    assert cli.main(command) == 0
    assert len(saved) == len(set(saved)) == 4
    printed = capsys.readouterr().out
    assert f"miscnn-tf predict '{best}' IMAGES PREDICTIONS" in printed

    content = json.loads((best / "comparison.json").read_text())
    names = ["small_cross_validation", "slices", "small_cross_validation + slices"]
    assert list(content["candidates"]) == names
    means = {}
    for name, folder in zip(
        names, (cross_validated, slices, best / "ensembles" / "small_cross_validation_and_slices"), strict=True
    ):
        rows = read_scores(folder / "scores.csv")
        assert len({row["sample_id"] for row in rows}) == 4
        per_class = [np.nanmean([row["dice"] for row in rows if row["class"] == label]) for label in (1, 2)]
        assert list(content["candidates"][name]["dice"].values()) == pytest.approx(per_class)
        assert f"{np.mean(per_class):.4f}" in printed
        means[name] = np.mean(per_class)
    assert content["best"] == max(names, key=means.__getitem__)
    assert content["best"] in (best / "comparison.html").read_text()

    # The ensemble of a fold: the mean of both models' probabilities, of samples that they have not seen.
    ensemble = best / "ensembles" / "small_cross_validation_and_slices" / "fold_0"
    sample = json.loads((cross_validated / "fold_0" / "sample_list.json").read_text())["VALIDATION"][0]
    from miscnn_tf.neural_network.model_file import load_model

    image = experiment.parent / "data" / sample / "imaging.nii.gz"
    models = [load_model(folder / "fold_0" / "model.keras") for folder in (cross_validated, slices)]
    mean = np.mean([model.predict_file(image, activation_output=True) for model in models], axis=0)
    truth = np.asarray(nib.load(experiment.parent / "data" / sample / "segmentation.nii.gz").dataobj)
    expected = score_label_maps(truth, mean.argmax(-1), 3, (1, 1, 1))
    found = [row for row in read_scores(ensemble / "scores.csv") if row["sample_id"] == sample]
    assert [row["dice"] for row in found] == pytest.approx([row["dice"] for row in expected], abs=1e-3, nan_ok=True)

    # The postprocessing is that of the best candidate, chosen on its predictions.
    group = load_group(best)
    place = (cross_validated, slices, ensemble.parent)[names.index(content["best"])]
    folds = {
        place / f"fold_{number}": json.loads((cross_validated / f"fold_{number}" / "sample_list.json").read_text())
        for number in (0, 1)
    }
    data_io = models[0].preprocessor.data_io
    data_io = Data_IO(data_io.interface, str(experiment.parent / "data"))
    chosen = choose_for_predictions({folder: lists["VALIDATION"] for folder, lists in folds.items()}, data_io)
    assert chosen.samples == 4
    assert chosen.table in printed
    assert group.postprocessing == chosen.steps
    assert json.loads((best / "postprocessing.json").read_text()) == chosen.to_plain()

    # The ensemble predicts in the same way from the files of a group, without the postprocessing of its members.
    both = comparison.load_files([folder / "fold_0" / "model.keras" for folder in (cross_validated, slices)])
    assert both.postprocessing == ()
    both.dump(tmp_path / "both")
    assert cli.main(["predict", str(tmp_path / "both"), str(image), str(tmp_path / "both.nii.gz")]) == 0
    written = np.asarray(nib.load(tmp_path / "both.nii.gz").dataobj)
    assert np.mean(written == mean.argmax(-1)) > 0.999

    assert len(load_group(best).models) == len(content["candidates"][content["best"]]["members"]) * 2
    assert cli.main(["predict", str(best), str(image), str(tmp_path / "seg.nii.gz")]) == 0
    assert nib.load(tmp_path / "seg.nii.gz").shape == truth.shape

    # Finished: nothing is computed again.
    monkeypatch.setattr(comparison, "load_files", lambda *_: pytest.fail("read again"))
    again = compare_runs([cross_validated, slices], best)
    assert [one.name for one in again.candidates] == names
    assert again.best.name == content["best"]
    assert cli.main(["compare", str(slices), str(cross_validated), "-o", str(best)]) == 1
    assert "holds a comparison of" in capsys.readouterr().err


def test_of_equal_candidates_the_first_is_the_best() -> None:
    made = [Candidate(name, (name,), {"a": dice, "b": None}) for name, dice in (("x", 0.5), ("y", 0.7), ("z", 0.7))]
    result = Comparison(Path("folder"), tuple(made), 3)
    assert result.best is made[1]
    assert [line.split() for line in result.table().splitlines()[2:]] == [
        ["x", "0.5000", "–", "0.5000"],
        ["y", "0.7000", "–", "0.7000", "best"],
        ["z", "0.7000", "–", "0.7000"],
    ]
    assert Comparison(Path("folder"), (Candidate("x", ("x",), {"a": None}),), 3).best.name == "x"


def _other_split(folder: Path) -> None:
    for number, other in ((0, 1), (1, 0)):
        (folder / f"fold_{number}" / "completed.json").rename(folder / f"{other}.json")
    for number in (0, 1):
        (folder / f"{number}.json").rename(folder / f"fold_{number}" / "completed.json")


def _other_truth(folder: Path) -> None:
    text = (folder / "scores.csv").read_text().splitlines()
    column = next(place for place, name in enumerate(text[0].split(",")) if name.startswith("volume_truth"))
    cells = text[2].split(",")
    cells[column] = "1234.5"
    (folder / "scores.csv").write_text("\n".join([*text[:2], ",".join(cells), *text[3:]]) + "\n")


def _unfinished(folder: Path) -> None:
    (folder / "fold_1" / "completed.json").unlink()


def _without_model(folder: Path) -> None:
    (folder / "fold_1" / "model.keras").unlink()


def _other_classes(folder: Path) -> None:
    content = json.loads((folder / "summary.json").read_text())
    content["class_names"] = ["background", "liver", "tumour"]
    (folder / "summary.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_split, "fold 0 is split differently"),
        (_other_truth, "the label maps of sample .* differ: class 1 has other volumes"),
        (_unfinished, "fold 1 of 2 in .* is not finished; finish the cross-validation"),
        (_without_model, r"fold 1 of 2 in .* has no model\.keras"),
        (_other_classes, "they have other classes: kidney, tumour; liver, tumour"),
    ],
)
def test_what_cannot_be_compared(cross_validated: Path, tmp_path: Path, change, message: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(cross_validated, other)
    change(other)
    with pytest.raises(Exception, match=message):
        compare_runs([cross_validated, other], tmp_path / "best")
    assert not (tmp_path / "best").exists()


def test_mistakes_in_the_folders(cross_validated: Path, trained: Path, tmp_path: Path, capsys) -> None:
    for given, message in (
        ([cross_validated], "at least two cross-validations, got 1"),
        ([cross_validated, cross_validated], "is given twice"),
        ([cross_validated, tmp_path / "no"], "does not exist; name that of a cross-validation"),
        ([cross_validated, trained], "holds a run of the kind training"),
    ):
        assert cli.main(["compare", *map(str, given), "-o", str(tmp_path / "best")]) == 1
        assert message in capsys.readouterr().err
    other = tmp_path / "other"
    shutil.copytree(cross_validated, other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    assert cli.main(["compare", str(cross_validated), str(other), "-o", str(tmp_path / "full")]) == 1
    assert "holds files that no comparison wrote" in capsys.readouterr().err
