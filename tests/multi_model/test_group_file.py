import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from own_model import Constant

from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, ModelFileError
from miscnn_tf.multi_model import Model_Group, load_group


@pytest.fixture(scope="module")
def group(kit):
    return Model_Group(kit.networks, kit.preprocessor)


@pytest.fixture(scope="module")
def dumped(group, tmp_path_factory):
    """A folder that holds the group; nothing may change it."""
    folder = tmp_path_factory.mktemp("dumped")
    group.dump(folder)
    return folder


@pytest.fixture(scope="module")
def image(kit):
    return kit.io.sample_loader("case_0").img_data


def metadata(folder: Path) -> dict:
    (file,) = folder.glob("group_*/metadata.json")
    return json.loads(file.read_text())


def a_copy(dumped: Path, tmp_path: Path, **changes) -> Path:
    """The group's folder with other metadata, and empty files in the members' places."""
    content = {**metadata(dumped), **changes}
    folder = tmp_path / f"group_{metadata(dumped)['id']}"
    folder.mkdir()
    (folder / "metadata.json").write_text(json.dumps(content))
    for member in metadata(dumped)["members"]:
        (folder / member["file"]).touch()
    return folder


def test_a_dump_is_one_folder_and_nothing_beside_it(group, dumped):
    (folder,) = dumped.iterdir()
    assert folder.name == f"group_{group.id}"
    content = metadata(dumped)
    files = {member["file"] for member in content["members"]}
    assert {path.name for path in folder.iterdir()} == {"metadata.json"} | files
    assert (len(files), content["kind"], content["id"]) == (3, "Model_Group", group.id)


