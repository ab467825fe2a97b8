# The public names of the package: imported on first use (`lazy_loader.attach_stub`), completed by editors.
# `tests/test_package.py` compares them with `dir(miscnn_tf)` and with docs/api/index.rst.

from . import datasets as datasets
from .data_loading.data_io import Data_IO as Data_IO
from .data_loading.interfaces import (
    Abstract_IO as Abstract_IO,
    DatasetJSON_interface as DatasetJSON_interface,
    DICOM_interface as DICOM_interface,
    Dictionary_interface as Dictionary_interface,
    Image_interface as Image_interface,
    NIFTI_interface as NIFTI_interface,
    NIFTIslicer_interface as NIFTIslicer_interface,
    Paired_interface as Paired_interface,
)
from .data_loading.layout_detection import find_interface as find_interface
from .data_loading.sample import Sample as Sample
from .errors import MiscnnError as MiscnnError
from .evaluation.cross_validation import cross_validation as cross_validation
from .evaluation.leave_one_out import leave_one_out as leave_one_out
from .evaluation.options import ValidationOptions as ValidationOptions
from .evaluation.split_validation import split_validation as split_validation
from .cli.planned_run import plan as plan
from .multi_model import (
    CrossValidationGroup as CrossValidationGroup,
    Model_Group as Model_Group,
    load_fold_models as load_fold_models,
    load_group as load_group,
)
from .neural_network import (
    losses as losses,
    metrics as metrics,
)
from .neural_network.architecture import Abstract_Architecture as Abstract_Architecture
from .neural_network.architecture.unet import (
    UNet_attention as UNet_attention,
    UNet_attention_residual as UNet_attention_residual,
    UNet_compact as UNet_compact,
    UNet_dense as UNet_dense,
    UNet_multiPath as UNet_multiPath,
    UNet_multiRes as UNet_multiRes,
    UNet_plain as UNet_plain,
    UNet_residual as UNet_residual,
    UNet_standard as UNet_standard,
)
from .neural_network.model import Neural_Network as Neural_Network
from .neural_network.model_file import load_model as load_model
from .processing.data_augmentation import Data_Augmentation as Data_Augmentation
from .processing.nnunet_augmentation import NnUNetAugmentation as NnUNetAugmentation
from .processing.preprocessor import Preprocessor as Preprocessor
from .processing.subfunctions import (
    Abstract_Subfunction as Abstract_Subfunction,
    Clipping as Clipping,
    Normalization as Normalization,
    Padding as Padding,
    Resampling as Resampling,
    Resize as Resize,
    TransformHU as TransformHU,
)
from .nnunet.loading import load_nnunet as load_nnunet
from .runs.previous_stage import PreviousStage as PreviousStage
from .report.run_page import write_report as write_report
from .pictures.sample_picture import show as show
from .pictures.visualizer import visualize_samples as visualize_samples
from .xai.certaintymap import compute_certaintymap as compute_certaintymap
from .xai.gradcam import compute_gradient_heatmap as compute_gradient_heatmap
from .xai.occlusion_sensitivity import occlusion_sensitivity as occlusion_sensitivity

__version__: str
