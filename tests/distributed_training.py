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
    "batch": 3,
    "network": {"feature_maps": [4, 8], "instance_normalization": False},
    "arguments": {},
    "class_weight": True,
    "batch_dice": False,
    "metric": None,
    "samples": 5,
    "epochs": 2,
    "minutes": None,
    "state": None,
    "cross_validation": False,
    "group": False,
    "kill_in": -1,
    "fail_in": -1,
    "fail_before": False,
    "full_disk": False,
}


def start(folder, number=0, addresses=(), **settings):
    """Start one worker; what it finds lands in ``<folder>/result_<number>.npz``."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("TF_CONFIG", None)
    if len(addresses) > 1:
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        environment["TF_CONFIG"] = json.dumps(config)
    told = json.dumps({**SETTINGS, "written": str(folder), **settings, "folder": str(folder), "number": number})
    return subprocess.Popen(
        [sys.executable, __file__, told], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(folder, workers, per_worker=None, **settings):
    """Run all workers to their ends; their exit codes and what they printed."""
    per_worker = per_worker or {}
    folder.mkdir(parents=True, exist_ok=True)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    try:
        for number in range(workers):
            own = {**settings, **per_worker.get(number, {})}
            processes.append(start(folder, number, addresses, **own))
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return [process.returncode for process in processes], outputs


def train(folder, workers, **settings):
    """The results of all workers: history, weights and a prediction of each, by name."""
    codes, outputs = run(folder, workers, **settings)
    assert codes == [0] * workers, "\n".join(output[-3000:] for output in outputs)
    return [dict(np.load(folder / f"result_{number}.npz")) for number in range(workers)]


def free_ports(number):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def train_here(folder, number=0, written=None, **changed):
    """Train in this process.

    Args:
        folder: Where results and the state of the training land.
        number: The worker's number.
        written: Where the model and the log, or the results and members of the group, land.
        changed: What differs from `SETTINGS`.
    """
    import keras
    from toy import ToyInterface

    import miscnn_tf
    from miscnn_tf.evaluation import cross_validation
    from miscnn_tf.multi_model import CrossValidationGroup
    from miscnn_tf.neural_network.architecture.unet.plain import Architecture
    from miscnn_tf.neural_network.callbacks import PolynomialDecay, TimeLimit
    from miscnn_tf.neural_network.checkpoint import BestModel, TrainingState
    from miscnn_tf.neural_network.losses import dice_crossentropy, nnunet_loss
    from miscnn_tf.neural_network.metrics import ClassDice, PooledDice, dice_soft

    settings = {**SETTINGS, **changed}
    folder = Path(folder)
    written = folder if written is None else Path(written)
    io = miscnn_tf.Data_IO(ToyInterface(shape=(12, 12), cases=9), "toy", batch_path=folder / f"batches_{number}")
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=settings["batch"], patch_shape=(8, 8))
    if settings["full_disk"]:
        preprocessor.prepare_batches, io.backup_batches = True, no_space
    preprocessor.seed = 3 + number  # the first worker's holds for all
    network = miscnn_tf.Neural_Network(
        preprocessor,
        Architecture(**settings["network"]),
        loss=nnunet_loss(batch_dice=True) if settings["batch_dice"] else dice_crossentropy,
        metrics=[dice_soft, ClassDice(1), PooledDice(2)],
        learning_rate=0.01,
        multi_gpu=settings["devices"] > 1,
        seed=3,
        **{"precision": "float32", **settings["arguments"]},
    )
    network.verbose = 2
    # Outside of the scope of the devices; of the second one, Keras does not know all arguments.
    if settings["metric"] == "iou":
        network.metrics.append(keras.metrics.MeanIoU(2, name="iou", sparse_y_true=False, sparse_y_pred=False))
    if settings["metric"] == "own":

        class Own(keras.metrics.CategoricalAccuracy):
            def __init__(self, power):
                super().__init__(name="own")

        network.metrics.append(Own(2.0))

    class Unlucky(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if batch and self.epoch == settings["kill_in"]:
                os.kill(os.getpid(), signal.SIGKILL)
            if batch and self.epoch == settings["fail_in"]:
                raise ValueError("boom")

    names = io.get_indiceslist()
    arguments = {
        "epochs": settings["epochs"],
        "callbacks": [PolynomialDecay(minutes=settings["minutes"]), Unlucky()],
        "class_weight": {1: 3.0} if settings["class_weight"] else None,
    }
    if settings["minutes"]:
        arguments["callbacks"].append(TimeLimit(settings["minutes"]))
    if settings["cross_validation"]:
        history = cross_validation(
            names, network, 2, evaluation_path=folder / "evaluation", run_detailed_evaluation=True, **arguments
        )
        np.savez(folder / f"result_{number}.npz", weights=all_weights(network))
        return network
    if settings["group"]:
        del arguments["class_weight"]
        group = CrossValidationGroup(network, preprocessor, 2)
        group.evaluate(names, evaluation_path=written / "evaluation", run_detailed_evaluation=True, **arguments)
        group.dump(written / "models")
        np.savez(folder / f"result_{number}.npz", epochs=[member.epochs_trained for member in group.models])
        return network
    arguments["callbacks"] += [
        BestModel(network, written / "best.keras"),
        keras.callbacks.EarlyStopping(patience=50, restore_best_weights=True),
        keras.callbacks.CSVLogger(written / "log.csv"),
        TrainingState(settings["state"] or folder / "state", keep=True),
    ]
    if settings["fail_before"]:
        raise ValueError("boom")
    history = network.evaluate(
        names[: settings["samples"]], names[5:], **arguments
    )  # the last batch of the four holds one sample
    history.history.pop("data_wait")
    np.savez(
        folder / f"result_{number}.npz",
        **{name: np.array(values) for name, values in history.history.items()},
        weights=all_weights(network),
        prediction=network.predict("case_7", return_output=True, activation_output=True)[0],
        replicas=network.hardware.replicas,
    )
    return network


def no_space(*_):
    raise OSError("no space left")


def all_weights(network):
    return np.concatenate([weight.ravel() for weight in network.model.get_weights()])


if __name__ == "__main__":
    import logging

    import tensorflow as tf

    logging.basicConfig(level=logging.INFO)
    told = json.loads(sys.argv[1])
    if told["devices"] > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * told["devices"])
    train_here(**told)
