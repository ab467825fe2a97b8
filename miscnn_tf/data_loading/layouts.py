"""Detection of the layout of a data folder, and of the arguments of its interface."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from miscnn_tf import configuration
from miscnn_tf.data_loading.dataset_json import find_dataset_json
from miscnn_tf.data_loading.dicom.recognition import is_dicom
from miscnn_tf.data_loading.file_names import distinct, find_file, folder_entries
from miscnn_tf.data_loading.image_file import LOSSLESS, LOSSY, spellings
from miscnn_tf.data_loading.interfaces import (
    Abstract_IO,
    DatasetJSON_interface,
    DICOM_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
    miscnn_data_interfaces,
)
from miscnn_tf.data_loading.interfaces.image_forms import have_colours, usual_nifti_form
from miscnn_tf.data_loading.interfaces.listed_files import PARTS, ListedFiles_interface
from miscnn_tf.data_loading.interfaces.nifti_io import image_files
from miscnn_tf.data_loading.interfaces.paired_io import is_paired
from miscnn_tf.data_loading.interfaces.sample_folders import find_samples, matches, name_expression
from miscnn_tf.data_loading.label_scan import classes_of, scan_labels, structures_of
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.messages import did_you_mean, some_of

logger = logging.getLogger(__name__)

#: Description of each layout, for messages and help.
LAYOUTS = {
    "NIFTI": """\
a folder per sample, with NIfTI files
  case_00/imaging.nii.gz          or imaging_0000.nii.gz, imaging_0001.nii.gz, …
  case_00/segmentation.nii.gz""",
    "IMG": """\
a folder per sample, with images
  case_00/imaging.png             or .tif, .bmp, .jpg
  case_00/segmentation.png""",
    "DICOM": """\
a folder per sample, with a DICOM series and RTSTRUCT or SEG files anywhere below it
  case_00/….dcm""",
    "DATASET_JSON": """\
the Medical Segmentation Decathlon's and nnU-Net's layout
  dataset.json
  imagesTr/case_00.nii.gz         or case_00_0000.nii.gz, case_00_0001.nii.gz, …
  labelsTr/case_00.nii.gz""",
    "PAIRED": """\
