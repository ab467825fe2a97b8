"""The public interface: every name of MIScnn 1.4 that exists so far, with its arguments in their order and defaults."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import pytest

#: Place of a callable, and its arguments as MIScnn's scripts rely on them.
SIGNATURES = {
    # data
    "data_loading.sample:Sample": "index, image, channels, classes, extended={}",
    "data_loading.sample:Sample.add_segmentation": "seg",
    "data_loading.sample:Sample.add_prediction": "pred, activation_output=False",
    "data_loading.sample:Sample.get_extended_data": "",
    "data_loading.sample:Sample.add_details": "details",
    "data_loading.data_io:Data_IO": "interface, input_path, output_path='predictions', batch_path='batches', "
    "delete_batchDir=True",
    "data_loading.data_io:Data_IO.sample_loader": "index, load_seg=True, load_pred=False, backup=False",
    "data_loading.data_io:Data_IO.save_prediction": "sample",
    "data_loading.data_io:Data_IO.get_samples": "load_seg=False, load_pred=False",
    "data_loading.data_io:Data_IO.get_indiceslist": "",
    "data_loading.data_io:Data_IO.backup_batches": "batch_img, batch_seg, pointer",
    "data_loading.data_io:Data_IO.batch_load": "pointer, img=True",
    "data_loading.data_io:Data_IO.batch_cleanup": "pointer=None",
    "data_loading.data_io:Data_IO.backup_sample": "sample",
    "data_loading.data_io:Data_IO.load_sample_pickle": "index",
    "data_loading.data_io:backup_history": "history, evaluation_path",
    "data_loading.data_io:backup_evaluation": "data, evaluation_path, start=False",
    "data_loading.data_io:create_directories": "eval_path, subeval_path=None",
    "data_loading.interfaces:get_data_interface_from_file_term": "file_term",
    "data_loading.interfaces.abstract_io:Abstract_IO": "channels=1, classes=2, three_dim=False",
    "data_loading.interfaces.nifti_io:NIFTI_interface": "channels=1, classes=2, three_dim=True, pattern=None",
    "data_loading.interfaces.nifti_slicer_io:NIFTIslicer_interface": "slice_axis=0, channels=1, classes=2, "
    "pattern=None",
    "data_loading.interfaces.image_io:Image_interface": "classes=2, img_type='grayscale', img_format='png', "
    "pattern=None",
    "data_loading.interfaces.dictionary_io:Dictionary_interface": "dictionary, channels=1, classes=2, three_dim=True",
    "data_loading.interfaces.dicom_io:DICOM_interface": "channels=1, classes=2, three_dim=True, mask_background=0, "
    "structure_dict={}, annotation_tag=None",
    "data_loading.interfaces.dicom_io:DICOM_interface.get_ROI_names": "index",
    # processing
    "processing.preprocessor:Preprocessor": "data_io, batch_size, subfunctions=[], data_aug=Data_Augmentation(), "
    "prepare_subfunctions=False, prepare_batches=False, analysis='patchwise-crop', patch_shape=None, "
    "use_multiprocessing=False",
    "processing.preprocessor:Preprocessor.run": "indices_list, training=True, validation=False",
    "processing.preprocessor:Preprocessor.run_subfunctions": "indices_list, training=True",
    "processing.preprocessor:Preprocessor.prepare_sample_subfunctions": "index, training",
    "processing.preprocessor:Preprocessor.analysis_patchwise_grid": "sample, training, data_aug",
    "processing.preprocessor:Preprocessor.analysis_patchwise_crop": "sample, data_aug",
    "processing.preprocessor:Preprocessor.analysis_fullimage": "sample, training, data_aug",
    "processing.preprocessor:Preprocessor.postprocessing": "sample, prediction, activation_output=False",
    "processing.data_augmentation:Data_Augmentation": "cycles=1, scaling=True, rotations=True, elastic_deform=False, "
    "mirror=False, brightness=True, contrast=True, gamma=True, gaussian_noise=True",
    "processing.data_augmentation:Data_Augmentation.run": "img, seg",
    "processing.data_augmentation:Data_Augmentation.run_infaug": "data",
    "processing.subfunctions.clipping:Clipping": "min, max",
    "processing.subfunctions.normalization:Normalization": "mode='z-score', smooth=1e-6",
    "processing.subfunctions.resampling:Resampling": "new_spacing=(1, 1, 1), order_img=3, order_seg=1",
    "processing.subfunctions.resize:Resize": "new_shape=(128, 128, 128), order_img=3, order_seg=1",
    "processing.subfunctions.padding:Padding": "min_size, pad_mode='constant', pad_value_img=0, pad_value_seg=0, "
    "shape_must_be_divisible_by=None",
    "processing.subfunctions.transform_HU:TransformHU": "normalize=True, slope=1, intercept=-1024, "
    "clipScan_value=-2000, minmaxBound=(-1000, 400)",
    # network
    "neural_network.model:Neural_Network": "preprocessor, architecture=Architecture(), loss=tversky_loss, "
    "metrics=[dice_soft], learning_rate=0.0001, batch_queue_size=2, workers=1, multi_gpu=False",
    "neural_network.model:Neural_Network.train": "sample_list, epochs=20, iterations=None, callbacks=[], "
    "class_weight=None",
    "neural_network.model:Neural_Network.evaluate": "training_samples, validation_samples, epochs=20, "
    "iterations=None, callbacks=[], class_weight=None",
    "neural_network.model:Neural_Network.predict": "sample_list, return_output=False, activation_output=False",
    "neural_network.model:Neural_Network.predict_augmentated": "sample",
    "neural_network.model:Neural_Network.reset_weights": "",
    "neural_network.model:Neural_Network.reset": "",
    "neural_network.model:Neural_Network.copy": "",
    "neural_network.model:Neural_Network.dump": "file_path",
    "neural_network.model:Neural_Network.load": "file_path, custom_objects={}",
    "neural_network.data_generator:DataGenerator": "sample_list, preprocessor, training=False, validation=False, "
    "shuffle=False, iterations=None",
    "neural_network.data_generator:DataGenerator.on_epoch_end": "",
    "neural_network.metrics:dice_coefficient": "y_true, y_pred",
    "neural_network.metrics:dice_coefficient_loss": "y_true, y_pred",
    "neural_network.metrics:dice_soft": "y_true, y_pred",
    "neural_network.metrics:dice_soft_loss": "y_true, y_pred",
    "neural_network.metrics:dice_weighted": "weights",
    "neural_network.metrics:dice_crossentropy": "y_true, y_pred",
    "neural_network.metrics:tversky_loss": "y_true, y_pred",
    "neural_network.metrics:tversky_crossentropy": "y_true, y_pred",
    # The public name is an object of the class, so that it can be compiled as it stands and called with settings.
    "neural_network.losses:CategoricalFocalLoss": "alpha, gamma=2.0",
    "neural_network.losses:ComboLoss": "alpha=0.5, beta=0.5",
    "neural_network.losses:FocalTverskyLoss": "delta=0.7, gamma=0.75, smooth=1e-6",
    "neural_network.losses:SymmetricFocalLoss": "delta=0.7, gamma=2.0",
    "neural_network.losses:SymmetricFocalTverskyLoss": "delta=0.7, gamma=0.75",
    "neural_network.losses:AsymmetricFocalLoss": "delta=0.7, gamma=2.0",
    "neural_network.losses:AsymmetricFocalTverskyLoss": "delta=0.7, gamma=0.75",
    "neural_network.losses:SymUnifiedFocalLoss": "weight=0.5, delta=0.6, gamma=0.5",
    "neural_network.losses:AsymUnifiedFocalLoss": "weight=0.5, delta=0.6, gamma=0.5",
    "neural_network.metrics:identify_axis": "shape",
    "neural_network.architecture.abstract_architecture:Abstract_Architecture.create_model_2D": "input_shape, "
    "n_labels=2",
    "neural_network.architecture.abstract_architecture:Abstract_Architecture.create_model_3D": "input_shape, "
    "n_labels=2",
    "neural_network.architecture.unet.standard:Architecture": "n_filters=32, depth=4, activation='softmax', "
    "batch_normalization=True",
    "neural_network.architecture.unet.plain:Architecture": "activation='softmax', conv_layer_activation='lrelu', "
    "instance_normalization=True, instance_normalization_params=None, dropout=0, pooling=(1, 2, 2)",
    "neural_network.architecture.unet.multiRes:Architecture": "activation='softmax'",
    # evaluation
    "evaluation.cross_validation:cross_validation": "sample_list, model, k_fold=3, epochs=20, iterations=None, "
    "evaluation_path='evaluation', draw_figures=False, run_detailed_evaluation=False, callbacks=[], save_models=True, "
    "return_output=False",
    "evaluation.cross_validation:split_folds": "sample_list, k_fold=3, evaluation_path='evaluation'",
    "evaluation.cross_validation:run_fold": "fold, model, epochs=20, iterations=None, evaluation_path='evaluation', "
    "draw_figures=True, callbacks=[], save_models=True",
    "evaluation.cross_validation:write_fold2disk": "file_path, training, validation",
    "evaluation.cross_validation:load_disk2fold": "file_path",
    "evaluation.split_validation:split_validation": "sample_list, model, percentage=0.2, epochs=20, iterations=None, "
    "evaluation_path='evaluation', draw_figures=False, run_detailed_evaluation=False, callbacks=[], save_models=True, "
    "return_output=False",
    "evaluation.leave_one_out:leave_one_out": "sample_list, model, epochs=20, iterations=None, callbacks=[], "
    "evaluation_path='evaluation'",
    "evaluation.detailed_validation:detailed_validation": "validation_samples, model, evaluation_path",
    "evaluation.detailed_validation:compute_dice": "truth, pred, classes",
    # groups of models
    "multi_model.model:Model": "preprocessor",
    "multi_model.model:Model.predict": "sample_list, return_output=False, activation_output=False",
    "multi_model.model_group:Model_Group": "models, preprocessor, verify_preprocessor=True",
    "multi_model.model_group:Model_Group.train": "sample_list, epochs=20, iterations=None, callbacks=[], "
    "class_weight=None",
    "multi_model.model_group:Model_Group.evaluate": "training_samples, validation_samples, epochs=20, "
    "iterations=None, callbacks=[], class_weight=None",
    "multi_model.model_group:Model_Group.predict": "sample_list, aggregation_func, activation_output=False",
    "multi_model.model_group:Model_Group.reset": "",
    "multi_model.model_group:Model_Group.copy": "",
    "multi_model.model_group:Model_Group.dump": "file_path",
    "multi_model.model_group:Model_Group.load": "file_path, custom_objects={}",
    "multi_model.cross_validation_group:CrossValidationGroup": "model, preprocessor, folds, verify_preprocessor=True",
    # xai
    "xai.gradcam:compute_gradient_heatmap": "sample_list, model",
    "xai.certaintymap:compute_certaintymap": "sample_list, model",
    "xai.occlusion_sensitivity:occlusion_sensitivity": "sample_list, model",
    # utils
    "utils.patch_operations:slice_matrix": "array, window, overlap, three_dim",
    "utils.patch_operations:concat_matrices": "patches, image_size, window, overlap, three_dim",
    "utils.patch_operations:pad_patch": "patch, patch_shape, return_slicer=False",
    "utils.patch_operations:crop_patch": "patch, slicer",
    "utils.plotting:plot_validation": "history, metrics, evaluation_directory",
    "utils.visualizer:visualize_samples": "sample_list, out_dir='vis', mask_seg=False, mask_pred=True, data_io=None, "
    "preprocessing=None",
    "utils.visualizer:visualize_prediction_overlap_3D": "sample, classes=None, visualization_path='visualization', "
    "alpha=0.6",
}

# Each interface has the base class's methods, each subfunction and architecture likewise.
ABSTRACT_IO = {
    "initialize": "input_path",
    "load_image": "index",
    "load_segmentation": "index",
    "load_prediction": "index, output_path",
    "save_prediction": "sample, output_path",
    "check_file_termination": "termination",
}
INTERFACES = {
    "abstract_io:Abstract_IO",
    "nifti_io:NIFTI_interface",
    "nifti_slicer_io:NIFTIslicer_interface",
    "image_io:Image_interface",
    "dicom_io:DICOM_interface",
    "dictionary_io:Dictionary_interface",
}
SUBFUNCTION = {
    "preprocessing": "sample, training=True",
    "postprocessing": "sample, prediction, activation_output=False",
}
SUBFUNCTIONS = {
    "abstract_subfunction:Abstract_Subfunction",
    "clipping:Clipping",
    "normalization:Normalization",
    "resampling:Resampling",
    "resize:Resize",
    "padding:Padding",
    "transform_HU:TransformHU",
}
SIGNATURES |= {
    f"data_loading.interfaces.{place}.{name}": text for place in INTERFACES for name, text in ABSTRACT_IO.items()
}
SIGNATURES |= {
    f"processing.subfunctions.{place}.{name}": text for place in SUBFUNCTIONS for name, text in SUBFUNCTION.items()
}

# The U-Nets that differ from the standard one by their blocks or skips alone.
U_NETS = ("residual", "dense", "compact", "attention", "attention_residual", "multiPath")
SIGNATURES |= {
    f"neural_network.architecture.unet.{name}:Architecture": SIGNATURES[
        "neural_network.architecture.unet.standard:Architecture"
    ]
    for name in U_NETS
}

#: A default that would be one object for all calls, and what stands for it here: the function makes a fresh one.
SENTINELS: dict[str, Any] = {
    "[]": (),
    "{}": None,
    "Data_Augmentation()": "default",  # None means: no augmentation
    "Architecture()": None,
    "[dice_soft]": None,
}

#: Arguments that MIScnn's scripts always give, and that may be left out here.
MAY_BE_LEFT_OUT = {
    ("processing.preprocessor:Preprocessor.prepare_sample_subfunctions", "training"),
    ("processing.data_augmentation:Data_Augmentation.run", "seg"),
    # The object under the public name is compiled as it stands.
    ("neural_network.losses:CategoricalFocalLoss", "alpha"),
    # A group averages unless it is told otherwise, so that it predicts wherever a network does.
    ("multi_model.model_group:Model_Group.predict", "aggregation_func"),
    # A dictionary lies in memory, not in a folder.
    ("data_loading.interfaces.dictionary_io:Dictionary_interface.initialize", "input_path"),
    ("data_loading.interfaces.dictionary_io:Dictionary_interface.load_prediction", "output_path"),
    ("data_loading.interfaces.dictionary_io:Dictionary_interface.save_prediction", "output_path"),
}

#: Modules, and what scripts import from them.
NAMES = {
    "": ["Data_IO", "Preprocessor", "Data_Augmentation", "Neural_Network", "load_model"],
    "data_loading.interfaces": [
        *("NIFTI_interface", "NIFTIslicer_interface", "Image_interface", "Dictionary_interface"),
        *("DICOM_interface", "miscnn_data_interfaces", "get_data_interface_from_file_term"),
    ],
    "processing.subfunctions": ["Clipping", "Normalization", "Padding", "Resampling", "Resize", "TransformHU"],
    "processing.subfunctions.abstract_subfunction": ["Abstract_Subfunction"],
    "neural_network.model": ["Neural_Network"],
    "neural_network.checkpoint": ["BestModel", "TrainingState"],
    "neural_network.metrics": [
        *("categorical_focal_loss", "combo_loss", "focal_tversky_loss", "symmetric_focal_loss"),
        *("symmetric_focal_tversky_loss", "asymmetric_focal_loss", "asymmetric_focal_tversky_loss"),
        *("sym_unified_focal_loss", "asym_unified_focal_loss"),
    ],
    "neural_network.architecture.unet": [
        *("UNet_standard", "UNet_plain", "UNet_residual", "UNet_dense", "UNet_multiRes", "UNet_compact"),
        *("UNet_attention", "UNet_attention_residual", "UNet_multiPath"),
    ],
    **{
        f"neural_network.architecture.unet.{name}": ["Architecture"]
        for name in ("standard", "plain", "multiRes", *U_NETS)
    },
    "evaluation": ["cross_validation", "split_validation", "leave_one_out"],
    "xai": ["gradcam", "certaintymap", "occlusion_sensitivity"],
}

POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def find(place: str) -> Any:
    module, _, name = place.partition(":")
    found: Any = importlib.import_module(f"miscnn_tf.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    return found


def documented(text: str) -> list[tuple[str, str | None]]:
    """Arguments and the source of their defaults."""
    arguments = ast.parse(f"lambda {text}: 0", mode="eval").body.args  # type: ignore[attr-defined]
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + [
        ast.unparse(one) for one in arguments.defaults
    ]
    return [(argument.arg, default) for argument, default in zip(arguments.args, defaults, strict=True)]


def is_default(actual: Any, source: str) -> bool:
    if source in SENTINELS:
        wanted = SENTINELS[source]
    elif source.isidentifier() and source not in {"True", "False", "None"}:
        return getattr(actual, "__name__", None) == source
    else:
        wanted = ast.literal_eval(source)
    return type(actual) is type(wanted) and actual == wanted


@pytest.mark.parametrize("place", sorted(SIGNATURES))
def test_arguments_have_the_names_order_and_defaults_of_the_interface(place):
    parameters = [p for name, p in inspect.signature(find(place)).parameters.items() if name != "self"]
    wanted = documented(SIGNATURES[place])
    ours, added = parameters[: len(wanted)], parameters[len(wanted) :]
    assert [parameter.name for parameter in ours] == [name for name, _ in wanted]
    for parameter, (name, default) in zip(ours, wanted, strict=True):
        assert parameter.kind is POSITIONAL, name
        if default is not None:
            assert is_default(parameter.default, default), f"{name}={parameter.default!r}, not {default}"
        elif (place, name) not in MAY_BE_LEFT_OUT:
            assert parameter.default is parameter.empty, name
    for parameter in added:
        optional = parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD
        assert optional, f"{parameter.name} is new, and calls as they are do not give it"


@pytest.mark.parametrize(("place", "name"), sorted(MAY_BE_LEFT_OUT))
def test_what_is_said_to_be_optional_is(place, name):
    parameter = inspect.signature(find(place)).parameters[name]
    assert parameter.default is not parameter.empty


def test_check_file_termination_is_called_without_an_object():
    for place in INTERFACES:
        cls = find(f"data_loading.interfaces.{place}")
        assert isinstance(inspect.getattr_static(cls, "check_file_termination"), staticmethod), place


@pytest.mark.parametrize("module", sorted(NAMES))
def test_names_are_where_scripts_import_them_from(module):
    found = importlib.import_module(f"miscnn_tf.{module}".rstrip("."))
    assert [name for name in NAMES[module] if not hasattr(found, name)] == []


def test_interfaces_have_their_short_names():
    from miscnn_tf.data_loading import interfaces

    assert {name: cls.__name__ for name, cls in interfaces.miscnn_data_interfaces.items()} == {
        "NIFTI": "NIFTI_interface",
        "NIFTI_S": "NIFTIslicer_interface",
        "IMG": "Image_interface",
        "DICOM": "DICOM_interface",
        "DICT": "Dictionary_interface",
        "DATASET_JSON": "DatasetJSON_interface",
        "PAIRED": "Paired_interface",
        "BRATS": "BraTS_interface",
        "ACDC": "ACDC_interface",
        "TOTALSEGMENTATOR": "TotalSegmentator_interface",
        "CELL_TRACKING": "CellTracking_interface",
        "OBJECT_MASKS": "ObjectMasks_interface",
        "SPLIT": "SplitFolders_interface",
    }


def test_the_metrics_module_hands_on_the_losses():
    from miscnn_tf.neural_network import losses, metrics

    for name in ("dice_soft_loss", "dice_crossentropy", "tversky_loss", "tversky_crossentropy", "dice_weighted"):
        assert getattr(metrics, name) is getattr(losses, name)
    for name, made_by in {
        "categorical_focal_loss": losses.CategoricalFocalLoss,
        "combo_loss": losses.ComboLoss,
        "focal_tversky_loss": losses.FocalTverskyLoss,
        "symmetric_focal_loss": losses.SymmetricFocalLoss,
        "symmetric_focal_tversky_loss": losses.SymmetricFocalTverskyLoss,
        "asymmetric_focal_loss": losses.AsymmetricFocalLoss,
        "asymmetric_focal_tversky_loss": losses.AsymmetricFocalTverskyLoss,
        "sym_unified_focal_loss": losses.SymUnifiedFocalLoss,
        "asym_unified_focal_loss": losses.AsymUnifiedFocalLoss,
    }.items():
        loss = getattr(metrics, name)
        assert type(loss) is made_by
        assert loss.__name__ == name
        assert getattr(losses, name) is loss


def test_each_preprocessor_has_the_defaults_of_the_interface_for_itself(toy_io):
    from miscnn_tf import Data_Augmentation, Preprocessor

    one, other = (Preprocessor(toy_io(), batch_size=1, patch_shape=(16, 16, 16)) for _ in range(2))
    assert one.subfunctions == []
    assert one.data_augmentation == Data_Augmentation()
    assert one.data_augmentation is not other.data_augmentation
    assert one.subfunctions is not other.subfunctions
