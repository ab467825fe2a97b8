from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.datasets import write_brats_phantoms, write_cell_phantoms, write_kits_phantoms
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.fingerprint import Fingerprint, Intensities, take_fingerprint
from miscnn_tf.experiment.planner import Machine, Plan, make_plan, to_tables
from miscnn_tf.experiment.toml_file import check_experiment

CPU, GPU = Machine(gpu=False, memory_gb=4), Machine(gpu=True, memory_gb=8)
CT = Intensities(-1024, 3000, -12.34, 208.7, 100, 50)
MRI = Intensities(0, 900, 40, 700, 300, 100)


def fingerprint(shape, spacing, cases=20, intensities=(MRI,)) -> Fingerprint:
    return Fingerprint(
        cases=cases,
        shapes=(tuple(shape),) * cases,
        spacings=None if spacing is None else (tuple(spacing),) * cases,
        whole_numbers=True,
        intensities=tuple(intensities),
        class_shares=(0.9, 0.1),
        class_cases=(cases, cases),
        measured=("a",) * cases,
    )


def value(plan: Plan, table: str, key: str):
    return plan[table][key].value


def fits(plan: Plan, machine: Machine, axes: int, filters: int = 16) -> None:
    """What every plan has to fulfil.

    Args:
        plan: The plan.
        machine: Its machine.
        axes: Axes of the images.
        filters: Filters of the first level on a CPU.
    """
    tables = to_tables(plan)
    experiment = check_experiment({"data": {"path": "data"}, **tables}, "plan")
    architecture = tables["network"]["architecture"]
    patch = tables["preprocessing"]["patch_shape"]
    assert len(patch) == axes
    assert tables["preprocessing"]["overlap"] == 0.5
    if architecture["name"] == "unet_standard":
        assert not machine.gpu
        assert architecture["n_filters"] == filters
        assert not np.any(np.array(patch) % 2 ** architecture["depth"])
    else:
        assert not np.any(np.array(patch) % np.prod(architecture["strides"], axis=0))
        assert architecture["features"][0] == (32 if machine.gpu else filters)
    assert tables["network"]["batch_size"] >= 2
    assert experiment.preprocessing.make_steps()
    assert all(choice.reason for choices in plan.values() for choice in choices.values())


def test_kits_ct(tmp_path: Path) -> None:
    """A CT is clipped to what the organs have, and resampled; a quarter of the voxels of the real data set."""
    write_kits_phantoms(tmp_path, cases=5, shape=(24, 48, 64), progress=False)
    interface = find_interface(tmp_path)
    found = take_fingerprint(Data_IO(interface, tmp_path))
    plan = make_plan(found, CPU, interface.names_of_classes())
    fits(plan, CPU, 3)
    normalization = value(plan, "preprocessing", "normalization")
    assert normalization["mode"] == "ct"
    [[low, high, mean, deviation]] = normalization["statistics"]
    assert low < mean < high
    assert 0 < deviation < high - low
    # Kidneys without contrast medium have 30, with it 100 to 200 HU; noise on both sides.
    assert -150 < low < 50
    assert 120 < high < 400
    # The phantoms are stored in several orientations, and brought into one.
    assert value(plan, "preprocessing", "orientation") == "RAS"
    assert sorted(value(plan, "preprocessing", "spacing")) == pytest.approx(sorted(found.median_spacing), rel=1e-3)
    assert sorted(value(plan, "preprocessing", "patch_shape")) == [24, 48, 64]
    assert [type(step).__name__ for step in check_experiment(
        {"data": {"path": "x"}, **to_tables(plan)}, "plan").preprocessing.make_steps()
    ] == ["Orientation", "Normalization", "Resampling"]  # fmt: skip


