"""Write a model file from a trained model of nnU-Net version 2, without PyTorch.

SOURCE is the folder of the model, such as nnUNetTrainer__nnUNetPlans__3d_fullres, or the zip archive that
'nnUNetv2_export_model' writes. Nothing in the files is executed. One fold becomes a file, several folds a folder with a
model of each, whose predictions are averaged.

Examples:
  miscnn-tf import-nnunet Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres hippocampus
  miscnn-tf predict hippocampus scans predictions
  miscnn-tf import-nnunet model.zip fold_0.keras --folds 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from miscnn_tf.cli.terminal import start_tensorflow
from miscnn_tf.errors import ConfigurationError, StorageError
from miscnn_tf.runs.names import MODEL_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf import-nnunet``."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the folder or the archive of the model")
    parser.add_argument("output", type=Path, metavar="OUT", help="the .keras file of one fold, or a new folder")
    parser.add_argument("--folds", nargs="+", metavar="FOLD", help="numbers of the folds (default: all)")
    parser.add_argument("--checkpoint", choices=["final", "best"], default="final", help="(default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Write the model, and return the exit code."""
    start_tensorflow()
    from miscnn_tf.multi_model.model_group import Model_Group
    from miscnn_tf.nnunet.loading import load_nnunet

    output: Path = arguments.output
    if output.exists():
        raise StorageError(f"{output} exists; name another file or folder, or delete it")
    model = load_nnunet(arguments.source, arguments.folds or "all", arguments.checkpoint)
    group = isinstance(model, Model_Group)
    if group and output.suffix == ".keras":
        raise ConfigurationError(
            f"{arguments.source} has {len(model.models)} folds, but {output} is one file; name a folder, or choose a "
            "fold with --folds 0"
        )
    if not group and output.suffix != ".keras":
        output = output / MODEL_FILE
        output.parent.mkdir(parents=True)
    model.dump(output)
    card = (model.models[0] if group else model).model_card
    width = max(map(len, card))
    for name, fact in card.items():
        print(f"{name:<{width}}  {fact.splitlines()[0] if fact else ''}")
    print(f"\nWritten: {output}\nTo segment new images: miscnn-tf predict {arguments.output} IMAGES PREDICTIONS")
    return 0
