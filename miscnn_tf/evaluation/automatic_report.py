"""Writing of the report page during and at the end of a run."""

from __future__ import annotations

import logging
import shlex
from contextlib import suppress
from pathlib import Path

from miscnn_tf.data_loading.data_io import Data_IO

logger = logging.getLogger(__name__)


def renew_report(folder: str | Path, seconds: float | None) -> None:
    """Write ``report.html`` during a training, in milliseconds: without reading images.

    Args:
        folder: The run folder.
        seconds: Time until the next renewal, after which a browser loads the page again; None: the training has ended.
    """
    # Imported here, since it is slow and not needed to run a model.
    from miscnn_tf.report.run_page import write_page

    write_page(folder, draw=False, refresh=seconds)


def write_report_if_possible(folder: str | Path, data_io: Data_IO) -> Path | None:
    """Write ``report.html`` into the folder of a finished run (`miscnn_tf.report.run_page.write_report`).

    Any error is logged as a warning, since the results are complete, and ``miscnn-tf report FOLDER`` can write the page
    later.

    Args:
        folder: The run folder.
        data_io: The source of the samples.

    Returns:
        The page, or None.
    """
    try:
        # Imported here, since it is slow and not needed to run a model.
        from miscnn_tf.report.run_page import write_report

        path = write_report(folder, data_io=data_io)
    except Exception as reason:
        logger.warning(
            "%s: the results are complete, but their page could not be drawn (%s: %s); to try again: "
            "miscnn-tf report %s",
            folder, type(reason).__name__, reason, shlex.quote(str(folder)),
            exc_info=logger.isEnabledFor(logging.DEBUG),
        )  # fmt: skip
        with suppress(Exception):  # the reason has been reported
            renew_report(folder, None)  # a page that reports a running training would be wrong
        return None
    logger.info("report: %s", path)
    return path