def test_brats_mri(tmp_path: Path) -> None:
    """Four contrasts: no clipping, each normalised; one voxel size, so nothing to resample."""
    write_brats_phantoms(tmp_path / "brats", cases=2)
    for case in sorted((tmp_path / "brats").iterdir()):
        folder = tmp_path / "data" / case.name
        folder.mkdir(parents=True)
        for number, kind in enumerate(("flair", "t1", "t1ce", "t2")):
            (folder / f"imaging_{number:04d}.nii.gz").symlink_to(case / f"{case.name}_{kind}.nii.gz")
        (folder / "segmentation.nii.gz").symlink_to(case / f"{case.name}_seg.nii.gz")
    interface = find_interface(tmp_path / "data", label_map={4: 3})
    assert (interface.channels, interface.classes) == (4, 4)
    found = take_fingerprint(Data_IO(interface, tmp_path / "data"))
    plan = make_plan(found, GPU, interface.names_of_classes())
    fits(plan, GPU, 3)
    assert len(found.intensities) == 4
    assert "clip" not in plan["preprocessing"]
    assert "spacing" not in plan["preprocessing"]
    # The phantom of a head is in a box of air, which is 0.
    assert found.cropped_share < 0.75
    assert value(plan, "preprocessing", "crop") == "nonzero"
    assert value(plan, "preprocessing", "normalization") == {"mode": "z-score", "nonzero": True}
    assert value(plan, "network", "metrics") == ["dice_soft", {"name": "PooledDice", "classes": 4, "per_class": True}]
    assert value(plan, "network", "architecture")["features"][:3] == [32, 64, 128]


def test_cells_2d(tmp_path: Path) -> None:
    """Microscopy: two dimensions, no voxel size."""
    write_cell_phantoms(tmp_path / "cells")
    images = sorted((tmp_path / "cells" / "01").glob("*.png"))
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "masks").mkdir()
    from PIL import Image

    for image in images:
        pixels = np.asarray(Image.open(image))
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{image.stem}.tif")
        mask = (pixels > np.percentile(pixels, 80)).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{image.stem}.tif")
    interface = find_interface(tmp_path / "data")
    found = take_fingerprint(Data_IO(interface, tmp_path / "data"))
    plan = make_plan(found, CPU, interface.names_of_classes())
    fits(plan, CPU, 2)
    assert "spacing" not in plan["preprocessing"]
    assert "clip" not in plan["preprocessing"]
    patch = value(plan, "preprocessing", "patch_shape")
    assert all(size >= full for size, full in zip(patch, found.median_shape, strict=True)) or max(patch) >= 256


def test_hippocampus(hippocampus: Path) -> None:
    """The network that the benchmark uses, found by itself: its patches, depth and batch."""
    interface = find_interface(hippocampus / "cases")
    found = take_fingerprint(Data_IO(interface, hippocampus / "cases"))
    assert found.cases == 140
    assert found.median_shape == (35, 50, 35)
    assert found.median_spacing == (1, 1, 1)
    plan = make_plan(found, CPU, interface.names_of_classes())
    fits(plan, CPU, 3)
    assert value(plan, "preprocessing", "patch_shape") == [40, 56, 40]
    assert value(plan, "network", "architecture")["depth"] == 3
    assert value(plan, "network", "batch_size") == 5
    assert set(plan["preprocessing"]) == {"normalization", "analysis", "patch_shape", "overlap"}


def test_a_whole_ct_does_not_fit_and_is_cut() -> None:
    """The real KiTS19: median 107 x 512 x 512 voxels of 3 x 0.78 x 0.78 mm."""
    plan = make_plan(fingerprint((107, 512, 512), (3.0, 0.78, 0.78), 210, (CT,)), GPU, ["0", "kidney", "tumour"])
    fits(plan, GPU, 3)
    patch = value(plan, "preprocessing", "patch_shape")
    normalization = {"mode": "ct", "statistics": [[-12.34, 208.7, 100, 50]]}
    assert value(plan, "preprocessing", "normalization") == normalization
    # As many millimetres along each axis, within a factor of two.
    lengths = np.array(patch) * (3.0, 0.78, 0.78)
    assert lengths.max() / lengths.min() < 2.5
    assert "as large a part of the median image" in plan["preprocessing"]["patch_shape"].reason


