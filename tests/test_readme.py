"""The README: its scripts run as they stand, but for the sizes, and what it points to is there."""

from __future__ import annotations

import argparse
import configparser
import inspect
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.cli import demo
from miscnn_tf.datasets import write_kits_phantoms, write_lctsc_phantoms

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: What is made smaller, so that it takes seconds: the README's text, and what is run instead.
SMALLER = {
    "Resampling((3.2, 1.6, 1.6))": "Resampling((14, 12, 12))",
    "patch_shape=(48, 128, 128)": "patch_shape=(8, 16, 16)",
    "patchwise_overlap = (24, 64, 64)": "patchwise_overlap = (4, 8, 8)",
    "Architecture()": "Architecture(n_filters=2, depth=2)",
    "samples[:80], epochs=50": "samples[:3], epochs=1",
    "samples[80:]": "samples[3:]",
    "samples[80]": "samples[3]",
    "k_fold=5, epochs=100": "k_fold=2, epochs=1",
    # A network for each seed would be the standard U-Net with patches of 16 voxels.
    "Neural_Network(pre_processor, seed=seed)": "Neural_Network(pre_processor, model.architecture, seed=seed)",
    # Boxes of an eighth of the image would be hundreds of predictions.
    "occlusion_sensitivity(samples[3:], model, classes=[1])": "occlusion_sensitivity(samples[3:], model, 1, 16, 16)",
}
CASES = 4


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """All python blocks, one after the other, on phantoms in the folder that the README names."""
    folder = tmp_path_factory.mktemp("readme")
    names = write_kits_phantoms(folder / "data", cases=CASES, shape=(16, 32, 40), progress=False)
    write_lctsc_phantoms(folder / "studies", cases=1, shape=(8, 16, 16), progress=False)
    shutil.copy(folder / "data" / names[-1] / "imaging.nii.gz", folder / "scan.nii.gz")
    script = "\n".join(python_blocks())
    for text, smaller in SMALLER.items():
        assert text in script, f"{text!r} is not in the README any more"
        script = script.replace(text, smaller)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, names


def test_the_scripts_of_the_readme_run(outcome):
    folder, names = outcome
    written = {path.name for path in (folder / "predictions").iterdir()}
    assert written == {f"{names[-1]}.nii.gz", "gradcam", "occlusion", "certainty"}
    for kind in ("gradcam", "occlusion", "certainty"):
        assert {path.suffix for path in (folder / "predictions" / kind).iterdir()} == {".gz", ".png"}
    assert (folder / "models" / "metadata.json").is_file() or list((folder / "models").glob("*/metadata.json"))
    assert (folder / "model.keras").is_file()
    folds = sorted(path.name for path in (folder / "evaluation_results").iterdir())
    assert folds == ["fold_0", "fold_1"]
    for fold in folds:
        written = {path.name for path in (folder / "evaluation_results" / fold).iterdir()}
        assert {"history.tsv", "sample_list.json", "model.keras", "validation.loss.png"} <= written


def test_the_model_file_gives_the_prediction_that_the_model_gave(outcome):
    folder, names = outcome
    scan = nib.load(folder / "scan.nii.gz")
    first, second = (nib.load(path) for path in (folder / "seg.nii.gz", folder / "predictions" / f"{names[-1]}.nii.gz"))
    assert first.shape == scan.shape
    np.testing.assert_allclose(first.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))


def test_what_the_readme_links_to_is_there():
    targets = re.findall(r"\]\(([^)#\s]+)\)", README)
    assert "docs/pictures/patches.png" in targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_extras_that_the_readme_installs_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = set(re.findall(r'"\.\[([\w-]+)\]"', README))
    assert named
    assert named <= set(setup["options.extras_require"])


def test_the_table_of_the_demo_has_its_options():
    parser = argparse.ArgumentParser(add_help=False)
    demo.add_arguments(parser)
    rows = {
        match[0]: match[1]
        for match in re.findall(r"^\| .*`(--\w+)[^`]*` \|.*\| `?([^|`]+)`? \|$", README, re.MULTILINE)
    }
    assert rows == {action.option_strings[-1]: str(action.default) for action in parser._actions}


@pytest.mark.parametrize(
    ("place", "heading"),
    [
        ("Data_IO", "Data: `miscnn_tf.data_loading`"),
        ("Preprocessor", "Preprocessing: `Preprocessor`"),
        ("Data_Augmentation", "Augmentation: `Data_Augmentation`"),
        ("Neural_Network", "Network: `Neural_Network`"),
    ],
)
def test_the_tables_name_every_argument(place, heading):
    section = README.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    rows = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", rows))
    parameters = inspect.signature(getattr(miscnn_tf, place)).parameters.values()
    arguments = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD} - {"data_io"}
    assert arguments - named == set()


def test_the_picture_can_be_drawn_again(tmp_path):
    draw = runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))["draw_patches"]
    draw(tmp_path / "patches.png")
    assert 20_000 < (tmp_path / "patches.png").stat().st_size < 200_000
    assert (ROOT / "docs" / "pictures" / "patches.png").stat().st_size < 200_000
