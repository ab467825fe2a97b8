"""Implementation of ``miscnn-tf predict``, and its models: files, or folders of a run or a group."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.configuration import digest, get_config
from miscnn_tf._base.files import inside, make_folder
from miscnn_tf._base.messages import plural, some_of
from miscnn_tf.cli.input_images import ImageSource, data_set_folder, data_set_interface, find_images, with_settings
from miscnn_tf.cli.previous_stages import PREVIOUS_FOLDER, previous_stage_of, segmentation_of
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import ending_of, stem_of
from miscnn_tf.data_loading.formats.image_file import LOSSLESS
from miscnn_tf.data_loading.formats.volumes import prediction_ending
from miscnn_tf.data_loading.interfaces import (
    NIFTI_interface,
    NIFTIslicer_interface,
    get_data_interface_from_file_term,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO, stat_fingerprint
from miscnn_tf.data_loading.interfaces.description import interface_for, label_values_of, regions_of, set_regions
from miscnn_tf.data_loading.interfaces.nifti_slicer_io import SEPARATOR
from miscnn_tf.data_loading.label_keys import as_key
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import AxesError
from miscnn_tf.data_loading.prediction_formats import PREDICTION_FORMATS, format_ending, saved_in_values
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MiscnnError, MissingDataError, StorageError
from miscnn_tf.multi_model.group_file import METADATA
from miscnn_tf.multi_model.loading import fold_model_files, load_fold_models, load_group
from miscnn_tf.neural_network.model_description import interface_of
from miscnn_tf.neural_network.model_file import load_model
from miscnn_tf.neural_network.prediction_output import PredictionOutput
from miscnn_tf.runs.folder_lock import locked_folder
from miscnn_tf.runs.names import MODEL_FILE, PREDICTION_RECORD_FILE, fold_folders
from miscnn_tf.runs.prediction_files import read_prediction_record, write_prediction_record

_ENDINGS: Final = (".keras", ".h5", ".hdf5")
# Of formats, and of endings of files.
_FORMAT_NAMES: Final = {
    **{"nifti": "NIfTI", "nrrd": "NRRD", "png": "image", "seg": "DICOM SEG", "rtstruct": "RTSTRUCT"},
    **{".nii.gz": "NIfTI", ".nii": "NIfTI", ".nrrd": "NRRD", ".mha": "MetaImage", ".npy": "NumPy", ".dcm": "DICOM SEG"},
    **{".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"},
}
logger = logging.getLogger(__name__)
# Errors of a single result, such as a name that is too long, or an existing folder of that name.
_OF_ONE_IMAGE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.EILSEQ, errno.EIO)


@dataclass(frozen=True)
class TrainedModel:
    """A model on disk.

    Attributes:
        path: The given path.
        kind: ``"network"``, ``"folds"`` or ``"group"``.
        files: The model files.
        previous_stage: Of a cascade, what distinguishes the segmentations of its previous stage from others.
    """

    path: Path
    kind: str
    files: tuple[Path, ...]
    previous_stage: str | None = None

    @property
    def description(self) -> str:
        """Text for users."""
        many = f"{len(self.files)} models, averaged" if len(self.files) > 1 else "one model"
        return f"{self.path} ({many})"

    def digest(self) -> str:
        """Return a digest that changes with the model."""
        return digest(self.kind, stat_fingerprint(list(self.files)))

    def interface(self) -> Abstract_IO:
        """Return the interface of the training, without data."""
        return interface_of(self.files[0])

    def load(self, data_io: Data_IO | None = None) -> Any:
        """Load the `Neural_Network` or `Model_Group`."""
        if self.kind == "network":
            return load_model(self.files[0], data_io)
        return load_fold_models(self.path, data_io) if self.kind == "folds" else load_group(self.path, data_io)


def find_model(path: str | Path) -> TrainedModel:
    """Find the model of a path.

    Raises:
        MissingDataError: If the path does not have a model; the message lists the supported files.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix not in _ENDINGS:
            raise ConfigurationError(f"{path} is not a model file; its name must end in .keras")
        return TrainedModel(path, "network", (path,))
    if not path.is_dir():
        raise MissingDataError(f"the model {path} does not exist; create one with 'miscnn-tf train'")
    if (path / MODEL_FILE).is_file():
        return TrainedModel(path, "network", (path / MODEL_FILE,))
    if fold_folders(path):
        return TrainedModel(path, "folds", tuple(fold_model_files(path)))
    if (path / METADATA).is_file() or any(path.glob(f"group_*/{METADATA}")):
        return TrainedModel(path, "group", tuple(sorted(path.rglob("member_*.keras"))))
    raise MissingDataError(
        f"{path} does not have a model: neither {MODEL_FILE} (a training), nor fold_0/{MODEL_FILE} (a "
        f"cross-validation), nor group_…/{METADATA}. It has {some_of(sorted(one.name for one in path.iterdir()))}"
    )


