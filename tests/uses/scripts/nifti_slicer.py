# A 2D network on the slices of CT volumes with MIScnn's NIfTI slicer.
# Run in a folder where data/ holds case_00000/imaging.nii.gz, case_00000/segmentation.nii.gz, ...
import json

from keras.callbacks import ReduceLROnPlateau
from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.interfaces import NIFTIslicer_interface
from miscnn_tf.evaluation.cross_validation import load_disk2fold, run_fold, split_folds
from miscnn_tf.evaluation.detailed_validation import compute_dice, detailed_validation
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import dice_crossentropy, dice_soft
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.processing.subfunctions.resize import Resize

interface = NIFTIslicer_interface(pattern="case_0000[0-9]", channels=1, classes=3)
data_io = Data_IO(interface, "data")
slices = data_io.get_indiceslist()
print(slices[0], len(slices))
volumes = sorted(set(index.split(":#:")[0] for index in slices))
training = [index for index in slices if not index.startswith(volumes[-1])]
testing = [index for index in slices if index.startswith(volumes[-1])]

data_aug = Data_Augmentation(cycles=1, scaling=True, rotations=True, elastic_deform=False, mirror=False)
pp = Preprocessor(
    data_io,
    data_aug=data_aug,
    batch_size=8,
    subfunctions=[Clipping(-160, 240), Normalization("minmax"), Resize((48, 64))],
    analysis="fullimage",
)
model = Neural_Network(
    preprocessor=pp, architecture=Architecture(n_filters=8, depth=3), loss=dice_crossentropy, metrics=[dice_soft]
)
model.learning_rate = 0.005

# Folds that could run on several machines
split_folds(training, k_fold=2, evaluation_path="folds")
run_fold(0, model, epochs=1, iterations=3, evaluation_path="folds", draw_figures=True, callbacks=[], save_models=True)
first, second = load_disk2fold("folds/fold_0/sample_list.json")
assert sorted(first + second) == sorted(training)

model.reset_weights()
model.learning_rate = 0.005
model.train(training, epochs=8, callbacks=[ReduceLROnPlateau(monitor="loss", factor=0.5, patience=3)])
model.predict(testing)
path = interface.assemble_volume(volumes[-1], "predictions", "volume.nii.gz")

truth = [data_io.sample_loader(index, load_seg=True, load_pred=True) for index in testing]
dice = [compute_dice(sample.seg_data, sample.pred_data, 3) for sample in truth]
detailed_validation(testing[8:12], model, "detailed")
with open("results.json", "w") as file:
    json.dump({"slices": len(slices), "test": volumes[-1], "shape": truth[0].img_data.shape, "dice": dice}, file)
