from __future__ import annotations

import json
import logging
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from miscnn_tf._machine.system_memory import SystemMemory
from miscnn_tf.errors import ConfigurationError, MemoryBudgetError
from miscnn_tf.neural_network import memory_budget
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.memory_budget import MemoryBudget, network_bytes
from miscnn_tf.neural_network.prediction import PatchPredictor
from miscnn_tf.processing.assembling import assembling_bytes
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.subfunctions import Normalization, Padding, Resampling

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"


def flips():
    augmentation = Data_Augmentation()
    augmentation.infaug = True
    return augmentation


@pytest.mark.parametrize(
    ("shape", "processing"),
    [
        ((20, 22, 18), {"subfunctions": [Resampling((0.8, 1.3, 1.1)), Normalization()]}),
        ((20, 22, 18), {"subfunctions": [Padding((4, 27, 4))], "data_aug": flips()}),
        ((20, 22), {"subfunctions": [Normalization()], "batch_size": 3}),
        ((20, 5), {"subfunctions": [Resampling((1.5, 1.5))]}),  # the patch is larger than the image
    ],
)
def test_sections_change_nothing(make_network, monkeypatch, shape, processing):
    network = make_network(data={"shape": shape, "classes": 3}, processing=processing)
    network.preprocessor.patchwise_overlap = (4,) * len(shape)
    names = ["case_0"]
    whole = network.predict(names, return_output=True, activation_output=True)
    monkeypatch.setattr(MemoryBudget, "sections", lambda *_: 3)
    cut = network.predict(names, return_output=True, activation_output=True, memory_budget="1TB")
    # Windows stand in other batches, which may round otherwise.
    np.testing.assert_allclose(cut, whole, atol=1e-5)
    labels = np.stack(network.predict(names, return_output=True, memory_budget="1TB"))
    clear = np.diff(np.sort(np.stack(whole), axis=-1)[..., -2:], axis=-1)[..., 0] > 1e-4
    np.testing.assert_array_equal(labels[clear], np.stack(whole).argmax(-1)[clear])


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("augmentation", [None, flips()])
def test_of_windows_no_more_is_held_than_was_estimated(make_network, monkeypatch, augmentation, batch_size):
    """With windows that fill the plane of the image, so that there is little else."""
    network = make_network(
        data={"shape": (240, 24, 24), "classes": 24},
        processing={"patch_shape": (24, 24, 24), "batch_size": 1, "data_aug": augmentation},
    )
    network.preprocessor.patchwise_overlap = 0
    sample = network.prepared("case_0")
    predictor, told = network.patch_predictor(), []
    predictor.batch_size = batch_size
    predictor._predicted = lambda batch: np.ones((len(batch), 24, 24, 24, 24), np.float32)

    def one_section(budget, *arguments):
        told.append(arguments)
        return 1

    monkeypatch.setattr(memory_budget, "sections_within", one_section)
    network.predict_sample(sample, activation_output=False)
    tracemalloc.start()
    try:
        network.predict_sample(sample, activation_output=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    plan, steps, _, _, activation_output, held = told[0]
    parts = assembling_bytes(plan, steps, sample, activation_output, held, sections=1)
    window = 24**3 * 24 * 4
    # The network makes a batch; the sum of windows is one, and its pieces are not larger than that here.
    assert peak <= parts.windows + parts.result + (batch_size + 2) * window


def without_the_rest(monkeypatch, network=0):
    """As if nothing but the prediction took memory."""
    monkeypatch.setattr(memory_budget, "resident_bytes", lambda: 0)
    monkeypatch.setattr(memory_budget, "network_bytes", lambda *_: network)
    monkeypatch.setattr(memory_budget, "_SLACK_BYTES", 0)


def test_the_fewest_sections_that_fit_are_taken_and_told(make_network, monkeypatch, caplog):
    processing = {"data_aug": None, "patch_shape": (8, 40, 40), "batch_size": 1}
    network = make_network(data={"shape": (40, 200, 300), "classes": 30}, processing=processing)
    sample = network.prepared("case_0")
    without_the_rest(monkeypatch)

    def sections(budget):
        found = MemoryBudget(budget)
        steps = network.preprocessor.subfunctions
        return found.sections(network.plan, steps, [network.patch_predictor()], sample, False, 1)

    # The sums of 8 rows are 58 MB, pieces of them and the result about 30.
    numbers = [sections(f"{size}MB") for size in (1000, 94.1, 69.1, 54.1, 38.1)]
    assert numbers == [1, 1, 2, 3, 9]
    with caplog.at_level(logging.INFO):
        network.predict(["case_0"], return_output=True, memory_budget="69.1MB")
    assert "'case_0': predicted in 2 section(s)" in caplog.text
    assert "within 0.07 GB" in caplog.text


def test_what_does_not_fit_is_refused_before_it_is_computed(make_network, monkeypatch):
    network = make_network(data={"shape": (40, 200, 300), "classes": 30}, processing={"data_aug": None})
    monkeypatch.setattr(PatchPredictor, "__call__", lambda *_: pytest.fail("something was predicted"))
    without_the_rest(monkeypatch, network=10**7)
    with pytest.raises(
        MemoryBudgetError, match=r"'case_0'.*0\.03 GB does not suffice, at least .* the network takes 0\.01"
    ):
        network.predict(["case_0"], return_output=True, memory_budget="30MB")
    with pytest.raises(MemoryBudgetError, match=r"the result 0\.29 GB.*activation_output=False"):
        network.predict(["case_0"], return_output=True, activation_output=True, memory_budget="300MB")
    with pytest.raises(MemoryError):
        network.predict_array(np.zeros((40, 200, 300)), memory_budget="30MB")


def test_of_several_networks_what_each_was_found_to_take_is_added_up(make_network, monkeypatch):
    network = make_network(data={"shape": (16, 16, 16)}, processing={"data_aug": None})
    sample = network.prepared("case_0")
    without_the_rest(monkeypatch, network=10**8)
    predictors = [network.patch_predictor()] * 3
    with pytest.raises(MemoryBudgetError, match=r"the network takes 0\.30 GB"):
        MemoryBudget("320MB").sections(network.plan, [], predictors, sample, False, 3)


def a_machine_with(monkeypatch, free):
    monkeypatch.setattr(memory_budget, "system_memory", lambda: SystemMemory(free, free))


def test_without_a_budget_what_is_free_is_enough(make_network, monkeypatch, caplog):
    processing = {"data_aug": None, "patch_shape": (8, 40, 40), "batch_size": 1}
    network = make_network(data={"shape": (40, 200, 300), "classes": 30}, processing=processing)
    (whole,) = network.predict(["case_0"], return_output=True)
    without_the_rest(monkeypatch)
    a_machine_with(monkeypatch, 80_000_000)
    with caplog.at_level(logging.INFO):
        (cut,) = network.predict(["case_0"], return_output=True)
    assert "'case_0': predicted in 2 section(s) to stay within 0.07 GB" in caplog.text
    np.testing.assert_array_equal(cut, whole)


def test_a_machine_with_too_little_memory_is_told_and_tried(make_network, monkeypatch, caplog):
    processing = {"data_aug": None, "patch_shape": (8, 24, 24), "batch_size": 1}
    network = make_network(data={"shape": (8, 48, 48), "classes": 3}, processing=processing)
    without_the_rest(monkeypatch)
    a_machine_with(monkeypatch, 1000)
    (labels,) = network.predict(["case_0"], return_output=True)
    assert labels.shape == (8, 48, 48)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "'case_0'" in warning
    assert "that are free on this machine does not suffice" in warning
    assert "memory_budget" not in warning


def test_the_network_is_not_tried_for_a_small_image(make_network, monkeypatch):
    network = make_network()
    monkeypatch.setattr(memory_budget, "network_bytes", lambda *_: pytest.fail("it was"))
    network.predict(["case_0"], return_output=True)


def test_a_system_that_does_not_say_what_is_free_has_no_limit(make_network, monkeypatch):
    network = make_network()
    monkeypatch.setattr(memory_budget, "system_memory", lambda: SystemMemory(None, None))
    monkeypatch.setattr(memory_budget, "resident_bytes", lambda: pytest.fail("not known there"))
    network.predict(["case_0"], return_output=True)


def test_an_image_that_cannot_be_prepared_is_refused_before(make_network):
    network = make_network(processing={"subfunctions": [Normalization()]})
    with pytest.raises(MemoryBudgetError, match="does not suffice to prepare the image"):
        network.predict(["case_0"], return_output=True, memory_budget="1MB")
    with pytest.raises(ConfigurationError, match="memory_budget must be"):
        network.predict(["case_0"], memory_budget="much")


def test_what_the_network_takes_is_measured_once():
    """Blocks of this size go back to the system at once, so that every run of the network shows."""
    model = Architecture(n_filters=2, depth=1).create_model((96, 96, 96, 1), n_labels=16)
    predictor = PatchPredictor(model, (96, 96, 96), 1)
    found = network_bytes(predictor, (96, 96, 96), 1)
    output = 96**3 * 16 * 4
    assert output < found < 5 * output
    predictor._predict = None
    assert network_bytes(predictor, (96, 96, 96), 1) == found


def test_of_whole_images_a_part_is_measured():
    model = Architecture(n_filters=2, depth=1).create_model((None, None, 1), n_labels=40)
    predictor = PatchPredictor(model, (None, None), 1)
    seen = []
    predict = predictor._predict
    predictor._predict = lambda images: seen.append(images.shape) or predict(images)
    found = network_bytes(predictor, (2048, 1200), 1, divisors=(12, 12))
    assert {tuple(shape) for shape in seen} == {(1, 516, 516, 1)}
    output = 2048 * 1200 * 40 * 4
    assert output < found < 5 * output
    predictor._predict = None  # images of other sizes are not measured again
    assert network_bytes(predictor, (1200, 1024), 1, divisors=(12, 12)) == pytest.approx(found / 2, abs=1)
    assert network_bytes(predictor, (12, 24), 1, divisors=(12, 12)) == pytest.approx(
        found * 516**2 / (2048 * 1200), abs=1
    )


SCRIPT = """
import json, sys
import numpy as np
from miscnn_tf.processing.subfunctions import Resize
sys.path.insert(0, sys.argv[1])
from toy import ToyInterface
from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.neural_network.architecture.unet.standard import Architecture

def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return 1024 * int(line.split()[1])

image = np.zeros((24, 60, 60), np.float32)
io = Data_IO(ToyInterface(shape=(24, 60, 60), classes=70), "toy", output_path="p", batch_path="b")
steps = [Resize((32, 160, 240))]
preprocessor = Preprocessor(io, 1, steps, data_aug=None, patch_shape=(32, 32, 32))
model = Neural_Network(preprocessor, Architecture(n_filters=2, depth=1), precision="float32")
model.verbose = 0
list(model.patch_predictor()([np.zeros((32, 32, 32, 1), np.float32)] * 2))  # what is made once
before = status("VmRSS")
budget = before + 330_000_000
within = model.predict_array(image, memory_budget=budget)
peak = status("VmHWM")
without = model.predict_array(image)
assert np.array_equal(within, without)
print(json.dumps({"budget": budget, "peak": peak, "before": before, "without": status("VmHWM")}))
"""


def test_the_process_stays_within_the_budget(tmp_path):
    """users.md: all class probabilities at once fill the memory. Here the sums alone are 340 MB."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1])],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak"] <= found["budget"]
    assert found["without"] > found["budget"]


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "spacing"), [(3, 0), (30, 1.5), (30, 0)])
def test_a_large_ct_within_4_gb(classes, spacing):
    """512 x 512 x 600 voxels; the class probabilities alone of 30 classes are 19 GB."""
    command = [sys.executable, str(BENCHMARK), "--classes", str(classes), "--spacing", str(spacing)]
    command += ["--budget", "4GB", "--only-budget", "--overlap", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (case,) = json.loads(done.stdout)["cases"]
    assert case["peak_gb"] <= case["estimate_gb"] <= 4
    assert case["estimate_gb"] < 1.5 * case["peak_gb"]
