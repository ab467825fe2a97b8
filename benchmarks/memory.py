"""Peak memory of segmenting a large CT: read, resampled, predicted, resampled back and written.

    python benchmarks/memory.py --size 512 512 600 --classes 3 30 --spacing 1.5 1.0 0

Each configuration runs in a separate process, which calls ``Neural_Network.predict_file`` on a gzipped phantom CT of
int16 and voxels of 0.7 x 0.7 x 1 mm, with a small U-Net with random weights. A spacing of 0 is that of the image. Every
configuration runs without a budget and with ``memory_budget``.

Print one line of JSON: for each configuration the peak of resident memory in GB (VmHWM), with a budget the estimate and
the number of slabs, the memory before reading the image (mainly TensorFlow), the peak until the end of each stage, and
the ratio of the peak to the size of the class probabilities on the image's grid. With ``--rival`` MONAI is measured too
(see `memory_monai`). It stores the probabilities of the whole image several times, so that a smaller ``--size`` may be
needed.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rivals import TORCH, Rival, python_with

from miscnn_tf.data_loading.geometry import resampled_shape
from miscnn_tf.data_loading.nifti_file import write_nifti

#: Voxel size of the phantom in mm.
SPACING = (0.7, 0.7, 1.0)
GB = 1e9


def write_phantom(path: Path, size: tuple[int, ...]) -> None:
    """Write a CT of int16: a body in air, with bones and noise, which compresses about as well as a real CT."""
    rng = np.random.default_rng(0)
    image = np.empty(size, np.int16, order="F")
    axes = np.ogrid[tuple(slice(-1, 1, length * 1j) for length in size[:2])]
    radius = np.sqrt(axes[0] ** 2 + (1.4 * axes[1]) ** 2)
    plane = np.where(radius < 0.8, 40, -1000) + np.where(radius < 0.1, 600, 0)
    for place in range(size[2]):
        image[..., place] = plane + 20 * rng.standard_normal(size[:2], np.float32)
    affine = np.diag([*SPACING, 1.0])
    write_nifti(path, image, {"affine": affine, "spacing": SPACING})


def status(name: str) -> int:
    """Return a value of ``/proc/self/status`` in bytes: VmRSS is the resident memory, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


class Estimates(logging.Handler):
    """Log handler that stores the estimate and the number of slabs of the memory budget."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: dict[str, float] = {}
        logger = logging.getLogger("miscnn_tf.neural_network.memory_budget")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Store the values of one line."""
        assert isinstance(record.args, tuple)
        _, slabs, _, estimate = record.args
        self.found = {"slabs": slabs, "estimate_gb": float(str(estimate).split()[0])}  # type: ignore[dict-item]


