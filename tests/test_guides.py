"""The guides of the documentation: their Python and their commands run as they stand, but for the sizes."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from miscnn_tf.cli.main import main, make_parser

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

#: What is made smaller, so that it takes seconds: what the guides say, and what is run instead.
SMALLER = {
    r'write_lctsc_phantoms\("patients", cases=6\)': 'write_lctsc_phantoms("patients", 6, (8, 24, 24), progress=False)',
    r'write_kits_phantoms\("data", cases=24, shape=\(24, 56, 80\), tumours=1\)': (
        'write_kits_phantoms("data", 4, (16, 32, 40), progress=False)'
    ),
    r"samples\[:18\], samples\[18:\]": "samples[:3], samples[3:]",
    r"samples\[0:80\]": "samples[0:3]",
    r"samples\[80:100\]": "samples[3:4]",
    r"samples\[:80\]": "samples[:3]",
    r"samples\[80:\]": "samples[3:]",
    r"case_00020": "case_00003",
    r"Resampling\(\([\d., ]+\)\)": "Resampling((14, 12, 12))",
    r"patch_shape=\((16, 40, 48|32, 48, 64|48, 128, 128)\)": "patch_shape=(8, 16, 16)",
    r"patch_shape=\(128, 128, 128\)": "patch_shape=(16, 16, 16)",
    r"patchwise_overlap = \((8, 20, 24|16, 24, 32)\)": "patchwise_overlap = (4, 8, 8)",
    r"Architecture\((n_filters=\d+, depth=\d)?\)": "Architecture(n_filters=2, depth=2)",
    r"n_filters=8, depth=3, batch_normalization": "n_filters=2, depth=2, batch_normalization",
    # The landing page says no architecture.
    r"Neural_Network\(pre_processor, loss=": "Neural_Network(pre_processor, Architecture(n_filters=2, depth=2), loss=",
    r"UNet_plain\(\)": "UNet_plain(feature_maps=(2, 4))",
    r"\bepochs=\d+": "epochs=1",
    r"iterations=16": "iterations=1",
    r"k_fold=\d": "k_fold=2",
    r'"k_fold": 5, "epochs": 100': '"k_fold": 2, "epochs": 1',
    r"folds=3": "folds=2",
    # Boxes of a quarter of the window would be hundreds of predictions.
    r"occlusion_sensitivity\(case, model, classes=\[1\]\)": "occlusion_sensitivity(case, model, 1, 16, 16)",
    r"/shared/evaluation": "evaluation_by_folds",
    # Starting TensorFlow in two more processes takes long; threads are executors, too.
    r'ProcessPoolExecutor\(2, mp_context=multiprocessing.get_context\("spawn"\)\)': "ThreadPoolExecutor(1)",
    r"import ProcessPoolExecutor": "import ThreadPoolExecutor",
}

#: Commands that have tests of their own, where they run.
RUN_ELSEWHERE = {"demo", "doctor"}

#: What is added to commands that train.
QUICK = ("--set", "network.epochs=1", "--set", "network.iterations=1", "--set", "network.architecture.n_filters=2")
QUICK_RUN = (
    *("--set", "network.epochs=1", "--set", "network.iterations=1"),
    *("--set", "network.architecture={name='unet_standard', n_filters=2, depth=1}"),
)
QUICK_FOLDS = ("--set", "cross_validation.k_fold=2")

START = "getting_started.md"
#: Pages that need nothing of the first one.
ON_THEIR_OWN = {START, "guides/dicom.md", "guides/own_parts.md"}
#: Pages with many trainings, which take too long for every run of the tests.
SLOW = {
    f"guides/{name}.md"
    for name in (
        "command_line",
        "dicom",
        "ensembles",
        "evaluation",
        "explanations",
        "fine_tuning",
        "moving_from_miscnn",
        "prediction",
        "several_machines",
        "training",
    )
}


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page; in lists they are indented."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [Block(one[2], textwrap.dedent(one[3]), text[: one.start()].count("\n") + 2) for one in found]


def pages() -> list[str]:
    names = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    return [name for name in names if {block.language for block in blocks(name)} & {"python", "sh"}]


def run_page(page: str, names: dict[str, Any]) -> None:
    """All blocks of a page, in the current folder, one after the other."""
    for block in blocks(page):
        if block.language == "sh":
            for command in block.text.replace("\\\n", " ").splitlines():
                run_command(command.replace("case_00020", "case_00003"))
        elif block.language == "python":
            text = block.text
            for found, smaller in SMALLER.items():
                text = re.sub(found, smaller, text)
            # Lines as in the page, for whoever reads the traceback.
            exec(compile("\n" * (block.line - 1) + text, str(DOCS / page), "exec"), names)


def run_command(line: str) -> None:
    words = shlex.split(line, comments=True)
    if not words:
        return
    program, *arguments = words
    if program == "pip":
        require_extras(line)
    elif program == "miscnn-tf":
        make_parser().parse_args(arguments)
        command = arguments[0]
        if command in RUN_ELSEWHERE:
            return
        if command in {"train", "cross-validate"}:
            # Only the standard U-Net has n_filters; init plans other networks, too.
            arguments += QUICK if "unet_standard" in Path(arguments[1]).read_text() else QUICK[:4]
        arguments += QUICK_RUN if command == "run" else ()
        arguments += QUICK_FOLDS if command == "cross-validate" else ()
        assert main(arguments) == 0, line
    elif program == "python":
        # Benchmarks have tests of their own; here, that their options are as the page says.
        script, *options = arguments
        source = (ROOT / script).read_text(encoding="utf-8")
        assert [one for one in options if one.startswith("-") and f'"{one}"' not in source] == [], line
    elif program == "sed":
        subprocess.run(words, check=True)
    else:
        pytest.fail(f"{line!r}: the tests do not know how to run {program}")


def require_extras(line: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert set(re.findall(r"\.\[([\w-]+)\]", line)) <= set(setup["options.extras_require"]), line


@pytest.fixture(scope="module", autouse=True)
def without_graphs() -> Iterator[None]:
    """A step as it is written, uncompiled: the networks here are so small that making graphs would take the time."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The folder and the names that a reader has after the first page."""
    folder = tmp_path_factory.mktemp("started")
    names: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_page(START, names)
    return folder, names


