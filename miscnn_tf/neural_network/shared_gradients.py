"""Sums, clipping and overflow check for loss and gradients of a batch that several devices share, as on one device."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

import keras
import tensorflow as tf

#: True while the loss of a training step is computed on one of several devices.
shares_batch: Final[ContextVar[bool]] = ContextVar("shares_batch", default=False)


def sum_over_devices(values: Any) -> Any:
    """Return the sums of tensors, in any structure, over all devices; call it inside ``strategy.run``."""
    here = tf.nest.map_structure(tf.identity, values)  # values that were read elsewhere have no device for the result
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)


def sum_over_batch(values: Any) -> Any:
    """Return the sums of a loss over the samples of a batch, of which each device has a part.

    In a training step these are sums over all devices, and so are the gradients. A validation step, in which a device
    may have no samples, and a program with one device return the values.

    Args:
        values: Tensors, in any structure, with the sums over the samples of this device.
    """
    return sum_over_devices(values) if shares_batch.get() else values


def as_of_one_device(
    gradients: list[tf.Tensor | None], optimizer: keras.optimizers.Optimizer
) -> list[tf.Tensor | None]:
    """Return the gradients for ``optimizer.apply``, so that the step is that of one device with the whole batch.

    The optimizer sums the gradients of the devices, but before that it clips each device's gradients separately, and
    with a loss scale skips its step.

    Args:
        gradients: Gradients of this device's part of the loss, times the loss scale.
        optimizer: The optimizer.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        gradients = finite_on_all_or_none(gradients)
        return _clipped(gradients, optimizer.inner_optimizer, optimizer.scale_loss(tf.constant(1.0)))
    return _clipped(gradients, optimizer, optimizer.scale_loss(tf.constant(1.0)))


def _clipped(
    gradients: list[tf.Tensor | None], optimizer: keras.optimizers.Optimizer, scale: tf.Tensor
) -> list[tf.Tensor | None]:
    """Return an equal part of the clipped sum for each device, if the optimizer clips."""
    if optimizer.gradient_accumulation_steps or not (
        optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue
    ):
        return gradients
    sums = sum_over_devices([one for one in gradients if one is not None])
    if optimizer.clipnorm:
        sums = [tf.clip_by_norm(one, optimizer.clipnorm * scale) for one in sums]
    elif optimizer.global_clipnorm:
        sums, _ = tf.clip_by_global_norm(sums, optimizer.global_clipnorm * scale)
    else:
        sums = [tf.clip_by_value(one, -optimizer.clipvalue * scale, optimizer.clipvalue * scale) for one in sums]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    parts = iter(sums)
    return [None if one is None else next(parts) / replicas for one in gradients]


def finite_on_all_or_none(gradients: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Return the gradients, or NaN on all devices if they overflowed on one.

    Keras' ``LossScaleOptimizer`` looks at its own device's gradients to decide whether to skip the step; where the
    devices do not decide alike, they wait for each other without an end, or one takes over the overflow of another.
    """
    finite = [tf.reduce_all(tf.math.is_finite(one)) for one in gradients if one is not None]
    overflows = sum_over_devices(tf.cast(tf.logical_not(tf.reduce_all(tf.stack(finite))), tf.float32))
    poison = tf.where(overflows > 0, tf.constant(float("nan")), tf.constant(0.0))
    return [None if one is None else one + tf.cast(poison, one.dtype) for one in gradients]
