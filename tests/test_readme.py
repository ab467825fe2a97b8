"""The README: short, its scripts run (with smaller sizes), and its links lead somewhere."""

from __future__ import annotations

import configparser
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from miscnn_tf.datasets import write_kits_phantoms

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Text of the README, and the smaller sizes that the tests run instead.
SMALLER = {
    "Resampling((3.2, 1.6, 1.6))": "Resampling((14, 12, 12))",
    "patch_shape=(48, 128, 128)": "patch_shape=(8, 16, 16)",
    # The patch is too small for the default depth.
    "Neural_Network(pre_processor, loss": "Neural_Network(pre_processor, Architecture(n_filters=2, depth=2), loss",
    "samples[:80], epochs=50": "samples[:3], epochs=1",
    "samples[80:]": "samples[3:]",
}
CASES = 4


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Run all Python blocks in order, on phantoms in the folder that the README names."""
    folder = tmp_path_factory.mktemp("readme")
    names = write_kits_phantoms(folder / "data", cases=CASES, shape=(16, 32, 40), progress=False)
    shutil.copy(folder / "data" / names[-1] / "imaging.nii.gz", folder / "scan.nii.gz")
    script = "\n".join(python_blocks())
    for text, smaller in SMALLER.items():
        assert text in script, f"{text!r} is not in the README"
        script = script.replace(text, smaller)
    script = f"from miscnn_tf.neural_network.architecture.unet.standard import Architecture\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, names


def test_it_is_short_and_shows_a_result_near_the_top():
    lines = README.splitlines()
    assert len(lines) <= 200
    assert any("](docs/pictures/prediction.png)" in line for line in lines[:10])


def test_the_scripts_of_the_readme_run(outcome):
    folder, names = outcome
    assert [path.name for path in (folder / "predictions").iterdir()] == [f"{names[-1]}.nii.gz"]
    assert (folder / "model.keras").is_file()


def test_the_model_file_gives_the_prediction_that_the_model_gave(outcome):
    folder, names = outcome
    scan = nib.load(folder / "scan.nii.gz")
    first, second = (
        nib.load(path) for path in (folder / "segmentation.nii.gz", folder / "predictions" / f"{names[-1]}.nii.gz")
    )
    assert first.shape == scan.shape
    np.testing.assert_allclose(first.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))


def test_what_the_readme_links_to_is_there():
    targets = re.findall(r"\]\(([^)#\s]+)\)", README)
    assert "docs/pictures/prediction.png" in targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_extras_that_the_readme_installs_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = set(re.findall(r'"\.\[([\w-]+)\]"', README))
    assert {"gpu", "dicom", "onnx", "staple", "test", "docs"} <= named
    assert named <= set(setup["options.extras_require"])


def test_the_picture_is_the_prediction_of_the_first_tutorial(tmp_path):
    cut = runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))["cut_prediction"]
    cut(tmp_path / "prediction.png")
    with Image.open(tmp_path / "prediction.png") as new, Image.open(ROOT / "docs/pictures/prediction.png") as stored:
        assert new.convert("RGB").tobytes() == stored.convert("RGB").tobytes()


def test_the_configuration_of_the_readme_is_one(tmp_path):
    from miscnn_tf.experiment.toml_file import read_experiment

    (example,) = re.findall(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "experiment.toml").write_text(example, encoding="utf-8")
    assert read_experiment(tmp_path / "experiment.toml").network.epochs == 50


def test_the_commands_of_the_readme_exist():
    from miscnn_tf.cli.main import COMMANDS, make_parser

    commands = re.findall(r"^miscnn-tf (\S.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert {"init", "train", "predict", "evaluate", "cross-validate"} <= {line.split()[0] for line in commands}
    for line in commands:
        assert line.split()[0] in COMMANDS
        make_parser().parse_args(line.split())
