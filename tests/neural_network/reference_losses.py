"""The losses as their papers write them, in float64 numpy, class by class, for one sample.

Written from the equations, and sharing nothing with the package. ``t`` holds one-hot labels, ``p`` probabilities, both
``(x, y[, z], classes)``. The functions called ``binary_`` take the masks of one foreground class instead, as papers do.
"""

import numpy as np


def columns(array):
    """The classes, each as one long vector."""
    return np.asarray(array, "float64").reshape(-1, np.shape(array)[-1]).T


# Taghanaki et al., 1805.02798


def binary_combo(t, p, alpha, beta, smooth):
    t, p = np.ravel(t), np.ravel(p)
    total = 0.0
    for truth, probability in zip(t, p, strict=True):
        total += beta * truth * np.log(probability) + (1 - beta) * (1 - truth) * np.log(1 - probability)
    dice = (2 * np.dot(p, t) + smooth) / (np.sum(p) + np.sum(t) + smooth)
    return alpha * (-total / len(t)) - (1 - alpha) * dice


def combo(t, p, alpha=0.5, beta=0.5, smooth=1.0):
    crossentropies, dices = [], []
    for truth, probability in list(zip(columns(t), columns(p), strict=True))[1:]:
        crossentropies.append(binary_combo(truth, probability, 1, beta, smooth))
        dices.append(-binary_combo(truth, probability, 0, beta, smooth))
    return alpha * np.mean(crossentropies) - (1 - alpha) * np.sum(dices)


# Abraham & Khan, 1810.07842: FTL = sum_c (1 - TI_c)^(1/gamma), alpha for the misses, beta = 1 - alpha


def tversky_index(t, p, alpha, smooth):
    p_other, t_other = 1 - p, 1 - t
    return (p @ t + smooth) / (p @ t + alpha * (p_other @ t) + (1 - alpha) * (p @ t_other) + smooth)


def focal_tversky(t, p, delta=0.7, gamma=0.75, smooth=1e-6):
    paper_gamma = 1 / gamma
    return sum(
        (1 - tversky_index(truth, probability, delta, smooth)) ** (1 / paper_gamma)
        for truth, probability in zip(columns(t), columns(p), strict=True)
    )


# Yeung et al., 2102.04525. Class 0 is no rare class, all others (r in the paper) are.


def focal_terms(t, p, delta, gamma_background, gamma_rare):
    total, voxels = 0.0, len(columns(t)[0])
    for c, (truth, probability) in enumerate(zip(columns(t), columns(p), strict=True)):
        weight, gamma = (delta, gamma_rare) if c else (1 - delta, gamma_background)
        total -= weight / voxels * np.sum(truth * (1 - probability) ** gamma * np.log(probability))
    return total


def symmetric_focal(t, p, delta=0.7, gamma=2.0):
    return focal_terms(t, p, delta, gamma, gamma)


def asymmetric_focal(t, p, delta=0.7, gamma=2.0):
    return focal_terms(t, p, delta, gamma, 0)


def symmetric_focal_tversky(t, p, delta=0.7, gamma=0.75):
    return sum(
        (1 - tversky_index(*pair, delta, 1e-6)) ** (1 - gamma) for pair in zip(columns(t), columns(p), strict=True)
    )


def asymmetric_focal_tversky(t, p, delta=0.7, gamma=0.75):
    distances = [1 - tversky_index(*pair, delta, 1e-6) for pair in zip(columns(t), columns(p), strict=True)]
    return distances[0] + sum(distance ** (1 - gamma) for distance in distances[1:])


def sym_unified_focal(t, p, weight=0.5, delta=0.6, gamma=0.5):
    return weight * symmetric_focal(t, p, delta, gamma) + (1 - weight) * symmetric_focal_tversky(t, p, delta, gamma)


def asym_unified_focal(t, p, weight=0.5, delta=0.6, gamma=0.5):
    return weight * asymmetric_focal(t, p, delta, gamma) + (1 - weight) * asymmetric_focal_tversky(t, p, delta, gamma)


def binary_asym_unified_focal(foreground, p, weight, delta, gamma):
    """The paper's asymmetric loss of a foreground mask and its probabilities, without any class axis."""
    y, p = np.ravel(foreground), np.ravel(p)
    crossentropy = -delta * np.mean(y * np.log(p))
    crossentropy -= (1 - delta) * np.mean((1 - y) * p**gamma * np.log(1 - p))
    rare = tversky_index(y, p, delta, 1e-6)
    background = tversky_index(1 - y, 1 - p, delta, 1e-6)
    return weight * crossentropy + (1 - weight) * ((1 - background) + (1 - rare) ** (1 - gamma))


def binary_sym_unified_focal(foreground, p, weight, delta):
    """The paper's symmetric loss with gamma = 0.5: delta_t (1 - p_t)^0.5 BCE, and the Tversky distances' square roots.

    There 1 - gamma and gamma are one number, so that nothing depends on which of the two is printed where.
    """
    y, p = np.ravel(foreground), np.ravel(p)
    p_t = np.where(y == 1, p, 1 - p)
    crossentropy = np.mean(np.where(y == 1, delta, 1 - delta) * np.sqrt(1 - p_t) * -np.log(p_t))
    distances = [1 - tversky_index(y, p, delta, 1e-6), 1 - tversky_index(1 - y, 1 - p, delta, 1e-6)]
    return weight * crossentropy + (1 - weight) * np.sum(np.sqrt(distances))


def gradient(function, p, step=1e-6):
    """Central differences of ``function(p)`` in every number of p."""
    slopes = np.empty_like(p)
    for place in np.ndindex(p.shape):
        ahead, behind = p.copy(), p.copy()
        ahead[place] += step
        behind[place] -= step
        slopes[place] = (function(ahead) - function(behind)) / (2 * step)
    return slopes
