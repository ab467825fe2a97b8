import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation import leave_one_out


def test_each_sample_is_left_out_once(fake_model, tmp_path):
    model, callbacks = fake_model(4), []
    samples = list(model.truth)
    assert leave_one_out(samples, model, 3, None, callbacks, tmp_path) is None
    assert [call["validation"] for call in model.calls] == [[name] for name in samples]
    assert all(len(call["training"]) == 3 for call in model.calls)
    assert model.predicted == samples
    assert (samples, callbacks) == (list(model.truth), [])
    for number in range(4):
        assert {path.name for path in (tmp_path / f"fold_{number}").iterdir()} == {
            "sample_list.json", "history.tsv", "detailed_validation.tsv", "scores.csv", "summary.json",
            "predictions", "completed.json", "progress.json", "model.keras",
        }  # fmt: skip


def test_goes_on_where_it_stopped(fake_model, tmp_path):
    model = fake_model(4)
    model.fail_in_call = 3
    with pytest.raises(KeyboardInterrupt):
        leave_one_out(list(model.truth), model, 1, evaluation_path=tmp_path)
    again = fake_model(4)
    histories = leave_one_out(list(again.truth), again, 1, evaluation_path=tmp_path, return_output=True)
    assert len(again.calls) == 2
    assert len(histories) == 4


def test_needs_two_samples(fake_model, tmp_path):
    model = fake_model(1)
    with pytest.raises(ConfigurationError, match="two"):
        leave_one_out(list(model.truth), model, evaluation_path=tmp_path)
