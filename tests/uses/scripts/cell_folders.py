# 2D microscopy with MIScnn's image interface: a folder per image with imaging.png and segmentation.png.
# Run in a folder where cells/ holds 01/t000.png, ... and 01_GT/SEG/man_seg000.png, ...
import json
import os
import shutil

import miscnn_tf
import numpy as np
from miscnn_tf.data_loading.interfaces.image_io import Image_interface
from miscnn_tf.evaluation.leave_one_out import leave_one_out
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import dice_coefficient_loss
from miscnn_tf.processing.subfunctions import Normalization, Resize
from PIL import Image

for name in sorted(os.listdir("cells/01")):
    folder = os.path.join("data", name[:-4])
    os.makedirs(folder)
    shutil.copy(os.path.join("cells/01", name), os.path.join(folder, "imaging.png"))
    instances = np.array(Image.open(os.path.join("cells/01_GT/SEG", "man_seg" + name[1:])))
    # A mask as many programs write it: 0 and 255
    Image.fromarray(np.where(instances > 0, 255, 0).astype(np.uint8)).save(os.path.join(folder, "segmentation.png"))

interface = Image_interface(classes=2, img_type="grayscale", img_format="png", pattern="t[0-9]{3}", label_map={255: 1})
data_io = miscnn_tf.Data_IO(interface, "data")
samples = data_io.get_indiceslist()

pp = miscnn_tf.Preprocessor(
    data_io, batch_size=2, subfunctions=[Resize((48, 64)), Normalization()], analysis="fullimage", data_aug=None
)
model = miscnn_tf.Neural_Network(pp, Architecture(n_filters=4, depth=2), dice_coefficient_loss, learning_rate=0.01)
leave_one_out(samples, model, epochs=1, iterations=2, evaluation_path="loo")

model.reset_weights()
model.train(samples[:-1], epochs=3, iterations=12)
model.predict(samples[-1:])
sample = data_io.sample_loader(samples[-1], load_seg=True, load_pred=True)
truth, pred = sample.seg_data > 0, sample.pred_data > 0
with open("results.json", "w") as file:
    json.dump(
        {"dice": 2 * np.sum(truth & pred) / (truth.sum() + pred.sum()), "dtype": str(sample.img_data.dtype)}, file
    )
