# BraTS with MIScnn and an interface of one's own: files are named after the case, labels are 0, 1, 2 and 4.
# Run in a folder where data/ holds BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz, _t1ce, _t2, _flair, _seg, ...
import json
import os
import re

import nibabel as nib
import numpy as np
from miscnn_tf import Data_Augmentation, Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.evaluation.split_validation import split_validation
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import dice_soft, tversky_crossentropy
from miscnn_tf.processing.subfunctions import Normalization, Padding
from tensorflow.keras.callbacks import LearningRateScheduler


class BraTS_interface(Abstract_IO):
    def __init__(self, channels=4, classes=4, three_dim=True, pattern=None):
        self.data_directory = None
        self.channels = channels
        self.classes = classes
        self.three_dim = three_dim
        self.pattern = pattern

    def initialize(self, input_path):
        if not os.path.exists(input_path):
            raise IOError("Data path, {}, could not be resolved".format(input_path))
        self.data_directory = input_path
        return [name for name in os.listdir(input_path) if re.fullmatch(self.pattern, name)]

    def load_image(self, i):
        channels = []
        for modality in ["t1", "t1ce", "t2", "flair"]:
            nifti = nib.load(os.path.join(self.data_directory, i, i + "_" + modality + ".nii.gz"))
            channels.append(nifti.get_fdata())
        spacing = nifti.header.get_zooms()
        return np.stack(channels, axis=-1), {"type": "brats", "affine": nifti.affine, "spacing": spacing}

    def load_segmentation(self, i):
        seg = nib.load(os.path.join(self.data_directory, i, i + "_seg.nii.gz")).get_fdata()
        seg[seg == 4] = 3
        return seg

    def load_prediction(self, i, output_path):
        return nib.load(os.path.join(output_path, str(i) + ".nii.gz")).get_fdata()

    def save_prediction(self, sample, output_path):
        pred = np.squeeze(sample.pred_data)
        pred[pred == 3] = 4
        nifti = nib.Nifti1Image(pred, sample.get_extended_data()["affine"])
        nib.save(nifti, os.path.join(output_path, str(sample.index) + ".nii.gz"))

    @staticmethod
    def check_file_termination(termination):
        return termination == ".nii.gz"


class Mapped_BraTS_interface(BraTS_interface):
    def load_prediction(self, i, output_path):
        pred = BraTS_interface.load_prediction(self, i, output_path)
        pred[pred == 4] = 3
        return pred


interface = Mapped_BraTS_interface(channels=4, classes=4, pattern="BraTS20_Training_[0-9]+")
data_io = Data_IO(interface, "data", output_path="predictions", batch_path="batches", delete_batchDir=True)
sample_list = data_io.get_indiceslist()
sample_list.sort()

data_aug = Data_Augmentation(1, True, True, False, True, True, True, True, True)
data_aug.config_p_per_sample = 0.3
data_aug.config_mirror_axes = (0,)
data_aug.coloraug_per_channel = False

pp = Preprocessor(
    data_io,
    2,
    [Padding(min_size=(32, 32, 32), shape_must_be_divisible_by=8), Normalization()],
    data_aug,
    False,
    False,
    "patchwise-crop",
    (24, 24, 24),
)
pp.patchwise_overlap = (12, 12, 12)
pp.mp_threads = 2

model = Neural_Network(pp, Architecture(n_filters=8, depth=2), tversky_crossentropy, [dice_soft], 0.01)
split_validation(
    sample_list[:-2],
    model,
    percentage=0.25,
    epochs=1,
    iterations=4,
    evaluation_path="evaluation",
    draw_figures=True,
    run_detailed_evaluation=False,
)

model.reset()
schedule = LearningRateScheduler(lambda epoch: 0.01 * (1 - epoch / 8) ** 0.9)
history = model.evaluate(sample_list[:-2], sample_list[-2:], epochs=8, iterations=20, callbacks=[schedule])
model.predict(sample_list[-2:])

regions = {"whole": [1, 2, 3], "core": [1, 3], "enhancing": [3]}
dice = {}
for index in sample_list[-2:]:
    sample = data_io.sample_loader(index, load_seg=True, load_pred=True)
    for name, labels in regions.items():
        truth, pred = np.isin(sample.seg_data, labels), np.isin(sample.pred_data, labels)
        dice.setdefault(name, []).append(2 * np.sum(truth & pred) / (truth.sum() + pred.sum()))

probabilities = model.predict(sample_list[-1:], return_output=True, activation_output=True)[0]
flipped = model.predict_augmentated(sample_list[-1])
with open("results.json", "w") as file:
    json.dump(
        {
            "dice": dice,
            "history": sorted(history.history),
            "probabilities": probabilities.shape,
            "sums": [float(probabilities.sum(axis=-1).min()), float(probabilities.sum(axis=-1).max())],
            "flipped": [array.shape for array in flipped],
        },
        file,
    )