def one_case(settings: dict[str, Any]) -> dict[str, Any]:
    """Segment the phantom in this process, and return the memory."""
    from miscnn_tf import Data_IO, Neural_Network, Preprocessor
    from miscnn_tf.data_loading.interfaces import NIFTI_interface
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture
    from miscnn_tf.processing.subfunctions import Clipping, Normalization, Resampling

    image, folder = Path(settings["image"]), Path(settings["folder"])
    interface = NIFTI_interface(channels=1, classes=settings["classes"])
    data_io = Data_IO(
        interface, str(folder / "data"), output_path=str(folder / "out"), batch_path=str(folder / "batches")
    )
    steps = [Clipping(min=-100, max=300), Normalization()]
    if settings["spacing"]:
        steps.insert(1, Resampling((settings["spacing"],) * 3))
    patch = tuple(settings["patch"])
    preprocessor = Preprocessor(data_io, batch_size=1, subfunctions=steps, data_aug=None, patch_shape=patch)
    preprocessor.patchwise_overlap = tuple(int(settings["overlap"] * size) for size in patch)
    network = Architecture(n_filters=settings["filters"], depth=settings["depth"])
    model = Neural_Network(preprocessor, network, seed=1)
    before = status("VmHWM")
    stages: dict[str, float] = {}

    def noting(stage: str, function: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            stages[stage] = round(status("VmHWM") / GB, 3)
            return result

        return run

    # Peak until the end of each stage; the first with the final value has the peak.
    interface.read_file = noting("read", interface.read_file)  # type: ignore[method-assign]
    steps[-1].preprocessing = noting("prepared", steps[-1].preprocessing)  # type: ignore[method-assign]
    model.predict_sample = noting("predicted", model.predict_sample)  # type: ignore[method-assign]
    interface.write_file = noting("written", interface.write_file)  # type: ignore[method-assign]
    estimates = Estimates()
    begin = time.perf_counter()
    budget = {} if settings["budget"] is None else {"memory_budget": settings["budget"]}
    labels = model.predict_file(image, folder / "segmentation.nii.gz", **budget)
    probabilities = 4 * settings["classes"] * labels.size
    return {
        "peak_gb": round(status("VmHWM") / GB, 3),
        **estimates.found,
        "before_gb": round(before / GB, 3),
        "until_gb": stages,
        "probabilities_gb": round(probabilities / GB, 3),
        "peak_to_probabilities": round(status("VmHWM") / probabilities, 3),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def in_a_process(settings: dict[str, Any]) -> dict[str, Any]:
    """Run `one_case` in a separate process."""
    command = [sys.executable, __file__, "--one", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{settings} failed with exit code {done.returncode}:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def of_rival(settings: dict[str, Any], size: tuple[int, ...]) -> dict[str, Any]:
    """Measure MONAI for the same configuration."""
    grid = None
    if settings["spacing"]:
        grid = resampled_shape(size, SPACING, (settings["spacing"],) * 3)
    python = python_with(TORCH, "monai", "nibabel")
    with Rival(Path(__file__).with_name("memory_monai.py"), python, {**settings, "grid": grid}) as rival:
        before = rival.peak_bytes()
        answer = rival.ask("predict")
        return {
            "monai_peak_gb": round(rival.peak_bytes() / GB, 3),
            "monai_before_gb": round(before / GB, 3),
            "monai_seconds": round(answer["seconds"], 1),
        }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 600), help="shape of the image in voxels")
    parser.add_argument("--classes", type=int, nargs="+", default=(3, 30))
    parser.add_argument(
        "--spacing",
        type=float,
        nargs="+",
        default=(1.5, 1.0, 0),
        help="voxel sizes of the network in mm; 0: that of the image",
    )
    parser.add_argument("--patch", type=int, nargs=3, default=(96, 96, 64))
    parser.add_argument(
        "--overlap", type=float, default=0.5, help="overlap of neighbouring patches, relative to their shape"
    )
    parser.add_argument(
        "--budget", default="4GB", help="memory_budget of the second run of each configuration; none: no second run"
    )
    parser.add_argument("--only-budget", action="store_true", help="only runs with a budget")
    parser.add_argument("--rival", action="store_true", help="measure MONAI, too")
    parser.add_argument("--filters", type=int, default=4)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_case(json.loads(options.one))))
        return

    budgets = [] if options.only_budget else [None]
    budgets += [] if options.budget == "none" else [options.budget]
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "data" / "ct" / "imaging.nii.gz"
        image.parent.mkdir(parents=True)
        write_phantom(image, tuple(options.size))
        for classes in options.classes:
            for spacing in options.spacing:
                for budget in budgets:
                    case = {"classes": classes, "spacing": spacing, "budget": budget}
                    shared = {name: getattr(options, name) for name in ("patch", "overlap", "filters", "depth")}
                    settings = {**case, **shared, "image": str(image), "folder": folder}
                    cases.append({**case, **in_a_process(settings)})
                    if options.rival:
                        cases[-1].update(of_rival(settings, tuple(options.size)))
                    print(json.dumps(cases[-1]), file=sys.stderr, flush=True)
    voxels = math.prod(options.size)
    print(json.dumps({"benchmark": "memory", "size": list(options.size), "image_gb": 2 * voxels / GB, "cases": cases}))


if __name__ == "__main__":
    main()