def test_a_new_process_predicts_the_same_voxels(group, dumped, image, tmp_path):
    np.save(tmp_path / "image.npy", image)
    script = """
        import sys
        import numpy as np
        from miscnn_tf.multi_model import load_group
        group = load_group(sys.argv[1])
        image = np.load("image.npy")
        np.savez("out.npz", labels=group.predict_array(image, (1, 1)), majority=group.predict_array(image, (1, 1),
                 "majority"), mean=group.predict_array(image, (1, 1), activation_output=True))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(dumped)], cwd=tmp_path, check=True, timeout=300)
    found = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(found["labels"], group.predict_array(image, (1, 1)))
    np.testing.assert_array_equal(found["majority"], group.predict_array(image, (1, 1), "majority"))
    np.testing.assert_allclose(found["mean"], group.predict_array(image, (1, 1), activation_output=True), atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"image.npy", "out.npz"}


def test_model_group_load_restores_every_member(kit, group, dumped, image):
    # In MIScnn load restores nothing.
    other = Model_Group([kit.network(seed) for seed in (11, 12, 13)], kit.preprocessor)
    before = other.predict_array(image, (1, 1), activation_output=True)
    other.load(dumped)
    assert other.id == group.id
    assert [model.id for model in other.models] == [model.id for model in group.models]
    found = other.predict_array(image, (1, 1), activation_output=True)
    assert np.abs(found - before).max() > 0.01
    np.testing.assert_array_equal(found, group.predict_array(image, (1, 1), activation_output=True))


def test_loaded_members_share_one_preprocessor(kit, dumped):
    loaded = load_group(dumped / f"group_{metadata(dumped)['id']}", kit.io)
    assert all(model.preprocessor is loaded.preprocessor for model in loaded.models)
    assert loaded.preprocessor.data_io is kit.io
    loads = kit.io.interface.loads
    loads.clear()
    loaded.predict(["case_2"], return_output=True)
    assert loads == ["case_2"]


def test_a_second_dump_takes_the_place_of_the_first(kit, image, tmp_path):
    group = Model_Group([kit.network(1)], kit.preprocessor)
    group.dump(tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "notes.txt").write_text("of the user")
    first = metadata(tmp_path)["members"][0]["file"]
    group.models[0].model.set_weights(kit.networks[0].model.get_weights())
    group.dump(tmp_path)
    assert not (folder / first).exists()
    assert len(list(folder.iterdir())) == 3  # and the notes are still there
    np.testing.assert_array_equal(
        load_group(tmp_path).predict_array(image, (1, 1)), kit.networks[0].predict_array(image, (1, 1))
    )


def test_an_interrupted_dump_leaves_the_one_before(kit, tmp_path, monkeypatch):
    group = Model_Group([Constant(kit.preprocessor, 1), Constant(kit.preprocessor, 2)], kit.preprocessor)
    group.dump(tmp_path)
    group.models[0].label = group.models[1].label = 0

    def killed(file_path):
        raise KeyboardInterrupt

    monkeypatch.setattr(group.models[1], "dump", killed)
    with pytest.raises(KeyboardInterrupt):
        group.dump(tmp_path)
    group.load(tmp_path)
    assert [model.label for model in group.models] == [1, 2]


def test_groups_in_groups_and_models_of_a_users_own(kit, group, image, tmp_path):
    inner = Model_Group([kit.networks[0], kit.networks[1]], kit.preprocessor)
    outer = Model_Group([inner, Constant(kit.preprocessor, 2)], kit.preprocessor)
    outer.dump(tmp_path)
    with pytest.raises(ConfigurationError, match=r"'Constant', which is not known here"):
        load_group(tmp_path, kit.io)
    loaded = load_group(tmp_path, kit.io, custom_objects={"Constant": Constant})
    assert loaded.models[0].models[1].preprocessor is loaded.models[1].preprocessor is loaded.preprocessor
    expected = outer.predict(["case_0"], activation_output=True, return_output=True)
    np.testing.assert_array_equal(loaded.predict(["case_0"], activation_output=True, return_output=True), expected)


def test_preprocessors_that_differ_stay_so(kit, image, tmp_path):
    from miscnn_tf.processing.preprocessor import Preprocessor

    wide = Preprocessor(kit.io, batch_size=1, patch_shape=(16, 16), data_aug=None, seed=1)
    networks = [kit.networks[0], kit.network(7, on=wide), kit.networks[1]]
    group = Model_Group(networks, kit.preprocessor, verify_preprocessor=False)
    group.dump(tmp_path)
    loaded = load_group(tmp_path)
    first, second, third = (model.preprocessor for model in loaded.models)
    assert first is third
    assert (first.patch_shape, second.patch_shape) == ((8, 8), (16, 16))
    np.testing.assert_array_equal(loaded.predict_array(image, (1, 1)), group.predict_array(image, (1, 1)))


def test_of_several_groups_one_has_to_be_named(kit, tmp_path):
    groups = [Model_Group([Constant(kit.preprocessor, label)], kit.preprocessor) for label in (1, 2)]
    for group in groups:
        group.dump(tmp_path)
    with pytest.raises(ConfigurationError, match="holds 2 groups"):
        load_group(tmp_path)
    groups[1].models[0].label = 0
    groups[1].load(tmp_path)  # it finds its own
    assert groups[1].models[0].label == 2


def test_where_there_is_no_group(kit, group, tmp_path):
    with pytest.raises(MissingDataError, match="there is no group of models"):
        load_group(tmp_path)
    with pytest.raises(MissingDataError, match="there is no group of models"):
        group.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["../secret.keras", "/etc/passwd", "metadata.json", "member_0_00000000.keras/../../x", "", "..", "a\0b"]
)
def test_metadata_that_lead_out_of_the_folder_are_refused(dumped, group, tmp_path, name):
    (tmp_path / "secret.keras").touch()
    members = [dict(member, file=name) for member in metadata(dumped)["members"]]
    folder = a_copy(dumped, tmp_path, members=members)
    for load in (load_group, group.load):
        with pytest.raises(ModelFileError, match="which is not a member of this group"):
            load(folder)


def test_a_link_that_leads_out_of_the_folder_is_refused(dumped, tmp_path):
    folder = a_copy(dumped, tmp_path)
    (tmp_path / "secret.keras").touch()
    first = folder / metadata(dumped)["members"][0]["file"]
    first.unlink()
    first.symlink_to(tmp_path / "secret.keras")
    with pytest.raises(ModelFileError, match="which is not a member of this group"):
        load_group(folder)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_format_is_refused(dumped, group, tmp_path, version):
    folder = a_copy(dumped, tmp_path, format=version)
    for load in (load_group, group.load):
        with pytest.raises(ModelFileError, match="has the format"):
            load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"members": []},
        {"members": "all"},
        {"members": [{"file": "member_0_00000000"}]},
        {"members": [None]},
        {"kind": "os.system"},
        {"id": "../elsewhere"},
        {"id": 7},
        {"verify_preprocessor": "yes"},
        {"description": None},
    ],
)
def test_damaged_metadata_are_named(dumped, group, tmp_path, changes):
    folder = a_copy(dumped, tmp_path, **changes)
    before = group.id
    for load in (load_group, group.load):
        with pytest.raises(ModelFileError, match=r"metadata\.json is damaged"):
            load(folder)
    assert group.id == before


def test_what_is_no_json_is_named(dumped, tmp_path):
    folder = a_copy(dumped, tmp_path)
    (folder / "metadata.json").write_text("{")
    with pytest.raises(DataError, match=r"metadata\.json is damaged"):
        load_group(folder)


def test_a_class_that_the_file_names_is_never_imported(dumped, tmp_path):
    members = [dict(member, kind="subprocess.Popen") for member in metadata(dumped)["members"]]
    with pytest.raises(ConfigurationError, match=r"'subprocess\.Popen', which is not known here"):
        load_group(a_copy(dumped, tmp_path, members=members))


def test_a_missing_member_is_named_before_any_is_loaded(kit, dumped, tmp_path):
    folder = a_copy(dumped, tmp_path)
    last = metadata(dumped)["members"][-1]["file"]
    (folder / last).unlink()
    networks = [kit.network(seed) for seed in range(3)]
    with pytest.raises(MissingDataError, match=last):
        Model_Group(networks, kit.preprocessor).load(folder)


def test_other_members_are_refused(kit, dumped):
    with pytest.raises(ModelFileError, match="holds a group of Neural_Network, Neural_Network, Neural_Network"):
        Model_Group([Constant(kit.preprocessor)], kit.preprocessor).load(dumped)


def test_of_several_machines_the_first_one_writes(kit, tmp_path, become_second_worker):
    group = Model_Group([Constant(kit.preprocessor, 1), kit.networks[0]], kit.preprocessor)
    become_second_worker()
    group.dump(tmp_path / "models")
    assert not (tmp_path / "models").exists()
