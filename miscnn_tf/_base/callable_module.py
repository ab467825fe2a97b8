"""Modules that can be called like the function of the same name in them.

``miscnn_tf.evaluation.cross_validation`` is a module and, in MIScnn scripts, also a function. If the function replaced
the module in the package, ``import miscnn_tf.evaluation.cross_validation as cv`` would give the function, and
``cv.split_folds`` would be missing, depending on the order of imports. Replacing the class of the module
(https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access) avoids this.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """Module that calls the function with its own name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    @property
    def _function(self) -> Any:
        return vars(self)[self.__name__.rpartition(".")[2]]

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __reduce__(self) -> tuple[Any, ...]:
        # A process pool may get the module, and modules cannot be pickled.
        return importlib.import_module, (self.__name__,)


def make_callable(name: str) -> None:
    """Let the module `name` be called like its function of the same name (``make_callable(__name__)``)."""
    sys.modules[name].__class__ = CallableModule
