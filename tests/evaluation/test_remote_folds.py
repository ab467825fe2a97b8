"""Folds in other processes: the results are those of this one, and whatever fails there is told here."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import keras
import numpy as np
import pytest
from fold_workers import Failing, Own, network, weights

from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.neural_network.checkpoint import BestModel
from miscnn_tf.neural_network.losses import categorical_focal_loss
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

CASES = [f"case_{number}" for number in range(4)]


class Pickling:
    """An executor in this process; what it is given goes through pickle, as on the way to a worker."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def submit(self, function, *arguments):
        future: Future = Future()
        sent = pickle.dumps((function, arguments))
        self.sizes.append(len(sent))
        function, arguments = pickle.loads(sent)
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return network(tmp_path_factory.mktemp("samples"), loss=categorical_focal_loss(0.3), metrics=["accuracy"])


@pytest.fixture(scope="module")
def here(model, tmp_path_factory):
    """A cross-validation in this process: its folder and histories."""
    folder = tmp_path_factory.mktemp("here")
    histories = cross_validation(
        CASES, model, 2, 2, evaluation_path=folder, run_detailed_evaluation=True, return_output=True
    )
    return folder, histories


def require_equal_results(here, folder, histories, tolerance):
    other, expected = here
    for history, wanted in zip(histories, expected, strict=True):
        for name in set(wanted) - {"data_wait"}:
            np.testing.assert_allclose(history[name], wanted[name], rtol=tolerance)
    for number in range(2):
        names = {path.name for path in (folder / f"fold_{number}").iterdir()}
        assert names == {path.name for path in (other / f"fold_{number}").iterdir()}
        assert "training_state.npz" not in names
        split, wanted_split = (
            json.loads((root / f"fold_{number}" / "sample_list.json").read_text()) for root in (folder, other)
        )
        assert split == wanted_split
        for found, wanted in zip(
            weights(folder / f"fold_{number}" / "model.keras"),
            weights(other / f"fold_{number}" / "model.keras"),
            strict=True,
        ):
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=1e-5)
    assert (folder / "summary.json").is_file()


def test_what_is_sent_is_no_model_and_gives_the_same_results(model, here, tmp_path):
    executor = Pickling()
    histories = cross_validation(
        *(CASES, model, 2, 2),
        evaluation_path=tmp_path,
        run_detailed_evaluation=True,
        return_output=True,
        executor=executor,
    )
    require_equal_results(here, tmp_path, histories, 1e-3)
    assert max(executor.sizes) < 4 * model.model.count_params() + 20_000
    # As where it was trained here.
    for found, wanted in zip(model.model.get_weights(), weights(tmp_path / "fold_1" / "model.keras"), strict=True):
        np.testing.assert_array_equal(found, wanted)
    # Finished is finished, wherever.
    assert cross_validation(CASES, model, 2, 2, evaluation_path=tmp_path, return_output=True) == histories


def test_callbacks_are_copied_without_the_model_of_an_earlier_training(model, tmp_path):
    callback = keras.callbacks.EarlyStopping(patience=0)
    callback.set_model(model.model)
    cross_validation(CASES, model, 2, 1, 1, tmp_path, callbacks=[callback], executor=Pickling())
    assert callback.model is model.model
    assert len(list(tmp_path.glob("fold_*/model.keras"))) == 2


def test_a_failing_fold_is_told_by_its_number(model, tmp_path):
    arguments = {"k_fold": 3, "epochs": 1, "iterations": 1, "evaluation_path": tmp_path}
    failing = Failing(tmp_path / "fold_1")
    with pytest.raises(TrainingError, match=r"fold 1 .*fold_1.*ValueError: boom") as caught:
        cross_validation(CASES, model, **arguments, callbacks=[failing], executor=Pickling())
    assert isinstance(caught.value.__cause__, ValueError)
    finished = (tmp_path / "fold_0" / "completed.json").stat().st_mtime_ns
    cross_validation(CASES, model, **arguments)
    assert (tmp_path / "fold_0" / "completed.json").stat().st_mtime_ns == finished
    assert (tmp_path / "fold_2" / "completed.json").is_file()


def test_results_that_are_not_here_are_missed(model, tmp_path):
    class Elsewhere:
        def submit(self, function, *arguments):
            future = Future()
            future.set_result({"loss": [1.0]})
            return future

    with pytest.raises(TrainingError, match="another machine"):
        cross_validation(CASES, model, 2, 1, evaluation_path=tmp_path, executor=Elsewhere())


