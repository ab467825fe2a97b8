"""A module that is called like the function of the same name in it.

``miscnn_tf.evaluation.cross_validation`` is a module and, in every MIScnn script, a function too. Were the function put
in the module's place, then ``import miscnn_tf.evaluation.cross_validation as cv`` would give the function, and
``cv.split_folds`` would be missing, or not, depending on who imported what first. A module's class may be replaced
(https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access), which has no such trap.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is the call of the function that has the module's own name."""

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
        # Modules cannot be pickled, functions can: a process pool may be handed either.
        return importlib.import_module, (self.__name__,)


def make_callable(name: str) -> None:
    """Let the module `name` be called like its function of the same name (``make_callable(__name__)``)."""
    sys.modules[name].__class__ = CallableModule
