from __future__ import annotations

import csv
import errno
import os
import pickle
import random
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from miscnn_tf.data_loading import data_io as data_io_module
from miscnn_tf.data_loading.data_io import (
    Data_IO,
    backup_evaluation,
    backup_history,
    create_directories,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, StorageError


class Folder_of_arrays(Abstract_IO):
    """A user's own interface: ``<index>/image.npy`` and ``labels.npy``."""

    def initialize(self, input_path: str) -> list[Any]:
        self.folder = Path(input_path)
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir())

    def load_image(self, index: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return np.load(self.folder / index / "image.npy"), {"type": "numpy", "spacing": np.array([1.0, 2.0, 3.0])}

    def load_segmentation(self, index: Any) -> np.ndarray:
        return np.load(self.folder / index / "labels.npy")

    def load_prediction(self, index: Any, output_path: str) -> np.ndarray:
        return np.load(Path(output_path) / f"{index}.npy")

    def save_prediction(self, sample: Sample, output_path: str) -> None:
        np.save(Path(output_path) / f"{sample.index}.npy", sample.pred_data)  # type: ignore[arg-type]

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        return termination == ".npy"


class Bare_interface:
    """The least that can be called an interface: no base class, none of the optional methods."""

    channels, classes, three_dim = 1, 3, False

    def __init__(self, image: Any = None, labels: Any = None, extended: Any = None) -> None:
        self.image = np.zeros((6, 7), np.int16) if image is None else image
        self.labels = np.ones((6, 7), np.uint8) if labels is None else labels
        self.extended = extended
        self.predictions: dict[Any, Any] = {}

    def initialize(self, input_path: Any) -> list[Any]:
        return ["a", "b"]

    def load_image(self, index: Any) -> Any:
        return self.image, self.extended

    def load_segmentation(self, index: Any) -> Any:
        return self.labels

    def load_prediction(self, index: Any, output_path: Any) -> Any:
        return self.predictions.get(index)

    def save_prediction(self, sample: Sample, output_path: Any) -> None:
        self.predictions[sample.index] = sample.pred_data


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    root = tmp_path / "data"
    for number in range(3):
        case = root / f"case_{number}"
        case.mkdir(parents=True)
        np.save(case / "image.npy", rng.normal(size=(4, 5, 6)))
        np.save(case / "labels.npy", rng.integers(0, 3, (4, 5, 6)))
    return root


@pytest.fixture
def io(folder: Path, tmp_path: Path) -> Data_IO:
    interface = Folder_of_arrays(channels=1, classes=3, three_dim=True)
    return Data_IO(interface, folder, output_path=tmp_path / "out" / "predictions", batch_path=tmp_path / "batches")


def bare(tmp_path: Path, **arrays: Any) -> Data_IO:
    return Data_IO(Bare_interface(**arrays), "nowhere", tmp_path / "out", tmp_path / "batches")  # type: ignore[arg-type]


# ---------------------------------------------------------------- construction


def test_attributes_and_defaults(folder: Path) -> None:
    interface = Folder_of_arrays(1, 3, True)
    io = Data_IO(interface, str(folder))
    assert io.interface is interface
    assert (io.input_path, io.output_path, io.batch_path) == (str(folder), "predictions", "batches")
    assert io.delete_batchDir is True
    assert io.indices_list == ["case_0", "case_1", "case_2"]


def test_the_list_of_indices_is_a_copy(io: Data_IO) -> None:
    io.get_indiceslist().clear()
    assert io.get_indiceslist() == ["case_0", "case_1", "case_2"]


def test_every_instance_has_its_own_seed_even_where_a_script_seeds_the_global_generators(tmp_path: Path) -> None:
    """Defect: all Data_IO share one seed, so one run deletes the other's files."""
    seeds = set()
    for _ in range(10):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        seeds.add(bare(tmp_path).seed)
    assert len(seeds) == 10
    assert all(isinstance(seed, int) and seed >= 0 for seed in seeds)


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        ([], MissingDataError, "Bare_interface found no samples in nowhere; check the path"),
        (None, ConfigurationError, "returned None"),
        ("abc", ConfigurationError, "returned 'abc'"),
        (["a", "b", "a"], DataError, "the sample 'a' more than once"),
        ([["a"]], ConfigurationError, "cannot be used"),
    ],
)
def test_what_initialize_must_not_return(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: Any, error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(Bare_interface, "initialize", lambda *_: found)
    with pytest.raises(error, match=message):
        bare(tmp_path)


def test_an_interface_that_does_not_say_what_it_reads() -> None:
    class Forgets(Folder_of_arrays):
        def __init__(self) -> None:
            self.channels = 1
            self.classes = 2

    with pytest.raises(ConfigurationError, match=r"Forgets has no attribute 'three_dim': call super\(\)\.__init__"):
        Data_IO(Forgets(), "x")
    with pytest.raises(ConfigurationError, match="is the class Folder_of_arrays; pass an instance"):
        Data_IO(Folder_of_arrays, "x")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is a str without a method initialize"):
        Data_IO("NIFTI", "x")  # type: ignore[arg-type]


# ---------------------------------------------------------------- loading


def test_a_custom_interface_is_loaded_in_small_types(io: Data_IO, folder: Path) -> None:
    sample = io.sample_loader("case_1")
    image, labels = (np.load(folder / "case_1" / name) for name in ("image.npy", "labels.npy"))
    assert image.dtype == np.float64
    assert sample.img_data.dtype == np.float32
    np.testing.assert_array_equal(sample.img_data[..., 0], image.astype(np.float32))
    assert sample.seg_data is not None
    assert sample.seg_data.dtype == np.uint8
    np.testing.assert_array_equal(sample.seg_data[..., 0], labels)
    assert sample.extended["type"] == "numpy"
    assert sample.spacing == (1.0, 2.0, 3.0)
    assert (sample.index, sample.channels, sample.classes, sample.three_dim) == ("case_1", 1, 3, True)
    assert sample.details == {}
    assert io.sample_loader("case_1", load_seg=False).seg_data is None


def test_an_interface_without_base_class_or_optional_methods(tmp_path: Path) -> None:
    io = bare(tmp_path)
    sample = io.sample_loader("a")
    assert sample.shape == (6, 7, 1)
    assert sample.extended == sample.details == {}
    io.check(["a", "b"])
    assert io.fingerprint("a") is None
    sample.add_prediction(np.ones((6, 7), np.uint8))
    io.save_prediction(sample)
    loaded = io.sample_loader("a", load_pred=True)
    np.testing.assert_array_equal(loaded.pred_data, sample.pred_data)


def test_all_samples_at_once(io: Data_IO) -> None:
    samples = io.get_samples(load_seg=True)
    assert [sample.index for sample in samples] == io.get_indiceslist()
    assert all(sample.seg_data is not None and sample.pred_data is None for sample in samples)
    assert all(sample.seg_data is None for sample in io.get_samples())


def test_samples_share_nothing(tmp_path: Path) -> None:
    """Defect: extended is one dict shared by all samples."""
    io = bare(tmp_path, extended={"type": "x"})
    first, second = io.sample_loader("a"), io.sample_loader("b")
    first.extended["type"] = "y"
    assert second.extended == {"type": "x"}


def test_details_come_from_the_interface(io: Data_IO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io.interface, "load_details", lambda index: {"name": index}, raising=False)
    assert io.sample_loader("case_0").details == {"name": "case_0"}


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float64, np.float32),
        (np.float16, np.float32),
        (np.dtype(">f4"), np.float32),
        (np.dtype(">i2"), np.int16),
        (np.int64, np.int32),
        (np.bool_, np.uint8),
        (np.uint16, np.uint16),
    ],
)
def test_no_image_is_wider_than_it_needs_to_be(tmp_path: Path, dtype: Any, expected: Any) -> None:
    image = np.arange(42).reshape(6, 7).astype(dtype)
    loaded = bare(tmp_path, image=image).sample_loader("a").img_data
    assert loaded.dtype == expected
    assert loaded.dtype.isnative
    np.testing.assert_array_equal(loaded[..., 0], image)