def holds_model(path: Path) -> bool:
    """Return True if a path has a model, rather than label maps."""
    if fold_folders(path):  # of a cross-validation, finished or not
        return True
    try:
        find_model(path)
    except (MissingDataError, ConfigurationError):
        return False
    return True


def run_prediction(
    model_path: str | Path,
    images: str | Path,
    output: str | Path,
    result: PredictionOutput | None = None,
    overwrite: bool = False,
    memory: int | None = None,
    data: Mapping[str, Any] | None = None,
    previous_stage: str | Path | None = None,
) -> list[Path]:
    """Segment images.

    Of a cascade, the previous stage segments them first, into ``previous_stage/`` in the output folder.

    Args:
        model_path: A model file, or the folder of a training, a cross-validation or a group.
        images: A file, a DICOM series, a folder of files, or a data set.
        output: A file, or a folder for a file per image.
        result: What is written; None: labels in the usual format.
        overwrite: Replace existing predictions; otherwise their images are skipped.
        memory: Limit of the resident memory of the process, in bytes; None for the free memory.
        data: Keys of ``[data]`` for the images, with which they are found and read; None: detected.
        previous_stage: Of a cascade, the model of its previous stage, as `model_path`; or a folder (of one image, a
            file) with the segmentations that it made. None: the run that the model file records.

    Returns:
        The written files.

    Raises:
        DataError: If images could not be segmented; all others were, and the message lists the failed ones.
        FolderInUseError: If another prediction holds the lock on the folder.
    """
    model = find_model(model_path)
    output = Path(output)
    result, data = result or PredictionOutput(), data or {}
    interface = model.interface()
    if output.resolve() == Path(images).resolve():
        raise ConfigurationError(f"{output} is the image to be segmented; name another file or folder for the result")
    # Layout and folders are those of a data set.
    settings = data.get("settings", {})
    of_data_set = {"layout", "pattern", "image_folder", "mask_folder", "mask_pattern"} & {*data, *settings}
    sources = None if of_data_set else find_images(images, interface.channels, interface)
    if _names_a_file(output):
        # One image, also if it is a folder: the study of a patient with its own folders.
        sources = [ImageSource(Path(images).resolve().name, (Path(images),))] if sources is None else sources
        if len(sources) > 1:
            raise ConfigurationError(f"{images} holds {len(sources)} images; name a folder for them, not {output}")
    # The series of a patient may be in folders below the given one.
    if sources is not None and all(
        source.is_dicom or (source.paths[0].is_dir() and type(interface).find_image(source.paths[0]) is not None)
        for source in sources
    ):
        result = _in_usual_format(result, interface, output)
    print(f"Model: {model.description}", flush=True)
    values = _label_values(interface, result)
    if values is not None:
        named = zip(values, interface.names_of_classes(), strict=True)
        shown = some_of((f"{as_key(value)} ({name})" for value, name in named), 12)
        print(f"Values in the label maps: {shown}", flush=True)
    stage = previous_stage_of(model.files, previous_stage)
    if stage is not None and isinstance(interface, NIFTIslicer_interface):
        raise ConfigurationError(
            f"{model.path} is the second stage of a cascade on slices of volumes, which this command cannot segment; "
            "call predict of the loaded model"
        )
    with nullcontext() if _names_a_file(output) else locked_folder(output), TemporaryDirectory() as temporary:
        if stage is not None and holds_model(stage):
            made = output / PREVIOUS_FOLDER
            if _names_a_file(output):
                made = Path(temporary) / f"previous_stage{'.nii.gz' if interface.three_dim else '.png'}"
            print("First stage of the cascade", flush=True)
            # As the second stage was trained with them: without postprocessing.
            labels = PredictionOutput(file_format="nifti" if interface.three_dim else None, postprocessing=False)
            run_prediction(stage, images, made, labels, overwrite, memory, data)
            model, stage = replace(model, previous_stage=find_model(stage).digest()), made
            print(f"Second stage of the cascade: {model.description}", flush=True)
        elif stage is not None:
            model = replace(model, previous_stage=str(stage.resolve()))
        if sources is None:
            return _predict_data_set(model, Path(images), output, result, overwrite, memory, data, stage)
        return _predict_files(model, sources, output, result, overwrite, memory, settings, stage)


