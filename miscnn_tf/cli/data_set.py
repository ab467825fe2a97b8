"""Opening and description of the data set that options of a command specify."""

from __future__ import annotations

import argparse

from miscnn_tf._base.messages import plural, text_table
from miscnn_tf.cli.data_options import data_folder
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.layout_detection import find_interface_despite_errors


def open_data(arguments: argparse.Namespace, labels: bool = True) -> Data_IO:
    """Open the data set that the options specify.

    Args:
        arguments: The parsed options.
        labels: True if the samples have label maps.

    Raises:
        DataError: If the folder has no data, or their layout cannot be detected.
    """
    folder = data_folder(arguments)
    of_layout = {
        "structure_dict": dict(arguments.structures) if arguments.structures else None,
        "annotation_tag": arguments.annotation_tag,
        "series": arguments.series,
        "modality": arguments.modality,
        "frames": dict(arguments.frames) if arguments.frames else None,
        "image_folder": arguments.image_folder,
        "mask_folder": arguments.mask_folder,
    }
    interface = find_interface_despite_errors(
        folder,
        arguments.type,
        labels=labels,
        channels=arguments.channels,
        classes=arguments.classes,
        pattern=arguments.pattern,
        label_map=dict(arguments.label_map) if arguments.label_map else None,
        **{name: value for name, value in of_layout.items() if value is not None},
    )
    return Data_IO(interface, folder)


def describe_data(data_io: Data_IO) -> str:
    """Describe the data set in one line, with further lines if folders or structures were chosen by name."""
    interface = data_io.interface
    what = (
        f"{plural(len(data_io.indices_list), 'sample')} in {data_io.input_path}, read by {type(interface).__name__}: "
        f"{'3D' if interface.three_dim else '2D'}, {plural(interface.channels, 'channel')}, {interface.classes} classes"
    )
    more = [interface.found_in or "", structure_table(interface)]
    return "\n".join([what, *(text for text in more if text)])


def structure_table(interface: Abstract_IO) -> str:
    """Return a table of the named structures, with the label of each or the reason why it is left out.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> structure_table(NIFTI_interface())
        ''
    """
    labels = sorted(interface.structure_labels().items(), key=lambda one: one[1])
    rows = [(name, str(label)) for name, label in labels]
    rows += [(name, f"left out: {reason}") for name, reason in sorted(interface.structures_left_out.items())]
    return text_table([("structure", "label"), *rows], "ll") if rows else ""
