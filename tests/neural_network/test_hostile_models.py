"""Model files that somebody made to harm: nothing runs, no other file is read, no memory is taken on their word."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import miscnn_tf
from miscnn_tf.errors import ModelFileError

SECRET = b"SECRET: what another file on this machine holds. " * 20


def edited(source, target, edit):
    """A copy of a model file with other members; `edit` maps a name and its bytes to bytes, or to None to drop it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = edit(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def with_weights(source, target, change):
    """A copy of a model file in which `change` was applied to the HDF5 file of the weights."""

    def edit(name, content):
        if name != "model.weights.h5":
            return content
        buffer = io.BytesIO(content)
        with h5py.File(buffer, "a") as file:
            change(file)
        return buffer.getvalue()

    return edited(source, target, edit)


def datasets(file, below):
    found = []
    file[below].visititems(lambda name, item: found.append(item.name) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.fixture
def model(make_network, tmp_path):
    network = make_network()
    network.train(network.preprocessor.data_io.get_indiceslist(), epochs=1)
    network.dump(tmp_path / "model.keras")
    (tmp_path / "secret").write_bytes(SECRET)
    return network, tmp_path / "model.keras"


@pytest.mark.parametrize("below", ["layers", "optimizer"])
def test_a_model_file_does_not_read_local_files_through_hdf5_external_storage(model, tmp_path, below):
    network, path = model

    def steal(file):
        for name in datasets(file, below):
            shape, dtype = file[name].shape, file[name].dtype
            if 0 < file[name].nbytes <= len(SECRET) and file[name].ndim:
                del file[name]
                file.create_dataset(name, shape, dtype, external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
                return
        raise AssertionError("no dataset fits")

    evil = with_weights(path, tmp_path / "evil.keras", steal)
    weights, state = network.model.get_weights(), [one.numpy() for one in network.model.optimizer.variables]

    for load in (lambda: network.load(evil), lambda: miscnn_tf.load_model(evil)):
        with pytest.raises(ModelFileError, match=r"evil\.keras: .* has its values in another file"):
            load()
    for before, after in zip(weights, network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(state, network.model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(before, after.numpy())
    network.dump(tmp_path / "next.keras")
    with zipfile.ZipFile(tmp_path / "next.keras") as archive:
        assert all(SECRET[:16] not in archive.read(name) for name in archive.namelist())


def test_a_small_model_file_does_not_take_gigabytes(model, tmp_path):
    network, path = model

    def claim(file):
        name = datasets(file, "layers")[0]
        del file[name]
        file.create_dataset(name, (2**30,), "f4", fillvalue=1.0)

    evil = with_weights(path, tmp_path / "evil.keras", claim)

    tracemalloc.start()
    with pytest.raises(ModelFileError, match="claims 4294967296 bytes of values that are not in the file"):
        network.load(evil)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def saved(model, path):
    model.save(path)
    return path


def test_a_saved_model_beside_the_file_is_not_executed(make_network, tmp_path):
    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 8, 1), tf.float32)])
        def serve(self, x):
            tf.io.write_file(str(tmp_path / "executed"), "yes")
            return tf.concat([x, x], -1)

    tf.saved_model.save(Evil(), str(tmp_path / "saved"), signatures={"serve": Evil().serve})
    image = keras.Input((8, 8, 8, 1))
    layer = keras.layers.TFSMLayer(str(tmp_path / "saved"), call_endpoint="serve")
    path = saved(keras.Model(image, layer(image)), tmp_path / "evil.keras")

    with pytest.raises(ModelFileError, match=r"evil\.keras: the model names keras\.layers: 'TFSMLayer'"):
        make_network().load(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_lambda_layer_is_refused(make_network, tmp_path, ending):
    image = keras.Input((8, 8, 8, 1))
    x = keras.layers.Lambda(lambda x: x)(image)
    model = keras.Model(image, keras.layers.Conv3D(2, 1, activation="softmax")(x))
    path = saved(model, tmp_path / f"evil{ending}")

    with pytest.raises(ModelFileError, match=rf"evil\{ending}: the model names .*: 'Lambda'"):
        make_network().load(path)


def test_a_hostile_configuration_is_not_read_where_the_architecture_is_ours(model, tmp_path):
    network, path = model
    hostile = {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}}

    evil = edited(
        path, tmp_path / "e.keras", lambda name, old: json.dumps(hostile).encode() if name == "config.json" else old
    )
    loaded = miscnn_tf.load_model(evil)

    for ours, theirs in zip(network.model.get_weights(), loaded.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_architecture_that_is_not_known_is_read_only_from_a_configuration_without_code(model, tmp_path):
    network, path = model

    def rename(name, old):
        if name == "miscnn_tf.json":
            return old.replace(b'"class_name": "unet_standard"', b'"class_name": "unheard_of"')
        if name == "config.json":
            configuration = json.loads(old)
            pooling = next(one for one in configuration["config"]["layers"] if one["class_name"] == "MaxPooling3D")
            pooling.update(module="keras.layers", class_name="Lambda", registered_name=None)
            return json.dumps(configuration).encode()
        return old

    unknown = edited(path, tmp_path / "unknown.keras", lambda name, old: rename(name, old) if "miscnn" in name else old)
    evil = edited(path, tmp_path / "evil.keras", rename)

    np.testing.assert_array_equal(miscnn_tf.load_model(unknown).model.get_weights()[0], network.model.get_weights()[0])
    with pytest.raises(ModelFileError, match="Lambda"):
        miscnn_tf.load_model(evil)


def test_members_that_do_not_belong_to_a_model_are_refused(model, tmp_path):
    network, path = model

    def with_member(name, content=b"x"):
        target = tmp_path / "evil.keras"
        target.write_bytes(path.read_bytes())
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(name, content)
        return target

    for name in ("assets/vocabulary.txt", "../../outside", "/etc/cron.d/x"):
        with pytest.raises(ModelFileError, match=rf"evil\.keras: the archive holds '{name}'"):
            network.load(with_member(name))
    with pytest.warns(UserWarning, match="Duplicate name"):
        evil = with_member("config.json", b"{}")
    with pytest.raises(ModelFileError, match=r"the archive holds 'config\.json', or holds it twice"):
        network.load(evil)


@pytest.mark.parametrize("member", ["model.weights.h5", "config.json", "metadata.json"])
def test_a_member_that_unpacks_to_very_much_is_refused_before_it_is_unpacked(model, tmp_path, member):
    network, path = model
    evil = tmp_path / "evil.keras"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(evil, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) if name != member else bytes(2**28))

    with pytest.raises(ModelFileError, match=rf"{member} claims 268435456 bytes, packed into \d+; at most"):
        network.load(evil)


def test_one_flipped_bit_in_the_weights_is_noticed(model, tmp_path):
    """Keras jumps through the archive, and so compares no checksum."""
    network, path = model
    content = bytearray(path.read_bytes())
    value = network.model.get_weights()[0].tobytes()[:16]
    place = content.index(value)
    content[place + 1] ^= 1
    (tmp_path / "flipped.keras").write_bytes(content)

    with pytest.raises(ModelFileError, match=r"flipped\.keras: .*Bad CRC-32"):
        network.load(tmp_path / "flipped.keras")


def test_weights_that_a_checkpoint_wrote_alone_are_loaded(model, make_network, tmp_path):
    network, _ = model
    network.model.save_weights(tmp_path / "best.weights.h5")
    other = make_network(seed=8)

    other.load(tmp_path / "best.weights.h5")

    for ours, theirs in zip(network.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(
        ModelFileError, match=r"best\.weights\.h5: the weights do not fit the architecture of this network"
    ):
        make_network(depth=2).load(tmp_path / "best.weights.h5")


def test_weights_that_do_not_fit_leave_the_network_as_it_was(model, make_network, tmp_path):
    _, path = model

    def shorten(file):
        name = datasets(file, "layers")[-1]
        del file[name]
        file[name] = np.ones(3, "f4")

    evil = with_weights(path, tmp_path / "evil.keras", shorten)
    other = make_network(seed=8)
    before = other.model.get_weights()

    with pytest.raises(ModelFileError, match=r"evil\.keras: the weights do not fit the architecture of this network"):
        other.load(evil)
    for old, new in zip(before, other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