def _in_usual_format(result: PredictionOutput, trained: Abstract_IO, output: Path) -> PredictionOutput:
    """Return the form of predictions of DICOM series, in the format of the training's annotations if none is given.

    Class probabilities, and radiographs, which have no position in the patient, are written as NIfTI.
    """
    if result.file_format is not None or result.activation_output or not trained.three_dim:
        return result
    if not trained.writes_annotations or (_names_a_file(output) and ending_of(output) != ".dcm"):
        return result
    # A training may ask for a format, DICOM_interface(prediction_format="seg").
    asked = get_config(trained).get("prediction_format", "nifti")
    return replace(result, file_format=asked if asked != "nifti" else trained.annotation_format or "seg")


def _predict_files(
    model: TrainedModel,
    sources: Sequence[ImageSource],
    output: Path,
    result: PredictionOutput,
    overwrite: bool,
    memory: int | None,
    settings: Mapping[str, Any],
    stage: Path | None,
) -> list[Path]:
    single = _names_a_file(output)
    targets = [output if single else output / f"{each.name}{_ending(each, result)}" for each in sources]
    _require_no_images(targets, (path for each in sources for path in each.files))
    _require_one_each(targets)
    if not single:
        _claim(output, model, result, overwrite, [*targets, *_in_other_formats(output, sources)])
    wanted = [
        (source, target)
        for source, target in zip(sources, targets, strict=True)
        if overwrite or not os.path.exists(target)
    ]
    _print_numbers(len(sources), len(sources) - len(wanted), output)
    if not wanted:
        return []
    loaded, interface = model.load(), model.interface()
    _print_postprocessing(loaded, result)

    def predict(pair: tuple[ImageSource, Path]) -> Path:
        source, target = pair
        if isinstance(interface, NIFTIslicer_interface):
            _predict_slices(loaded, interface, source, target, result, memory)
            return target
        if settings:
            reader = interface_for(interface, source.source)
            loaded.preprocessor.data_io.interface = with_settings(reader, settings)
        previous = {} if stage is None else {"previous_segmentation": segmentation_of(stage, source.name)}
        loaded.predict_file(
            source.source,
            target,
            activation_output=result.activation_output,
            memory_budget=memory,
            **previous,
            **_written(result),
        )
        return target

    written = _each(wanted, predict, lambda pair: str(pair[0].paths[0]), interface)
    _print_written(written, result, output)
    return written


