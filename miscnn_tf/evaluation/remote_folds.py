"""Folds that run in other processes or on other machines, by any ``concurrent.futures.Executor``."""

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
from typing import TYPE_CHECKING, Any

import numpy as np

from miscnn_tf.cluster import read_cluster
from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.evaluation.fold_record import RECORD_FILE
from miscnn_tf.evaluation.fold_run import History, RunOptions, run_split
from miscnn_tf.evaluation.folds import Fold
from miscnn_tf.processing.preprocessor import Preprocessor

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)

# Dask runs several tasks of a worker in threads; Keras' settings, and the memory of the device, are the process's.
_one_fold_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Recipe:
    """A `Neural_Network` before it is made: what travels to a worker instead of a live Keras model.

    Args:
        cls: Its class, which may be the user's own.
        preprocessor: Without its store of prepared samples.
        loss: A name, a function, or a Keras object as its class and configuration.
        metrics: Likewise.
        attributes: Its other settings, and what the user added to it.
        weights: The initial weights, from which each fold starts.
    """

    cls: type[Neural_Network]
    preprocessor: Preprocessor
    loss: Any
    metrics: tuple[Any, ...]
    attributes: dict[str, Any]
    weights: list[np.ndarray]

    @classmethod
    def of(cls, network: Neural_Network) -> Recipe:
        """The recipe of a network."""
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

    def make(self) -> Neural_Network:
        """The network."""
        # Prepared samples of each run have a folder of their own, which is removed at the end of the program.
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
    """A Keras object as its class and what that is made from."""

    cls: type
    config: dict[str, Any]


@dataclass(frozen=True)
class _Job:
    fold: Fold
    folder: Path
    options: RunOptions
    recipe: Recipe


def check_executor(executor: Executor, model: Neural_Network) -> None:
    """Find out before anything runs that folds cannot be run so.

    Raises:
        ConfigurationError: If it is no executor, forks this process, or the model is no `Neural_Network`.
    """
    from miscnn_tf.neural_network.model import Neural_Network

    if not callable(getattr(executor, "submit", None)):
        raise ConfigurationError(
            f"executor={executor!r} must be a concurrent.futures.Executor, such as a ProcessPoolExecutor, or "
            "client.get_executor() of a Dask client"
        )
    if not isinstance(model, Neural_Network):
        raise ConfigurationError(
            f"model is a {type(model).__name__}, but executors can only be sent a Neural_Network; leave executor out"
        )
    if read_cluster() is not None:
        raise ConfigurationError(
            "an executor runs folds beside each other, but TF_CONFIG says that all machines train one network "
            "together; unset TF_CONFIG, or leave executor out"
        )
    context = getattr(executor, "_mp_context", None)
    if isinstance(executor, ProcessPoolExecutor) and context is not None and context.get_start_method() == "fork":
        raise ConfigurationError(
            "the executor forks this process, and TensorFlow, which is at work in it, does not survive that. Make it "
            'with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
        )


def run_remotely(
    folds: Sequence[Fold],
    folders: Sequence[Path],
    model: Neural_Network,
    options: RunOptions,
    executor: Executor,
) -> list[History]:
    """Run each fold in a worker, and wait for all of them.

    Args:
        folds: The splits.
        folders: Where the results of each go; the workers see the same folders.
        model: The model; what it is made from is sent.
        options: How each is trained and measured.
        executor: Whose workers run them.

    Returns:
        The history of each.

    Raises:
        ConfigurationError: If something cannot be sent; before anything runs.
        TrainingError: If a fold failed; its number is told. Folds that have not begun are not begun any more.
    """
    options = replace(options, callbacks=tuple(_unbound(callback) for callback in options.callbacks))
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
            f"fold {number} ({folder}) failed in its worker: {type(error).__name__}: {error}. Folds that are finished "
            "stay finished; run again when the cause is removed"
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
    """A copy that has no model of an earlier training."""
    twin = copy.copy(callback)
    twin.set_model(None)
    return twin


def _require_sendable(recipe: Recipe, options: RunOptions) -> None:
    """Look at each part on its own, lest the user be left with "cannot pickle '_thread.lock' object"."""
    import keras

    from miscnn_tf.neural_network.model import Neural_Network

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
        # A pickled model would be trained by nobody.
        held = [part, *getattr(part, "__dict__", {}).values()]
        if any(isinstance(value, keras.Model | Neural_Network) for value in held):
            raise ConfigurationError(f"{name} holds a model, which stays here while others are trained; leave it out")
        try:
            pickle.dumps(part)
        except Exception as error:  # whatever its own methods raise
            raise ConfigurationError(
                f"{name} cannot be sent to a worker ({error}). It has to consist of plain data, and of functions and "
                "classes that a module defines under their names: no lambda, open file or lock. Leave executor out to "
                "run all folds here"
            ) from error
