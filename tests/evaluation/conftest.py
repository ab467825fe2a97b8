"""A model without a network: it remembers what it was asked, and its 'weights' are a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


class FakeInterface:
    def __init__(self, truth: dict[Any, np.ndarray]) -> None:
        self.truth = truth

    def load_segmentation(self, index: Any) -> np.ndarray:
        return self.truth[index]


class FakeModel:
    """After epoch e its weight is e; it predicts the truth exactly with weight `best`, and nothing else otherwise."""

    def __init__(self, names: list[Any], val_losses: list[float], classes: int = 3) -> None:
        rng = np.random.default_rng(1)
        truth = {name: rng.integers(0, classes, (4, 5, 6)).astype(np.uint8) for name in names}
        data_io = SimpleNamespace(indices_list=list(names), interface=FakeInterface(truth))
        self.preprocessor = SimpleNamespace(data_io=data_io, batch_size=2, patch_shape=(4, 4, 4), subfunctions=[])
        self.classes = classes
        self.metrics: list[Any] = []
        self.learning_rate = 0.001
        self.val_losses = val_losses
        self.weight: int | None = None
        self.calls: list[dict[str, Any]] = []
        self.resets = 0
        self.fail_in_call: int | None = None
        self.predicted: list[Any] = []
        self.model = SimpleNamespace(load_weights=self.load_weights)

    @property
    def truth(self) -> dict[Any, np.ndarray]:
        return self.preprocessor.data_io.interface.truth

    def evaluate(self, training: list[Any], validation: list[Any], epochs: int, iterations: Any, callbacks: list[Any]):
        self.calls.append(
            {"training": list(training), "validation": list(validation), "epochs": epochs, "iterations": iterations,
             "callbacks": list(callbacks), "weight": self.weight, "rate": self.learning_rate}
        )  # fmt: skip
        training.clear()  # whatever a model does to its own lists must not reach the caller's
        history: dict[str, list[float]] = {"loss": [], "val_loss": []}
        for callback in callbacks:
            callback.on_train_begin()
        for epoch in range(epochs):
            if self.fail_in_call == len(self.calls):
                raise KeyboardInterrupt
            self.weight = epoch
            logs = {"loss": 1.0 / (epoch + 1), "val_loss": self.val_losses[epoch % len(self.val_losses)]}
            for name, value in logs.items():
                history[name].append(value)
            for callback in callbacks:
                callback.on_epoch_end(epoch, dict(logs))
        return SimpleNamespace(history=history)

    def predict(self, samples: list[Any], return_output: bool = False) -> list[np.ndarray]:
        assert return_output
        self.predicted += samples
        best = int(np.nanargmin(self.val_losses))
        return [self.truth[name] if self.weight == best else np.zeros_like(self.truth[name]) for name in samples]

    def reset(self) -> None:
        self.resets += 1
        self.weight = None
        self.learning_rate = 0.001

    def dump(self, path: str) -> None:
        Path(path).write_text(json.dumps({"weight": self.weight}))

    def load_weights(self, path: Path) -> None:
        self.weight = json.loads(Path(path).read_text())["weight"]


@pytest.fixture
def fake_model() -> Callable[..., FakeModel]:
    def make(number: int = 7, val_losses: tuple[float, ...] = (0.9, 0.5, 0.7), classes: int = 3) -> FakeModel:
        return FakeModel([f"case_{i:03d}" for i in range(number)], list(val_losses), classes)

    return make