def test_integers_that_do_not_fit_become_floats(tmp_path: Path) -> None:
    image = np.full((6, 7), 2**40, np.uint64)
    np.testing.assert_array_equal(bare(tmp_path, image=image).sample_loader("a").img_data, np.float32(2**40))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((6, 7, 8, 1))}, r"'a': the image has shape \(6, 7, 8, 1\).*Use a 3D interface"),
        ({"image": np.zeros(6)}, r"'a': the image has shape \(6,\)"),
        ({"image": np.zeros((6, 7, 3))}, r"'a': the image has 3 channel\(s\).*channels=1"),
        ({"image": np.zeros((0, 7))}, r"'a' .*image is empty"),
        ({"image": np.full((6, 7), "x")}, r"'a' .*image is an array of <U1"),
        ({"image": np.zeros((6, 7), complex)}, r"'a' .*image is an array of complex128"),
        ({"labels": np.zeros((6, 8))}, r"'a': the image is \(6, 7\) voxels, its segmentation \(6, 8\)"),
        ({"labels": np.zeros((6, 7, 3))}, r"'a': the segmentation has 3 channels"),
        ({"labels": np.full((6, 7), -1)}, r"'a' .*-1"),
        ({"labels": np.full((6, 7), 0.5)}, r"'a' .*0\.5"),
        ({"labels": np.full((6, 7), np.nan)}, r"'a' .*nan"),
    ],
)
def test_what_an_interface_must_not_return(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bare(tmp_path, **arrays).sample_loader("a")


def test_an_interface_that_returns_no_pair_or_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, error, message in (
        (np.zeros((2, 7)), DataError, "returned an array alone"),
        (None, DataError, "returned a NoneType"),
        ((None, {}), MissingDataError, "returned no image"),
    ):
        monkeypatch.setattr(Bare_interface, "load_image", lambda *_, answer=answer: answer)
        with pytest.raises(error, match=message):
            bare(tmp_path).sample_loader("a")


def test_nan_in_an_image_is_warned_of_once_with_the_samples_name(tmp_path: Path) -> None:
    image = np.zeros((6, 7))
    image[2, 3] = np.nan
    with pytest.warns(
        UserWarning, match=r"sample 'a' \(read by Bare_interface from nowhere\): 1 of 42 voxels"
    ) as caught:
        bare(tmp_path, image=image).sample_loader("a")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bare(tmp_path).sample_loader("a")


@pytest.mark.parametrize("index", ["../data/case_0", "/etc", "", "a/../../b", "C:\\x"])
def test_an_index_that_leads_elsewhere_reads_and_writes_nothing(io: Data_IO, index: str, tmp_path: Path) -> None:
    sample = Sample(index, np.zeros((2, 2, 2)), 1, 3, three_dim=True)
    sample.add_prediction(np.zeros((2, 2, 2)))
    for action in (
        lambda: io.sample_loader(index),
        lambda: io.save_prediction(sample),
        lambda: io.backup_sample(sample),
        lambda: io.load_sample_pickle(index),
        lambda: io.fingerprint(index),
        lambda: io.check([index]),
    ):
        with pytest.raises(DataError, match="rename the sample"):
            action()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_missing_segmentation_is_named(io: Data_IO, folder: Path, tmp_path: Path) -> None:
    (folder / "case_1" / "labels.npy").unlink()
    with pytest.raises(MissingDataError, match=r"sample 'case_1': .*labels\.npy"):
        io.sample_loader("case_1")
    assert io.sample_loader("case_1", load_seg=False).index == "case_1"
    nothing = bare(tmp_path)
    nothing.interface.labels = None  # type: ignore[attr-defined]
    with pytest.raises(MissingDataError, match=r"'a' .* has no label map"):
        nothing.sample_loader("a")


def test_an_unknown_sample_is_answered_with_the_nearest(io: Data_IO) -> None:
    with pytest.raises(MissingDataError, match=r"sample 'case_11' is not one of the 3 in .*Did you mean 'case_1'\?"):
        io.sample_loader("case_11")


def test_errors_of_a_users_interface_keep_their_type_and_name_the_sample(
    io: Data_IO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(index: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(io.interface, "load_image", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        io.sample_loader("case_1")
    assert "while Folder_of_arrays read the sample 'case_1'" in caught.value.__notes__[0]


# ---------------------------------------------------------------- predictions


def test_predictions_are_saved_and_loaded(io: Data_IO) -> None:
    sample = io.sample_loader("case_2")
    with pytest.raises(ConfigurationError, match="'case_2' has no prediction"):
        io.save_prediction(sample)
    with pytest.raises(MissingDataError, match=r"case_2\.npy"):
        io.sample_loader("case_2", load_pred=True)
    assert sample.seg_data is not None
    sample.add_prediction(sample.seg_data)
    io.save_prediction(sample)
    np.testing.assert_array_equal(io.sample_loader("case_2", load_pred=True).pred_data, sample.seg_data)


def test_class_probabilities_stay_what_they_are(io: Data_IO, rng: np.random.Generator) -> None:
    sample = io.sample_loader("case_0")
    sample.add_prediction(rng.random((4, 5, 6, 3), np.float32), activation_output=True)
    io.save_prediction(sample)
    loaded = io.sample_loader("case_0", load_pred=True).pred_data
    assert loaded is not None
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, sample.pred_data)


@pytest.mark.parametrize("shape", [(4, 5, 7), (4, 5), (4, 5, 6, 2)])
def test_a_prediction_of_another_image_is_refused(io: Data_IO, shape: tuple[int, ...]) -> None:
    Path(io.output_path).mkdir(parents=True)
    np.save(Path(io.output_path) / "case_0.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"case_0.*has shape"):
        io.sample_loader("case_0", load_pred=True)


def test_a_disk_that_fills_up_while_predictions_are_saved(io: Data_IO, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = io.sample_loader("case_0")
    sample.add_prediction(np.ones((4, 5, 6), np.uint8))
    io.save_prediction(sample)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(io.interface, "save_prediction", full)
    with pytest.raises(
        StorageError,
        match=r"prediction of sample 'case_0' in .*predictions: No space left.*Earlier predictions are complete",
    ):
        io.save_prediction(sample)
    assert io.sample_loader("case_0", load_pred=True).pred_data is not None


def test_an_output_folder_that_cannot_be_made(io: Data_IO, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    sample = io.sample_loader("case_0")
    sample.add_prediction(np.ones((4, 5, 6), np.uint8))
    with pytest.raises(StorageError, match="could not create the folder"):
        io.save_prediction(sample)


# ---------------------------------------------------------------- check and fingerprint


def test_check_names_every_bad_sample_at_once(io: Data_IO, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def check(index: Any, load_seg: bool = True) -> None:
        asked.append((index, load_seg))
        if index != "case_1":
            raise DataError(f"{index}/labels.npy is\nmissing") if load_seg else RuntimeError("oops")

    monkeypatch.setattr(io.interface, "check", check)
    with pytest.raises(DataError) as caught:
        io.check(io.get_indiceslist())
    assert str(caught.value).splitlines() == [
        "2 of 3 samples cannot be used; repair them, or leave them out:",
        "  'case_0': case_0/labels.npy is missing",
        "  'case_2': case_2/labels.npy is missing",
    ]
    with pytest.raises(DataError, match="'case_0': RuntimeError: oops"):
        io.check(["case_1", "case_0", "case_1"], load_seg=False)
    assert asked == [(f"case_{n}", True) for n in range(3)] + [("case_1", False), ("case_0", False)]
    io.check("case_1")


def test_check_lists_the_first_twenty(tmp_path: Path) -> None:
    io = bare(tmp_path)
    io.indices_list = list(range(50))
    io.interface.check = lambda index, load_seg: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(DataError, match="50 of 50 samples") as caught:
        io.check(range(50))
    lines = str(caught.value).splitlines()
    assert lines[-2:] == ["  19: ZeroDivisionError: division by zero", "  … and 30 more"]
    assert len(lines) == 22


def test_check_finds_names_that_do_not_exist(io: Data_IO, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"1 of 2 samples.*\n  'case_9': sample 'case_9' is not one of the 3"):
        io.check(["case_0", "case_9"])
    # One that is not in the list, but can be loaded, is fine.
    (folder / "case_0").rename(folder / "late")
    io.check(["late"])
    monkeypatch.setattr(io.interface, "load_segmentation", lambda index: np.full((4, 5, 6), 9))
    with pytest.raises(DataError, match=r"'late'.*the label map holds 9"):
        io.check(["late"])
    io.check(["late"], load_seg=False)


def test_a_changed_file_is_noticed(io: Data_IO, folder: Path) -> None:
    before = io.fingerprint("case_0")
    assert before == io.fingerprint("case_0")
    assert before != io.fingerprint("case_1")
    time = (folder / "case_0" / "image.npy").stat().st_mtime_ns
    os.utime(folder / "case_0" / "image.npy", ns=(time, time + 1))
    assert io.fingerprint("case_0") != before


def test_another_data_set_with_the_same_files_is_told_apart(io: Data_IO, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "case_0"
    copy.mkdir(parents=True)
    for name in ("image.npy", "labels.npy"):
        (copy / name).write_bytes((folder / "case_0" / name).read_bytes())
        stat = (folder / "case_0" / name).stat()
        os.utime(copy / name, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    other = Data_IO(Folder_of_arrays(1, 3, True), copy.parent)
    assert other.fingerprint("case_0") != io.fingerprint("case_0")


# ---------------------------------------------------------------- batches and prepared samples


def test_batches_on_disk(io: Data_IO, rng: np.random.Generator) -> None:
    images, labels = rng.random((2, 4, 4, 1), np.float32), rng.integers(0, 2, (2, 4, 4, 3), np.uint8)
    io.backup_batches(images, labels, 3)
    io.backup_batches(images, None, 4)
    names = sorted(path.name for path in Path(io.batch_path).iterdir())
    assert names == sorted(f"{io.seed}.batch_{rest}.npz" for rest in ("img.3", "seg.3", "img.4"))
    for loaded, original in ((io.batch_load(3), images), (io.batch_load(3, img=False), labels)):
        np.testing.assert_array_equal(loaded, original)
        assert loaded.dtype == original.dtype
    with pytest.raises(MissingDataError, match="the segmentation batch 4 of this run is missing"):
        io.batch_load(4, img=False)
    with pytest.raises(MissingDataError, match="the image batch 9 of this run is missing"):
        io.batch_load(9)


def test_a_damaged_batch_and_one_with_code_in_it(io: Data_IO, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    io.backup_batches(np.zeros(3), np.zeros(3), 0)
    path = Path(io.batch_path) / f"{io.seed}.batch_img.0.npz"
    whole = path.read_bytes()
    np.savez(path, batch=np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(DataError, match="is damaged"):
        io.batch_load(0)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="is damaged"):
        io.batch_load(0)
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError, match=f"batch {path} is damaged"):
        io.batch_load(0)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(DataError, match="Python objects"):
        io.backup_batches(np.array([None]), None, 1)  # type: ignore[arg-type]


def test_one_batch_is_removed(io: Data_IO) -> None:
    for pointer in (1, 11):
        io.backup_batches(np.zeros(3), np.zeros(3), pointer)
    io.batch_cleanup(1)
    io.batch_cleanup(1)
    assert io.batch_load(11).shape == (3,)
    with pytest.raises(MissingDataError):
        io.batch_load(1)


def test_two_runs_on_one_folder_do_not_delete_each_others_files(io: Data_IO, folder: Path) -> None:
    """Defect: all Data_IO share one seed, so one run deletes the other's files."""
    other = Data_IO(io.interface, folder, batch_path=io.batch_path)
    io.seed, other.seed = 12, 123  # one number begins with the other
    for one in (io, other):
        one.backup_batches(np.full(3, one.seed), None, 0)
        one.backup_sample(one.sample_loader("case_0"))
    store = Path(io.batch_path) / f"{io.seed}.prepared"
    store.mkdir()
    io.batch_cleanup()
    assert sorted(path.name for path in Path(io.batch_path).iterdir()) == [
        "12.prepared",
        "123.batch_img.0.npz",
        "123.case_0",
    ]
    assert other.batch_load(0)[0] == 123
    assert other.sample_loader("case_0", backup=True).index == "case_0"
    store.rmdir()
    other.batch_cleanup()
    assert not Path(io.batch_path).exists()
    other.batch_cleanup()


def test_the_batch_folder_stays_where_it_is_wanted_or_in_use(io: Data_IO) -> None:
    io.backup_batches(np.zeros(3), None, 0)
    (Path(io.batch_path) / "notes.txt").write_text("mine")
    io.batch_cleanup()
    assert [path.name for path in Path(io.batch_path).iterdir()] == ["notes.txt"]
    (Path(io.batch_path) / "notes.txt").unlink()
    io.delete_batchDir = False
    io.batch_cleanup()
    assert Path(io.batch_path).is_dir()


def test_a_batch_folder_that_cannot_be_made(io: Data_IO, tmp_path: Path) -> None:
    (tmp_path / "batches").write_text("a file")
    with pytest.raises(StorageError, match="could not create the folder"):
        io.backup_batches(np.zeros(3), None, 0)
    with pytest.raises(StorageError, match="could not create the folder"):
        io.backup_sample(io.sample_loader("case_0"))


def test_prepared_samples_are_memory_mapped(io: Data_IO) -> None:
    sample = io.sample_loader("case_0")
    sample.img_data = sample.img_data[1:] * 2
    sample.history.append({"step": "Crop"})
    with pytest.raises(MissingDataError, match="does not hold a stored sample"):
        io.sample_loader("case_0", backup=True)
    io.backup_sample(sample)
    assert (Path(io.batch_path) / f"{io.seed}.case_0").is_dir()
    for loaded in (io.load_sample_pickle("case_0"), io.sample_loader("case_0", backup=True)):
        assert isinstance(loaded.img_data, np.memmap)
        np.testing.assert_array_equal(loaded.img_data, sample.img_data)
        np.testing.assert_array_equal(loaded.seg_data, sample.seg_data)
        assert loaded.history == [{"step": "Crop"}]
        assert loaded.shape == (4, 5, 6, 1)


# ---------------------------------------------------------------- tables


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


@pytest.mark.parametrize("as_object", [False, True])
def test_history(tmp_path: Path, as_object: bool) -> None:
    history: Any = {"loss": [np.float32(1.5), 0.1], "dice": [float("nan")], "learning_rate": np.array([1e-4, 1e-5])}
    backup_history(SimpleNamespace(history=history) if as_object else history, tmp_path / "eval" / "fold_0")
    assert (tmp_path / "eval" / "fold_0" / "history.tsv").read_text() == (
        "epoch\tloss\tdice\tlearning_rate\n1\t1.5\tnan\t0.0001\n2\t0.1\t\t1e-05\n"
    )


def test_evaluation_rows_are_appended(tmp_path: Path) -> None:
    header = ["sample_id", "dice_class-0", "dice_class-1"]
    backup_evaluation(["left over"], tmp_path / "eval")
    backup_evaluation(header, tmp_path / "eval", start=True)
    backup_evaluation(["case\t0\r\n", np.float64(1 / 3), None], tmp_path / "eval")
    backup_evaluation([7, float("nan"), np.int64(1)], tmp_path / "eval")
    table = rows(tmp_path / "eval" / "detailed_validation.tsv")
    assert table == [header, ["case\t0\r\n", "0.3333333333333333", ""], ["7", "nan", "1.0"]]


def test_a_row_that_cannot_be_written_leaves_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup_evaluation(["a", 1], tmp_path)

    def full(self: Path, *_: Any, **__: Any) -> int:
        self.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(StorageError, match=r"detailed_validation\.tsv: No space left"):
            backup_evaluation(["b", 2], tmp_path)
    assert (tmp_path / "detailed_validation.tsv").read_text() == "a\t1\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_directories_of_an_evaluation(tmp_path: Path) -> None:
    for _ in range(2):
        assert create_directories(str(tmp_path / "eval")) == str(tmp_path / "eval")
        assert create_directories(str(tmp_path / "eval"), "fold_0") == os.path.join(tmp_path, "eval", "fold_0")
    assert (tmp_path / "eval" / "fold_0").is_dir()
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="could not create the folder"):
        create_directories(tmp_path / "taken")


def test_the_module_offers_what_miscnn_does() -> None:
    assert {"Data_IO", "backup_history", "backup_evaluation", "create_directories"} <= set(data_io_module.__all__)
