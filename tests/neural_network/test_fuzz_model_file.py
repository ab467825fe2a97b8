"""Damaged model files: the description that was written, or what the altered one says, or refused with the file's name.

The description is read and built from without TensorFlow, which does not survive a fork; whole models are loaded in
processes of their own (``-m slow``).
"""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import altered, fuzz, how_many, mutations

from miscnn_tf._base.configuration import get_config
from miscnn_tf.cli.main import FAILED, main
from miscnn_tf.data_loading.interfaces.description import describe_interface
from miscnn_tf.errors import ConfigurationError, ModelFileError, UnknownClassError
from miscnn_tf.neural_network.model_description import (
    MEMBER,
    NoSamples,
    interface_of,
    make_interface,
    make_preprocessor,
    read_metadata,
    reading,
)
from miscnn_tf.processing.preprocessor import SETTINGS, Preprocessor

_MAKE = """
    import sys
    from miscnn_tf import Data_Augmentation, Data_IO, Neural_Network, Preprocessor
    from miscnn_tf.data_loading.interfaces import Image_interface, NIFTI_interface
    from miscnn_tf.neural_network.architecture.unet import UNet_plain
    from miscnn_tf.neural_network.model_description import NoSamples
    from miscnn_tf.processing.subfunctions import Clipping, Normalization, Padding, Resampling, TransformHU

    interface = NIFTI_interface(channels=1, classes=3, pattern="case_[0-9]*", label_map={255: 1, 7: 2})
    interface.class_names = ("background", "organ", "lesion")
    steps = [Clipping(-79, 304.5), Resampling((1.0, 1.0, 2.5)), Normalization("minmax"), Padding((16, 16, 8))]
    steps.append(TransformHU(normalize=False))
    augmentation = Data_Augmentation(mirror=True, config_mirror_axes=(0, 1), infaug=True)
    preprocessor = Preprocessor(NoSamples(interface, ""), 2, steps, augmentation, patch_shape=(16, 16, 8), seed=3)
    preprocessor.patchwise_overlap = (8, 8, 4)
    network = Neural_Network(preprocessor, UNet_plain(feature_maps=(2, 2)), precision="float32", jit_compile=False)
    network.trained_on = {"training": ["case_1", 2], "validation": []}
    network.dump(sys.argv[1])
    network.dump(sys.argv[2])
"""


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ``model.keras`` and ``model.h5``."""
    folder = tmp_path_factory.mktemp("model")
    files = [str(folder / name) for name in ("model.keras", "model.h5")]
    subprocess.run([sys.executable, "-c", textwrap.dedent(_MAKE), *files], check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def whole(model_files: Path) -> bytes:
    """The bytes of a model file."""
    return (model_files / "model.keras").read_bytes()


@pytest.fixture(scope="session")
def document(model_files: Path) -> dict[str, Any]:
    """Its description."""
    with zipfile.ZipFile(model_files / "model.keras") as archive:
        content: dict[str, Any] = json.loads(archive.read(MEMBER))
    return content


def with_members(whole: bytes, changed: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A model file with other members."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name, old.read(name)), method if name in changed else zipfile.ZIP_STORED)
    return file.getvalue()


def with_description(whole: bytes, description: Any) -> bytes:
    """A model file with another description."""
    return with_members(whole, {MEMBER: json.dumps(description).encode()})


def load_description(path: Path) -> tuple[dict[str, Any], Any, Preprocessor]:
    """All of `load_model` that needs no TensorFlow."""
    metadata = read_metadata(path)
    with reading(path):
        interface = make_interface(metadata, {})
        preprocessor = make_preprocessor(metadata["preprocessor"], NoSamples(interface, ""), None, {})
    return metadata, interface, preprocessor


def load_known(path: Path) -> tuple[dict[str, Any], Any, Preprocessor]:
    """A class that is not known is the user's own, which the error says without the file's name."""
    try:
        return load_description(path)
    except UnknownClassError as error:
        raise UnknownClassError(f"{path}: {error}") from error


def unlike(found: dict[str, Any], said: dict[str, Any]) -> list[str]:
    """The settings that are not as the document says; True is not 1, but 1 is 1.0, and an empty label map is none."""

    def same(one: Any, other: Any) -> bool:
        return one == other and repr(one).replace(".0", "") == repr(other).replace(".0", "")

    known = [name for name in found if name in said and (name != "label_map" or found[name] or said[name])]
    return [f"{name}: {found[name]!r}, not {said[name]!r}" for name in known if not same(found[name], said[name])]


def as_described(path: Path, loaded: tuple[dict[str, Any], Any, Preprocessor]) -> str | None:
    metadata, interface, preprocessor = loaded
    with zipfile.ZipFile(path) as archive:
        said = json.loads(archive.read(MEMBER))
    if repr(metadata) != repr(said):
        return "another document"
    wrong = unlike({name: getattr(interface, name) for name in ("channels", "classes", "three_dim")}, said)
    if said["interface"]["config"] is not None and said["interface"]["class_name"] == "NIFTI":
        wrong += unlike(describe_interface(interface)["config"], said["interface"]["config"])
    settings = {name: getattr(preprocessor, name) for name in SETTINGS}
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    wrong += unlike(settings, said["preprocessor"])
    for step, one in zip(preprocessor.subfunctions, said["preprocessor"]["subfunctions"], strict=True):
        wrong += unlike(get_config(step), one["config"])
    if said["preprocessor"]["data_augmentation"] is not None:
        wrong += unlike(get_config(preprocessor.data_augmentation), said["preprocessor"]["data_augmentation"])
    return "; ".join(wrong) or None


@how_many
def test_every_altered_description_of_a_model_is_read_as_it_says_or_refused(tmp_path, number, whole, document):
    documents = itertools.chain(
        [document],
        altered(document, number, 1),
        # Of the parts that are built, more.
        ({**document, "preprocessor": one} for one in altered(document["preprocessor"], number // 2, 2)),
        ({**document, "interface": one} for one in altered(document["interface"], number // 2, 3)),
    )
    inputs = (with_description(whole, one) for one in documents)

    fuzzed = fuzz(load_known, inputs, tmp_path, "model.keras", judge=as_described)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 30, fuzzed
    assert fuzzed.refused > number, fuzzed


@how_many
def test_every_damaged_model_file_gives_the_written_description_or_is_refused(tmp_path, number, whole, document):
    # Some faults in the description, and some in the directory at the end, which says where the members are.
    text = json.dumps(document, indent=1).encode()
    start = whole.rindex(b"PK\x01\x02")
    inputs = itertools.chain(
        [whole],
        mutations(whole, number // 2, 1),
        (whole[:start] + one for one in mutations(whole[start:], number // 2, 2)),
        (whole.replace(text, one) for one in mutations(text, number // 2, 3)),
    )

    def judge(path: Path, metadata: dict[str, Any]) -> str | None:
        return None if metadata == document else "another description"

    fuzzed = fuzz(read_metadata, inputs, tmp_path, "model.keras", judge=judge)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 30, fuzzed
    assert fuzzed.refused > number / 2, fuzzed


def change(document: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A description in which one value is another; ``"preprocessor.subfunctions.0.config.min"``."""
    changed: dict[str, Any] = json.loads(json.dumps(document))
    *outer, last = place.split(".")
    inner: Any = changed
    for part in outer:
        inner = inner[int(part)] if isinstance(inner, list) else inner[part]
    inner[last] = value
    return changed


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("classes", "3", "classes must be a whole number, got '3'"),
        ("classes", 3.0, "classes must be a whole number, got 3.0"),
        ("classes", True, "classes must be a whole number, got True"),
        ("classes", 4, "classes is 4, but 3 in the interface's configuration"),
        ("channels", 0, "channels must be at least 1, got 0"),
        ("three_dim", "false", "three_dim must be true or false, got 'false'"),
        ("class_names", "abc", "class_names must be a list"),
        ("learning_rate", 10**400, "a whole number of 401 digits"),
        ("learning_rate", float("nan"), "learning_rate must be"),
        ("divisor", [2, "2"], "divisor"),
        ("trained_on", {"training": [None]}, "trained_on.training.0"),
        ("interface.config.classes", "3", "classes must be a whole number"),
        ("interface.config.classes", 4, "classes is 3, but 4 in the interface's configuration"),
        ("interface.config.three_dim", "yes", "three_dim must be true or false"),
        ("interface.config.label_map", [[255, 1]], "label_map"),
        ("interface.config.label_map", {"255": [1]}, "label_map.255 must be a whole number, got [1]"),
        ("interface.config.label_map", {"255": "1"}, "label_map.255 must be a whole number, got '1'"),
        ("interface.config.label_map", {"25.5": 1}, "label_map must map integers to integers"),
        ("interface.config.label_map", {"255": 9}, "not one of the 3 classes"),
        ("interface.config.pattern", 5, "pattern must be text"),
        ("interface.config.color", 5, "color"),
        ("interface.config", [1], "interface.config must be a table"),
        ("interface.class_name", None, "interface.class_name must be text"),
        ("preprocessor.patch_shape", "16,16,8", "preprocessor.patch_shape must be a list"),
        ("preprocessor.patch_shape", [16, 16], "patch_shape"),
        ("preprocessor.patch_shape", [16, 16, 8.5], "preprocessor.patch_shape.2 must be a whole number"),
        ("preprocessor.patchwise_overlap", [99, 8, 4], "patchwise_overlap"),
        ("preprocessor.patchwise_blending", "gauss", "patchwise_blending"),
        ("preprocessor.analysis", "patchwise", "preprocessor.analysis"),
        ("preprocessor.seed", -1, "preprocessor.seed must be at least 0"),
        ("preprocessor.subfunctions", "Clipping", "preprocessor.subfunctions must be a list"),
        ("preprocessor.subfunctions.0.config.min", "-79", "min must be a number, got '-79'"),
        ("preprocessor.subfunctions.3.config.min_size", "16", "min_size must be a list"),
        ("preprocessor.subfunctions.4.config.normalize", "no", "normalize must be true or false"),
        ("preprocessor.subfunctions.0.config", {}, "Clipping"),
        ("preprocessor.data_augmentation", [True], "preprocessor.data_augmentation must be a table"),
        ("preprocessor.data_augmentation.cycles", 1.5, "data_augmentation.cycles must be a whole number"),
        ("preprocessor.data_augmentation.mirror", "false", "data_augmentation.mirror must be true or false"),
        ("preprocessor.data_augmentation.config_mirror_axes", [[0]], "config_mirror_axes.0"),
        ("preprocessor.data_augmentation.infaug_flip_list", 3, "infaug_flip_list must be a list"),
        ("preprocessor.data_augmentation.config_gamma_range", "ab", "config_gamma_range must be a list"),
    ],
)
def test_wrong_type_in_a_model_description_is_never_accepted(tmp_path, whole, document, place, value, said):
    path = tmp_path / "model.keras"
    path.write_bytes(with_description(whole, change(document, place, value)))
    with pytest.raises(ModelFileError, match=r"model\.keras") as caught:
        load_description(path)
    assert said in str(caught.value)


