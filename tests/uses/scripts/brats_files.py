# BraTS with MIScnn's NIfTI interface: each contrast becomes imaging_0000.nii.gz, imaging_0001.nii.gz, ... beside
# segmentation.nii.gz. Run in a folder where brats/ holds the data set as it is unpacked.
import json
import os
import shutil

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import dice_soft, tversky_loss
from miscnn_tf.processing.subfunctions import Normalization

for case in sorted(os.listdir("brats")):
    os.makedirs(os.path.join("data", case), exist_ok=True)
    for number, modality in enumerate(["t1", "t1ce", "t2", "flair"]):
        source = os.path.join("brats", case, f"{case}_{modality}.nii.gz")
        shutil.copy(source, os.path.join("data", case, f"imaging_{number:04d}.nii.gz"))
    shutil.copy(os.path.join("brats", case, f"{case}_seg.nii.gz"), os.path.join("data", case, "segmentation.nii.gz"))

interface = NIFTI_interface(channels=4, classes=4, pattern="BraTS.*", label_map={4: 3})
data_io = miscnn_tf.Data_IO(interface, "data")
samples = data_io.get_indiceslist()

pp = miscnn_tf.Preprocessor(
    data_io, batch_size=2, subfunctions=[Normalization("z-score")], analysis="patchwise-grid", patch_shape=(24, 24, 24)
)
pp.patchwise_overlap = (8, 8, 8)
# Patches without any tumour teach nothing
pp.patchwise_skip_blanks = True
pp.patchwise_skip_class = 0

model = miscnn_tf.Neural_Network(
    preprocessor=pp, architecture=Architecture(4, 2), loss=tversky_loss, metrics=[dice_soft], learning_rate=0.01
)
history = model.train(samples[:-1], epochs=2, class_weight={0: 0.5, 1: 1.0, 2: 1.0, 3: 1.0})
model.predict(samples[-1])
sample = data_io.sample_loader(samples[-1], load_seg=True, load_pred=True)
with open("results.json", "w") as file:
    json.dump({"shape": sample.img_data.shape, "loss": history.history["loss"], "last": samples[-1]}, file)
