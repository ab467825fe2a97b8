"""Allow-list of the classes and functions that the Keras configuration in a model file may name.

Keras instantiates any class that a configuration names. Some of Keras' classes run code or open files given by the
configuration (`Lambda`, `TFSMLayer`, `StringLookup`, …), and `safe_mode` refuses different ones in different versions
of Keras. The list in this module does not depend on the version; all other classes are refused before Keras reads the
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from miscnn_tf.errors import ModelFileError
from miscnn_tf.neural_network.keras_internals import MODULES_OF_MODELS, MODULES_OF_OPERATIONS

_LAYERS = """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average AveragePooling1D
    AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization Bidirectional CenterCrop
    Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D
    Convolution1D Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose
    Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Flatten
    GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention Identity InputLayer
    LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D
    MaxPooling3D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization RNN ReLU
    RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D SeparableConvolution1D
    SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D
    SpectralNormalization StackedRNNCells Subtract ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D
    UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
_INITIALIZERS = """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal LecunUniform Ones
    Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
"""
_POLICIES = "DTypePolicy FloatDTypePolicy Policy"
#: Allowed classes by the module in the configuration.
_CLASSES = {
    "keras.layers": frozenset(_LAYERS.split()),
    "keras.initializers": frozenset(_INITIALIZERS.split()),
    "keras.regularizers": frozenset(("L1", "L2", "L1L2", "OrthogonalRegularizer")),
    "keras.constraints": frozenset(("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")),
    "keras.dtype_policies": frozenset(_POLICIES.split()),
    "keras": frozenset((*_POLICIES.split(), "Model", "Sequential")),
    "keras.models": frozenset(("Model", "Sequential")),
    **MODULES_OF_MODELS,
}
# Configurations of Keras 2 (.h5 files) have no modules.
_WITHOUT_MODULE = frozenset().union(*_CLASSES.values())
_DATA = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
_FUNCTIONS = """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid
    sparsemax squareplus swish tanh tanh_shrink threshold
"""
_ACTIVATIONS = frozenset(_FUNCTIONS.split())
_DEEPEST = 200


def check_configuration(configuration: Any, custom_objects: Mapping[str, Any], where: str | Path) -> None:
    """Require that a configuration names only allowed classes and functions, which cannot run code or open files.

    These are the layers, initializers, regularizers, constraints and activations of Keras in this module's lists;
    classes of this package, and others that the running program registered with Keras
    (`keras.saving.register_keras_serializable`); and `custom_objects`.

    Args:
        configuration: Keras' configuration of a model, as JSON types.
        custom_objects: The user's classes and functions by name.
        where: The file, for messages.

    Raises:
        ModelFileError: If it names another class or function, or is nested too deeply.
    """
    waiting: list[tuple[Any, int]] = [(configuration, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ModelFileError(f"{where}: the model's configuration is nested more than {_DEEPEST} deep")
        if isinstance(part, Mapping):
            if "class_name" in part and not _is_allowed(part, custom_objects):
                name, module = part["class_name"], part.get("module")
                inner = f" {part.get('config')!r}"[:100] if name == "function" else ""
                raise ModelFileError(
                    f"{where}: the model names {module or 'the class'}: {name!r}{inner}, which is not one of the "
                    "layers that a model file may hold (it could run code or open files). If it is your own, register "
                    "it with keras.saving.register_keras_serializable or pass custom_objects={'Name': Name}; "
                    "otherwise do not use this file"
                )
            waiting.extend((value, depth + 1) for value in part.values())
        elif isinstance(part, list | tuple):
            waiting.extend((value, depth + 1) for value in part)


def _is_allowed(part: Mapping[str, Any], custom_objects: Mapping[str, Any]) -> bool:
    name, module = part["class_name"], part.get("module")
    registered = part.get("registered_name") or name
    if not isinstance(name, str) or not isinstance(registered, str) or not isinstance(module, str | None):
        return False
    if name in _DATA:
        return True
    if name.startswith("__"):
        return False
    if name == "function":
        function = part.get("config")
        if not isinstance(function, str):
            return False
        if _is_registered(function, custom_objects) or _is_registered(registered, custom_objects):
            return True
        return function in _ACTIVATIONS and module in ("builtins", "keras.activations", None)
    # Keras looks here first, too.
    if _is_registered(registered, custom_objects) or (not module and name in custom_objects):
        return True
    if not module:
        return name in _WITHOUT_MODULE
    return name in _CLASSES.get(module, ()) or (module in MODULES_OF_OPERATIONS and name[:1].isupper())


def _is_registered(name: str, custom_objects: Mapping[str, Any]) -> bool:
    return keras.saving.get_registered_object(name, custom_objects=dict(custom_objects)) is not None
