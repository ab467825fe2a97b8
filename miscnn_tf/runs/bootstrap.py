"""Bootstrap confidence interval of a mean over samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

from miscnn_tf._base.arguments import number, whole_number
from miscnn_tf.errors import ConfigurationError

# Numbers per batch: 16 MB.
_BATCH = 2**21


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Compute the bootstrap confidence interval of a mean.

    Samples are drawn with replacement, and the interval is bias-corrected and accelerated (BCa; Efron, J. Am. Stat.
    Assoc. 82, 1987, doi:10.2307/2289144), which suits scores close to 1. It is the variation of the mean with other
    samples of the same kind, not with another training. For fewer than about ten samples it is too narrow.

    Args:
        values: A finite number per sample.
        confidence: Confidence level, above 0 and below 1.
        resamples: Number of resamples.
        seed: Seed of the resampling; the same values give the same interval.

    Returns:
        Lower and upper end; None for fewer than two values.

    Raises:
        ConfigurationError: If an argument is invalid, or a value is not finite.

    Example:
        >>> low, high = mean_interval([0.91, 0.88, 0.93, 0.79, 0.90, 0.92])
        >>> round(low, 2), round(high, 2)
        (0.83, 0.91)
    """
    if not 0 < number(confidence, "confidence") < 1:
        raise ConfigurationError(f"confidence={confidence!r} must be above 0 and below 1, such as 0.95")
    resamples = whole_number(resamples, "resamples", 1)
    data = np.asarray(values, np.float64)
    if not np.isfinite(data).all():
        raise ConfigurationError("values has NaN or infinity; remove those samples, and report their number")
    if data.size < 2:
        return None
    if data.min() == data.max():
        return float(data[0]), float(data[0])
    methods: tuple[str, str] = ("BCa", "percentile")
    for method in methods:
        with warnings.catch_warnings():
            # SciPy warns and returns NaN if BCa is undefined; percentiles are used then.
            warnings.simplefilter("ignore")
            interval = stats.bootstrap(
                (data,),
                np.mean,
                n_resamples=resamples,
                batch=max(1, _BATCH // data.size),
                vectorized=True,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high)
