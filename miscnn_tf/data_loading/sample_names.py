"""The names of samples, as users hand them in."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError


def as_index_list(samples: Hashable | Iterable[Hashable]) -> list[Hashable]:
    """A list of sample names from what users hand in: a list, a tuple, an array, or one name alone.

    Args:
        samples: Names of samples. One text or number is one sample, not a sequence of letters.

    Returns:
        A new list.

    Raises:
        ConfigurationError: If there is no name in it, its order is not defined (a set), or something in it is no name.

    Example:
        >>> as_index_list("case_00000"), as_index_list(("a", "b"))
        (['case_00000'], ['a', 'b'])
    """
    if isinstance(samples, str | int | np.integer) and not isinstance(samples, bool):
        return [samples]
    if isinstance(samples, Sample):
        raise ConfigurationError(f"sample names are needed, not Sample objects; use {samples.index!r}")
    if isinstance(samples, set | frozenset):
        raise ConfigurationError("the order of a set changes from run to run; hand in a list, e.g. sorted(samples)")
    if isinstance(samples, np.ndarray):
        if samples.ndim > 1 or samples.dtype.kind not in "OUSiu":
            raise ConfigurationError(
                f"sample names are needed, not an array of {samples.dtype} with the shape {samples.shape}; an image "
                "goes to predict_array()"
            )
        samples = samples.ravel().tolist()
    if not isinstance(samples, Iterable) or isinstance(samples, bytes):
        raise ConfigurationError(
            f"a list of sample names is needed, such as data_io.get_indiceslist(); got {samples!r}"
        )
    names = list(samples)
    if not names:
        raise ConfigurationError("the list of samples is empty; hand in at least one sample name")
    for name in names:
        if isinstance(name, Sample):
            raise ConfigurationError(f"sample names are needed, not Sample objects; use {name.index!r}")
        if name is None or not isinstance(name, Hashable):
            raise ConfigurationError(f"{name!r} in the list of samples is not the name of a sample")
    return names
