"""Planned runs: from a folder of scans to a trained network, predictions and a page, in one object."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from miscnn_tf._base.arguments import positive
from miscnn_tf._base.files import make_folder
from miscnn_tf.cli.init_run import configuration_line, run_init
from miscnn_tf.cli.output_folder import alone_in, check_folder
from miscnn_tf.data_loading.layout_detection import locate_data
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.experiment.schema import Experiment
from miscnn_tf.experiment.toml_file import apply_changes, read_experiment, toml_value
from miscnn_tf.report.run_page import write_report
from miscnn_tf.runs.names import MODEL_FILE, RECORD_FILE, REPORT_FILE
from miscnn_tf.runs.new_images import record_new_images

#: Names in the folder of a planned run.
CONFIGURATION_FILE: Final = "experiment.toml"
TRAINING_FOLDER: Final = "training"
PREDICTIONS_FOLDER: Final = "predictions"

#: Default time limit of a training, in minutes.
MINUTES: Final = 30.0

_KIND: Final = "training"
_ENTRY: Final = re.compile(r"(?P<key>[\w.]+) = (?P<value>.*?)(?:  # (?P<reason>.*))?")


def plan(
    data: str | Path,
    minutes: float | None = None,
    output: str | Path | None = None,
    *,
    layout: str | None = None,
    memory_gb: float | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    fresh: bool = False,
    configuration: str | None = None,
) -> PlannedRun:
    """Plan a run on a data set, or return the earlier plan in the folder.

    Preprocessing, patches and network follow from sizes, voxel sizes, intensities and classes of the data, by rules
    like those of nnU-Net. ``print(plan)`` shows each value with its reason. The plan is a file, ``experiment.toml`` in
    the folder of the run; values that you change there are used.

    Args:
        data: Folder of the data set, in any layout that `find_interface` recognises.
        minutes: Time limit of the training; default: 30.
        output: Folder of the run. Default: a folder in the current one, named like the data with ``_run`` appended.
        layout: Name of the layout; detected by default.
        memory_gb: Memory for a training step in GB; by default it depends on the machine.
        settings: Values that are set instead of detected: ``{"data.label_map": {"255": 1}}``, or texts
            ``"network.seed=3"``.
        fresh: Replace an earlier plan in the folder, for example to train longer; ``train(fresh=True)`` then replaces
            the training.
        configuration: Training of nnU-Net: ``2d``, the slices of volumes one by one, ``3d_fullres``, ``3d_lowres`` or,
            with the absolute path of its first stage in ``settings={"data.previous_stage": …}``,
            ``3d_cascade_fullres``. By default volumes, or images, in full resolution.

    Returns:
        The planned run.

    Raises:
        MissingDataError: If the folder does not exist.
        DataError: If the data are invalid or their layout is unknown.
        ConfigurationError: If the folder has a plan for other data, or with other arguments, or the configuration is
            not planned for these data.

    Example:
        >>> run = miscnn_tf.plan("scans", minutes=30)  # doctest: +SKIP
        >>> print(run)  # doctest: +SKIP
        >>> run.train()  # doctest: +SKIP
        >>> run.predict("new_scans")  # doctest: +SKIP
    """
    limit = None if minutes is None else positive(minutes, "minutes")
    folder = Path(f"{Path(os.path.abspath(data)).name}_run" if output is None else output)
    changes = (
        [f"{key}={toml_value(value)}" for key, value in settings.items()] if isinstance(settings, Mapping) else settings
    )
    file = folder / CONFIGURATION_FILE
    if file.is_file() and not fresh:
        run = PlannedRun(folder)
        run.require_same(data, limit, layout, changes, configuration)
        print(f"Using the plan {file}")
        return run
    if not Path(data).is_dir():
        raise MissingDataError(f"the data set {data} is not a folder; name the folder that contains the images")
    make_folder(folder)
    given: dict[str, Any] = {"data": {"path": os.path.abspath(data), **({} if layout is None else {"layout": layout})}}
    apply_changes(given, list(changes))
    run_init(
        data,
        file,
        given,
        memory_gb,
        overwrite=fresh,
        minutes=MINUTES if limit is None else limit,
        configuration=configuration,
    )
    return PlannedRun(folder)


class PlannedRun:
    """Plan of a run, and its training, predictions and page.

    Args:
        folder: Folder of the run, with its ``experiment.toml``.

    Attributes:
        folder: The folder.
        configuration: Path of ``experiment.toml``.
        training_folder: Folder of the training: model, scores, history, page.
        model_file: Path of the trained model.

    Raises:
        MissingDataError: If the folder has no plan.
        ConfigurationError: If the plan has mistakes.

    Example:
        >>> PlannedRun("scans_run").train()  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.configuration = self.folder / CONFIGURATION_FILE
        self.training_folder = self.folder / TRAINING_FOLDER
        self.model_file = self.training_folder / MODEL_FILE
        self.experiment  # noqa: B018 - report mistakes in the file now

    @property
    def experiment(self) -> Experiment:
        """Configuration as it is in the file now."""
        return read_experiment(self.configuration)

    @property
    def report_file(self) -> Path:
        """Path of the page with the results."""
        return self.training_folder / REPORT_FILE

    @property
    def is_trained(self) -> bool:
        """True if the training is finished."""
        return (self.training_folder / RECORD_FILE).is_file() and self.model_file.is_file()

    def expectation(self) -> str:
        """Return a sentence about the steps of the run and their time."""
        minutes = self.experiment.network.minutes
        plural_s = "" if minutes == 1 else "s"
        limit = "by the number of epochs in the plan" if minutes is None else f"after {minutes:g} minute{plural_s}"
        if self.is_trained:
            return f"The training in {self.training_folder} is finished; only what is missing is done."
        return (
            f"The training ends {limit}. Reading the data before it, and segmenting and scoring the validation samples "
            f"after it, take a few minutes more for large data sets. Results and page are in {self.training_folder}."
        )

    def train(self, *, fresh: bool = False) -> Self:
        """Train the network, and segment and score the validation samples; an interrupted training is continued.

        Args:
            fresh: Delete the results of an earlier training in the folder.

        Returns:
            The run itself.

        Raises:
            DataError: If a sample cannot be used.
            ConfigurationError: If the folder has a training with another plan.
        """
        from miscnn_tf.cli.training_run import run_training  # imports TensorFlow

        with alone_in(self.training_folder):
            check_folder(self.training_folder, self.experiment, _KIND, fresh)
            run_training(self.experiment, self.training_folder, fresh)
        return self

    def predict(
        self,
        images: str | Path,
        output: str | Path | None = None,
        *,
        overwrite: bool = False,
        memory: int | None = None,
        **options: Any,
    ) -> list[Path]:
        """Segment images with the trained network; `report` adds them to the page.

        Args:
            images: An image file, a DICOM series, or a folder of images.
            output: File or folder for the predictions; by default ``predictions`` in the folder of the run.
            overwrite: Replace existing predictions.
            memory: Memory limit in bytes; None for the free memory.
            options: Further arguments of `Neural_Network.predict`: ``activation_output``, ``file_format``, ``values``,
                ``threshold``, ``overlay`` (here True by default: the page shows the pictures).

        Returns:
            The written files; images with a prediction are skipped.

        Raises:
            MissingDataError: If the network is not trained, or images are missing.
            DataError: If images could not be segmented; all others were.
        """
        from miscnn_tf.cli.prediction_run import find_model, run_prediction  # imports TensorFlow
        from miscnn_tf.neural_network.prediction_output import PredictionOutput

        if not self.model_file.is_file():
            raise MissingDataError(f"{self.training_folder} does not have a trained model; train the plan first")
        output = self.folder / PREDICTIONS_FOLDER if output is None else Path(output)
        result = PredictionOutput(**{"overlay": True, **options})
        # Before the prediction: after an interruption, the page shows the images that are done.
        record_new_images(self.training_folder, output, find_model(self.training_folder).digest())
        return run_prediction(self.training_folder, images, output, result, overwrite=overwrite, memory=memory)

    def report(self) -> Path:
        """Write the page of the training with the new images that were segmented, and return its path.

        Raises:
            MissingDataError: If results are missing.
        """
        return write_report(self.training_folder)

    def require_same(
        self,
        data: str | Path,
        minutes: float | None,
        layout: str | None = None,
        changes: Sequence[str] = (),
        configuration: str | None = None,
    ) -> None:
        """Require that this plan is for the given data and arguments, so that nothing is ignored silently.

        Raises:
            ConfigurationError: If it is not.
        """
        experiment = self.experiment
        place = os.path.realpath(experiment.data.path)
        wrong = []
        # The data may be in a folder inside the given one, where the plan found them.
        inner = os.path.realpath(locate_data(data, layout)) if place.startswith(os.path.realpath(data)) else None
        if os.path.realpath(data) != place != inner:
            wrong.append(f"its data are {experiment.data.path}, not {data}")
        if minutes is not None and experiment.network.minutes != minutes:
            wrong.append(f"its time limit is {experiment.network.minutes}, not {minutes:g} minutes")
        if configuration is not None and f"# {configuration_line(configuration)}" not in str(self):
            wrong.append(f"its configuration is not {configuration}")
        if layout is not None and experiment.data.layout != layout:
            wrong.append(f"its layout is {experiment.data.layout}, not {layout}")
        for change in changes:
            given: dict[str, Any] = {}
            apply_changes(given, [change])
            # The plan may have more keys of a table, such as other values of a label map.
            changed = read_experiment(self.configuration, [change]) != experiment
            if changed and not _contains(experiment.model_dump(), given):
                wrong.append(f"it has another value than {change}")
        if wrong:
            raise ConfigurationError(
                f"{self.configuration} is another plan: {'; '.join(wrong)}. Plan and train again "
                "with fresh=True, or choose another folder for this run with output"
            )

    def __str__(self) -> str:
        """Return the plan: each value with its reason."""
        return self.configuration.read_text(encoding="utf-8")

    def __repr__(self) -> str:
        """Return the folder and the state of the run."""
        state = "trained" if self.is_trained else "not trained yet"
        return f"<PlannedRun {str(self.folder)!r}: {state}; print() shows the plan>"

    def _repr_html_(self) -> str:
        """Return the plan as tables, for notebooks."""
        parts = [f"<p><b>Planned run</b> in <code>{html.escape(str(self.folder))}</code></p>"]
        note = ""
        for line in str(self).splitlines():
            if line.startswith("["):
                parts.append(f"</table><table><caption><b>{html.escape(line.strip('[]'))}</b></caption>")
            elif line.startswith("# "):
                note = f"{note} {line[2:]}".strip()
            elif match := _ENTRY.fullmatch(line):
                reason = match["reason"] or note
                cells = (match["key"], f"<code>{html.escape(match['value'])}</code>", html.escape(reason))
                style = ' style="text-align:left"'
                parts.append("<tr>" + "".join(f"<td{style}>{cell}</td>" for cell in cells) + "</tr>")
                note = ""
            else:
                if note:
                    parts.append(f"<p>{html.escape(note)}</p>")
                note = ""
        return "".join(parts).replace("</table>", "", 1) + "</table>"


def _contains(whole: Any, part: Any) -> bool:
    """Return True if all keys of nested tables are in others with the same values."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(key in whole and _contains(whole[key], part[key]) for key in part)
    return bool(whole == part)
