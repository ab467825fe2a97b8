"""Models of a user in validations: required members, and defaults for the others."""

from __future__ import annotations

from contextlib import contextmanager

import keras
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.cross_validation import cross_validation
from miscnn_tf.evaluation.trainable import Connected, Resumable, Sendable, require_trainable, resumable
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.runs.names import STATE_FILE


def test_all_missing_members_are_named_at_once():
    with pytest.raises(ConfigurationError, match=r"dict without evaluate\(\), .*reset\(\), learning_rate, metrics;"):
        require_trainable({})


def test_a_network_has_all_members():
    members = [name for protocol in (Connected, Resumable, Sendable) for name in vars(protocol) if name[0] != "_"]
    assert len(members) > 5
    assert [name for name in members if not hasattr(Neural_Network, name)] == []


def test_defaults_of_a_model_that_cannot_be_continued(fake_model, tmp_path):
    model = fake_model()
    defaults = resumable(model)
    assert defaults is not model
    assert defaults.training_state(tmp_path, 1) is None
    assert defaults.epochs_trained == 0
    best = defaults.best_model(tmp_path / "best.keras")
    assert isinstance(best, keras.callbacks.Callback)
    for epoch, loss in enumerate([0.9, 0.5, 0.7]):
        model.weight = epoch
        best.on_epoch_end(epoch, {"val_loss": loss})
    model.load_weights(tmp_path / "best.keras")
    assert model.weight == 1
    with pytest.raises(ConfigurationError, match=r"start='weights' needs .* got a FakeModel"):
        defaults.starting_from_current_weights()


def test_a_user_model_can_be_continued_and_start_from_its_weights(fake_model, tmp_path):
    """Defect: only a Neural_Network got backups, by its class; no other model could have them."""
    base = type(fake_model())

    class Continued(base):
        epochs_trained = 0
        starts = 0

        def best_model(self, path):
            return keras.callbacks.LambdaCallback(on_train_begin=lambda logs=None: self.dump(path))

        def training_state(self, folder, every):
            return keras.callbacks.LambdaCallback(
                on_train_begin=lambda logs=None: (folder / STATE_FILE).write_text(str(every))
            )

        def state_settings(self):
            return {}

        @contextmanager
        def starting_from_current_weights(self):
            self.starts += 1
            yield

    model = Continued([f"case_{number}" for number in range(4)], [0.9, 0.5])
    assert resumable(model) is model
    model.fail_in_call = 2
    arguments = {"k_fold": 2, "epochs": 2, "evaluation_path": tmp_path, "backup_every": 3, "start": "weights"}
    with pytest.raises(KeyboardInterrupt):
        cross_validation(list(model.truth), model, **arguments)
    assert (tmp_path / "fold_1" / STATE_FILE).read_text() == "3"
    assert not (tmp_path / "fold_0" / STATE_FILE).exists()  # finished
    assert model.starts == 1