def _predict_data_set(
    model: TrainedModel,
    images: Path,
    output: Path,
    result: PredictionOutput,
    overwrite: bool,
    memory: int | None,
    data: Mapping[str, Any],
    stage: Path | None,
) -> list[Path]:
    trained = model.interface()
    images = data_set_folder(images, trained, data)
    interface = saved_in_values(data_set_interface(images, trained, data), result.values)
    if interface.writes_annotations:
        result = _in_usual_format(result, trained, output)
    slices = isinstance(interface, NIFTIslicer_interface)
    if slices and result.file_format not in (None, "nifti"):
        raise ConfigurationError(
            f"file_format={result.file_format!r}: predictions of slices are put together to volumes, which are written "
            "as NIfTI; leave the format out"
        )
    predictions = output / "slices" if slices else output
    data_io = Data_IO(interface, images, output_path=str(predictions), batch_path=str(output / "batches"))
    names = data_io.get_indiceslist()
    there = _predictions_of(predictions, names)
    if output.resolve().is_relative_to(images.resolve()) and not (output / PREDICTION_RECORD_FILE).is_file():
        _require_no_images(there, there)  # they are files of the data set
    _claim(output, model, result, overwrite, there)
    wanted = [name for name in names if overwrite or not _is_there(data_io, name, result)]
    _print_numbers(len(names), len(names) - len(wanted), output)
    written: list[Path] = []
    if wanted:
        loaded = model.load(data_io)
        _print_postprocessing(loaded, result)
        if stage is not None:
            loaded.use_previous_stage(stage)

        # The interface writes the values, and the volumes have a picture each, not their slices.
        written_as = _written(replace(result, values="mask", overlay=result.overlay and not slices))

        def predict(name: Hashable) -> Path:
            loaded.predict([name], activation_output=result.activation_output, memory_budget=memory, **written_as)
            return next(iter(_predictions_of(predictions, [name])), inside(predictions, name))

        written = _each(wanted, predict, repr, trained)
    if isinstance(interface, NIFTIslicer_interface):
        volumes = dict.fromkeys(str(name).rpartition(SEPARATOR)[0] for name in names)
        written = [interface.assemble_volume(name, predictions, output / f"{name}.nii.gz") for name in volumes]
        if result.overlay:
            whole = Data_IO(_volumes_of(interface), images, output_path=output)
            for name in volumes:
                result.draw_sample(whole, name, whole.interface.load_prediction(name, str(output)))
    _print_written(written, result, output)
    return written


def _predict_slices(
    model: Any,
    interface: NIFTIslicer_interface,
    source: ImageSource,
    target: Path,
    result: PredictionOutput,
    memory: int | None,
) -> None:
    """Segment a volume with a model of slices."""
    volumes = _volumes_of(interface)
    image, extended = volumes.read_file(source.source)
    axis = interface.slice_axis
    spacing = np.delete(extended["spacing"], axis)
    sample = Sample(source.name, image, interface.channels, interface.classes, extended, True, scheme_of(interface))
    write = result.file_writer(volumes, sample, target)
    decide = {name: getattr(result, name) for name in ("activation_output", "threshold", "postprocessing")}
    planes = [
        model.predict_array(image.take(place, axis), spacing, memory_budget=memory, **decide)
        for place in range(image.shape[axis])
    ]
    prediction = np.stack(planes, axis)
    sample.add_prediction(prediction, activation_output=result.activation_output)
    if write is not None:
        write(sample)
    result.draw_file(volumes, source.source, target, prediction)


def _volumes_of(interface: NIFTIslicer_interface) -> NIFTI_interface:
    """Return the interface of the volumes that slices are cut from."""
    volumes = NIFTI_interface(interface.channels, interface.classes, label_map=interface.label_map)
    volumes.class_names = interface.class_names
    set_regions(volumes, regions_of(interface))
    return volumes


