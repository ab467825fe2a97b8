"""What is chosen on which machine, and what is said about it."""

import json
import logging
import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network import hardware
from miscnn_tf.neural_network.hardware import choose_hardware, cpu_computes_bfloat16, precision_scope


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A plain CPU without bfloat16 and without any trace of a GPU; returns a function that changes it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def be(flags="sse avx2", driver=False, gpus=(), capability=(9, 0)):
        (tmp_path / "cpuinfo").write_text(
            f"model name\t: x\nflags\t\t: {flags}\n\nmodel name\t: x\nflags\t\t: {flags}\n"
        )
        if driver:
            (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(hardware, "NVIDIA_TRACES", (tmp_path / "nvidia0",))
        devices = [tf.config.PhysicalDevice(f"/physical_device:GPU:{gpu}", "GPU") for gpu in range(len(gpus))]
        grown = []
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices if kind == "GPU" else [])
        monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu, on)))
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda gpu: {"device_name": gpus[int(gpu.name[-1])], "compute_capability": capability},
        )
        return grown

    be()
    return be


def test_a_plain_cpu_is_used_in_float32_without_xla(caplog):
    with caplog.at_level(logging.INFO):
        chosen = choose_hardware()
    assert (chosen.precision, chosen.jit_compile) == ("float32", False)
    assert chosen.strategy.num_replicas_in_sync == 1
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert caplog.messages == ["hardware: CPU, float32, XLA off"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx512f avx512bw", False), ("xavx512_bf16y", False)],
)
def test_bfloat16_only_where_the_processor_has_it(machine, flags, expected):
    machine(flags)
    assert cpu_computes_bfloat16() is expected
    assert choose_hardware().precision == ("mixed_bfloat16" if expected else "float32")


def test_without_a_description_of_the_processor_float32_is_chosen(tmp_path):
    assert cpu_computes_bfloat16(tmp_path / "missing") is False


def test_one_gpu(machine):
    grown = machine(gpus=["H200", "H200"])
    chosen = choose_hardware()
    assert (chosen.precision, chosen.jit_compile) == ("mixed_float16", True)
    assert len(grown) == 2
    assert all(on for _, on in grown)
    assert "1 GPU H200 (of 2; multi_gpu=True uses all), mixed_float16, XLA on" in chosen.description


def test_an_old_gpu_stays_in_float32(machine):
    machine(gpus=["GTX 1080"], capability=(6, 1))
    assert choose_hardware().precision == "float32"


def test_memory_growth_that_can_no_longer_be_set_is_no_error(machine, monkeypatch):
    machine(gpus=["H200"])

    def too_late(gpu, on):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
    assert choose_hardware().jit_compile is True


def test_no_gpu_used_and_nobody_said_so(machine, caplog):
    machine(driver=True)
    choose_hardware()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "RUNNING ON THE CPU" in caplog.text
    assert "miscnn_tf[gpu]" in caplog.text


def test_a_gpu_that_the_user_has_hidden_is_no_alarm(machine, caplog, monkeypatch):
    machine(driver=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    choose_hardware()
    assert caplog.records == []


def test_multi_gpu_without_several_devices_is_said(caplog):
    assert choose_hardware(multi_gpu=True).strategy.num_replicas_in_sync == 1
    assert "multi_gpu=True, but TensorFlow sees no GPU" in caplog.text


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_precision_asked_for_is_used(precision):
    assert choose_hardware(precision=precision).precision == precision


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigurationError, match="precision='half' must be one of 'auto', 'float32'"):
        choose_hardware(precision="half")


def test_the_precision_ends_with_the_scope():
    before = keras.config.dtype_policy()
    with choose_hardware(precision="mixed_bfloat16").scope():
        layer = keras.layers.Dense(1)
    assert layer.compute_dtype == "bfloat16"
    assert keras.config.dtype_policy() == before
    with pytest.raises(ZeroDivisionError), precision_scope("mixed_float16"):
        _ = 1 / 0
    assert keras.config.dtype_policy() == before


def test_two_devices_train_as_one(tmp_path):
    """A MirroredStrategy over two logical CPU devices reaches the weights of one device."""
    script = """
import json, sys
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.hardware import choose_hardware
from miscnn_tf.neural_network.losses import dice_coefficient_loss, dice_crossentropy
from miscnn_tf.neural_network.metrics import dice_soft
rng = np.random.default_rng(1)
image = np.repeat(rng.normal(size=(1, 4, 4, 4, 1)), 4, 0).astype("float32")
labels = np.eye(2, dtype="float32")[np.repeat(rng.integers(0, 2, (1, 4, 4, 4)), 4, 0)]
result = {}
for multi_gpu in (True, False):
    hardware = choose_hardware(multi_gpu=multi_gpu, precision="float32")
    with hardware.scope():
        keras.utils.set_random_seed(1)
        model = Architecture(2, 1).create_model(image.shape[1:], 2)
        loss = lambda t, p: dice_crossentropy(t, p) + dice_coefficient_loss(t, p)
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=[dice_soft], jit_compile=hardware.jit_compile)
    history = model.fit(image, labels, batch_size=4, epochs=1, verbose=0).history
    replicas = hardware.strategy.num_replicas_in_sync
    result[replicas] = [hardware.description, history["loss"][0], *map(float, model.get_weights()[0].ravel())]
json.dump(result, open("result.json", "w"))
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["2"][0] == "2 CPU devices, float32, XLA off"
    assert result["2"][1:] == pytest.approx(result["1"][1:], rel=1e-4, abs=1e-6)


TRAINING = """
import sys
import numpy as np
from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
rng = np.random.default_rng(1)
samples = {
    f"case_{number}": (rng.normal(size=(24, 24, 24)).astype("float32"), rng.integers(0, 3, (24, 24, 24), np.uint8))
    for number in range(4)
}
io = Data_IO(Dictionary_interface(samples, classes=3), "", batch_path=sys.argv[1])
preprocessor = Preprocessor(io, batch_size=2, patch_shape=(16, 16, 16), seed=1)
model = Neural_Network(preprocessor, Architecture(8, 2), deterministic=True)
model.verbose = 0
history = model.train(io.get_indiceslist(), epochs=3, iterations=4)
print(model.hardware.description)
for weight in model.model.get_weights():
    print(weight.tobytes().hex())
"""


def test_a_deterministic_training_gives_the_same_weights_to_the_last_bit(tmp_path):
    def train(name):
        command = [sys.executable, "-c", TRAINING, str(tmp_path / name)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    first, second = train("a"), train("b")
    assert first.splitlines()[0].endswith("deterministic")
    assert len(first.splitlines()) > 20
    assert first == second


def test_determinism_that_comes_too_late_is_said(caplog, monkeypatch):
    def refuse(threads):
        raise RuntimeError("Inter op parallelism cannot be modified after initialization.")

    options = []
    monkeypatch.setattr(tf.config.threading, "set_inter_op_parallelism_threads", refuse)
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", options.append)
    assert choose_hardware(deterministic=True).description.endswith("deterministic")
    assert "deterministic=True comes too late" in caplog.text
    assert options == [{"disable_meta_optimizer": True}]
