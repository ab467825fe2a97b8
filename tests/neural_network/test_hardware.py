"""What is chosen on which machine, and what is said about it."""

import json
import logging
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf._machine import onednn
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network import hardware
from miscnn_tf.neural_network.hardware import choose_hardware, precision_scope


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A plain CPU without bfloat16 and without any trace of a GPU; returns a function that changes it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("TF_CONFIG", raising=False)

    def be(flags="sse avx2", driver=False, gpus=(), capability=(9, 0), hidden=False):
        (tmp_path / "cpuinfo").write_text(
            f"model name\t: x\nflags\t\t: {flags}\n\nmodel name\t: x\nflags\t\t: {flags}\n"
        )
        if driver:
            (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(onednn, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(hardware, "NVIDIA_TRACES", (tmp_path / "nvidia0",))
        devices = [tf.config.PhysicalDevice(f"/physical_device:GPU:{gpu}", "GPU") for gpu in range(len(gpus))]
        grown = []
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices if kind == "GPU" else [])
        monkeypatch.setattr(
            tf.config, "get_visible_devices", lambda kind=None: devices if kind == "GPU" and not hidden else []
        )
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
    assert caplog.messages == ["hardware: CPU; float32 (no bfloat16 instructions); XLA off (slow on a CPU)"]


@pytest.mark.parametrize(("speedup", "expected"), [(1.7, "mixed_bfloat16"), (1.05, "float32"), (0.6, "float32")])
def test_bfloat16_where_it_pays_on_this_processor(machine, monkeypatch, speedup, expected):
    machine("avx512f avx512_bf16")
    monkeypatch.setattr(hardware, "bfloat16_speedup", lambda: speedup)
    chosen = choose_hardware()
    assert chosen.precision == expected
    assert f"bfloat16 is {speedup:.1f} times as fast, measured" in chosen.description
    # A measurement may come out differently on the next day.
    assert choose_hardware(deterministic=True).precision == "float32"


def test_xla_can_be_overruled(machine):
    chosen = choose_hardware(jit_compile=True)
    assert (chosen.jit_compile, chosen.description) == (
        True,
        "CPU; float32 (no bfloat16 instructions); XLA on (as asked for)",
    )
    machine(gpus=["H200"])
    assert choose_hardware(jit_compile=False).jit_compile is False
    with pytest.raises(ConfigurationError, match="jit_compile='yes' must be 'auto', True or False"):
        choose_hardware(jit_compile="yes")


@pytest.mark.parametrize("jit_compile", ["auto", True])
def test_whole_images_are_not_compiled_and_the_log_says_so(machine, make_network, caplog, jit_compile):
    machine(gpus=["H200"])
    with caplog.at_level(logging.INFO):
        network = make_network(
            processing={"analysis": "fullimage", "patch_shape": None, "batch_size": 1}, jit_compile=jit_compile
        )
    assert network.model.jit_compile is network.hardware.jit_compile is False
    assert caplog.messages == ["hardware: 1 GPU H200; float32 (as asked for); XLA off (whole images, in many sizes)"]
    assert make_network(jit_compile=jit_compile).model.jit_compile is True


def test_what_cannot_be_compiled_is_refused(machine, monkeypatch):
    class Two:
        num_replicas_in_sync = 2

    monkeypatch.setattr(hardware, "_strategy", lambda multi_gpu, gpus: Two())
    assert choose_hardware(multi_gpu=True).description.endswith("XLA off (several devices)")
    machine(gpus=["H200", "H200"])
    assert choose_hardware(multi_gpu=True).description.endswith("XLA in prediction alone (several devices)")
    with pytest.raises(ConfigurationError, match="jit_compile=True, but 2 devices share each batch"):
        choose_hardware(multi_gpu=True, jit_compile=True)


def test_machines_that_train_together_take_the_precision_of_the_first(monkeypatch, caplog):
    class Two:
        num_replicas_in_sync = 2

        def reduce(self, operation, values, axis):
            other = np.zeros(values.shape)
            other[0, 0] = hardware.PRECISIONS.index("mixed_bfloat16")
            return values + other

    cluster = {"worker": ["a:1", "b:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}}))
    monkeypatch.setattr(hardware, "cluster_strategy", lambda cluster: Two())
    chosen = choose_hardware()
    assert chosen.precision == "mixed_bfloat16"
    assert chosen.description.startswith("worker 2 of 2 (TF_CONFIG), 2 CPUs in all; ")
    assert "mixed_bfloat16 (as the first worker chose)" in chosen.description
    assert (chosen.share.of, chosen.share.first, chosen.share.parts) == (2, 1, 1)
    # Whatever was asked for here: each of them has to take part in the exchange, or the others wait for it.
    chosen = choose_hardware(precision="float32")
    assert chosen.precision == "mixed_bfloat16"
    assert "mixed_bfloat16 (as the first worker chose)" in chosen.description
    monkeypatch.setenv("TF_CONFIG", "worker 1")
    with pytest.raises(ConfigurationError, match="TF_CONFIG is not valid JSON"):
        choose_hardware()


def test_one_gpu(machine):
    grown = machine(gpus=["H200", "H200"])
    chosen = choose_hardware()
    assert (chosen.precision, chosen.jit_compile) == ("mixed_float16", True)
    assert len(grown) == 2
    assert all(on for _, on in grown)
    assert chosen.description == (
        "1 GPU H200 (of 2; multi_gpu=True uses all); mixed_float16 (tensor cores); XLA on (a GPU)"
    )


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


def test_a_gpu_that_is_hidden_from_tensorflow_is_not_there(machine, caplog):
    grown = machine(driver=True, gpus=["H200"], hidden=True)
    with caplog.at_level(logging.INFO):
        chosen = choose_hardware()
    assert (chosen.precision, chosen.jit_compile, grown) == ("float32", False, [])
    assert chosen.description.startswith("CPU; ")
    assert "hidden by tf.config.set_visible_devices" in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]


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
