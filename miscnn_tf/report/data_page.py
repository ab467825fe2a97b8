"""Page about a data set, to look at before a training: pictures, sizes, voxel sizes, classes and intensities."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from miscnn_tf._base.files import atomic_path
from miscnn_tf._base.messages import plural, size_text
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import MiscnnError
from miscnn_tf.explore.data_exploration import CaseFacts, Exploration
from miscnn_tf.explore.exploration_tables import draw_classes, draw_histograms
from miscnn_tf.pictures.overlay import DPI
from miscnn_tf.pictures.sample_picture import show
from miscnn_tf.report.page import render_page

#: Number of samples with a picture.
PICTURES: Final = 12
#: Number of channels with a picture.
MOST_CHANNELS: Final = 4
# Samples in the table; data_exp --export lists all of them.
_ROWS: Final = 500
# Ratio of a voxel size to the median, from which a sample is pointed out.
_UNUSUAL: Final = 2.0
# Ratio of the highest intensity to the median of all samples, from which the scale is pointed out.
_SCALE: Final = 10


def write_data_page(exploration: Exploration, data_io: Data_IO, path: str | Path) -> Path:
    """Write the page of a data set.

    Args:
        exploration: The statistics of the data set (`explore`).
        data_io: Source of the samples.
        path: The HTML file; replaced atomically. It has no external resources.

    Returns:
        The file.

    Raises:
        StorageError: If it cannot be written.

    Example:
        >>> write_data_page(explore(data_io), data_io, "look.html")  # doctest: +SKIP
        PosixPath('look.html')
    """
    cases = exploration.cases
    html = render_page(
        "data.html",
        title=f"{plural(len(cases), 'sample')} in {Path(data_io.input_path).name}",
        folder=str(Path(data_io.input_path).resolve()),
        layout=type(data_io.interface).__name__,
        figures=_figures(exploration),
        remarks=data_remarks(exploration),
        pictures=_pictures(exploration, data_io),
        channels=_channels(exploration, data_io),
        classes=_classes(exploration),
        class_chart=_inline(draw_classes(exploration)) if exploration.labelled else None,
        histograms=_inline(draw_histograms(exploration)) if any(one.count for one in exploration.intensities) else None,
        grids=_grids(cases),
        rows=[_row(case) for case in cases[:_ROWS]],
        more=max(0, len(cases) - _ROWS),
        unit="pixels" if _is_photos(exploration) else exploration.size_unit,
        three_dim=exploration.three_dim,
        photos=_is_photos(exploration),
        unreadable=[(str(name), " ".join(str(error).split())) for name, error in exploration.unreadable],
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def data_remarks(exploration: Exploration) -> list[str]:
    """Return sentences about samples that need attention: unusual voxel sizes, missing label maps and classes.

    Args:
        exploration: The statistics of the data set.
    """
    found = []
    without = [case.index for case in exploration.cases if case.classes is None]
    if without:
        found.append(f"{plural(len(without), 'sample')} without a label map, such as {without[0]}.")
    for label, name in list(enumerate(exploration.class_names))[1:]:
        empty = [case.index for case in exploration.labelled if case.classes and not case.classes[label].voxels]
        if len(empty) == len(exploration.labelled) > 0:
            found.append(f"The class {name} is in no sample; check the number of classes and the label map.")
        elif empty:
            found.append(f"The class {name} is missing in {plural(len(empty), 'sample')}, such as {empty[0]}.")
    known = [case for case in exploration.cases if case.spacing is not None]
    if known:
        table = np.array([case.spacing for case in known])
        median = np.median(table, axis=0)
        ratio = np.maximum(table / median, median / table).max(axis=1)
        unusual = [case.index for case, one in zip(known, ratio, strict=True) if one >= _UNUSUAL]
        if unusual:
            found.append(
                f"The voxels of {plural(len(unusual), 'sample')} are at least {_UNUSUAL:g} times as large or as small "
                f"as the median along an axis, such as those of {unusual[0]}."
            )
    tops = [
        (max(one.highest for one in case.intensities if one.count), case.index)
        for case in exploration.cases
        if any(one.count for one in case.intensities)
    ]
    if tops:
        median_top = float(np.median([top for top, _ in tops]))
        brighter = [(top, index) for top, index in tops if top > _SCALE * median_top > 0]
        if brighter:
            top, index = max(brighter, key=lambda one: one[0])
            found.append(
                f"The highest intensity of {plural(len(brighter), 'sample')} is more than {_SCALE} times the median of "
                f"all samples ({median_top:.4g}), such as {top:.4g} in {index}; they may have another scale, which "
                "normalisation of each image removes."
            )
    missing = sum(one.not_finite for one in exploration.intensities)
    if missing:
        found.append(f"{plural(missing, 'voxel')} NaN or infinite.")
    return found


def _is_photos(exploration: Exploration) -> bool:
    """Return True for 2D images whose pixels have no known size."""
    return not exploration.three_dim and all(case.spacing is None for case in exploration.cases)


def _figures(exploration: Exploration) -> list[tuple[str, str]]:
    cases = exploration.cases
    if not cases:
        return []
    kind = f"{'3D' if exploration.three_dim else '2D'}, {plural(exploration.channels, 'channel')}"
    found = [("samples", f"{len(cases):,}"), ("images", kind), ("classes", str(len(exploration.class_names)))]
    shape = np.median(np.array([case.shape for case in cases]), axis=0)
    found.append(("median size", _times(map(round, shape.tolist()))))
    spacings = [case.spacing for case in cases if case.spacing is not None]
    if spacings:
        median = np.median(np.array(spacings), axis=0)
        found.append(("median voxel size" if exploration.three_dim else "median pixel size", f"{_times(median)} mm"))
    return found


def _pictures(exploration: Exploration, data_io: Data_IO) -> list[dict[str, str]]:
    """Draw samples, from the one with the least foreground to the one with the most."""
    ordered = sorted(exploration.cases, key=_foreground)
    count = min(PICTURES, len(ordered))
    chosen = [ordered[round(place)] for place in np.linspace(0, len(ordered) - 1, count)] if count else []
    return [
        {"name": str(case.index), "text": f"{_times(case.shape)}; foreground {_percent(case)}", "picture": picture}
        for case in chosen
        if (picture := _picture(data_io, case.index, case.classes is not None)) is not None
    ]


def _channels(exploration: Exploration, data_io: Data_IO) -> list[dict[str, str]]:
    """Draw the channels of the sample with the most foreground, which the pictures show the first of."""
    channels = len(exploration.intensities)
    if not exploration.cases or channels < 2 or _is_photos(exploration):
        return []
    case = max(exploration.cases, key=_foreground)
    try:
        sample = data_io.sample_loader(case.index, load_seg=case.classes is not None)
    except MiscnnError:
        return []
    names = data_io.interface.channel_names
    whole, pictures = sample.img_data, []
    for number in range(min(channels, MOST_CHANNELS)):
        sample.img_data = whole[..., number : number + 1]
        picture = _inline(show(sample, list(data_io.interface.names_of_classes()), slices=1, title="").figure)
        name = str(number) if names is None or number >= len(names) else f"{number}: {names[number]}"
        pictures.append({"name": f"Channel {name}", "text": str(case.index), "picture": picture})
    return pictures


def _picture(data_io: Data_IO, index: Hashable, labelled: bool) -> str | None:
    try:
        sample = data_io.sample_loader(index, load_seg=labelled)
    except MiscnnError:
        return None  # removed or damaged since the exploration, which lists samples that cannot be read
    names = list(data_io.interface.names_of_classes())
    return _inline(show(sample, names, slices=1, title="").figure)


def _foreground(case: CaseFacts) -> float:
    return 0.0 if case.classes is None else 1 - case.classes[0].share


def _percent(case: CaseFacts) -> str:
    return "unknown" if case.classes is None else f"{100 * _foreground(case):.3g} %"


def _classes(exploration: Exploration) -> list[dict[str, Any]]:
    rows = []
    labelled = exploration.labelled
    total = sum(facts.voxels for case in labelled for facts in case.classes or ())
    for label, name in enumerate(exploration.class_names if labelled else ()):
        facts = [case.classes[label] for case in labelled if case.classes is not None]
        present = [one for one in facts if one.voxels]
        photos = _is_photos(exploration)
        known = [one.voxels if photos else one.size for one in present]
        sizes = [size for size in known if size is not None]
        rows.append(
            {
                "label": label,
                "name": name,
                "cases": f"{len(present)} of {len(facts)}",
                "share": f"{100 * sum(one.voxels for one in facts) / total:.3g} %",
                "sizes": f"{min(sizes):.3g} … {float(np.median(sizes)):.3g} … {max(sizes):.3g}" if sizes else "–",
            }
        )
    return rows


def _grids(cases: Sequence[CaseFacts]) -> list[tuple[str, int]]:
    """Return voxel sizes and their number of samples, the most frequent first."""
    counted = Counter("unknown" if case.spacing is None else f"{_times(case.spacing)} mm" for case in cases)
    return counted.most_common(10)


def _row(case: CaseFacts) -> dict[str, str]:
    measured = [one for one in case.intensities if one.count]
    limits = (min(one.lowest for one in measured), max(one.highest for one in measured)) if measured else None
    return {
        "name": str(case.index),
        "shape": _times(case.shape),
        "spacing": "–" if case.spacing is None else _times(case.spacing),
        "intensity": "–" if limits is None else f"{limits[0]:.4g} … {limits[1]:.4g}",
        "foreground": _percent(case),
        "disk": "–" if case.disk_bytes is None else size_text(case.disk_bytes),
    }


def _times(values: Any) -> str:
    return " × ".join(f"{value:.4g}" for value in values)


def _inline(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