def _print_postprocessing(loaded: Any, result: PredictionOutput) -> None:
    if loaded.postprocessing and result.postprocessing and not result.activation_output:
        steps = "; ".join(step.description for step in loaded.postprocessing)
        print(f"Postprocessing, chosen by the cross-validation: {steps}", flush=True)


def _written(result: PredictionOutput) -> dict[str, Any]:
    """Return the arguments of `predict` and `predict_file` about what is written."""
    return {name: getattr(result, name) for name in ("file_format", "values", "threshold", "overlay", "postprocessing")}


def _label_values(interface: Abstract_IO, result: PredictionOutput) -> list[int] | None:
    """Return the values in label maps; None for class numbers and class probabilities."""
    return None if result.activation_output or result.values == "index" else label_values_of(interface)


def _require_no_images(targets: Iterable[Path], images: Iterable[Path]) -> None:
    """Require that no prediction would replace an image, even with ``--overwrite``."""
    # Path.resolve() raises an error for a link to itself.
    own = {os.path.realpath(path) for path in images}
    replaced = [target for target in targets if os.path.realpath(target) in own]
    if replaced:
        raise ConfigurationError(
            f"predictions would replace files of the data: {some_of(replaced, 3)}; name another folder for them"
        )


def _require_one_each(targets: Sequence[Path]) -> None:
    """Require that no prediction would replace another one."""
    twice = [target.name for target, number in Counter(targets).items() if number > 1]
    if twice:
        raise ConfigurationError(
            f"the predictions of several images would all be called {some_of(twice, 3)}, because they differ in their "
            "ending alone (such as a.nii and a.nii.gz, or a.jpg and a.png); rename them, or take one away"
        )


def _names_a_file(output: Path) -> bool:
    """Return True if the ending is that of a file; a folder may also have a dot in its name."""
    ending = ending_of(output)
    known = ending == ".npy" or (ending != "" and get_data_interface_from_file_term(ending) is not None)
    return known and not output.is_dir()


def _each(
    items: Sequence[Any], predict: Callable[[Any], Path], name: Callable[[Any], str], trained: Abstract_IO
) -> list[Path]:
    """Predict all items; after an error of one item continue with the others, and raise the errors at the end."""
    written, bad = [], []
    for item in tqdm(items, desc="Predicting", unit="image", disable=None):
        try:
            written.append(predict(item))
        except (DataError, MemoryError, OSError) as error:
            if _concerns_all(error):
                raise
            # Data_IO.check reports the error of the one sample as the cause.
            fault = error if isinstance(error, AxesError) else error.__cause__
            if isinstance(fault, AxesError):
                # Slices are cut from volumes.
                three_dim = trained.three_dim or isinstance(trained, NIFTIslicer_interface)
                error = fault.for_model(trained.channels, three_dim)
            logger.info("%s: %s", name(item), error)
            bad.append(f"  {name(item)}: {str(error) or 'too little memory'}")
    if bad:
        done = "; the others are done" if len(bad) < len(items) else ""
        raise DataError(f"{len(bad)} of {len(items)} images could not be segmented{done}:\n" + "\n".join(bad))
    return written


def _concerns_all(error: Exception) -> bool:
    """Return True for an error that would also affect the other images, such as a full disk or a read-only folder."""
    if isinstance(error, DataError | MemoryError):
        return False
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return not isinstance(cause, OSError) or cause.errno not in _OF_ONE_IMAGE


def _is_there(data_io: Data_IO, name: Hashable, result: PredictionOutput) -> bool:
    """Return True if a sample has a readable prediction of this kind."""
    if result.file_format is not None:
        # It is complete: files get their names when they are. The interface may not read this format.
        return os.path.exists(inside(data_io.output_path, name, format_ending(result.file_format)))
    try:
        array = data_io.interface.load_prediction(name, str(data_io.output_path))
    except MissingDataError:
        return False
    except MiscnnError as error:
        logger.info("predicted again, since it cannot be read: %s", error)
        return False
    return (array.ndim > (3 if data_io.interface.three_dim else 2)) == result.activation_output


