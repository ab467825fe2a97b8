import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from toy import ToyInterface

import miscnn_tf
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, NIFTI_interface
from miscnn_tf.data_loading.interfaces.description import build_interface
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.runs.names import RUN_FILE
from miscnn_tf.runs.run_record import read_run_record, write_run_record


def model_on(data_io):
    preprocessor = SimpleNamespace(data_io=data_io, batch_size=2, patch_shape=(4, 4), subfunctions=[])
    return SimpleNamespace(
        preprocessor=preprocessor, learning_rate=0.01, metrics=[], loss="dice", architecture=None,
        model=SimpleNamespace(count_params=lambda: 1234), hardware=SimpleNamespace(description="CPU, float32, XLA off"),
    )  # fmt: skip


def test_the_record_says_what_was_run_with_which_data_and_versions(toy_io, tmp_path):
    data_io = toy_io(classes=3)
    data_io.interface.class_names = ("background", "organ", "lesion")
    path = write_run_record(
        tmp_path / "run", "training", model_on(data_io), settings={"epochs": np.int64(7), "sizes": (1, 2)}, seconds=2.5
    )
    assert path == tmp_path / "run" / RUN_FILE
    record = read_run_record(tmp_path / "run")
    assert record["kind"] == "training"
    assert record["settings"]["epochs"] == 7
    assert record["settings"]["sizes"] == [1, 2]
    assert record["settings"]["batch_size"] == 2
    assert record["settings"]["weights"] == 1234
    assert record["settings"]["device"] == "CPU, float32, XLA off"
    assert record["data"]["class_names"] == ["background", "organ", "lesion"]
    assert record["data"]["input_path"] == os.path.abspath("toy")
    assert record["versions"]["miscnn_tf"] == miscnn_tf.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["seconds"] == 2.5
    assert record["predictions"] is None


def test_what_is_set_stands_before_what_the_model_says(toy_io, tmp_path):
    write_run_record(tmp_path, "training", model_on(toy_io()), settings={"batch_size": 5, "epochs": 1})
    settings = read_run_record(tmp_path)["settings"]
    assert list(settings)[:2] == ["batch_size", "epochs"]
    assert settings["batch_size"] == 5


def test_predictions_are_stored_so_that_the_folder_can_be_moved(toy_io, tmp_path):
    inside, outside = tmp_path / "run" / "predictions", tmp_path / "elsewhere"
    write_run_record(tmp_path / "run", "evaluation", data_io=toy_io(), predictions=inside)
    assert read_run_record(tmp_path / "run")["predictions"] == "predictions"
    write_run_record(tmp_path / "run", "evaluation", data_io=toy_io(), predictions=outside)
    assert read_run_record(tmp_path / "run")["predictions"] == str(outside)


def test_an_interface_is_made_again_from_the_record(tmp_path):
    folder = tmp_path / "data" / "case_0"
    folder.mkdir(parents=True)
    (folder / "imaging.nii").write_bytes(b"")
    data_io = Data_IO(NIFTI_interface(classes=4, pattern="case_.*", label_map={9: 1}), tmp_path / "data")
    write_run_record(tmp_path, "evaluation", data_io=data_io)
    data = read_run_record(tmp_path)["data"]
    made = build_interface(data["interface"], class_names=["a", "b", "c", "d"])
    assert isinstance(made, NIFTI_interface)
    assert (made.classes, made.pattern, made.label_map) == (4, "case_.*", {9: 1})
    assert made.names_of_classes() == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    "interface", [ToyInterface(), Dictionary_interface({"a": (np.zeros((3, 3, 3)), None)})], ids=["own", "memory"]
)
def test_an_interface_that_cannot_be_made_again_is_none(interface, tmp_path):
    write_run_record(tmp_path, "evaluation", data_io=Data_IO(interface, "somewhere"))
    record = read_run_record(tmp_path)
    assert build_interface(record["data"]["interface"]) is None
    # Given its class, one that keeps its arguments can.
    if isinstance(interface, ToyInterface):
        assert build_interface(record["data"]["interface"], {"ToyInterface": ToyInterface}).shape == (20, 22, 18)


def test_wrong_kinds_and_settings_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigurationError, match=r"kind='train'.*'training'"):
        write_run_record(tmp_path, "train")
    with pytest.raises(ConfigurationError, match=r"settings.*cannot be stored"):
        write_run_record(tmp_path, "training", settings={"loss": print})
    with pytest.raises(ConfigurationError, match=r"seconds.*cannot be stored"):
        write_run_record(tmp_path, "training", seconds=print)
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_records_are_told_apart(tmp_path):
    with pytest.raises(MissingDataError, match=r"run\.json"):
        read_run_record(tmp_path)
    for content in ("{", "[]", '{"kind": "other", "settings": {}, "versions": {}}', '{"kind": "training"}'):
        (tmp_path / RUN_FILE).write_text(content)
        with pytest.raises(DataError, match="damaged"):
            read_run_record(tmp_path)
    (tmp_path / RUN_FILE).write_text(
        json.dumps({"kind": "training", "settings": {}, "versions": {}, "data": 3, "predictions": None})
    )
    with pytest.raises(DataError, match="damaged"):
        read_run_record(tmp_path)


def test_reading_a_record_loads_no_network(tmp_path):
    write_run_record(tmp_path, "evaluation", settings={"a": 1})
    script = (
        "import sys; from miscnn_tf.runs.run_record import read_run_record;"
        f"assert read_run_record({str(tmp_path)!r})['settings'] == {{'a': 1}};"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)