def test_thick_slices_keep_what_the_finer_cases_show() -> None:
    """12 slices of 8 mm: as nnU-Net, the tenth percentile instead of the median; and the network is deep in-plane."""
    one = fingerprint((12, 256, 256), (8.0, 0.8, 0.8))
    finer = replace(one, spacings=((8.0, 0.8, 0.8),) * 16 + ((4.0, 0.8, 0.8),) * 4)
    spacing = make_plan(finer, GPU, ["0", "1"])["preprocessing"]["spacing"]
    assert spacing.value == [4.0, 0.8, 0.8]
    assert "thick slices, axis 0" in spacing.reason
    plan = make_plan(one, GPU, ["0", "1"])
    fits(plan, GPU, 3)
    network = plan["network"]["architecture"]
    assert network.value["strides"][1] == [1, 2, 2]
    assert network.value["kernel_sizes"][0] == [1, 3, 3]
    assert "axis 0 is halved and filtered only where" in network.reason
    assert value(plan, "preprocessing", "patch_shape")[0] == 12


def test_small_differences_of_the_voxel_size_are_none() -> None:
    one = fingerprint((40, 40, 40), (1.0, 1.0, 1.0))
    assert "spacing" not in make_plan(one, CPU, ["0", "1"])["preprocessing"]
    close = replace(one, spacings=((1.0, 1.0, 1.001),) * 20)
    assert "spacing" not in make_plan(close, CPU, ["0", "1"])["preprocessing"]
    mixed = replace(one, spacings=((1.0, 1.0, 1.23456789),) * 11 + ((1.0, 1.0, 1.0),) * 9)
    # Rounded down, so that no slice is lost.
    assert value(make_plan(mixed, CPU, ["0", "1"]), "preprocessing", "spacing") == [1.0, 1.0, 1.23456]


def test_the_recipe_is_that_of_nnunet() -> None:
    plan = make_plan(fingerprint((128, 128, 128), (1.0, 1.0, 1.0), 400), GPU, ["0", "1"])
    assert value(plan, "network", "loss") == {"name": "nnunet_loss", "batch_dice": False}
    optimizer = {"name": "nesterov_sgd", "momentum": 0.99, "weight_decay": 3e-5, "global_clipnorm": 12.0}
    assert value(plan, "network", "optimizer") == optimizer
    assert value(plan, "network", "learning_rate") == 0.01
    assert value(plan, "network", "schedule") == "polynomial"
    assert value(plan, "network", "architecture")["deep_supervision"] is True
    small = make_plan(fingerprint((512, 512, 512), (1.0, 1.0, 1.0), 400), GPU, ["0", "1"])
    assert value(small, "network", "loss")["batch_dice"] is True  # nnU-Net trains on coarser images, too


def test_on_a_cpu_the_recipe_is_that_of_a_short_training() -> None:
    """Each difference from nnU-Net has its reason."""
    network = make_plan(fingerprint((128, 128, 128), (1.0, 1.0, 1.0), 400), CPU, ["0", "1"])["network"]
    assert "optimizer" not in network  # Adam
    assert "fewer steps than nnU-Net's SGD" in network["learning_rate"].reason
    assert network["architecture"].value["name"] == "unet_standard"
    assert network["architecture"].value["depth"] == 4
    assert "half as many as in nnU-Net, and pooling instead of strides" in network["architecture"].reason
    thick = make_plan(fingerprint((12, 256, 256), (8.0, 0.8, 0.8)), CPU, ["0", "1"])["network"]
    assert thick["architecture"].value["name"] == "nnunet_plain"
    assert "half as many as in nnU-Net, because a CPU is slow" in thick["architecture"].reason
    assert network["metrics"].value == ["dice_soft", {"name": "PooledDice", "classes": 2, "per_class": True}]
    many = make_plan(fingerprint((128, 128, 128), (1.0, 1.0, 1.0), 400), CPU, [str(n) for n in range(9)])["network"]
    assert many["metrics"].value == ["dice_soft", {"name": "PooledDice", "classes": 9}]