def _claim(
    output: Path, model: TrainedModel, result: PredictionOutput, overwrite: bool, targets: Sequence[Path]
) -> None:
    """Record the model of the predictions in a folder, which must not be mixed with those of another model."""
    make_folder(output)
    record: dict[str, Any] = {
        "model": str(model.path.resolve()),
        "fingerprint": model.digest(),
        "probabilities": result.activation_output,
    }
    given = {
        "format": result.file_format,
        "threshold": result.threshold,
        "previous_stage": model.previous_stage,
    }
    record |= {name: value for name, value in given.items() if value is not None}
    if not result.postprocessing:
        record["postprocessing"] = False
    values = _label_values(model.interface(), result)
    if values is not None:
        record["label_values"] = values
    before = read_prediction_record(output)
    if before == record:
        return
    old = [target for target in targets if os.path.exists(target)]
    if before is None and old and not overwrite:
        raise ConfigurationError(
            f"{output} contains files with the names of the predictions that 'miscnn-tf predict' did not write: "
            f"{some_of((path.name for path in old), 3)}. Choose another folder, or replace them with --overwrite"
        )
    if before is not None and not overwrite:
        raise ConfigurationError(
            f"{output} holds predictions of another model ({before['model']}), of an earlier training, of another "
            "kind, or with other values for the classes. Choose another folder, or replace them with --overwrite"
        )
    # Before the record: after an interruption, the old predictions must not count as finished.
    for target in old:
        target.unlink(missing_ok=True)
    write_prediction_record(output, record)


def _predictions_of(folder: Path, names: Sequence[Hashable]) -> list[Path]:
    """Return the files of earlier predictions of these samples, with any ending."""
    if not folder.is_dir():
        return []
    wanted = {inside(folder, name).name for name in names}
    return [path for path in folder.iterdir() if path.is_file() and stem_of(path) in wanted]


def _in_other_formats(folder: Path, sources: Sequence[ImageSource]) -> list[Path]:
    """Return earlier predictions of these images in any format, if a prediction recorded the folder."""
    if not (folder / PREDICTION_RECORD_FILE).is_file():
        return []
    images = {os.path.realpath(path) for each in sources for path in each.files}
    endings = {".npy", *(ending for one in PREDICTION_FORMATS.values() for ending in one.endings)}
    return [
        path
        for path in _predictions_of(folder, [each.name for each in sources])
        if ending_of(path) in endings and os.path.realpath(path) not in images
    ]


def _print_numbers(all_images: int, done: int, output: Path) -> None:
    text = f"{all_images} image{'s' if all_images != 1 else ''}, into {output}"
    if done:
        text += f"; {done} {'are' if done != 1 else 'is'} there already (--overwrite segments them again)"
    print(text, flush=True)


def _print_written(written: Sequence[Path], result: PredictionOutput, output: Path) -> None:
    """Print format and names of the files that were written."""
    if not written:
        return
    kinds = {_FORMAT_NAMES.get(result.file_format or ending_of(path), ending_of(path)) for path in written}
    what = f"{kinds.pop()} file" if len(kinds) == 1 else "file"
    names = some_of(path.name for path in written)
    where = written[0].parent if _names_a_file(output) else output
    print(f"Wrote {plural(len(written), what)} to {where}: {names}", flush=True)


def _ending(source: ImageSource, result: PredictionOutput) -> str:
    """Return the ending of the prediction of an image: by default that of its format if it is lossless."""
    if result.file_format is not None:
        return format_ending(result.file_format)
    if source.files and source.is_volume:
        return prediction_ending(ending_of(source.files[0]))
    if source.is_dicom or not source.files:
        return ".nii.gz"
    if result.activation_output:
        return ".npy"
    ending = ending_of(source.paths[0])
    return ending if ending.lstrip(".") in LOSSLESS else ".png"
