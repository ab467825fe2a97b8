"""MIScnn's place for the curves of a training run."""

from __future__ import annotations

import subprocess
import sys

from miscnn_tf.evaluation import curves
from miscnn_tf.utils.plotting import plot_validation


def test_the_function_is_found_where_miscnn_has_it():
    assert plot_validation is curves.plot_validation


def test_no_global_plotting_state_and_no_tensorflow():
    code = (
        "import sys, miscnn_tf.utils.plotting, miscnn_tf.pictures.overlay\n"
        "assert not {'matplotlib.pyplot', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
