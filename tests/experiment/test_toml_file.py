from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.experiment.planner import Choice
from miscnn_tf.experiment.toml_file import apply_changes, changed_keys, plan_text, read_experiment, write_experiment

SMALL = '[data]\npath = "scans"\n[preprocessing]\npatch_shape = [16, 16, 8]\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "experiment.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def mistakes(path: Path, changes: list[str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_experiment(path, changes or [])
    return str(caught.value)


def test_paths_begin_at_the_folder_of_the_file(write, tmp_path, monkeypatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", "/home/me")
    path = write(SMALL + '[split]\nfile = "../split.json"\n[output]\nfolder = "~/runs/one"\n')
    experiment = read_experiment("../experiment.toml")
    assert experiment.data.path == str(tmp_path / "scans")
    assert experiment.split.file == str(tmp_path.parent / "split.json")
    assert experiment.output.folder == "/home/me/runs/one"
    assert experiment == read_experiment(path)


def test_keys_can_be_changed(write) -> None:
    path = write(SMALL + '[network]\narchitecture = "unet_plain"\n')
    experiment = read_experiment(
        path,
        [
            "network.epochs=5",
            "network.precision=float32",
            "network.architecture.dropout = 0.5",
            "preprocessing.clip=[-79, 304]",
            "data.label_map={255 = 1}",
            "data.class_names=['background', 'cell = nucleus']",
        ],
    )
    assert experiment.network.epochs == 5
    assert experiment.network.precision == "float32"
    assert experiment.network.architecture is not None
    assert experiment.network.architecture.name == "unet_plain"
    assert experiment.network.architecture.arguments == {"dropout": 0.5}
    assert experiment.preprocessing.clip == [-79, 304]
    assert experiment.data.label_map == {"255": 1}
    assert experiment.data.class_names == ["background", "cell = nucleus"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("epochs=5", "write table.key=value"),
        ("network.epochs", "write table.key=value"),
        ("network.=5", "write table.key=value"),
        ("network.epochs.more=5", "epochs is not a table, but 3"),
        ("network.epoch=5", "the key 'epoch' is unknown. Did you mean 'epochs'?"),
    ],
)
def test_changes_that_cannot_be_made(write, change: str, said: str) -> None:
    assert said in mistakes(write(SMALL + "[network]\nepochs = 3\n"), [change])


def test_a_change_leaves_other_keys() -> None:
    content = {"network": {"epochs": 3, "seed": 1}}
    apply_changes(content, ["network.epochs=5", "output.folder=runs/a b"])
    assert content == {"network": {"epochs": 5, "seed": 1}, "output": {"folder": "runs/a b"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL + "[network]\nepoch = 3", "[network] the key 'epoch' is unknown. Did you mean 'epochs'?"),
        (SMALL + "[network]\npatch_shape = [3, 3]", "[network] the key 'patch_shape' is unknown. Move it to [prepro"),
        (SMALL + "[netwrk]\nepochs = 3", "the table [netwrk] is unknown. Did you mean 'network'?"),
        ("epochs = 3\n" + SMALL, "epochs is outside any table; move it to [network]"),
        (
            SMALL + "patchwise_overlap = [1]",
            "[preprocessing] the key 'patchwise_overlap' is unknown. Did you mean 'over",
        ),
        (SMALL + "[augmentation]\nconfig_mirror_axes = [1]", "Did you mean 'mirror_axes'?"),
        (SMALL + "[network]\nzzz = 1", "the key 'zzz' is unknown. Known: architecture, loss"),
        (SMALL + "[network]\nepochs = 2.5", "[network] epochs must be a whole number, got 2.5"),
        (SMALL + "[network]\nepochs = '3'", "[network] epochs must be a whole number, got '3'"),
        (SMALL + "[network]\nepochs = true", "[network] epochs must be a whole number, got True"),
        (SMALL + "[network]\nepochs = 0", "[network] epochs must be at least 1, got 0"),
        (SMALL + "[network]\nlearning_rate = -1.0", "[network] learning_rate must be above 0, got -1.0"),
        (SMALL + "[network]\nmulti_gpu = 1", "[network] multi_gpu must be true or false, got 1"),
        (SMALL + "[network]\nloss = 3", "[network] loss must be a name, or a table with a name, got 3"),
        (SMALL + "[network.loss]\nalpha = 3", "[network] loss.name is missing"),
        (SMALL + "clip = [1.0]", "[preprocessing] clip must be a list of at least 2"),
        (SMALL + "foreground = 2", "[preprocessing] foreground must be at most 1, got 2"),
        (
            SMALL + "overlap = 1.5",
            "[preprocessing] overlap: 1.5 is neither a fraction of the patch such as 0.5, nor",
        ),
        (SMALL + "overlap = [1, 'x']", "[preprocessing] overlap: entry 2 must be a whole number, at least 0, got 'x'"),
        (SMALL + "blending = 'gausian'", "the blending 'gausian' is unknown. Did you mean 'gaussian'? Known: "),
        (
            SMALL + "[[preprocessing.steps]]\nname = 'Cliping'",
            "[[preprocessing.steps]] number 1: the subfunction 'Cliping' is unknown",
        ),
        (
            SMALL + "[[preprocessing.steps]]\nname='Normalization'\n[[preprocessing.steps]]\nname='Clipping'\nmim = 3",
            "[[preprocessing.steps]] number 2: the subfunction 'Clipping' has no argument 'mim'. Did you mean 'min'?",
        ),
        (SMALL + "[split]\nvalidation_share = 1.0", "[split] validation_share must be below 1, got 1.0"),
        (SMALL + "[augmentation]\nscaling_range = [2, 1]", "[augmentation] scaling_range=(2"),
        ("[data]\npath = 'a'", "preprocessing is missing: add the table [preprocessing]"),
        ("[data]\n[preprocessing]\nanalysis = 'fullimage'", "[data] path is missing"),
        (SMALL.replace("scans", "scans'") + "layout = ", "is not a valid TOML file"),
    ],
)
def test_a_mistake_is_named_with_file_and_table(write, text: str, said: str) -> None:
    path = write(text)
    found = mistakes(path)
    assert found.startswith(str(path))
    assert said in found
    assert "pydantic" not in found


