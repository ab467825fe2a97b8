"""Detection of the number of channels, dimension and colours of a data set from its headers, by majority."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from miscnn_tf._base.messages import plural, some_of
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.volumes import read_info
from miscnn_tf.errors import DataError, MissingDataError

logger = logging.getLogger(__name__)

# A sample of headers is sufficient, and a thousand on a network drive take half a minute. `check` reads the headers of
# all samples before they are used.
_MOST = 50


def nifti_form(paths: Sequence[Path]) -> tuple[int, bool]:
    """Return the number of channels of an image in one file of a volume or one per channel, and whether it is 3D."""
    channels, three_dim = read_info(paths[0]).form()
    return len(paths) if len(paths) > 1 else channels, three_dim


def usual_nifti_form(
    names: Iterable[Hashable],
    paths_of: Callable[[Hashable], Sequence[Path]],
    where: str | Path,
    *,
    channels: int | None = None,
    three_dim: bool | None = None,
) -> tuple[int, bool]:
    """Return the number of channels of most samples, and whether they are volumes; warn of the others.

    Args:
        names: Names of samples; at most 50 of them, spread evenly, are read. Unreadable ones are skipped: `check`
            lists them all.
        paths_of: Returns the files of a sample, which are volumes.
        where: The data, for messages.
        channels: Number of channels, if known.
        three_dim: Whether they are volumes, if known.

    Raises:
        DataError: If none of the samples can be read, or two kinds are equally frequent.
    """
    forms: dict[tuple[int, bool], list[Hashable]] = {}
    trouble: DataError | None = None
    first, rest = _spread(list(names))
    for number, name in enumerate([*first, *rest]):
        if number >= len(first) and forms:
            break
        try:
            paths = paths_of(name)
            lost = next((path for path in paths if not os.path.exists(path)), None)
            if lost is not None:
                raise MissingDataError(f"{lost}: the file does not exist; add it")
            forms.setdefault(nifti_form(paths), []).append(name)
        except DataError as error:
            trouble = trouble or error
    if not forms:
        raise trouble or MissingDataError(f"{where}: none of the samples exist")
    fitting = [form for form in forms if channels in (None, form[0]) and three_dim in (None, form[1])] or list(forms)
    most = max(len(forms[form]) for form in fitting)
    usual = [form for form in fitting if len(forms[form]) == most]
    if len(usual) > 1:
        kinds = "; ".join(f"{_described(form)}: {some_of(forms[form])}" for form in usual)
        raise DataError(
            f"{where}: the samples are of {len(usual)} equally frequent kinds ({kinds}). Give channels and "
            "three_dim, or choose samples with pattern"
        )
    odd = [f"{name} ({_described(form)})" for form, held in forms.items() if form != usual[0] for name in held]
    if odd:
        logger.warning(
            "%s: %d of %d samples are %s, which is assumed for all; the others are: %s",
            *(where, most, most + len(odd), _described(usual[0]), some_of(odd, 20)),
        )
    return usual[0]


def have_colours(
    names: Iterable[Hashable], path_of: Callable[[Hashable], Path], where: str | Path, *, warn: bool = True
) -> bool:
    """Return True if any image is in colours, by its header.

    Grey images can be read as three equal channels without loss. If there are both kinds, a warning lists the rarer
    one.

    Args:
        names: Names of samples. Unreadable ones are skipped: `check` lists them.
        path_of: Returns the image of a sample.
        where: The data, for messages.
        warn: Whether to warn of the images of the rarer kind.
    """
    kinds: dict[bool, list[Hashable]] = {True: [], False: []}
    first, rest = _spread(list(names))
    for number, name in enumerate([*first, *rest]):
        if number >= len(first) and kinds[True]:
            break
        try:
            kinds[image_file.is_coloured(path_of(name))].append(name)
        except DataError as error:
            logger.debug("%s", error)
    if warn and kinds[True] and kinds[False]:
        coloured = len(kinds[True]) <= len(kinds[False])
        logger.warning(
            "%s holds both grey and colour images; all are read with 3 channels. %s: %s (channels=1 reads luminance)",
            *(where, f"{plural(len(kinds[coloured]), 'image')} {'in colours' if coloured else 'in grey'}"),
            some_of(kinds[coloured], 20),
        )
    return bool(kinds[True])


def _spread(names: list[Hashable]) -> tuple[list[Hashable], list[Hashable]]:
    """Split names into at most 50 evenly spread ones and the rest."""
    step = -(-len(names) // _MOST) or 1
    return names[::step], [name for number, name in enumerate(names) if number % step]


def _described(form: tuple[int, bool]) -> str:
    return f"{'3D' if form[1] else '2D'} with {plural(form[0], 'channel')}"