def test_regions_have_a_sigmoid_each() -> None:
    one = fingerprint((128, 128, 128), (1.0, 1.0, 1.0), 400)
    network = make_plan(one, GPU, ["background", "whole", "core"], regions=["all", "core"])["network"]
    assert network["loss"].value == {"name": "nnunet_loss", "batch_dice": False, "regions": True}
    assert "a sigmoid each" in network["loss"].reason
    assert network["metrics"].value == [
        "dice_soft",
        {"name": "PooledDice", "classes": 2, "regions": True, "per_class": ["all", "core"]},
    ]
    partly = make_plan(one, GPU, ["0", "1", "2"], regions=["all", "core"], ignore=True)["network"]
    assert partly["loss"].value["ignore"] is True


def test_the_augmentation_of_nnunet_is_planned_on_a_gpu() -> None:
    one = fingerprint((12, 256, 256), (8.0, 0.8, 0.8))
    thick = make_plan(one, GPU, ["0", "1"])["augmentation"]
    assert thick["recipe"].value == "nnunet"
    assert thick["within_slices"].value == 0
    cube = make_plan(fingerprint((128, 128, 128), (1.0, 1.0, 1.0)), GPU, ["0", "1"])
    fits(cube, GPU, 3)
    assert value(cube, "augmentation", "within_slices") == "never"
    assert "masked_channels" not in cube["augmentation"]
    empty = make_plan(replace(one, cropped_shapes=((12, 100, 100),) * 20), GPU, ["0", "1"])
    fits(empty, GPU, 3)
    assert value(empty, "augmentation", "masked_channels") == [0]
    assert "recipe" not in make_plan(one, CPU, ["0", "1"])["augmentation"]


def test_mirrored_views_in_prediction() -> None:
    one = fingerprint((128, 128, 128), (1.0, 1.0, 1.0), 400)
    assert value(make_plan(one, GPU, ["0", "1"]), "augmentation", "infaug_all") is True
    assert value(make_plan(one, CPU, ["0", "1"]), "augmentation", "infaug") is False
    assert "infaug" not in make_plan(one, GPU, ["0", "left lung"])["augmentation"]


def test_the_residual_presets() -> None:
    one = fingerprint((128, 128, 128), (1.0, 1.0, 1.0), 400)
    plan = make_plan(one, Machine(gpu=True, memory_gb=24), ["0", "1"], preset="residual_L")
    network = value(plan, "network", "architecture")
    assert network["name"] == "nnunet_residual"
    assert network["blocks"] == [1, 3, 4, 6, 6, 6]
    assert network["decoder_convolutions"] == [1] * 5
    with pytest.raises(ConfigurationError, match="residual_L"):
        make_plan(one, GPU, ["0", "1"], preset="residual_l")


def test_left_and_right_are_not_mirrored() -> None:
    one = fingerprint((40, 40, 40), (1.0, 1.0, 1.0))
    for names in (["bg", "Lung_L", "Lung_R"], ["bg", "left kidney"], ["bg", "kidney (right)"]):
        choice = make_plan(one, CPU, names)["augmentation"]["mirror"]
        assert choice.value is False
        assert names[1] in choice.reason
    for names in (["bg", "liver", "relapse"], ["0", "1"], ["bg", "cleft"]):
        for machine in (CPU, GPU):
            assert make_plan(one, machine, names)["augmentation"]["mirror"].value is True