def test_an_unknown_layout_or_argument_of_one_is_told_without_looking_at_the_data(write) -> None:
    found = mistakes(write(SMALL.replace("[pre", 'layout = "NIFTY"\n[pre')))
    assert "[data] layout: the layout 'NIFTY' is unknown. Did you mean 'NIFTI'? Known: " in found
    found = mistakes(write(SMALL.replace("[pre", 'layout = "NIFTI_S"\nsettings = {slice_axes = 1}\n[pre')))
    assert "the layout 'NIFTI_S' has no argument 'slice_axes'. Did you mean 'slice_axis'?" in found
    found = mistakes(write(SMALL.replace("[pre", 'classes = 3\nclass_names = ["a", "b"]\n[pre')))
    assert "class_names has 2 names, but classes = 3" in found
    assert "not a whole number" in mistakes(write(SMALL.replace("[pre", "label_map = {x = 1}\n[pre")))
    assert "not a valid regular expression" in mistakes(write(SMALL.replace("[pre", 'pattern = "("\n[pre')))


def test_all_mistakes_are_listed(write) -> None:
    found = mistakes(write(SMALL + "overlaps = [1]\n[network]\nepochs = 'x'\nepoch = 1\n[outptu]\nfolder = ''"))
    assert "has 4 mistakes:" in found
    assert [line[:2] for line in found.splitlines()[1:]] == ["  "] * 4


def test_files_that_are_not_there(write, tmp_path) -> None:
    with pytest.raises(
        MissingDataError, match=r"the configuration .*none.toml does not exist; .*: miscnn-tf init FOLDER -o "
    ):
        read_experiment(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="is a folder"):
        read_experiment(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="is not a valid TOML file"):
        read_experiment(tmp_path / "binary.toml")


def test_what_is_written_reads_back_equal(write, tmp_path) -> None:
    path = write(
        SMALL.replace("[pre", 'label_map = {255 = 1, "-1" = 0}\nclass_names = ["Hintergrund", "Zelle \\"α\\""]\n[pre')
        + "clip = [-79, 304.5]\n"
        + '[network]\nmetrics = ["dice_soft", {name = "ClassDice", label = 1}]\nlearning_rate = 1e-4\n'
        + "[network.architecture]\nname = \"unet_plain\"\nfeature_maps = [4, 8]\n[split]\ngroups = '(p\\d+)_.*'\n"
    )
    experiment = read_experiment(path)
    write_experiment(experiment, tmp_path / "run" / "copy.toml", "A copy.")
    text = (tmp_path / "run" / "copy.toml").read_text(encoding="utf-8")
    assert text.startswith("# A copy.\n")
    again = read_experiment(tmp_path / "run" / "copy.toml")
    assert again == experiment
    assert again.given() == experiment.given()
    assert changed_keys(experiment, again) == []


def test_changed_keys_are_told_in_words(write) -> None:
    path = write(SMALL + "[network]\nepochs = 3\n[output]\nfigures = true\n")
    before = read_experiment(path)
    now = read_experiment(
        path, ["network.epochs=4", "network.architecture.depth=2", "network.architecture.name=unet_plain"]
    )
    assert changed_keys(before, now) == [
        "network.epochs was 3, now 4",
        'network.architecture.name was not given, now "unet_plain"',
        "network.architecture.depth was not given, now 2",
    ]
    other = read_experiment(path, ["output.figures=false", "preprocessing.threads=2", "preprocessing.overlap=[]"])
    assert changed_keys(before, other, ["output", "preprocessing.threads"]) == [
        "preprocessing.overlap was not given, now []"
    ]


def test_the_mark_of_windows_editors_is_no_mistake(write) -> None:
    path = write(SMALL)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_experiment(path).data.path


def test_it_is_toml_with_the_values_and_a_reason_for_each() -> None:
    long = "because " * 20
    data = {"path": Choice('C:\\scans "new"', ""), "label_map": Choice({"255": 1, "a b": 2}, "as you said")}
    plan = {
        "network": {
            "architecture": Choice({"name": "unet_standard", "instance_normalization": True, "depth": 3}, long),
            "metrics": Choice(["dice_soft", {"name": "ClassDice", "label": 1}], "two"),
            "learning_rate": Choice(0.001, "of Adam"),
        }
    }
    text = plan_text(data, plan, ["A configuration", ""])
    assert tomllib.loads(text) == {
        "data": {"path": 'C:\\scans "new"', "label_map": {"255": 1, "a b": 2}},
        "network": {
            "architecture": {"name": "unet_standard", "instance_normalization": True, "depth": 3},
            "metrics": ["dice_soft", {"name": "ClassDice", "label": 1}],
            "learning_rate": 0.001,
        },
    }
    lines = text.splitlines()
    assert lines[:2] == ["# A configuration", "#"]
    assert "learning_rate = 0.001  # of Adam" in lines
    before = lines[lines.index(next(line for line in lines if line.startswith("architecture"))) - 1]
    assert before.startswith("# ")
    assert before.endswith("because")
