"""Networks of trained models of nnU-Net."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from miscnn_tf import __version__
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.dataset_json_io import DatasetJSON_interface
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.multi_model.model_group import Model_Group
from miscnn_tf.nnunet.model_folder import (
    ALL,
    DATASET_JSON,
    Checkpoint,
    fold_files,
    licence,
    opened_model,
    read_checkpoint,
)
from miscnn_tf.nnunet.plans import ModelPlan, read_plan
from miscnn_tf.processing.nnunet_augmentation import NnUNetAugmentation
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions import CropNonzero, NnUNetResampling, Normalization
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)

#: Trainers that train the network of the plans.
_USUAL_TRAINERS = re.compile(r"nnUNetTrainer(_\d+epochs?)?(_?NoMirroring|NoDeepSupervision)?")


def load_nnunet(
    source: str | Path,
    folds: str | Sequence[int | str] = ALL,
    checkpoint: str = "final",
    *,
    data_io: Data_IO | None = None,
    precision: str = "float32",
) -> Any:
    """Load a trained model of nnU-Net version 2, without PyTorch.

    Nothing in the files is executed: see `miscnn_tf.nnunet.torch_file`.

    Args:
        source: The folder of the model, ``nnUNetTrainer__nnUNetPlans__3d_fullres``, one above it, or the zip archive of
            ``nnUNetv2_export_model``.
        folds: Numbers of the folds; ``"all"`` takes every fold that was trained.
        checkpoint: ``"final"`` or ``"best"``.
        data_io: Samples to train with, or to predict by name; not needed for single files and arrays.
        precision: As in `Neural_Network`. "auto" is faster on processors with bfloat16, and differs slightly.

    Returns:
        A `Neural_Network`, or for several folds a `Model_Group`, whose predictions are averaged. They predict, explain,
        export and train as others do.

    Raises:
        MissingDataError: If files are missing.
        ModelFileError: If files are damaged, or contain what could run code.
        ConfigurationError: If the model has parts that are not supported; the message names them. Or if `data_io` has
            other channels or classes.

    Example:
        >>> model = load_nnunet("Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres")  # doctest: +SKIP
        >>> model.predict_file("scan.nii.gz", "segmentation.nii.gz")  # doctest: +SKIP
    """
    with opened_model(source) as folder:
        checkpoints = [read_checkpoint(path) for path in fold_files(folder, folds, checkpoint)]
        configurations = sorted({one.configuration for one in checkpoints})
        if len(configurations) > 1:
            raise ModelFileError(f"{source}: the folds are of several configurations, {', '.join(configurations)}")
        plan = read_plan(folder, configurations[0])
        interface = _interface(plan, folder)
        preprocessor = _preprocessor(plan, interface, checkpoints[0].mirroring, data_io)
        networks = [_network(plan, preprocessor, one, precision) for one in checkpoints]
        for network, one in zip(networks, checkpoints, strict=True):
            network.model_card = _card(plan, interface, one, Path(source), licence(folder))
    if len(networks) == 1:
        return networks[0]
    return Model_Group(networks, preprocessor, verify_preprocessor=False)


def _card(
    plan: ModelPlan, interface: DatasetJSON_interface, checkpoint: Checkpoint, source: Path, terms: str | None
) -> dict[str, str]:
    """Return facts about the origin of a model."""
    spacing = "pixels" if plan.spacing is None else f"{' x '.join(map(str, plan.spacing))} mm"
    card = {
        "source": f"{source.name}, {checkpoint.path.parent.name}, {checkpoint.path.name}",
        "trained by": f"nnU-Net version 2, {checkpoint.trainer}, configuration {plan.configuration}",
        "data set": plan.data_set,
        "channels": ", ".join(interface.channel_names or ()),
        "classes": ", ".join(interface.names_of_classes()),
        "voxel size": spacing,
        "converted": datetime.now(UTC).strftime("%Y-%m-%d"),
        "converted by": f"miscnn_tf {__version__}",
    }
    if interface.regions:
        card["regions"] = ", ".join(interface.regions)
    return card | ({} if terms is None else {"licence": terms})


def _interface(plan: ModelPlan, folder: Path) -> DatasetJSON_interface:
    interface = DatasetJSON_interface.from_description(folder, plan.three_dim)
    if interface.channels != len(plan.modes):
        raise ModelFileError(
            f"{folder}: {DATASET_JSON} names {interface.channels} channels, but the plans normalise {len(plan.modes)}; "
            "take both from the model's archive again"
        )
    return interface


def _preprocessor(
    plan: ModelPlan, interface: DatasetJSON_interface, mirroring: Sequence[int], data_io: Data_IO | None
) -> Preprocessor:
    # Starts TensorFlow.
    from miscnn_tf.neural_network.model_description import NoSamples

    if data_io is None:
        data_io = NoSamples(interface, "")
    else:
        given = data_io.interface
        for name in ("channels", "classes", "three_dim"):
            if getattr(given, name) != getattr(interface, name):
                raise ConfigurationError(
                    f"the model has {name}={getattr(interface, name)}, but the samples have {getattr(given, name)}; to "
                    "train on them, load the model without data_io, and read its weights into a new network: "
                    "network.load(file, head=False)"
                )
    flips = sorted(plan.axes[axis] for axis in mirroring)
    augmentation = NnUNetAugmentation(mirror=bool(flips), infaug=bool(flips), infaug_all=True)
    if flips:
        augmentation.config_mirror_axes = flips
        augmentation.infaug_flip_list = [axis + 1 for axis in flips]
    steps: list[Abstract_Subfunction] = [
        CropNonzero(),
        Normalization(plan.modes, smooth=0, statistics=plan.statistics or None, nonzero=plan.nonzero),
    ]
    if plan.spacing is not None:
        steps.append(NnUNetResampling(plan.spacing, plan.order, order_across=plan.order_across))
    preprocessor = Preprocessor(
        data_io,
        plan.batch_size,
        steps,
        augmentation,
        analysis="patchwise-crop",
        patch_shape=plan.patch_shape,
    )
    preprocessor.patchwise_overlap = 0.5
    preprocessor.patchwise_blending = "nnunet"
    return preprocessor


def _network(plan: ModelPlan, preprocessor: Preprocessor, checkpoint: Checkpoint, precision: str) -> Any:
    # Starts TensorFlow.
    from miscnn_tf.neural_network.architecture import architectures
    from miscnn_tf.neural_network.losses import nnunet_loss
    from miscnn_tf.neural_network.model import Neural_Network
    from miscnn_tf.nnunet.weights import copy_weights, unused

    blocks = "convolutions" if plan.architecture == "nnunet_plain" else "blocks"
    architecture = architectures[plan.architecture](
        plan.features,
        plan.kernel_sizes,
        plan.strides,
        **{blocks: plan.convolutions},
        decoder_convolutions=plan.decoder_convolutions,
    )
    scheme = scheme_of(preprocessor.data_io.interface)
    network = Neural_Network(
        preprocessor,
        architecture,
        loss=nnunet_loss(regions=bool(scheme.regions), ignore=scheme.has_ignored),
        precision=precision,
    )
    copied = copy_weights(network.model, checkpoint.weights, plan.axes)
    if left := unused(checkpoint.weights, copied):
        raise ConfigurationError(
            f"{checkpoint.path}: the network of the trainer {checkpoint.trainer} is not supported: it has "
            f"{some_of(left, 3)} beside the parts of {plan.architecture}"
        )
    if not _USUAL_TRAINERS.fullmatch(checkpoint.trainer):
        # The names of the weights do not show, for example, another activation.
        logger.warning(
            "%s was trained by %s: if this trainer changes the network of the plans, predictions are wrong; compare "
            "some with nnU-Net's",
            *(checkpoint.path, checkpoint.trainer),
        )
    network.take_over(network.model.get_weights(), 1)
    return network
