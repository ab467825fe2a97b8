import pytest

from miscnn_tf.multi_model.model import METHODS, Model


def with_methods(*names, base=object):
    return type("Own", (base,), dict.fromkeys(names, lambda self, *args, **more: None))


def test_a_class_with_all_methods_is_a_model():
    assert isinstance(with_methods(*METHODS)(), Model)


@pytest.mark.parametrize("left_out", METHODS)
def test_a_class_without_one_of_them_is_none(left_out):
    cls = with_methods(*(name for name in METHODS if name != left_out))
    assert not isinstance(cls(), Model)
    with pytest.raises(TypeError, match=left_out):
        with_methods(*(name for name in METHODS if name != left_out), base=Model)(None)


def test_a_subclass_has_the_preprocessor_and_an_id_of_its_own():
    cls = with_methods(*METHODS, base=Model)
    first, second = cls("a preprocessor"), cls("a preprocessor")
    assert first.preprocessor == "a preprocessor"
    assert first.id != second.id


def test_the_hook_is_of_the_base_class_alone():
    class Special(Model):
        pass

    assert not isinstance(with_methods(*METHODS)(), Special)


def test_a_neural_network_is_a_model():
    from miscnn_tf.neural_network.model import Neural_Network

    assert issubclass(Neural_Network, Model)
    assert Model not in Neural_Network.__mro__
