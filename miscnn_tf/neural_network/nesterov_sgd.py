"""Stochastic gradient descent as in PyTorch, with which nnU-Net trains."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from miscnn_tf._base.arguments import number


@keras.saving.register_keras_serializable(package="miscnn_tf")
class NesterovSGD(keras.optimizers.Optimizer):
    r"""Stochastic gradient descent with Nesterov momentum and L2 weight decay, as ``torch.optim.SGD`` computes them.

    .. math:: g \leftarrow \nabla + \lambda w, \quad b \leftarrow \mu b + g, \quad w \leftarrow w - \eta (g + \mu b)

    with the gradient :math:`\nabla` after clipping, the weight decay :math:`\lambda`, the momentum :math:`\mu` and the
    learning rate :math:`\eta`. ``keras.optimizers.SGD`` differs: its weight decay is decoupled from the momentum, and
    its velocity contains the learning rate, so that a lower rate takes effect with a delay.

    Args:
        learning_rate: The rate.
        momentum: The momentum, from 0 to below 1.
        weight_decay: The weight decay, of all weights.
        name: Name of the optimizer.
        **settings: Further arguments of ``keras.optimizers.Optimizer``, such as ``global_clipnorm=12.0``.

    Raises:
        ConfigurationError: If a setting is not a number.

    Example:
        >>> NesterovSGD(0.01, momentum=0.99, weight_decay=3e-5, global_clipnorm=12.0).momentum
        0.99

    Reference: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013; the
    form is that of PyTorch's documentation.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.99,
        weight_decay: float = 3e-5,
        name: str = "nesterov_sgd",
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **settings)
        self.momentum = number(momentum, "momentum")
        # Keras would apply its own decay for an attribute weight_decay.
        self.l2 = number(weight_decay, "weight_decay")
        self.momentums: list[Any] = []

    def build(self, variables: list[Any]) -> None:
        """Create the momentum of each variable."""
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable."""
        rate = ops.cast(learning_rate, variable.dtype)
        momentum = self.momentums[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        self.assign(momentum, self.momentum * momentum + gradient)
        self.assign_sub(variable, rate * (gradient + self.momentum * momentum))

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().get_config(), "momentum": self.momentum, "weight_decay": self.l2}