@pytest.fixture
def registries_as_before() -> Iterator[None]:
    from miscnn_tf.neural_network.architecture import architectures

    before = set(architectures)
    yield
    for name in set(architectures) - before:
        del architectures[name]


def test_the_first_page_ends_with_label_maps_and_scores(started):
    folder, names = started
    assert [path.name for path in (folder / "predictions").iterdir()] == ["case_00003.nii.gz"]
    assert {"model.keras", "seg.nii.gz"} <= {path.name for path in folder.iterdir()}
    assert {"scores.csv", "summary.json"} <= {path.name for path in (folder / "results").iterdir()}
    assert names["labels"].shape == (16, 32, 40)


@pytest.mark.parametrize(
    "page",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in pages() if name != START],
)
def test_a_page_runs(page, started, tmp_path, monkeypatch, registries_as_before):
    folder, names = started
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    (work / "my_script.py").write_text("import miscnn\nminiscnn = miscnn.Data_IO\n", encoding="utf-8")
    (work / "new_scans").mkdir(exist_ok=True)
    shutil.copy(work / "data" / "case_00003" / "imaging.nii.gz", work / "new_scans" / "new.nii.gz")
    monkeypatch.chdir(work)
    run_page(page, {"__name__": "__main__"} if page in ON_THEIR_OWN else dict(names))
    if page == "guides/moving_from_miscnn.md":
        changed = (work / "my_script.py").read_text(encoding="utf-8")
        assert changed == "import miscnn_tf\nminiscnn = miscnn_tf.Data_IO\n"


def test_what_is_made_smaller_is_in_the_guides():
    text = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in pages())
    assert [found for found in SMALLER if not re.search(found, text)] == []