def test_a_short_training_does_not_flip_axes_along_which_classes_have_an_order() -> None:
    rng = np.random.default_rng(0)
    names = ["background", "front", "back"]

    def centres(apart: tuple[float, float, float], lacking: int = 0) -> Fingerprint:
        """The first class around the middle, the second one elsewhere."""
        first = rng.normal(0.5, 0.02, (20, 3))
        second = first + apart + rng.normal(0, 0.01, (20, 3))
        pairs = [
            (None, tuple(one), None if number < lacking else tuple(two))
            for number, (one, two) in enumerate(zip(first, second, strict=True))
        ]
        return replace(
            fingerprint((40, 40, 40), (1.0, 1.0, 1.0)),
            class_shares=(0.8, 0.1, 0.1),
            class_cases=(20, 20, 20 - lacking),
            class_centres=tuple(pairs),
        )

    def flips(one: Fingerprint, machine: Machine = CPU, seconds: float = 1.0) -> Plan:
        plan = make_plan(one, machine, names, minutes=10, measure=lambda _: seconds)
        if not machine.gpu:
            filters = value(plan, "network", "architecture")["n_filters"]
            assert filters == (8 if seconds >= 1 else 16)  # of so few steps a wide network learns little
            fits(plan, machine, 3, filters)
        return plan["augmentation"]

    along = flips(centres((0.0, -0.2, 0.0)))
    assert (along["mirror"].value, along["mirror_axes"].value) == (True, [0, 2])
    assert "not along axis 1, where 'back' is before 'front'" in along["mirror_axes"].reason
    everywhere = flips(centres((0.2, 0.1, 0.1)))["mirror"]
    assert everywhere.value is False
    assert "axis 0: 'front' is before 'back'" in everywhere.reason
    # No order: nested classes, one that is hardly displaced, and one that few samples have.
    for one in (centres((0.0, 0.0, 0.0)), centres((0.0, 0.02, 0.0)), centres((0.0, 0.2, 0.0), lacking=16)):
        assert flips(one)["mirror"].value is True
        assert "mirror_axes" not in flips(one)
    assert flips(centres((0.2, 0.1, 0.1)), GPU)["mirror"].value is True  # as nnU-Net
    mixed = replace(centres((0.0, 0.2, 0.0)), orientations=("RAS",) * 10 + ("LPS",) * 10)
    assert flips(mixed)["mirror"].value is False
    # A training that sees each sample often: as nnU-Net. 510 steps of two patches of 16 samples are a short one.
    assert flips(centres((0.2, 0.1, 0.1)), seconds=0.1)["mirror"].value is True
    one = centres((0.2, 0.1, 0.1))
    assert make_plan(one, CPU, names)["augmentation"]["mirror"].value is True
    many = replace(one, cases=5000, shapes=one.shapes * 250, spacings=one.spacings * 250)
    assert make_plan(many, CPU, names)["augmentation"]["mirror"].value is False


def test_few_cases() -> None:
    one = make_plan(fingerprint((40, 40, 40), None, cases=1), CPU, ["0", "1"])
    assert value(one, "split", "validation_share") == 0
    assert "cross_validation" not in one
    assert (
        value(make_plan(fingerprint((40, 40, 40), None, cases=3), CPU, ["0", "1"]), "cross_validation", "k_fold") == 3
    )


def test_the_batch_is_a_small_share_of_the_data() -> None:
    shape = (64, 64)
    for cases, batch in ((40, 2), (120, 6), (10_000, 500)):
        plan = make_plan(fingerprint(shape, None, cases), GPU, ["0", "1"])
        assert value(plan, "network", "batch_size") == batch
    choice = make_plan(fingerprint(shape, None, 10_000), CPU, ["0", "1"])["network"]["batch_size"]
    assert choice.value == 12
    assert "nnU-Net's 407 would take longer" in choice.reason