def test_all_wrong_types_of_a_model_description_are_listed_at_once(tmp_path, whole, document):
    path = tmp_path / "model.keras"
    wrong = {**document, "classes": "3", "channels": None, "trained_on": []}
    del wrong["loss"]
    path.write_bytes(with_description(whole, wrong))
    with pytest.raises(ModelFileError) as caught:
        read_metadata(path)
    for key in ("classes", "channels", "trained_on", "'loss' is missing"):
        assert key in str(caught.value)


def test_a_description_of_half_a_megabyte_that_becomes_764_megabytes_is_refused(tmp_path, whole):
    bomb = b'{"a": "' + b" " * (64 * 2**20) + b'"}'
    path = tmp_path / "model.keras"
    path.write_bytes(with_members(whole, {MEMBER: bomb}, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2**20
    with pytest.raises(ModelFileError, match=rf"model\.keras.*{MEMBER} has more than 16 MiB"):
        read_metadata(path)


def test_a_bomb_whose_size_is_understated_is_refused(tmp_path, whole):
    bomb = bytearray(with_members(whole, {MEMBER: b" " * (64 * 2**20)}, zipfile.ZIP_DEFLATED))
    size = (64 * 2**20).to_bytes(4, "little")
    place = bomb.find(size)
    while place >= 0:
        bomb[place : place + 4] = (100).to_bytes(4, "little")
        place = bomb.find(size)
    (tmp_path / "model.keras").write_bytes(bomb)
    with pytest.raises(ModelFileError, match=r"model\.keras"):
        read_metadata(tmp_path / "model.keras")


def _encrypted(whole: bytes) -> bytes:
    changed = bytearray(whole)
    place = changed.rindex(b"PK\x01\x02", 0, changed.rindex(MEMBER.encode()))
    changed[place + 8] |= 1
    return bytes(changed)


def _other_method(whole: bytes) -> bytes:
    changed = bytearray(whole)
    place = changed.rindex(b"PK\x01\x02", 0, changed.rindex(MEMBER.encode()))
    changed[place + 10] ^= 1 << 6
    return bytes(changed)


def _twice(whole: bytes) -> bytes:
    file = io.BytesIO(whole)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(MEMBER, archive.read(MEMBER))
    return file.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: with_members(whole, {MEMBER: b"[" * 100_000}), "damaged"),
        (lambda whole: with_members(whole, {MEMBER: b'{"format": ' + b"9" * 4301 + b"}"}), "4301 digits"),
        (lambda whole: with_members(whole, {MEMBER: b'{"format": true}'}), "format True"),
        (lambda whole: with_members(whole, {MEMBER: b"\xff"}), "damaged"),
        (lambda whole: with_members(whole, {MEMBER: b"{}"}, zipfile.ZIP_LZMA), "compressed by the method 14"),
        (_encrypted, "encrypted"),
        (_other_method, "compressed by the method 64"),
        (_twice, "twice"),
    ],
)
def test_raw_exceptions_of_model_files_are_one_error(
    tmp_path, whole, capsys, damage: Callable[[bytes], bytes], said: str
):
    path = tmp_path / "model.keras"
    path.write_bytes(damage(whole))
    with pytest.raises(ModelFileError, match=r"model\.keras") as caught:
        interface_of(path)
    assert said in str(caught.value)
    (tmp_path / "scans").mkdir()
    assert main(["predict", str(path), str(tmp_path / "scans"), str(tmp_path / "out")]) == FAILED
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.startswith("miscnn-tf: error: ")
    assert error.count("\n") == 1


