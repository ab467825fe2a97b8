# KiTS19 with MIScnn: kidney and tumour segmentation in CT, 3-fold cross-validation.
# Run in a folder where data/ holds case_00000/imaging.nii.gz, case_00000/segmentation.nii.gz, ...
import json

import miscnn_tf
from miscnn_tf import Data_Augmentation, Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.interfaces.nifti_io import NIFTI_interface
from miscnn_tf.evaluation.cross_validation import cross_validation
from miscnn_tf.evaluation.detailed_validation import compute_dice
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import dice_crossentropy, dice_soft, tversky_crossentropy
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.processing.subfunctions.resampling import Resampling
from tensorflow.keras.callbacks import EarlyStopping, ReduceLROnPlateau

# Initialize the NIfTI I/O interface and the data I/O
interface = NIFTI_interface(pattern="case_00[0-9]*", channels=1, classes=3)
data_path = "data/"
data_io = Data_IO(interface, data_path)

sample_list = data_io.get_indiceslist()
sample_list.sort()

# Data augmentation
data_aug = Data_Augmentation(
    cycles=2,
    scaling=True,
    rotations=True,
    elastic_deform=True,
    mirror=True,
    brightness=True,
    contrast=True,
    gamma=True,
    gaussian_noise=True,
)

# Subfunctions: clip to the range of KiTS19's winners, one voxel size, z-score
sf_clipping = Clipping(min=-79, max=304)
sf_resample = Resampling((9.0, 7.0, 7.0))
sf_zscore = Normalization(mode="z-score")
subfunctions = [sf_clipping, sf_resample, sf_zscore]

pp = Preprocessor(
    data_io,
    data_aug=data_aug,
    batch_size=2,
    subfunctions=subfunctions,
    prepare_subfunctions=True,
    prepare_batches=False,
    analysis="patchwise-crop",
    patch_shape=(16, 32, 32),
    use_multiprocessing=False,
)
pp.patchwise_overlap = (8, 16, 16)

model = Neural_Network(
    preprocessor=pp,
    architecture=Architecture(4, 2),
    loss=tversky_crossentropy,
    metrics=[dice_soft, dice_crossentropy],
    batch_queue_size=3,
    workers=3,
    learning_rate=0.005,
)

cb_lr = ReduceLROnPlateau(
    monitor="loss", factor=0.1, patience=20, verbose=1, mode="min", min_delta=0.0001, cooldown=1, min_lr=0.00001
)
cb_es = EarlyStopping(monitor="loss", min_delta=0, patience=150, verbose=1, mode="min")
callbacks = [cb_lr, cb_es]

# 3-fold cross-validation
validation_samples = sample_list[0:6]
cross_validation(
    validation_samples,
    model,
    k_fold=3,
    epochs=2,
    iterations=5,
    evaluation_path="evaluation",
    draw_figures=True,
    run_detailed_evaluation=True,
    callbacks=callbacks,
)
assert validation_samples == sample_list[0:6] and callbacks == [cb_lr, cb_es]

# One model for the samples that are left
model.reset_weights()
model.train(validation_samples, epochs=5, iterations=18, callbacks=[cb_lr])
model.dump("model.hdf5")

fresh = Neural_Network(pp, Architecture(4, 2), tversky_crossentropy, [dice_soft], 0.0001, 2, 1)
fresh.load("model.hdf5")
fresh.predict(sample_list[6:])

scores = {}
for index in sample_list[6:]:
    sample = data_io.sample_loader(index, load_seg=True, load_pred=True)
    scores[index] = compute_dice(sample.seg_data, sample.pred_data, 3)
    print(index, sample.img_data.shape, sample.seg_data.shape, sample.pred_data.shape, scores[index])

# The model in memory and the one from the file say the same
first = model.predict(sample_list[6:7], return_output=True)
second = fresh.predict(sample_list[6:7], return_output=True)
with open("results.json", "w") as file:
    json.dump({"dice": scores, "same": bool((first[0] == second[0]).all()), "version": miscnn_tf.__version__}, file)
data_io.batch_cleanup()
