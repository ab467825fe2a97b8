# Everything that MIScnn lets its users write themselves: subfunction, architecture, loss, metric; in one script,
# without a function main, with processes, batches on disk, and Keras' callbacks.
import json
import os

import numpy as np
import tensorflow as tf
from miscnn_tf import Data_Augmentation, Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.data_io import backup_history, create_directories
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.metrics import dice_soft
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.utils.plotting import plot_validation
from tensorflow.keras import backend as K
from tensorflow.keras.callbacks import CSVLogger, LambdaCallback, ModelCheckpoint
from tensorflow.keras.layers import Conv3D, Input, MaxPooling3D, UpSampling3D, concatenate
from tensorflow.keras.models import Model

rng = np.random.RandomState(0)
dictionary = {}
for number in range(6):
    seg = np.zeros((20, 18, 16))
    seg[3 + number : 11 + number, 4:12, 4:12] = 1
    dictionary["sample_%d" % number] = (3 * seg + rng.normal(size=seg.shape), seg)
interface = Dictionary_interface(dictionary, channels=1, classes=2, three_dim=True)
data_io = Data_IO(interface, "", batch_path="batches")
samples = data_io.get_indiceslist()


class Shift(Abstract_Subfunction):
    def __init__(self, by):
        self.by = by

    def preprocessing(self, sample, training=True):
        sample.img_data = sample.img_data + self.by

    def postprocessing(self, sample, prediction, activation_output=False):
        return prediction


class SmallNet(Abstract_Architecture):
    def __init__(self, n_filters=8, activation="softmax"):
        self.n_filters = n_filters
        self.activation = activation

    def create_model_2D(self, input_shape, n_labels=2):
        raise NotImplementedError

    def create_model_3D(self, input_shape, n_labels=2):
        inputs = Input(input_shape)
        fine = Conv3D(self.n_filters, (3, 3, 3), activation="relu", padding="same")(inputs)
        coarse = MaxPooling3D(pool_size=(2, 2, 2))(fine)
        coarse = Conv3D(self.n_filters, (3, 3, 3), activation="relu", padding="same")(coarse)
        merged = concatenate([UpSampling3D(size=(2, 2, 2))(coarse), fine], axis=-1)
        return Model(inputs=[inputs], outputs=[Conv3D(n_labels, (1, 1, 1), activation=self.activation)(merged)])


def my_loss(y_true, y_pred, smooth=1.0):
    y_true_f = K.flatten(y_true)
    y_pred_f = K.flatten(y_pred)
    dice = (2 * K.sum(y_true_f * y_pred_f) + smooth) / (K.sum(y_true_f) + K.sum(y_pred_f) + smooth)
    return 1 - dice + K.mean(K.categorical_crossentropy(y_true, y_pred))


def my_metric(y_true, y_pred):
    return tf.reduce_mean(tf.keras.losses.categorical_crossentropy(y_true, y_pred))


pp = Preprocessor(
    data_io,
    data_aug=Data_Augmentation(cycles=1, rotations=False),
    batch_size=2,
    subfunctions=[Shift(1.0), Normalization()],
    analysis="patchwise-crop",
    patch_shape=(12, 12, 12),
    use_multiprocessing=True,
)
pp.mp_threads = 2

batches = pp.run(samples[:3], training=True, validation=False)
generator = DataGenerator(samples[:3], pp, training=True, validation=False, shuffle=True)
result = {
    "batches": [[image.shape, seg.shape] for image, seg in batches],
    "generator": [[image.shape, seg.shape] for image, seg in generator],
}

model = Neural_Network(pp, SmallNet(), my_loss, [my_metric, dice_soft], learning_rate=0.005)
logs_seen = []
callbacks = [
    ModelCheckpoint(os.path.join("best.keras"), monitor="val_loss", save_best_only=True, mode="min"),
    ModelCheckpoint("last.weights.h5", save_weights_only=True),
    CSVLogger("log.tsv", separator="\t", append=True),
    LambdaCallback(on_epoch_end=lambda epoch, logs: logs_seen.append(sorted(logs))),
]
history = model.evaluate(samples[:4], samples[4:], epochs=3, iterations=20, callbacks=callbacks)
folder = create_directories("evaluation", "own")
backup_history(history.history, folder)
plot_validation(history.history, model.metrics, folder)

model.load("best.keras", custom_objects={"my_loss": my_loss, "my_metric": my_metric})
result["score"] = model.model.evaluate(DataGenerator(samples[4:], pp, training=True, validation=True), verbose=0)
for index in samples[4:]:
    model.predict([index])
result["dice"] = []
for index in samples[4:]:
    sample = data_io.sample_loader(index, load_seg=True, load_pred=True)
    truth, pred = sample.seg_data == 1, sample.pred_data == 1
    result["dice"].append(float(2 * np.sum(truth & pred) / (truth.sum() + pred.sum())))

# The same network with batches that are made once and kept on disk
frozen = Preprocessor(
    data_io, 2, [Shift(1.0), Normalization()], None, prepare_subfunctions=True, prepare_batches=True,
    analysis="patchwise-grid", patch_shape=(12, 12, 12),
)  # fmt: skip
other = Neural_Network(frozen, SmallNet(activation="sigmoid"), "categorical_crossentropy", ["accuracy"], 0.01)
result["frozen"] = sorted(other.train(samples[:2], epochs=1).history)
result["logs"] = logs_seen

with open("results.json", "w") as file:
    json.dump(result, file)
