"""A small training in processes of its own: on one device, on several, or on several machines that are processes.

As a program it trains as the JSON object in its argument says; `train` starts such programs and reads what they found.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

SETTINGS = {
    "devices": 1,
    "batch": 4,
    "shape": [12, 12],
    "network": {"feature_maps": [4, 8]},
    "arguments": {},
    "loss": "dice_crossentropy",
    "class_weight": {"1": 3.0},
    "epochs": 3,
    "minutes": None,
    "validation": True,
    "kill_in": -1,
    "fail_in": -1,
}


def start(folder, number=0, workers=1, ports=(), **settings):
    """Start one worker; what it finds lands in ``<folder>/result_<number>.npz``."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("TF_CONFIG", None)
    if workers > 1:
        addresses = [f"127.0.0.1:{port}" for port in ports]
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        environment["TF_CONFIG"] = json.dumps(config)
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps({**SETTINGS, **settings, "folder": str(folder), "number": number})
    return subprocess.Popen(
        [sys.executable, __file__, told], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(folder, workers=1, timeout=300, per_worker=None, **settings):
    """Run all workers to their ends; their exit codes and what they printed."""
    per_worker = per_worker or {}
    ports = free_ports(workers)
    processes = []
    try:
        for number in range(workers):
            processes.append(start(folder, number, workers, ports, **settings, **per_worker.get(number, {})))
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return [process.returncode for process in processes], outputs


def train(folder, workers=1, **settings):
    """The results of all workers: history and weights of each, by name."""
    codes, outputs = run(folder, workers, **settings)
    assert codes == [0] * workers, "\n".join(output[-3000:] for output in outputs)
    return [dict(np.load(folder / f"result_{number}.npz")) for number in range(workers)]


def free_ports(number):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main(settings):
    import logging

    logging.basicConfig(level=logging.INFO)
    import tensorflow as tf

    tf.get_logger().propagate = False
    if settings["devices"] > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * settings["devices"]
        tf.config.set_logical_device_configuration(cpu, parts)
    import keras
    from toy import ToyInterface

    import miscnn_tf
    from miscnn_tf.neural_network.architecture.unet.plain import Architecture
    from miscnn_tf.neural_network.callbacks import PolynomialDecay, TimeLimit
    from miscnn_tf.neural_network.checkpoint import BestModel, TrainingState
    from miscnn_tf.neural_network.metrics import ClassDice, dice_soft

    folder, number = Path(settings["folder"]), settings["number"]
    io = miscnn_tf.Data_IO(ToyInterface(shape=settings["shape"], cases=8), "toy", batch_path=folder / "batches")
    patch = tuple(8 for _ in settings["shape"])
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=settings["batch"], patch_shape=patch)
    if number == 0:
        preprocessor.seed = 3  # the other workers get it from the first
    network = miscnn_tf.Neural_Network(
        preprocessor,
        Architecture(**settings["network"]),
        loss=settings["loss"],
        metrics=[dice_soft, ClassDice(1)],
        learning_rate=0.01,
        multi_gpu=settings["devices"] > 1,
        seed=3,
        **{"precision": "float32", **settings["arguments"]},
    )
    network.verbose = 2

    class Unlucky(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if batch and self.epoch == settings["kill_in"]:
                os.kill(os.getpid(), signal.SIGKILL)
            if batch and self.epoch == settings["fail_in"]:
                raise ValueError("boom")

    callbacks = [
        PolynomialDecay(minutes=settings["minutes"]),
        BestModel(network, folder / "best.keras", monitor="val_loss" if settings["validation"] else "loss"),
        keras.callbacks.EarlyStopping(patience=50, restore_best_weights=True, monitor="loss"),
        keras.callbacks.CSVLogger(folder / "log.csv", append=True),
        TrainingState(folder / "state", keep=True),
        Unlucky(),
    ]
    if settings["minutes"]:
        callbacks.append(TimeLimit(settings["minutes"]))
    names = io.get_indiceslist()
    weights = settings["class_weight"]
    arguments = {
        "epochs": settings["epochs"],
        "callbacks": callbacks,
        "class_weight": weights and {int(label): weight for label, weight in weights.items()},
    }
    if settings["validation"]:
        history = network.evaluate(names[:5], names[5:], **arguments)
    else:
        history = network.train(names[:5], **arguments)
    history.history.pop("data_wait")
    np.savez(
        folder / f"result_{number}.npz",
        **{name: np.array(values) for name, values in history.history.items()},
        weights=np.concatenate([weight.ravel() for weight in network.model.get_weights()]),
        prediction=network.predict("case_7", return_output=True, activation_output=True)[0],
        replicas=network.hardware.replicas,
        rate=network.learning_rate,
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
