"""Shared by the explanations: go through samples, and write maps and pictures."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.files import inside, make_folder
from miscnn_tf.data_loading.formats.nifti_writer import write_map
from miscnn_tf.data_loading.sample import Sample, as_index_list
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.segmenter import PatchSegmenter


class MapWriter:
    """Write the maps of a sample as files, and draw them.

    Args:
        model: The network; its `Data_IO` has the original image and the folder of predictions.
        kind: Kind of the maps: the folder's name below the predictions, and a part of the files' names.
        names: A name per map.
        label: Meaning of a value, beside the pictures' colours.
        output_path: Folder; None for ``<output path of the Data_IO>/<kind>``.
        overlays: Whether to draw pictures.
        limits: Values at the ends of the colours; None for the map's own.

    Raises:
        ConfigurationError: If the model is a group of networks.
    """

    def __init__(
        self,
        model: PatchSegmenter,
        kind: str,
        names: Sequence[str],
        label: str,
        output_path: str | Path | None = None,
        overlays: bool = True,
        limits: tuple[float, float] | None = None,
    ) -> None:
        if not isinstance(model, PatchSegmenter):
            raise ConfigurationError(
                f"model is a {type(model).__name__}, but explanations need one network; call them with each of its "
                "models (predict(..., activation_output=True) gives the probabilities of a group)"
            )
        self.data_io = model.preprocessor.data_io
        self.kind = kind
        self.names = list(names)
        self.label = label
        self.folder = Path(self.data_io.output_path) / kind if output_path is None else Path(output_path)
        self.overlays = overlays
        self.limits = limits

    def write(self, sample: Sample, maps: np.ndarray) -> None:
        """Write the maps ``(x, y[, z][, maps])`` of a sample, each into files of its own."""
        maps = maps.reshape(*maps.shape[: sample.ndim], len(self.names))
        image = self.data_io.sample_loader(sample.index, load_seg=False).img_data if self.overlays else None
        for position, name in enumerate(self.names):
            values = maps[..., position]
            write_map(inside(self.folder, sample.index, f".{self.kind}.{name}"), values, sample)
            if image is None:
                continue
            # Needs matplotlib.
            from miscnn_tf.pictures.heatmap import draw_heatmap

            draw_heatmap(
                image,
                values,
                inside(self.folder, sample.index, f".{self.kind}.{name}.png"),
                label=self.label,
                title=f"{sample.index}, {name.replace('-', ' ')}",
                spacing=sample.extended.get("spacing"),
                affine=sample.extended.get("affine") if sample.three_dim else None,
                limits=self.limits,
            )


def each_sample(
    sample_list: Sequence[Hashable] | Hashable,
    model: PatchSegmenter,
    compute: Callable[[Sample], np.ndarray],
    writer: MapWriter,
    return_output: bool,
    check: Callable[[list[Hashable]], None] | None = None,
    load_seg: bool = False,
) -> list[np.ndarray] | None:
    """Compute the maps of one sample after the other, and return or write them.

    Args:
        sample_list: Names of the samples, or one name.
        model: The network.
        compute: From a prepared sample to its maps on the original image's grid.
        writer: Writes them.
        return_output: Return them instead.
        check: Checks the names before anything is computed.
        load_seg: Whether the samples need a label map.
    """
    indices = as_index_list(sample_list)
    if check is not None:
        check(indices)
    writer.data_io.check(indices, load_seg=load_seg)
    if not return_output:
        make_folder(writer.folder)  # an unwritable one raises now, not after the first sample
    outputs = []
    silent = model.verbose == 0 or len(indices) < 2
    for index in tqdm(indices, desc=writer.kind, unit="sample", disable=silent):
        sample = model.prepared(index)
        maps = compute(sample)
        if return_output:
            outputs.append(maps)
        else:
            writer.write(sample, maps)
        del sample, maps  # before the next ones are made: they are large
    return outputs if return_output else None
