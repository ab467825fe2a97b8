"""Evaluate predictions against the truth: Dice, Hausdorff distance and other scores of each case and class.

PRED and TRUTH are two files, or two folders whose files are paired by their names: NIfTI or PNG, TIFF, BMP files, or a
data set in any layout that 'miscnn-tf init' knows. The grids of each pair must agree; all that do not are listed. If
TRUTH is in such a data set, the page of 'miscnn-tf report' shows the images of the cases.

Examples:
  miscnn-tf evaluate predictions labelsTs -o evaluation
  miscnn-tf evaluate segmentation.nii.gz truth.nii.gz
  miscnn-tf evaluate predicted_masks masks --label-map 255=1 -o evaluation
  miscnn-tf evaluate predictions labelsTs --ignore 255 -o evaluation

All label maps are checked first. If the predictions have values that the truth does not have, nothing is scored, and
the message names the option that maps them to classes. Cases of TRUTH without a prediction are counted in summary.json.

In the output folder:
  scores.csv     a row per case and class, with units in the column names
  summary.json   mean, standard deviation, median and 95 % confidence interval, and the definitions of the scores
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from miscnn_tf.cli.argument_types import positive_number, whole_number
from miscnn_tf.cli.data_options import add_data_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf evaluate``."""
    parser.add_argument("predictions", metavar="PRED", help="a prediction, or a folder of them")
    parser.add_argument("truth", metavar="TRUTH", help="the true segmentation, or a folder of them")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="folder for the tables (default: scores are only printed)"
    )
    add_data_option(parser, "--classes", type=whole_number(2))
    add_data_option(parser, "--label-map", nargs=1)  # PRED or TRUTH may follow
    parser.add_argument(
        "--ignore",
        type=int,
        action="append",
        default=[],
        metavar="VALUE",
        help="exclude voxels with this value in the truth, for instance 255; may be repeated",
    )
    parser.add_argument(
        "--tolerance",
        type=positive_number(),
        default=1.0,
        metavar="MM",
        help="tolerance of the surface Dice, nsd: the distance between two experts (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; returns the exit code."""
    from miscnn_tf.data_loading.label_keys import parse_key
    from miscnn_tf.evaluation.label_folders import data_set_around, evaluate_label_maps, find_label_maps, pair
    from miscnn_tf.runs.names import SCORES_FILE
    from miscnn_tf.runs.run_record import write_run_record
    from miscnn_tf.runs.score_summary import scores_table

    if arguments.output is not None:
        _require_no_training(Path(arguments.output))
    label_map = dict(arguments.label_map) if arguments.label_map else None
    # In a data set, ignored voxels need a class.
    of_data_set = {**dict.fromkeys(arguments.ignore, 0), **(label_map or {})} or None
    predictions = find_label_maps(arguments.predictions, arguments.classes)
    truth = find_label_maps(arguments.truth, arguments.classes, label_map=of_data_set)
    found = len(pair(predictions, truth))
    left = len(truth.maps) - found
    print(
        f"{found} case{'s' if found != 1 else ''}" + (f"; {left} more of the truth have no prediction" if left else "")
    )
    summary = evaluate_label_maps(
        predictions,
        truth,
        arguments.output,
        classes=arguments.classes,
        label_map=label_map,
        ignore=arguments.ignore,
        tolerance_mm=arguments.tolerance,
        draw_figures=arguments.output is not None,
    )
    # Images and names of the classes for the report.
    classes = 1 + max(map(int, summary["classes"]))
    names = pair(predictions, truth)
    understood = {parse_key(value): label for value, label in summary.get("label_map", {}).items()}
    of_data_set = {**dict.fromkeys(arguments.ignore, 0), **understood} or None
    data_io = truth.data_io or data_set_around(arguments.truth, names, classes, of_data_set)
    if arguments.output is not None:
        write_run_record(
            arguments.output,
            "evaluation",
            data_io=data_io,
            predictions=arguments.predictions,
            settings={
                "predictions": str(arguments.predictions),
                "truth": str(arguments.truth),
                "tolerance_mm": arguments.tolerance,
                **{name: summary[name] for name in ("label_map", "ignored_values") if name in summary},
            },
        )
    print()
    print(scores_table(summary, (data_io.interface.class_names if data_io is not None else None) or ()))
    if arguments.output is not None:
        output = Path(arguments.output)
        print(f"\nAll scores: {output / SCORES_FILE}; as a page: miscnn-tf report {shlex.quote(str(output))}")
    return 0


def _require_no_training(folder: Path) -> None:
    """Require a folder without a training, whose scores and report the evaluation would replace.

    Raises:
        ConfigurationError: If the folder is that of a training, of a cross-validation or of a fold.
    """
    from miscnn_tf.errors import ConfigurationError
    from miscnn_tf.runs.names import HISTORY_FILE, RECORD_FILE, fold_folders

    if (folder / RECORD_FILE).is_file() or (folder / HISTORY_FILE).is_file() or fold_folders(folder):
        raise ConfigurationError(
            f"{folder} holds a training or a cross-validation, whose scores and page would be replaced; choose another "
            "folder with --output"
        )