a folder of images beside a folder of masks
  images/x.png                    or imgs/; .tif, .bmp, .jpg, .nii.gz
  masks/x.png                     or labels/, annotations/, gt/, 1st_manual/, …; x_mask.png""",
}

# The most classes of a label map, so that values are not refused before they are counted.
_ANY = 2**16
_LOOKED_AT = 50
# A series has hundreds of files.
_SERIES_LOOKED_AT = 5


def find_interface(
    path: str | Path,
    name: str | None = None,
    *,
    channels: int | None = None,
    classes: int | None = None,
    three_dim: bool | None = None,
    pattern: str | None = None,
    label_map: Mapping[int, int] | None = None,
    **settings: Any,
) -> Abstract_IO:
    """Detect the layout of a folder of data, and make the interface that reads it.

    Arguments that are not given are detected: channels and dimension from the headers of the majority of the images,
    with a warning that lists the others; classes and their names from ``dataset.json``, or else the classes from the
    values in the segmentations, each of which is read once. Masks of 0 and 255 get ``label_map={255: 1}``.

    Args:
        path: The folder of the data set.
        name: Layout, a key of `miscnn_data_interfaces`: "NIFTI", "NIFTI_S", "IMG", "DICOM",
            "DATASET_JSON", "PAIRED"; None: detected from the folder.
        channels: Number of channels.
        classes: Number of classes, background included.
        three_dim: Whether the images are volumes.
        pattern: Regular expression that a sample's whole name must match; None takes all.
        label_map: Labels for values in the segmentation files, ``{255: 1}``; other values are kept.
        **settings: Further arguments of the interface, such as ``part="test"`` or ``structure_dict``; and
            ``class_names``, a name per class, for any of them.

    Returns:
        The interface, to be passed to `Data_IO` with the same path.

    Raises:
        MissingDataError: If the folder does not exist, or its layout is unknown; the message lists what was found, and
            the layouts.
        DataError: If the files cannot be read, or the values in the segmentations are not 0, 1, 2, …; the message shows
            the label map to pass.
        ConfigurationError: If the interface lacks an argument.

    Example:
        >>> interface = find_interface("Task04_Hippocampus")  # doctest: +SKIP
        >>> interface.channels, interface.names_of_classes()  # doctest: +SKIP
        (1, ('background', 'Anterior', 'Posterior'))
        >>> data_io = miscnn_tf.Data_IO(interface, "Task04_Hippocampus")  # doctest: +SKIP
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise MissingDataError(f"the data folder {root} {what}; give the folder of the data set")
    part = settings.get("part", PARTS[0])
    if name is None:
        name = recognise(root, pattern, labelled=part == PARTS[0], settings=settings)
        logger.info("%s is read as %r: %s", root, name, LAYOUTS[name].partition("\n")[0])
    cls = miscnn_data_interfaces.get(name)
    class_names = settings.pop("class_names", None)
    if class_names is not None:
        class_names = tuple(str(one) for one in class_names)
        classes = len(class_names) if classes is None else classes
    arguments = {"channels": channels, "classes": classes, "three_dim": three_dim, "pattern": pattern}
    given: dict[str, Any] = {**arguments, "label_map": label_map, **settings}
    given = {key: value for key, value in given.items() if value is not None}
    if not issubclass(cls, ListedFiles_interface) and part != "test":
        given.pop("part", None)  # layouts with a folder per sample always list all samples
    if issubclass(cls, ListedFiles_interface):
        interface = _listed(root, cls, given, class_names)
    elif cls is Image_interface:
        interface = _with_labels(root, cls, _look_at_images(root, given))
    elif cls in (NIFTI_interface, NIFTIslicer_interface):
        interface = _with_labels(root, cls, _look_at_nifti(root, cls, given))
    else:
        if cls is DICOM_interface:
            given = _look_at_dicom(root, given)
        interface = _made(cls, _with_structures(root, cls, given))
    if class_names is not None:
        interface.class_names = class_names
        interface.names_of_classes()
    return interface


def recognise(
    root: Path, pattern: str | None = None, labelled: bool = True, *, settings: Mapping[str, Any] | None = None
) -> str:
    """Detect the layout of a folder, a key of `LAYOUTS`.

    Args:
        root: An existing folder.
        pattern: Regular expression that the names of sample folders must match; None takes all.
        labelled: Whether segmentations are needed; if False, images alone are a layout, too ("PAIRED").
        settings: Further arguments of the interface: those that name folders belong to only one layout.

    Raises:
        MissingDataError: If the layout is unknown; the message lists what was found.
    """
    folders = [(settings or {}).get(name) for name in ("image_folder", "mask_folder")]
    found = "PAIRED" if folders != [None, None] else _layout_of(root, pattern, labelled)
    if found is None:
        raise MissingDataError(_unknown(root, pattern))
    return found


def layout_help() -> str:
    """Return a description of the known layouts, with a file tree of each."""
    return "\n".join(f"{name}: {picture}" for name, picture in LAYOUTS.items())


def _listed(
    root: Path, cls: type[ListedFiles_interface], given: dict[str, Any], class_names: tuple[str, ...] | None
) -> Abstract_IO:
    """Make an interface that detects its arguments itself, and scan the labels if no file defines them."""
    arguments = {"classes": None, **given, "class_names": class_names}
    known = arguments["classes"] is not None or (cls is DatasetJSON_interface and find_dataset_json(root) is not None)
    probe = _made(cls, arguments if known else {**arguments, "classes": _ANY})
    indices = probe.initialize(str(root))
    config = configuration.get_config(probe)
    if not known:
        config["classes"], config["label_map"] = _labels_of(root, probe, indices, given.get("label_map"))
    return cls(**config)


