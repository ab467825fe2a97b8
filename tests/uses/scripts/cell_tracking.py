# Cell tracking with MIScnn in 2D: 16-bit PNG images, instance masks become background, cell and border.
# Run in a folder where data/ holds 01/t000.png, ... and 01_GT/SEG/man_seg000.png, ...
import json
import os

import numpy as np
from miscnn_tf import Data_Augmentation, Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import dice_coefficient, dice_soft, dice_soft_loss, tversky_loss
from miscnn_tf.processing.subfunctions.normalization import Normalization
from PIL import Image
from skimage.measure import label
from skimage.segmentation import find_boundaries
from tensorflow.keras.callbacks import CSVLogger, EarlyStopping, ReduceLROnPlateau


class CellTracking_interface(Abstract_IO):
    """0: background, 1: inside of a cell, 2: where cells meet the background or each other."""

    def __init__(self, channels=1, classes=3):
        super().__init__(channels, classes, three_dim=False)
        self.data_directory = None

    def initialize(self, input_path):
        self.data_directory = input_path
        return [
            sequence + "/" + name[1:4]
            for sequence in sorted(os.listdir(input_path))
            if not sequence.endswith("_GT")
            for name in sorted(os.listdir(os.path.join(input_path, sequence)))
        ]

    def load_image(self, index):
        sequence, frame = index.split("/")
        image = np.array(Image.open(os.path.join(self.data_directory, sequence, "t" + frame + ".png")))
        return image, {"type": "cells"}

    def load_instances(self, index):
        sequence, frame = index.split("/")
        path = os.path.join(self.data_directory, sequence + "_GT", "SEG", "man_seg" + frame + ".png")
        return np.array(Image.open(path))

    def load_segmentation(self, index):
        instances = self.load_instances(index)
        seg = np.where(instances > 0, 1, 0)
        seg[find_boundaries(instances, mode="thick")] = 2
        return seg

    def load_prediction(self, index, output_path):
        return np.array(Image.open(os.path.join(output_path, index.replace("/", "_") + ".png")))

    def save_prediction(self, sample, output_path):
        path = os.path.join(output_path, sample.index.replace("/", "_") + ".png")
        Image.fromarray(sample.pred_data[..., 0].astype(np.uint8)).save(path)

    @staticmethod
    def check_file_termination(termination):
        return termination == ".png"


interface = CellTracking_interface()
data_io = Data_IO(interface, "data", "predictions")
samples = data_io.get_indiceslist()
training = [index for index in samples if index.startswith("01/")]
testing = [index for index in samples if index.startswith("02/")]

data_aug = Data_Augmentation(
    cycles=2, elastic_deform=True, mirror=True, contrast=True, brightness=True, gamma=True, gaussian_noise=True
)
data_aug.config_mirror_axes = (0, 1)
data_aug.seg_augmentation = True
pp = Preprocessor(
    data_io, 4, [Normalization(mode="grayscale"), Normalization()], data_aug, analysis="patchwise-crop",
    patch_shape=(48, 48),
)  # fmt: skip
pp.patchwise_overlap = (24, 24)

model = Neural_Network(pp, Architecture(8, 3), tversky_loss, metrics=[dice_soft, dice_coefficient], learning_rate=0.003)
callbacks = [
    ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=5, min_lr=1e-5),
    EarlyStopping(monitor="val_loss", patience=10, restore_best_weights=True),
    CSVLogger("training.csv"),
]
history = model.evaluate(training[:-2], training[-2:], epochs=10, iterations=12, callbacks=callbacks)
model.dump("cells.keras")
model.predict(testing)

result = {"dice": [], "cells": [], "true_cells": [], "blobs": [], "epochs": len(history.history["loss"])}
for index in testing:
    sample = data_io.sample_loader(index, load_seg=True, load_pred=True)
    truth, pred = sample.seg_data[..., 0], sample.pred_data[..., 0]
    result["dice"].append(
        [2 * np.sum((truth == c) & (pred == c)) / (np.sum(truth == c) + np.sum(pred == c)) for c in (1, 2)]
    )
    # Without their borders, cells that touch are apart
    sizes = np.bincount(label(pred == 1, connectivity=1).ravel())[1:]
    result["cells"].append(int(np.sum(sizes > 15)))
    result["blobs"].append(int(label(interface.load_instances(index) > 0).max()))
    result["true_cells"].append(len(np.unique(interface.load_instances(index))) - 1)

# Go on later with another loss
model.loss = dice_soft_loss
model.learning_rate = 0.0005
model.train(training, epochs=1, iterations=2)

with open("results.json", "w") as file:
    json.dump(result, file)
