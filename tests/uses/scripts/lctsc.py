# LCTSC with MIScnn: organs of the thorax, from DICOM series and RTSTRUCTs to RTSTRUCTs.
# Run in a folder where data/ holds LCTSC-Train-S1-001/<study>/<series>/000000.dcm, ... as the archive lays it out.
import json
import warnings

import numpy as np
from miscnn_tf import Data_Augmentation, Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.interfaces.dicom_io import DICOM_interface
from miscnn_tf.evaluation.detailed_validation import compute_dice
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import dice_crossentropy, dice_soft
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.processing.subfunctions.resampling import Resampling
import miscnn_tf

warnings.simplefilter("error", UserWarning)

# Names of the structures and their labels
structure_dict = {"Esophagus": 1, "Heart": 2, "Lung_L": 3, "Lung_R": 4, "SpinalCord": 5}

interface = DICOM_interface(
    channels=1, classes=6, structure_dict=structure_dict, annotation_tag="simplified", prediction_format="rtstruct"
)
data_io = Data_IO(interface, "data/", output_path="predictions")
sample_list = data_io.get_indiceslist()
sample_list.sort()

# The structures of each case
names = {index: interface.get_ROI_names(index) for index in sample_list}

pp = Preprocessor(
    data_io,
    data_aug=Data_Augmentation(elastic_deform=False, mirror=False),
    batch_size=2,
    subfunctions=[Clipping(min=-1000, max=400), Resampling((9, 10, 10)), Normalization(mode="z-score")],
    prepare_subfunctions=True,
    analysis="patchwise-crop",
    patch_shape=(16, 32, 32),
)
pp.patchwise_overlap = (8, 16, 16)

model = Neural_Network(pp, Architecture(4, 2), dice_crossentropy, [dice_soft], learning_rate=0.01)
model.train(sample_list[:-1], epochs=3, iterations=12)
model.predict(sample_list[-1:])
model.dump("model.keras")

scores = {}
for index in sample_list[-1:]:
    sample = data_io.sample_loader(index, load_seg=True, load_pred=True)
    scores[index] = compute_dice(sample.seg_data, sample.pred_data, 6)
    print(index, sample.img_data.shape, sample.seg_data.shape, sample.pred_data.shape, scores[index])

# Another program, one file: from the folder of a series to DICOM and NIfTI
loaded = miscnn_tf.load_model("model.keras")
loaded.preprocessor.data_io.interface.prediction_format = "seg"
series = "data/" + sample_list[-1]
first = loaded.predict_file(series, "seg.dcm")
second = loaded.predict_file(series, "seg.nii.gz")
assert (first == second).all() and (first == np.squeeze(sample.pred_data)).all()

with open("results.json", "w") as file:
    json.dump({"dice": scores, "names": names, "classes": loaded.preprocessor.data_io.interface.class_names}, file)
data_io.batch_cleanup()
