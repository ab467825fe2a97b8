"""Construction of the network and its callbacks from a configuration; this imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.build import default_of
from miscnn_tf.experiment.schema import Experiment, Named, Network, check_arguments, listed_mistakes, make_named
from miscnn_tf.neural_network import metrics
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.callbacks import PolynomialDecay, TimeLimit
from miscnn_tf.neural_network.losses import ConfiguredLoss, dice_weighted, losses
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.neural_network.optimizer import known_optimizers
from miscnn_tf.processing.preprocessor import Preprocessor

if TYPE_CHECKING:
    from keras.callbacks import Callback

#: Keys of objects that are looked up by name.
PARTS: Final = frozenset(("architecture", "loss", "metrics", "optimizer"))


def make_model(experiment: Experiment, preprocessor: Preprocessor) -> Neural_Network:
    """Create the network.

    Raises:
        ConfigurationError: If a name is unknown, or an argument is invalid.
    """
    network = experiment.network
    arguments = network.given(
        *("learning_rate", "precision", "deterministic", "jit_compile", "multi_gpu", "workers", "batch_queue_size"),
        *("validation_batches", "best_by", "seed"),
    )
    arguments |= _parts(network)
    model = Neural_Network(preprocessor, **arguments)
    if network.shuffle_batches is not None:
        model.shuffle_batches = network.shuffle_batches
    if network.weights is not None:
        model.load(network.weights, head=network.load_head is not False)
        model.start_from(model.model.get_weights())
        model.reset()
    return model


def require_parts(experiment: Experiment) -> None:
    """Require that architecture, loss, metrics and optimizer can be created, before the data are read.

    Raises:
        ConfigurationError: If any cannot; all are listed.
    """
    _parts(experiment.network)


def mistakes_of_parts(network: Any) -> list[str]:
    """Return the mistakes in architecture, loss, metrics and optimizer of a table ``[network]`` that may be invalid.

    Args:
        network: The table as it was read; keys of a wrong type are left out.
    """
    valid = {}
    for key in PARTS & network.keys() if isinstance(network, Mapping) else ():
        with suppress(ValidationError):
            valid[key] = getattr(Network.model_validate({key: network[key]}), key)
    return _made_parts(Network.model_construct(**valid))[1]


def make_callbacks(experiment: Experiment, validates: bool) -> list[Callback]:
    """Create callbacks for the time limit, the learning-rate schedule, and early stopping.

    Args:
        experiment: The configuration.
        validates: Monitor the loss of validation samples instead of the training loss.
    """
    import keras

    network = experiment.network
    callbacks: list[Callback] = []
    if network.schedule == "polynomial":
        callbacks.append(PolynomialDecay(minutes=network.minutes))
    if network.minutes is not None:
        callbacks.append(TimeLimit(network.minutes))
    if network.patience is not None:
        monitor = "val_loss" if validates else "loss"
        callbacks.append(keras.callbacks.EarlyStopping(monitor=monitor, mode="min", patience=network.patience))
    return callbacks


def known_losses() -> Mapping[str, Any]:
    """Return all losses by name."""
    return {**losses, "dice_weighted": dice_weighted}  # not in the registry, because it has no defaults


def known_metrics() -> Mapping[str, Any]:
    """Return all metrics by name, including losses."""
    return {name: getattr(metrics, name) for name in metrics.__all__ if name != "identify_axis"}


def _parts(network: Network) -> dict[str, Any]:
    made, mistakes = _made_parts(network)
    if mistakes:
        raise ConfigurationError(listed_mistakes(mistakes, "the configuration"))
    return made


def _made_parts(network: Network) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of `Neural_Network` that are objects, and the mistakes in them."""
    rate = default_of(Neural_Network, "learning_rate") if network.learning_rate is None else network.learning_rate
    mistakes: list[str] = []

    def made(make: Callable[[Named], Any], named: Named) -> Any:
        try:
            return make(named)
        except ConfigurationError as error:
            mistakes.append(f"[network] {error}")
            return None

    parts: dict[str, Any] = {}
    if network.architecture is not None:
        parts["architecture"] = made(
            lambda named: make_named(architectures, named.name, named.arguments, "architecture"), network.architecture
        )
    if network.loss is not None:
        parts["loss"] = made(_make_loss, network.loss)
    if network.metrics is not None:
        parts["metrics"] = [made(_make_metric, metric) for metric in network.metrics]
    if network.optimizer is not None:
        parts["optimizer"] = made(lambda named: _make_optimizer(named, rate), network.optimizer)
    return parts, mistakes


def _make_optimizer(named: Named, rate: float) -> Any:
    arguments = {**named.arguments, "learning_rate": rate}
    return make_named(known_optimizers(), named.name.lower(), arguments, "optimizer")


def _make_loss(named: Named) -> Any:
    return _make_function(known_losses(), named, "loss")


def _make_metric(named: Named) -> Any:
    return _make_function(known_metrics(), named, "metric")


def _make_function(known: Mapping[str, Any], named: Named, kind: str) -> Any:
    """Return a loss or metric, with settings if there are any."""
    found = known.get(named.name)
    if found is None:
        if not named.arguments:
            return _keras_function(named.name, known, kind)
        make_named(known, named.name, named.arguments, kind)  # raises an error with the known names
    if isinstance(found, ConfiguredLoss):
        # A call with settings returns a new loss; the settings are the constructor arguments of its class.
        check_arguments(type(found), named.arguments, f"the {kind} {named.name!r}")
        return found(**named.arguments) if named.arguments else found
    needed = isinstance(found, type) or named.name == "dice_weighted"
    if needed:
        return make_named(known, named.name, named.arguments, kind)
    if named.arguments:
        raise ConfigurationError(f"the {kind} {named.name!r} has no settings; write its name without a table")
    return found


def _keras_function(name: str, known: Mapping[str, Any], kind: str) -> Any:
    import keras

    find = keras.losses.get if kind == "loss" else keras.metrics.get
    try:
        function = find(name)
    except ValueError:
        function = None
    if function is None:
        make_named(known, name, {}, kind)
    return function