def test_reading_a_description_imports_no_tensorflow(model_files):
    script = f"""
        import sys
        from miscnn_tf.neural_network.model_description import interface_of, read_metadata
        read_metadata({str(model_files / "model.keras")!r})
        interface_of({str(model_files / "model.h5")!r})
        sys.exit("tensorflow" in sys.modules or "keras" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=300)


def test_a_description_in_hdf5_is_checked_too(model_files, tmp_path):
    import h5py

    path = tmp_path / "model.h5"
    path.write_bytes((model_files / "model.h5").read_bytes())
    assert read_metadata(path)["classes"] == 3
    for text in ("{", '{"format": 1}', np.array([1, 2]), b"\xff"):
        with h5py.File(path, "a") as file:
            file.attrs["miscnn_tf"] = text
        with pytest.raises(ModelFileError, match=r"model\.h5"):
            read_metadata(path)


def test_a_flag_that_a_program_set_to_1_is_read(tmp_path, whole, document):
    path = tmp_path / "model.keras"
    path.write_bytes(with_description(whole, change(document, "preprocessor.patchwise_skip_blanks", 1)))
    assert load_description(path)[2].patchwise_skip_blanks == 1


def test_a_class_of_a_users_own_stays_a_configuration_error_that_names_it(tmp_path, whole, document):
    path = tmp_path / "model.keras"
    path.write_bytes(with_description(whole, change(document, "preprocessor.subfunctions.0.class_name", "Mine")))
    with pytest.raises(ConfigurationError, match=r"'Mine'.*custom_objects"):
        load_description(path)


_LOAD = """
    import sys, traceback
    from pathlib import Path
    import miscnn_tf
    from miscnn_tf.errors import ConfigurationError, ModelFileError
    read = refused = 0
    for path in sorted(Path(sys.argv[1]).iterdir()):
        try:
            miscnn_tf.load_model(path)
            read += 1
        except ModelFileError as error:
            assert path.name in str(error), error
            refused += 1
        except ConfigurationError as error:
            assert "custom_objects" in str(error) or "subfunctions=" in str(error), error
            refused += 1
    print(read, refused)
"""


@pytest.mark.slow
def test_every_damaged_model_is_loaded_or_one_error(tmp_path, whole, document):
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inputs = [
        *(with_description(whole, one) for one in altered(document, 25, 11)),
        *(
            with_members(whole, {"config.json": json.dumps(one).encode()})
            for one in altered(json.loads(members["config.json"]), 25, 12)
        ),
        *(with_members(whole, {"model.weights.h5": one}) for one in mutations(members["model.weights.h5"], 25, 13)),
        *mutations(whole, 25, 14),
    ]
    for number, content in enumerate(inputs):
        (tmp_path / f"{number:03}.keras").write_bytes(content)

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_LOAD), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )

    assert done.returncode == 0, done.stderr[-3000:]
    read, refused = map(int, done.stdout.split()[-2:])
    assert read > 10
    assert refused > 25