def _with_labels(root: Path, cls: type[Abstract_IO], arguments: dict[str, Any]) -> Abstract_IO:
    """Make an interface for folders of samples; scan the labels if classes are not given."""
    probe = _made(cls, {"classes": _ANY, **arguments})
    if "classes" in arguments:
        return probe
    if cls is NIFTIslicer_interface:  # scan whole volumes, not slice by slice
        probe = NIFTI_interface(arguments["channels"], _ANY, True, arguments.get("pattern"))
    classes, label_map = _labels_of(root, probe, probe.initialize(str(root)), arguments.get("label_map"))
    return cls(**{**arguments, "classes": classes, "label_map": label_map})


def _with_structures(root: Path, cls: type[Abstract_IO], given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments, with labels and classes for a format with named structures."""
    if "classes" in given or not hasattr(cls, "get_ROI_names"):
        return given
    structures = given.get("structure_dict")
    if not structures:
        probe = _made(cls, {**given, "classes": _ANY})
        structures = structures_of(probe, probe.initialize(str(root)), str(root))
    if not isinstance(structures, Mapping):
        raise ConfigurationError(f"structure_dict must be a dict such as {{'Heart': 1}}, got {structures!r}")
    labels = [label for label in structures.values() if isinstance(label, int)]
    return {**given, "structure_dict": structures, "classes": max([1, *labels]) + 1}


def _labels_of(
    root: Path, probe: Abstract_IO, indices: Iterable[Hashable], label_map: Mapping[Any, Any] | None
) -> tuple[int, dict[int, int] | None]:
    logger.info("%s does not define the classes; reading the segmentations", root)
    return classes_of(scan_labels(probe, indices), str(root), label_map)


def _look_at_nifti(root: Path, cls: type[Abstract_IO], given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an interface for NIfTI files, with channels and dimension from their headers."""
    probe = NIFTI_interface(pattern=given.get("pattern"))
    channels, three_dim = given.get("channels"), given.get("three_dim")
    if cls is NIFTIslicer_interface and three_dim is None:
        three_dim = True
    if channels is None or three_dim is None:
        channels, three_dim = usual_nifti_form(
            probe.initialize(root), probe.image_paths, root, channels=channels, three_dim=three_dim
        )
    arguments = {"channels": channels, "three_dim": three_dim, **given}
    if cls is NIFTIslicer_interface:
        del arguments["three_dim"]
        if given.get("three_dim"):
            raise ConfigurationError("three_dim=True: slices have two dimensions; choose 'NIFTI' for volumes")
    return arguments


def _look_at_dicom(root: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a `DICOM_interface`; radiographs are two-dimensional."""
    if "three_dim" in given:
        return given
    chosen_by = ("pattern", "series", "modality", "annotation_tag")
    probe = _made(DICOM_interface, {key: given[key] for key in chosen_by if key in given})
    assert isinstance(probe, DICOM_interface)
    pictures = []
    for index in probe.initialize(root)[:_SERIES_LOOKED_AT]:
        try:
            pictures.append(probe.is_picture(index))
        except DataError as error:  # reported when the sample is read
            logger.debug("%s", error)
    return {**given, "three_dim": not pictures or not all(pictures)}


def _look_at_images(root: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an `Image_interface`, with format and colours of the files in the sample folders."""
    arguments = dict(given)
    channels = arguments.pop("channels", None)
    if arguments.pop("three_dim", False):
        raise ConfigurationError("three_dim=True: images in such files have two dimensions; save volumes as NIfTI")
    if channels not in (None, 1, 3):
        raise ConfigurationError(f"channels={channels}: images in such files have 1 channel (grey) or 3 (colours)")
    if "img_format" not in arguments:
        arguments["img_format"] = _usual_format(root, given.get("pattern"))
    if "img_type" not in arguments:
        probe = Image_interface(img_format=arguments["img_format"], pattern=given.get("pattern"))
        if channels is None:
            channels = 3 if have_colours(probe.initialize(root), probe.image_path, root) else 1
        arguments["img_type"] = "rgb" if channels == 3 else "grayscale"
    return arguments


def _usual_format(root: Path, pattern: str | None) -> str:
    """Return the format of most images in sample folders; warn of samples in another one."""
    names = find_samples(root, pattern, lambda folder: _format_in(folder) is not None, "imaging.png")
    formats = {name: _format_in(root / str(name)) or "" for name in names}
    counts = Counter(min(spellings(ending)) for ending in formats.values())
    (usual, most), *others = counts.most_common()
    if others and others[0][1] == most:
        raise DataError(
            f"{root}: the formats {usual} and {others[0][0]} are equally frequent; give img_format={usual!r} (which "
            "leaves out the others), or convert some"
        )
    odd = [f"{name} ({ending})" for name, ending in formats.items() if min(spellings(ending)) != usual]
    if odd:
        logger.warning("%s: most images are %s; images in other formats left out: %s", root, usual, some_of(odd, 20))
    return next(ending for ending in formats.values() if min(spellings(ending)) == usual)


def _made(cls: type[Abstract_IO], arguments: Mapping[str, Any]) -> Abstract_IO:
    """Make the interface, or raise an error that names an unknown or missing argument."""
    known = inspect.signature(cls).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for key in arguments:
            if key not in known:
                raise ConfigurationError(
                    f"{cls.__name__} has no argument {key!r}.{did_you_mean(key, known)} It has {', '.join(known)}"
                )
    needed = [
        key
        for key, parameter in known.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and key not in arguments
    ]
    if needed:
        raise ConfigurationError(f"{cls.__name__} cannot be made from a folder alone: it needs {', '.join(needed)}")
    return cls(**arguments)


def _layout_of(root: Path, pattern: str | None = None, labelled: bool = True) -> str | None:
    expression = name_expression(pattern)
    if find_dataset_json(root) is not None or (root / "imagesTr").is_dir():
        return "DATASET_JSON"
    folders = [path for path in _visible(root) if path.is_dir() and matches(expression, path.name)]
    if any(_found(image_files, folder) for folder in folders[:_LOOKED_AT]):
        return "NIFTI"
    if any(_found(_format_in, folder) for folder in folders[:_LOOKED_AT]):
        return "IMG"
    if is_paired(root, labelled):
        return "PAIRED"
    if any(_has_dicom(folder) for folder in folders[:_LOOKED_AT]):
        return "DICOM"
    return None


def _found(find: Callable[[Path], object], folder: Path) -> bool:
    """Return whether `find` finds something in a folder; False for a folder that cannot be read."""
    try:
        return bool(find(folder))
    except (DataError, OSError) as error:
        logger.debug("%s: %s", folder, error)
        return False


def _visible(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in folder_entries(folder)]


def _format_in(folder: Path) -> str | None:
    """Return the ending of ``imaging.<ending>`` in a folder, in small letters."""
    path = find_file(folder, "imaging", [f".{ending}" for ending in LOSSLESS + LOSSY], any_case=True)
    return None if path is None else path.suffix.lower()[1:]


def _has_dicom(folder: Path) -> bool:
    """Return True if a DICOM file is among the first files below a folder: by its ending, or what it begins with."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return any(is_dicom(path) for path in islice(files, _LOOKED_AT))


def _unknown(root: Path, pattern: str | None) -> str:
    """Return the message for an unknown layout: the content of the folder, advice, and the known layouts."""
    entries = _visible(root)
    if image_files(root) or _format_in(root) or any(is_dicom(path) for path in entries[:_LOOKED_AT] if path.is_file()):
        return f"{root} is itself one sample; give the folder above it, {root.parent}"
    text = f"{root} does not have a known layout. It holds {_shown(entries)}."
    folders = [path for path in entries if path.is_dir()]
    inner = list(islice((str(path) for path in folders[:_LOOKED_AT] if _layout_of(path)), 3))
    if inner:
        text += f" Did you mean {' or '.join(inner)}?"
    elif folders:
        text += f" {folders[0].name}/ holds {_shown(_visible(folders[0]))}."
    if pattern is not None:
        text += f" The whole name of a sample folder must match pattern={pattern!r}."
    return (
        f"{text} Rename, move or link the files to one of these layouts, or write an interface of your own, a subclass "
        f"of Abstract_IO:\n{layout_help()}"
    )


def _shown(paths: list[Path]) -> str:
    return some_of(distinct([f"{path.name}/" if path.is_dir() else path.name for path in paths]), 8)
