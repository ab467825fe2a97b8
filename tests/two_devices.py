"""Trainings on two logical CPU devices beside the same ones on one; prints what differs. A program of its own, because
devices are divided before TensorFlow starts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from distributed_training import all_weights, train_here

from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.unet.plain import Architecture
from miscnn_tf.neural_network.distributed_fit import metric_of_all_devices
from miscnn_tf.neural_network.hardware import choose_hardware
from miscnn_tf.neural_network.losses import dice_soft_loss, nnunet_loss
from miscnn_tf.neural_network.metrics import PooledDice
from miscnn_tf.neural_network.nesterov_sgd import NesterovSGD
from miscnn_tf.neural_network.optimizer import learning_rate_of
from miscnn_tf.neural_network.shared_gradients import finite_on_all_or_none


def scalar_loss(y_true, y_pred):
    return keras.ops.mean(dice_soft_loss(y_true, y_pred))


def small_network(folder, loss=scalar_loss, devices=2, precision="float32", **arguments):
    from toy import ToyInterface

    io = Data_IO(ToyInterface(shape=(12, 12), cases=4), "toy", batch_path=folder / "batches")
    preprocessor = Preprocessor(io, 2, patch_shape=(8, 8), seed=3)
    architecture = Architecture(feature_maps=[4], instance_normalization=False, **arguments)
    network = Neural_Network(
        preprocessor, architecture, loss, learning_rate=0.01, multi_gpu=devices > 1, precision=precision
    )
    network.verbose = 0
    return network


def differences(folder):
    """The largest difference of each result between one device and two."""
    for devices in (1, 2):
        (folder / str(devices)).mkdir()
        train_here(folder / str(devices), devices=devices)
    one, two = (dict(np.load(folder / str(devices) / "result_0.npz")) for devices in (1, 2))
    assert sorted(one) == sorted(two)
    assert two.pop("replicas") == 2
    return {name: float(np.max(np.abs(one[name] - values))) for name, values in two.items()}


def losses_of_a_number(folder):
    return [small_network(folder, devices=devices).train(["case_0", "case_1"], 2).history["loss"] for devices in (1, 2)]


def summed_losses(folder):
    """Losses of the epochs and the final weights, on one device and on two."""
    found = {}
    for loss, size in (("CategoricalCrossentropy", 2), ("CategoricalCrossentropy", 3), ("Dice", 3)):
        made = getattr(keras.losses, loss)(reduction="sum")
        results = []
        for devices in (1, 2):
            network = small_network(folder, made, devices)
            network.preprocessor.batch_size = size
            with network.hardware.scope():
                network.model.compile(keras.optimizers.SGD(1e-4), network.model.loss)
            network.learning_rate = 1e-4
            history = network.evaluate(["case_0", "case_1", "case_2"], ["case_0", "case_1", "case_2", "case_3"], 2)
            results.append([*history.history["loss"], *history.history["val_loss"], float(all_weights(network).sum())])
        found[f"{made.name} of {size}"] = results
    return found


def metrics_made_outside_of_the_scope(folder):
    class Incomplete(keras.metrics.CategoricalAccuracy):
        def __init__(self, power=1.0, **arguments):
            super().__init__(**arguments)
            self.power = power

    steps = {1: [], 2: []}
    histories = []
    for devices in (1, 2):

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                steps[self.devices].append(float(logs["accuracy"]))

        network, watch = small_network(folder, dice_soft_loss, devices), Watch()
        watch.devices = devices
        network.metrics = [
            keras.metrics.MeanIoU(2, name="iou", sparse_y_true=False, sparse_y_pred=False),
            keras.metrics.CategoricalAccuracy(name="accuracy"),
        ]
        history = network.evaluate(["case_0", "case_1", "case_2"], ["case_3"], 2, callbacks=[watch]).history
        del history["data_wait"]
        histories.append({**history, "accuracy after steps": steps[devices]})
    with network.hardware.scope():
        remade = [metric_of_all_devices(metric) is not metric for metric in network.metrics]
    incomplete = Incomplete()
    with network.hardware.scope():
        return histories, [*remade, metric_of_all_devices(incomplete) is not incomplete]


def pooled_dice_of_more_patches(folder):
    """Histories on one device and two, of batches of three."""
    histories = []
    for devices in (1, 2):
        network = small_network(folder, dice_soft_loss, devices)
        network.preprocessor.batch_size, network.validation_batches = 3, 4
        network.metrics = [PooledDice(2, per_class=True)]
        history = network.evaluate(["case_0", "case_1"], ["case_2", "case_3"], 3, iterations=4).history
        histories.append(
            {name: history[name] for name in ("val_pooled_dice_class-1", "pooled_dice", "val_pooled_dice")}
        )
    return histories


def spread_of_moving_averages(folder):
    network = small_network(folder, batch_normalization=True)
    network.train(["case_0", "case_1"], epochs=1, iterations=2)
    spreads = []
    for variable in network.model.non_trainable_variables:
        here, there = map(np.asarray, network.hardware.strategy.experimental_local_results(variable.value))
        spreads.append(float(np.max(np.abs(here - there))))
        assert np.any(here), variable.path
    return spreads


def overflow(folder):
    """Of gradients that overflow on one device, the finite ones of each device that are left."""
    strategy = choose_hardware(multi_gpu=True).strategy

    @tf.function
    def gradients():
        def on_one():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            bad = tf.where(tf.equal(number, 1), float("inf"), 1.0)
            return [[one for one in finite_on_all_or_none([tf.ones(2) * bad, None, tf.ones(2)]) if one is not None]]

        return strategy.run(on_one)

    found = [tf.nest.flatten(strategy.experimental_local_results(one)) for one in gradients()[0]]
    return int(sum(np.isfinite(np.asarray(value)).sum() for values in found for value in values))


def what_is_said_of_nan(folder):
    network = small_network(folder, loss=lambda truth, prediction: dice_soft_loss(truth, prediction) * float("nan"))
    try:
        network.train(["case_2", "case_3"], epochs=1)
    except TrainingError as error:
        return str(error)
    return ""


def steps_until_stopped(folder):
    class Stop(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            Stop.steps += 1
            self.model.stop_training = batch == 1

    network = small_network(folder)
    history = network.evaluate(["case_0"], ["case_1"], epochs=3, iterations=5, callbacks=[Stop()])
    return [Stop.steps, sorted(history.history)]


def compile_with(network, **settings):
    with network.hardware.scope():
        network.model.compile(keras.optimizers.SGD(momentum=0.9, **settings), network.model.loss)


def differences_where_gradients_are_clipped(folder):
    """By how to clip, the largest difference of a weight between one device and two, and what clipping changes."""
    found = {}
    for how in ({}, {"clipnorm": 0.02}, {"global_clipnorm": 0.02}, {"clipvalue": 0.002}):
        weights = []
        for devices in (1, 2):
            network = small_network(folder, dice_soft_loss, devices)
            compile_with(network, **how)
            network.train(["case_0", "case_1", "case_2"], epochs=3)
            weights.append(np.concatenate([weight.ravel() for weight in network.model.get_weights()]))
        found["".join(how)] = weights
    return {
        how: [float(np.max(np.abs(one - two))), float(np.max(np.abs(one - found[""][0])))]
        for how, (one, two) in found.items()
    }


def rates_of_a_schedule(folder):
    network, rates = small_network(folder), []
    with network.hardware.scope():
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
        network.model.compile(keras.optimizers.SGD(schedule), network.model.loss)

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(learning_rate_of(self.model))

    network.train(["case_0"], epochs=1, iterations=4, callbacks=[Watch()])
    return rates


class ThreeOutputs(Abstract_Architecture):
    def create_model_2D(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
        coarse = [keras.layers.AveragePooling2D(step)(x) for step in (2, 4)]
        return keras.Model(image, [keras.layers.Conv2D(n_labels, 1, activation="softmax")(one) for one in (x, *coarse)])


def deep_supervision(folder):
    """Losses and weights of a network with three outputs, on one device and on two, in batches of three."""
    return {kind: _deep_supervision(folder, nnunet_loss(batch_dice=kind == "batch")) for kind in ("sample", "batch")}


def _deep_supervision(folder, loss):
    found = []
    for devices in (1, 2):
        network = small_network(folder, devices=devices)
        network = Neural_Network(
            network.preprocessor,
            ThreeOutputs(),
            loss,
            learning_rate=0.01,
            multi_gpu=devices > 1,
            precision="float32",
            optimizer=NesterovSGD(0.01, global_clipnorm=12.0),
        )
        network.verbose, network.preprocessor.batch_size = 0, 3
        history = network.evaluate(["case_0", "case_1", "case_2"], ["case_3"], epochs=3).history
        found.append([*history["loss"], *history["val_loss"], *map(float, all_weights(network))])
    return found


def steps_of_a_new_optimizer(folder):
    network = small_network(folder)
    network.train(["case_0"], epochs=1, iterations=2)
    compile_with(network)
    network.train(["case_0"], epochs=1, iterations=3)
    return int(keras.ops.convert_to_numpy(network.model.optimizer.iterations))


def losses_in_float16(folder):
    """On one device and two, and whether the scale of the loss is the same for both devices."""
    networks = [small_network(folder, dice_soft_loss, devices, precision="mixed_float16") for devices in (1, 2)]
    losses = [network.train(["case_0", "case_1"], 3).history["loss"] for network in networks]
    optimizer = networks[1].model.optimizer
    scales = networks[1].hardware.strategy.experimental_local_results(optimizer.dynamic_scale.value)
    return [losses, [float(scale) for scale in scales], int(keras.ops.convert_to_numpy(optimizer.iterations))]


def what_is_said_of_a_backup(folder):
    try:
        small_network(folder).train(["case_0"], callbacks=[keras.callbacks.BackupAndRestore(folder / "backup")])
    except ConfigurationError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    where = Path(sys.argv[1])
    checks = (
        differences,
        losses_of_a_number,
        summed_losses,
        metrics_made_outside_of_the_scope,
        pooled_dice_of_more_patches,
        spread_of_moving_averages,
        overflow,
        what_is_said_of_nan,
        steps_until_stopped,
        differences_where_gradients_are_clipped,
        rates_of_a_schedule,
        deep_supervision,
        steps_of_a_new_optimizer,
        losses_in_float16,
        what_is_said_of_a_backup,
    )
    (where / "found.json").write_text(json.dumps({check.__name__: check(where) for check in checks}))
