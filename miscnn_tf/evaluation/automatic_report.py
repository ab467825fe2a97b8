"""The page of a run, written at its end."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miscnn_tf.data_loading.data_io import Data_IO

logger = logging.getLogger(__name__)


def write_report_if_possible(folder: str | Path, data_io: Data_IO) -> Path | None:
    """Write ``report.html`` into the folder of a finished run (`miscnn_tf.report.run_page.write_report`).

    Whatever keeps it from being drawn is a warning: the run has cost hours, its results are complete, and
    ``miscnn-tf report FOLDER`` draws the page once the cause is removed.

    Args:
        folder: The folder of the results.
        data_io: Where the samples come from, whatever their interface.

    Returns:
        The page, or None.
    """
    try:
        # Of the floor above; what runs models does not need it to be imported.
        from miscnn_tf.report.run_page import write_report

        path = write_report(folder, data_io=data_io)
    except Exception as reason:
        logger.warning(
            "%s: the results are complete, but their page could not be drawn (%s: %s); to try again: "
            "miscnn-tf report %s",
            folder, type(reason).__name__, reason, shlex.quote(str(folder)),
            exc_info=logger.isEnabledFor(logging.DEBUG),
        )  # fmt: skip
        return None
    logger.info("report: %s", path)
    return path