def test_the_names_of_channels_choose_their_normalization() -> None:
    one = fingerprint((40, 40, 40), (1.0, 1.0, 1.0), intensities=(CT, MRI, MRI, MRI))
    names = ["CT", "noNorm", "rgb_to_0_1", "PET"]
    choice = make_plan(one, CPU, ["0", "1"], channel_names=names)["preprocessing"]["normalization"]
    assert choice.value["mode"] == ["ct", "none", "rgb", "z-score"]
    assert choice.value["statistics"][0] == [-12.34, 208.7, 100, 50]
    named = make_plan(replace(one, intensities=(CT,)), CPU, ["0", "1"], channel_names=["MRI"])
    assert value(named, "preprocessing", "normalization") == "z-score"  # the name is the user's, the values a guess


def test_mixed_orientations_get_one() -> None:
    """Half of the samples have their thick axis first, half last: the plan is that of one orientation."""
    shapes = ((12, 256, 200),) * 10 + ((256, 200, 12),) * 10
    spacings = ((8.0, 0.8, 0.8),) * 10 + ((0.8, 0.8, 8.0),) * 10
    mixed = replace(
        fingerprint((1, 1, 1), None), shapes=shapes, spacings=spacings, orientations=("SRA",) * 10 + ("RAS",) * 10
    )
    plan = make_plan(mixed, GPU, ["0", "1"])
    fits(plan, GPU, 3)
    assert value(plan, "preprocessing", "orientation") == "RAS"
    assert "SRA 10 times, RAS 10 times" in plan["preprocessing"]["orientation"].reason
    one = replace(mixed, shapes=((256, 200, 12),) * 20, spacings=((0.8, 0.8, 8.0),) * 20, orientations=("RAS",) * 20)
    assert "orientation" not in make_plan(one, GPU, ["0", "1"])["preprocessing"]
    for key in ("patch_shape",):
        assert value(plan, "preprocessing", key) == value(make_plan(one, GPU, ["0", "1"]), "preprocessing", key)
    assert value(plan, "network", "architecture") == value(make_plan(one, GPU, ["0", "1"]), "network", "architecture")