def test_threads_run_one_fold_at_a_time(model, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        cross_validation(CASES, model, 2, 1, 1, tmp_path, executor=pool)
    assert len(list(tmp_path.glob("fold_*/completed.json"))) == 2


def test_tensorflow_is_never_forked(model, tmp_path):
    with (
        ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool,
        pytest.raises(ConfigurationError, match="spawn"),
    ):
        cross_validation(CASES, model, 2, 1, evaluation_path=tmp_path / "results", executor=pool)
    assert not (tmp_path / "results").exists()


class Step(Abstract_Subfunction):
    """Something that is no plain data."""

    def __init__(self):
        self.numbers = (number for number in range(3))

    def preprocessing(self, sample, training=True):
        pass


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("subfunction", "the subfunction Step cannot be sent.*generator"),
        ("callback", "the callback LambdaCallback cannot be sent"),
        ("model", "the callback BestModel holds a model"),
        ("loss", "the loss cannot be sent"),
        ("executor", "executor=3 must be"),
    ],
)
def test_what_cannot_be_sent_is_named(model, tmp_path, monkeypatch, what, message):
    callbacks = {
        "callback": [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)],
        "model": [BestModel(model, tmp_path / "best.keras")],
    }
    if what == "subfunction":
        monkeypatch.setattr(model.preprocessor, "subfunctions", [Step()])
    if what == "loss":
        monkeypatch.setattr(model, "loss", lambda y_true, y_pred: 0.0)
    executor = 3 if what == "executor" else Pickling()
    with pytest.raises(ConfigurationError, match=message):
        cross_validation(
            CASES, model, 2, 1, evaluation_path=tmp_path, callbacks=callbacks.get(what, []), executor=executor
        )
    assert not list(tmp_path.glob("fold_*/*"))


def test_a_network_of_the_users_own_class_is_one_in_the_worker_too(model, tmp_path):
    trace = tmp_path / "trace"
    own = Own(trace, model.preprocessor, architecture=model.architecture, precision="float32")
    own.verbose = 0
    cross_validation(CASES, own, 2, 1, evaluation_path=tmp_path / "own", executor=Pickling())
    assert trace.read_text().split() == ["Own", "Own"]
    own.other = model
    with pytest.raises(ConfigurationError, match="the network's attribute other holds a model"):
        cross_validation(CASES, own, 2, 1, evaluation_path=tmp_path / "held", executor=Pickling())

    class Local(Own):
        pass

    local = Local(trace, model.preprocessor, architecture=model.architecture, precision="float32")
    with pytest.raises(ConfigurationError, match="the class Local cannot be sent"):
        cross_validation(CASES, local, 2, 1, evaluation_path=tmp_path / "local", executor=Pickling())


def test_other_models_stay_here(fake_model, tmp_path):
    other = fake_model()
    with pytest.raises(ConfigurationError, match="FakeModel"):
        cross_validation(list(other.truth), other, 2, 1, evaluation_path=tmp_path, executor=Pickling())


@pytest.mark.slow
def test_a_process_pool_gives_the_same_results(model, here, tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        histories = cross_validation(
            *(CASES, model, 2, 2),
            evaluation_path=tmp_path,
            run_detailed_evaluation=True,
            return_output=True,
            executor=pool,
        )
    require_equal_results(here, tmp_path, histories, 1e-3)


@pytest.mark.slow
def test_a_killed_worker_is_noticed(model, tmp_path):
    failing = Failing(tmp_path / "fold_1", kill=True)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(TrainingError, match=r"fold 1 .*BrokenProcessPool"),
    ):
        cross_validation(CASES, model, 2, 1, 1, tmp_path, callbacks=[failing], executor=pool)
    assert (tmp_path / "fold_0" / "completed.json").is_file()
    assert not (tmp_path / "fold_1" / "completed.json").exists()


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_results(model, here, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        histories = cross_validation(
            *(CASES, model, 2, 2),
            evaluation_path=tmp_path / "results",
            run_detailed_evaluation=True,
            return_output=True,
            executor=client.get_executor(),
        )
        with pytest.raises(TrainingError, match=r"fold [01] .*ValueError: boom"):
            cross_validation(
                *(CASES, model, 2, 1),
                evaluation_path=tmp_path / "failing",
                callbacks=[Failing(tmp_path)],
                executor=client.get_executor(),
            )
    require_equal_results(here, tmp_path / "results", histories, 1e-3)
