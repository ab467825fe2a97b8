"""A model of nnU-Net with random weights, and what nnU-Net predicts with it: run by a Python that has nnunetv2.

    python _reference_model.py CASE.json FOLDER

CASE.json has ``plans``, ``dataset``, ``configuration``, ``mirroring`` and ``folds``. FOLDER has ``images``; it gets the
folder of the model, ``model``, and for each case in ``predictions`` the label map and the probabilities of nnU-Net, and
``window.npz``, an image of the shape of a patch with its logits.
"""

import functools
import json
import os
import sys
from pathlib import Path

folder = Path(sys.argv[2])
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[name] = str(folder)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.inference import predict_from_raw_data as predicting  # noqa: E402
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402


class SinglePrecision:
    """PyTorch in which half precision is single precision."""

    half = float16 = torch.float32

    def __getattr__(self, name):
        """Return the rest as it is."""
        return getattr(torch, name)


# nnU-Net adds up the logits of patches in half precision, whose rounding decides near ties.
predicting.torch = SinglePrecision()
predicting.compute_gaussian = functools.partial(predicting.compute_gaussian, dtype=torch.float32)

case = json.loads(Path(sys.argv[1]).read_text())
torch.manual_seed(0)
torch.set_num_threads(1)
model = folder / "model"
model.mkdir(exist_ok=True)
(model / "plans.json").write_text(json.dumps(case["plans"]))
(model / "dataset.json").write_text(json.dumps(case["dataset"]))
manager = PlansManager(case["plans"])
configuration = manager.get_configuration(case["configuration"])
labels = manager.get_label_manager(case["dataset"])
channels = len(case["dataset"]["channel_names"])
for fold in case["folds"]:
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        channels,
        labels.num_segmentation_heads,
        deep_supervision=True,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        # Larger logits, so that few voxels are nearly ties.
        network.decoder.seg_layers[-1].weight.mul_(5)
    (model / f"fold_{fold}").mkdir(exist_ok=True)
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": torch.optim.SGD(network.parameters(), 0.01).state_dict(),
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": case["configuration"], "fold": fold, "plans": case["plans"]},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(case["mirroring"]) or None,
    }
    torch.save(checkpoint, model / f"fold_{fold}" / "checkpoint_final.pth")

predictor = predicting.nnUNetPredictor(
    use_gaussian=True, use_mirroring=bool(case["mirroring"]), device=torch.device("cpu"), verbose=False,
    allow_tqdm=False,
)  # fmt: skip
predictor.initialize_from_trained_model_folder(str(model), tuple(case["folds"]))
files = sorted((folder / "images").iterdir())
names = sorted({file.name.rsplit("_", 1)[0] for file in files})
for name in names:
    parts = [str(file) for file in files if file.name.rsplit("_", 1)[0] == name]
    reader = manager.image_reader_writer_class()
    image, properties = reader.read_images(parts)
    found, probabilities = predictor.predict_single_npy_array(image, properties, None, None, True)
    out = folder / "predictions"
    out.mkdir(exist_ok=True)
    np.savez(out / f"{name}.npz", labels=found, probabilities=probabilities)
    reader.write_seg(found, str(out / f"{name}{case['dataset']['file_ending']}"), properties)
window = torch.randn(1, channels, *configuration.patch_size)
with torch.no_grad():
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    predictor.network.eval()
    logits = predictor.network(window)
np.savez(folder / "window.npz", image=window[0].numpy(), logits=logits[0].numpy())
