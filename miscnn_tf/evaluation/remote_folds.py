"""Running of folds in other processes or on other machines by a ``concurrent.futures.Executor``."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._machine.tf_config import TF_CONFIG
from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.evaluation.fold_run import run_split
from miscnn_tf.evaluation.options import ValidationOptions
from miscnn_tf.evaluation.trainable import Sendable, Trainable
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.runs.fold import Fold
from miscnn_tf.runs.names import RECORD_FILE
from miscnn_tf.runs.tables import History
from miscnn_tf.runs.writer import Writer

logger = logging.getLogger(__name__)

# Dask runs several tasks of a worker in threads, which share Keras' settings and the memory of the device.
_one_fold_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Recipe:
    """Everything needed to build a `Neural_Network` in a worker, since a Keras model cannot be sent.

    Args:
        cls: Its class, which may be custom.
        preprocessor: Its preprocessor without the store of prepared samples.
        loss: A name, a function, or a Keras object as its class and configuration.
        metrics: The metrics, in the same form.
        attributes: Its other settings, and attributes that the user added.
        weights: The initial weights, from which each fold starts.
    """

    cls: type[Sendable]
    preprocessor: Preprocessor
    loss: Any
    metrics: tuple[Any, ...]
    attributes: dict[str, Any]
    weights: list[np.ndarray]

    @classmethod
    def of(cls, network: Sendable) -> Recipe:
        """Return the recipe of a network."""
        attributes = network.attributes_to_send()
        preprocessor, loss, metrics = (attributes.pop(name) for name in ("preprocessor", "loss", "metrics"))
        return cls(
            type(network),
            preprocessor,
            _described(loss),
            tuple(_described(metric) for metric in metrics),
            attributes,
            network.initialization_weights,
        )

    def make(self) -> Any:
        """Build the network."""
        # The folder of prepared samples of each run is removed at the end of the program.
        data_io = copy.copy(self.preprocessor.data_io)
        data_io.seed = random.SystemRandom().randrange(10**12)
        preprocessor = copy.copy(self.preprocessor)
        preprocessor.data_io = data_io
        preprocessor.cache = None
        network = self.cls.of_attributes(
            {
                **self.attributes,
                "preprocessor": preprocessor,
                "loss": _made(self.loss),
                "metrics": [_made(one) for one in self.metrics],
            }
        )
        network.initialization_weights = self.weights
        return network


@dataclass(frozen=True)
class _Configured:
    """A Keras object as its class and configuration."""

    cls: type
    config: dict[str, Any]


@dataclass(frozen=True)
class _Job:
    fold: Fold
    folder: Path
    options: ValidationOptions
    recipe: Recipe


def check_executor(executor: Executor, model: Trainable, writer: Writer) -> None:
    """Require an executor that can run folds of a model, before anything runs.

    Raises:
        ConfigurationError: If it is not an executor, or forks this process; if the model is not a `Neural_Network`; or
            if several cluster nodes train together.
    """
    if not callable(getattr(executor, "submit", None)):
        raise ConfigurationError(
            f"executor={executor!r} must be a concurrent.futures.Executor, such as a ProcessPoolExecutor, or "
            "client.get_executor() of a Dask client"
        )
    if not isinstance(model, Sendable):
        raise ConfigurationError(
            f"model is a {type(model).__name__}, but executors can only be sent a Neural_Network; leave executor out"
        )
    if not writer.is_alone:
        raise ConfigurationError(
            f"an executor runs folds beside each other, but the environment variable {TF_CONFIG} makes all machines "
            f"train one network together; unset {TF_CONFIG}, or leave executor out"
        )
    context = getattr(executor, "_mp_context", None)
    if isinstance(executor, ProcessPoolExecutor) and context is not None and context.get_start_method() == "fork":
        raise ConfigurationError(
            "the executor forks this process, which TensorFlow does not support once it has started. Create it "
            'with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
        )


def run_remotely(
    folds: Sequence[Fold],
    folders: Sequence[Path],
    model: Trainable,
    options: ValidationOptions,
    executor: Executor,
) -> list[History]:
    """Run each fold in an executor worker, and wait for all of them.

    Args:
        folds: The splits.
        folders: The folder of each fold, which the workers must see under the same path.
        model: The model; its recipe is sent.
        options: Options of the training and evaluation of each fold.
        executor: The executor.

    Returns:
        The history of each fold.

    Raises:
        ConfigurationError: If something cannot be sent; before anything runs.
        TrainingError: If a fold failed; the message has its number. Waiting folds are cancelled.
    """
    options = replace(options, callbacks=tuple(_unbound(callback) for callback in options.callbacks))
    assert isinstance(model, Sendable)  # check_executor() has checked it
    recipe = Recipe.of(model)
    _require_sendable(recipe, options)
    jobs = [
        # The worker may have another working directory.
        _Job(fold, folder.absolute(), options, recipe)
        for fold, folder in zip(folds, folders, strict=True)
    ]
    futures = {executor.submit(_run, job): number for number, job in enumerate(jobs)}
    histories: dict[int, History] = {}
    waiting = set(futures)
    try:
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for number, future in sorted(((futures[one], one) for one in done), key=itemgetter(0)):
                histories[number] = _result(future, number, folders[number])
                logger.info("fold %d of %d is finished (%s)", number + 1, len(folds), folders[number])
    finally:
        for future in futures:
            future.cancel()
    return [histories[number] for number in range(len(folds))]


def _result(future: Future[History], number: int, folder: Path) -> History:
    try:
        history = future.result()
    except (Exception, CancelledError) as error:
        raise TrainingError(
            f"fold {number} ({folder}) failed in its worker: {type(error).__name__}: {error}. Finished folds are kept; "
            "remove the cause and run again"
        ) from error
    if not (folder / RECORD_FILE).is_file():
        raise TrainingError(
            f"the worker of fold {number} has finished it, but {folder} does not hold its results: the worker wrote "
            "them on another machine. Use an evaluation_path that all machines share"
        )
    return history


def _run(job: _Job) -> History:
    with _one_fold_at_a_time:
        return run_split(job.fold, job.recipe.make(), job.folder, job.options)


def _described(thing: Any) -> Any:
    if isinstance(thing, str) or inspect.isroutine(thing) or isinstance(thing, type):
        return thing
    get_config, from_config = getattr(thing, "get_config", None), getattr(type(thing), "from_config", None)
    if callable(get_config) and callable(from_config):
        return _Configured(type(thing), get_config())
    return thing


def _made(thing: Any) -> Any:
    if not isinstance(thing, _Configured):
        return thing
    from_config: Callable[[dict[str, Any]], Any] = thing.cls.from_config  # type: ignore[attr-defined]  # it was looked for
    return from_config(dict(thing.config))


def _unbound(callback: Any) -> Any:
    """Return a copy of a callback without the model of an earlier training."""
    twin = copy.copy(callback)
    twin.set_model(None)
    return twin


def _require_sendable(recipe: Recipe, options: ValidationOptions) -> None:
    """Pickle each part separately, so that the message names the part that cannot be sent."""
    import keras

    preprocessor = recipe.preprocessor
    parts: dict[str, Any] = {
        f"the class {recipe.cls.__name__}": recipe.cls,
        "the interface": preprocessor.data_io.interface,
        "the architecture": recipe.attributes["architecture"],
        "the loss": recipe.loss,
        **{f"the metric {number}": metric for number, metric in enumerate(recipe.metrics)},
        **{f"the subfunction {type(step).__name__}": step for step in preprocessor.subfunctions},
        "the data augmentation": preprocessor.data_augmentation,
        "the preprocessor": preprocessor,
        **{f"the callback {type(callback).__name__}": callback for callback in options.callbacks},
        **{f"the network's attribute {name}": value for name, value in recipe.attributes.items()},
    }
    for name, part in parts.items():
        # A copy of a model would not be trained.
        held = [part, *getattr(part, "__dict__", {}).values()]
        if any(isinstance(value, keras.Model | Sendable) for value in held):
            raise ConfigurationError(f"{name} holds a model, which is not trained in the worker; leave it out")
        try:
            pickle.dumps(part)
        except Exception as error:  # custom methods may raise any error
            raise ConfigurationError(
                f"{name} cannot be sent to a worker ({error}). Use plain data, and functions and classes at the top "
                "level of a module, without lambdas, open files or locks; or leave executor out to run all folds in "
                "this process"
            ) from error