def test_a_time_on_a_cpu_reduces_the_patch_and_shows_the_steps() -> None:
    """A step takes 3 s at 896 x 896 x 2, so that ten minutes have few of them."""
    one, measured = fingerprint((999, 960), None), []

    def seconds(plan: Plan) -> float:
        fits(plan, CPU, 2)
        patch = value(plan, "preprocessing", "patch_shape")
        measured.append(patch)
        return 3.0 * math.prod(patch) * value(plan, "network", "batch_size") / (2 * 896**2)

    plan = make_plan(one, CPU, ["0", "1"], minutes=10, measure=seconds)
    fits(plan, CPU, 2)
    patch = plan["preprocessing"]["patch_shape"]
    assert measured == [[896, 896], patch.value]
    assert max(patch.value) < 896 / 2
    assert "for more steps in 10 minutes" in patch.reason
    steps = int(0.85 * 600 / seconds(plan))
    assert f"about {steps} steps, since one took" in plan["network"]["minutes"].reason
    assert value(plan, "network", "iterations") == min(100, steps // 30)
    assert "epochs" not in plan["network"]


def test_without_a_limit_and_on_a_gpu_no_step_is_measured() -> None:
    def seconds(plan: Plan) -> float:
        raise AssertionError("measured")

    one = fingerprint((999, 960), None)
    make_plan(one, CPU, ["0", "1"], measure=seconds)
    with_gpu = make_plan(one, GPU, ["0", "1"], minutes=10, measure=seconds)
    assert with_gpu["preprocessing"] == make_plan(one, GPU, ["0", "1"])["preprocessing"]


@pytest.mark.parametrize(("seconds", "planned"), [(1e-7, True), (1e-4, False)])
def test_on_a_cpu_predictions_are_averaged_over_flips_if_that_takes_seconds(seconds, planned) -> None:
    """On the hippocampus the average over flips had 0.8 points more Dice."""
    one = fingerprint((64, 64, 64), (1.0, 1.0, 1.0), 400)

    def step(plan: Plan) -> float:
        return seconds * plan["network"]["batch_size"].value * math.prod(value(plan, "preprocessing", "patch_shape"))

    plan = make_plan(one, CPU, ["0", "1"], minutes=100, measure=step)
    chosen = plan["augmentation"]["infaug"]
    assert chosen.value is planned
    patch = value(plan, "preprocessing", "patch_shape")
    patches = math.prod(1 + math.ceil((64 - size) / (size // 2)) for size in patch)
    once = patches * seconds * math.prod(patch) / 3
    assert f"about {8 * once:.2g} s instead of {once:.2g} s for an image" in chosen.reason
    assert (value(plan, "augmentation", "infaug_all") if planned else "infaug_all" not in plan["augmentation"]) is True
    assert value(make_plan(one, CPU, ["0", "1"]), "augmentation", "infaug") is False  # nothing is measured
    # Many validation samples would take longer than a fifth of the training.
    many = replace(one, cases=500_000)
    assert value(make_plan(many, CPU, ["0", "1"], minutes=100, measure=step), "augmentation", "infaug") is False


def test_slices_of_volumes_are_planned_for_a_2d_network() -> None:
    """Cine MRI: nnU-Net's 2D configuration, as patches of one slice across the thick slices, axis 2."""
    heart = replace(
        fingerprint((256, 216, 10), (1.5, 1.5, 10.0)),
        spacings=((1.5, 1.5, 10.0),) * 10 + ((1.3, 1.3, 5.0),) * 10,
    )
    plan = make_plan(heart, GPU, ["0", "wall"], configuration="2d")
    fits(plan, GPU, 3)
    assert value(plan, "preprocessing", "patch_shape") == [256, 224, 1]
    # Slices keep their distance; in nnU-Net, too.
    assert value(plan, "preprocessing", "spacing") == [1.4, 1.4, "keep"]
    architecture = value(plan, "network", "architecture")
    assert architecture["kernel_sizes"] == [[3, 3, 1]] * len(architecture["features"])
    assert architecture["strides"][1:] == [[2, 2, 1]] * (len(architecture["features"]) - 1)
    assert architecture["features"][-1] == 512
    assert value(plan, "network", "loss")["batch_dice"] is True
    assert value(plan, "augmentation", "within_slices") == 2
    assert value(plan, "augmentation", "mirror_axes") == [0, 1]
    assert value(plan, "augmentation", "infaug_flip_list") == [1, 2]
    slow = make_plan(heart, CPU, ["0", "wall"], configuration="2d")
    fits(slow, CPU, 3)
    assert value(slow, "augmentation", "mirror_axes") == [0, 1]
    assert value(slow, "augmentation", "rotations_angleX") == value(slow, "augmentation", "rotations_angleY") == [0, 0]
    assert "rotations_angleZ" not in slow["augmentation"]
    made = check_experiment({"data": {"path": "data"}, **to_tables(slow)}, "plan").augmentation.make()
    assert made is not None
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(48, 48, 31, 1)).astype(np.float32)
    other = np.array(volume)
    other[:, :, :15], other[:, :, 16:] = 1000, -1000
    for seed in range(60):
        drawn = made.draw(np.random.default_rng(seed), (16, 16, 1), 1)
        start, shape = drawn.region((16, 16, 1))
        where = tuple(slice(p + s, p + s + n) for p, s, n in zip((16, 16, 15), start, shape, strict=True))
        seen = [drawn.apply(image[where].copy(), None, (16, 16, 1))[0] for image in (volume, other)]
        np.testing.assert_allclose(*seen, atol=1e-4)  # other slices do not matter


def test_slices_of_one_voxel_size_are_not_resampled_whatever_their_distance() -> None:
    spacings = tuple((1.0, 1.0, distance) for distance in (3.0, 4.0, 5.0, 6.0))
    scans = replace(fingerprint((200, 200, 30), (1.0, 1.0, 4.0), 4), spacings=spacings)
    assert "spacing" not in make_plan(scans, GPU, ["0", "1"], configuration="2d")["preprocessing"]
    assert value(make_plan(scans, GPU, ["0", "1"]), "preprocessing", "spacing")[:2] == [1.0, 1.0]


def test_low_resolution_is_planned_where_nnunet_does() -> None:
    liver = fingerprint((512, 512, 480), (0.75, 0.75, 1.0), 100, (CT,))
    full, low = (make_plan(liver, GPU, ["0", "liver"], configuration=name) for name in ("3d_fullres", "3d_lowres"))
    fits(low, GPU, 3)
    assert full == make_plan(liver, GPU, ["0", "liver"])
    # All samples have one voxel size, but not this one.
    assert "spacing" not in full["preprocessing"]
    spacing = value(low, "preprocessing", "spacing")
    assert min(spacing) > 1
    patch = value(low, "preprocessing", "patch_shape")
    coarse = [512 * 0.75 / spacing[0], 512 * 0.75 / spacing[1], 480 / spacing[2]]
    assert 0.25 <= np.prod(patch) / np.prod(coarse) < 0.35
    assert "of the median image" in low["preprocessing"]["spacing"].reason
    # The second stage is the network in full resolution, with more channels.
    assert make_plan(liver, GPU, ["0", "liver"], configuration="3d_cascade_fullres") == full
    with pytest.raises(ConfigurationError, match=r"'3d_lowres' is not planned.*a patch in full resolution covers"):
        make_plan(fingerprint((36, 50, 35), (1, 1, 1)), GPU, ["0", "1"], configuration="3d_lowres")


@pytest.mark.parametrize(("ordered", "flipped"), [((0,), [1]), ((0, 1), None), ((2,), [0, 1])])
def test_slices_are_flipped_only_within_and_where_classes_have_no_order(ordered, flipped) -> None:
    centres = tuple(
        (None, *(tuple(0.2 + 0.6 * label if axis in ordered else 0.5 for axis in range(3)) for label in (0, 1)))
        for _ in range(20)
    )
    scans = replace(fingerprint((128, 128, 20), (1.0, 1.0, 5.0)), class_shares=(0.8, 0.1, 0.1), class_cases=(20,) * 3)
    scans = replace(scans, measured=tuple(map(str, range(20))), class_centres=centres)
    names = ["0", "front", "back"]
    plan = make_plan(scans, CPU, names, minutes=1, measure=lambda _: 1.0, configuration="2d")["augmentation"]
    assert plan["mirror"].value is (flipped is not None)
    assert (plan["mirror_axes"].value if flipped else None) == flipped


@pytest.mark.parametrize(
    ("machine", "minutes", "seconds", "iterations", "batches"),
    [(GPU, None, None, 250, 50), (CPU, None, None, 100, 50), (CPU, 10, 0.7, 24, 12), (CPU, 1, 5.0, 10, 5)],
)
def test_a_validation_takes_at_most_a_fifth_of_the_time_of_the_steps(
    machine, minutes, seconds, iterations, batches
) -> None:
    """A batch of a validation takes a third of a training step."""
    one = fingerprint((36, 50, 35), (1.0, 1.0, 1.0), 200)
    measure = None if seconds is None else lambda _: seconds
    network = make_plan(one, machine, ["0", "1"], minutes, measure=measure)["network"]
    assert (network["iterations"].value, network["validation_batches"].value) == (iterations, batches)
    assert batches / 3 <= iterations / 5
    assert network["best_by"].value == "val_pooled_dice"
    reason = "as in nnU-Net" if batches == 50 else "half as many as training steps"
    assert reason in network["validation_batches"].reason
