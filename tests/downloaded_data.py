"""Small data sets with the names of folders and files of the real downloads."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from layout_data import SHAPE, image_of, labels_of, save_image, save_nifti

SIZE = (20, 24)


def grey(name: str, size=SIZE) -> np.ndarray:
    return (image_of(name, shape=size) % 256).astype(np.uint8)


def colours(name: str) -> np.ndarray:
    return np.stack([grey(f"{name}{channel}") for channel in range(3)], axis=-1)


def mask(name: str, foreground=255) -> np.ndarray:
    return labels_of(name, SIZE, 2) * np.uint8(foreground)


def numbered(name: str) -> np.ndarray:
    """Two cells with the numbers 3 and 300."""
    cells = np.zeros(SIZE, np.uint16)
    cells[2:5, 3:9] = 3
    cells[10:14, 1 : 3 + len(name)] = 300
    return cells


def brats(root: Path, names=("BraTS20_Training_001", "BraTS20_Training_002"), separator="_", new=False) -> Path:
    for name in names:
        for word in ("t1n", "t1c", "t2w", "t2f") if new else ("t1", "t1ce", "t2", "flair"):
            save_nifti(root / name / f"{name}{separator}{word}.nii.gz", image_of(f"{name}{word}"))
        values = np.array([0, 1, 2, 3 if new else 4], np.uint8)
        save_nifti(root / name / f"{name}{separator}seg.nii.gz", values[labels_of(name, classes=4)])
    return root


def brats_2018(root: Path) -> Path:
    (root / "survival_data.csv").parent.mkdir(parents=True, exist_ok=True)
    (root / "survival_data.csv").write_text("BraTS18ID,Age,Survival\n")
    brats(root / "HGG", ("Brats18_2013_2_1",))
    return brats(root / "LGG", ("Brats18_2013_0_1",)).parent


def brats_2023(root: Path) -> Path:
    return brats(root, ("BraTS-GLI-00000-000", "BraTS-GLI-00002-000"), "-", new=True)


def acdc(root: Path, patients=("patient001", "patient002")) -> Path:
    for patient in patients:
        save_nifti(root / patient / f"{patient}_4d.nii.gz", image_of(patient, shape=(*SHAPE, 3)))
        (root / patient / "Info.cfg").write_text("ED: 1\nES: 12\n")
        for frame in ("frame01", "frame12"):
            name = f"{patient}_{frame}"
            save_nifti(root / patient / f"{name}.nii.gz", image_of(name))
            save_nifti(root / patient / f"{name}_gt.nii.gz", labels_of(name, classes=4))
    return root


def acdc_database(root: Path) -> Path:
    acdc(root / "training")
    acdc(root / "testing", ("patient101",))
    return root


def lits(root: Path, numbers=(0, 1)) -> Path:
    for number in numbers:
        save_nifti(root / f"volume-{number}.nii", image_of(f"v{number}"))
        save_nifti(root / f"segmentation-{number}.nii", labels_of(f"v{number}"))
    return root


def lits_of_kaggle(root: Path) -> Path:
    lits(root)
    for number, name in enumerate(("volume_pt1", "volume_pt2")):
        (root / name).mkdir()
        (root / f"volume-{number}.nii").rename(root / name / f"volume-{number}.nii")
    (root / "segmentations").mkdir()
    for path in root.glob("segmentation-*.nii"):
        path.rename(root / "segmentations" / path.name)
    return root


def lits_compressed(root: Path) -> Path:
    for number in (0, 1):
        save_nifti(root / f"volume-{number}.nii.gz", image_of(f"v{number}"))
        save_nifti(root / f"segmentation-{number}.nii.gz", labels_of(f"v{number}"))
    return root


def lits_batches(root: Path) -> Path:
    lits(root / "Training Batch 1", (0, 1))
    return lits(root / "Training Batch 2", (28,)).parent


def kits19(root: Path, names=("case_00000", "case_00001"), segmentation="segmentation") -> Path:
    for name in names:
        save_nifti(root / name / "imaging.nii.gz", image_of(name))
        save_nifti(root / name / f"{segmentation}.nii.gz", labels_of(name, classes=4))
    return root


def kits21(root: Path) -> Path:
    kits19(root, segmentation="aggregated_MAJ_seg")
    for case in list(root.iterdir()):
        for other in ("aggregated_AND_seg", "aggregated_OR_seg"):
            save_nifti(case / f"{other}.nii.gz", labels_of(other, classes=4))
        save_nifti(case / "segmentations" / "kidney_instance-1_annotation-1.nii.gz", labels_of("k", classes=2))
        (case / "raw").mkdir()
    (root / "kits.json").write_text("{}")
    return root


def kits23(root: Path) -> Path:
    kits19(root)
    for case in list(root.iterdir()):
        save_nifti(case / "instances" / "kidney_instance-1_annotation-1.nii.gz", labels_of("k", classes=2))
    return root


def totalsegmentator(root: Path, image="ct") -> Path:
    for name in ("s0000", "s0001"):
        save_nifti(root / name / f"{image}.nii.gz", image_of(name))
        labels = labels_of(name, classes=4)
        for label, structure in enumerate(("spleen", "adrenal_gland_left", "liver"), start=1):
            structure_mask = (labels == label).astype(np.uint8)
            save_nifti(root / name / "segmentations" / f"{structure}.nii.gz", structure_mask)
    (root / "meta.csv").write_text("image_id;age\ns0000;50\n")
    return root


def amos(root: Path) -> Path:
    parts = {"Tr": ("amos_0001", "amos_0004"), "Va": ("amos_0008",), "Ts": ("amos_0002",)}
    for part, names in parts.items():
        for name in names:
            save_nifti(root / f"images{part}" / f"{name}.nii.gz", image_of(name))
            if part != "Ts":
                save_nifti(root / f"labels{part}" / f"{name}.nii.gz", labels_of(name))

    def listed(part: str) -> list[dict[str, str]]:
        kinds = {"image": "images", "label": "labels"} if part != "Ts" else {"image": "images"}
        return [{key: f"./{kind}{part}/{name}.nii.gz" for key, kind in kinds.items()} for name in parts[part]]

    description = {
        "name": "AMOS",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen", "2": "right kidney"},
        "numTraining": 2,
        "numValidation": 1,
        "numTest": 1,
        "training": listed("Tr"),
        "validation": listed("Va"),
        "test": listed("Ts"),
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def pairs(images: Path, masks: Path, names, ending=".jpg", form="{}_segmentation.png") -> None:
    for name in names:
        save_image(images / f"{name}{ending}", colours(name))
        save_image(masks / form.format(name), mask(name))


def isic_2018(root: Path) -> Path:
    names = ("ISIC_0000000", "ISIC_0000001")
    pairs(root / "ISIC2018_Task1-2_Training_Input", root / "ISIC2018_Task1_Training_GroundTruth", names)
    for folder in ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"):
        (root / folder / "ATTRIBUTION.txt").write_text("…")
    return root


def isic_2018_split(root: Path) -> Path:
    validation = (root / "ISIC2018_Task1-2_Validation_Input", root / "ISIC2018_Task1_Validation_GroundTruth")
    pairs(*validation, ("ISIC_0012255",))
    return isic_2018(root)


def isic_2017(root: Path) -> Path:
    images = root / "ISIC-2017_Training_Data"
    pairs(images, root / "ISIC-2017_Training_Part1_GroundTruth", ("ISIC_0000000", "ISIC_0000001"))
    save_image(images / "ISIC_0000000_superpixels.png", colours("s"))
    return root


def carvana(root: Path) -> Path:
    names = ("0cdf5b5d0ce1_01", "0cdf5b5d0ce1_02")
    pairs(root / "train", root / "train_masks", names, form="{}_mask.png")
    for name in names:
        save_image(root / "train_hq" / f"{name}.jpg", colours(name))
    save_image(root / "test" / "0004d4463b50_01.jpg", colours("t"))
    return root


def kvasir(root: Path) -> Path:
    pairs(root / "images", root / "masks", ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4"), form="{}.png")
    (root / "kavsir_bboxes.json").write_text("{}")
    return root


def chase(root: Path) -> Path:
    pairs(root, root, ("Image_01L", "Image_01R"), form="{}_1stHO.png")
    return root


def drive_part(root: Path, numbers=("21", "22"), part="training") -> Path:
    for number in numbers:
        save_image(root / "images" / f"{number}_{part}.tif", colours(number))
        save_image(root / "1st_manual" / f"{number}_manual1.png", mask(number))
    return root


def drive(root: Path) -> Path:
    drive_part(root / "training")
    drive_part(root / "test", ("01",), "test")
    return root


def field_of_view(shift: int = 0) -> np.ndarray:
    """A disc that covers two thirds of an image."""
    rows, columns = np.indices(SIZE)
    return (((rows - 9.5) / 10) ** 2 + ((columns - 11.5 - shift / 4) / 10.5) ** 2 <= 1).astype(np.uint8)


def eye(name: str, shift: int = 0) -> np.ndarray:
    """A photograph that is black outside of its field of view."""
    return (100 + colours(name) // 4) * field_of_view(shift)[..., np.newaxis]


def drive_as_downloaded(root: Path, test_masks=("1st_manual", "2nd_manual")) -> Path:
    for part, numbers, annotators in (
        ("training", ("21", "22", "23"), ("1st_manual",)),
        ("test", ("01", "02"), test_masks),
    ):
        for shift, number in enumerate(numbers):
            field = field_of_view(shift)
            save_image(root / part / "images" / f"{number}_{part}.tif", eye(number, shift))
            save_image(root / part / "mask" / f"{number}_{part}_mask.gif", field * np.uint8(255))
            for annotator in annotators:
                path = root / part / annotator / f"{number}_manual{annotator[0]}.gif"
                save_image(path, mask(annotator + number) * field)
    return root


def chase_as_downloaded(root: Path) -> Path:
    for name in ("Image_01L", "Image_01R"):
        save_image(root / f"{name}.jpg", eye(name))
        for observer in ("1stHO", "2ndHO"):
            save_image(root / f"{name}_{observer}.png", mask(name + observer), "1")
    return root


def stare(root: Path) -> Path:
    for name in ("im0001", "im0002"):
        save_image(root / "stare-images" / f"{name}.png", colours(name))
        save_image(root / "labels-ah" / f"{name}.ah.png", mask(name))
    return root


def save_ppm(path: Path, array: np.ndarray) -> None:
    """A PPM of colours, PGM of grey values; compressed if the name ends in `.gz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = b"P6" if array.ndim == 3 else b"P5"
    data = kind + b"\n%d %d\n255\n" % (array.shape[1], array.shape[0]) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def stare_as_downloaded(root: Path, ending=".ppm.gz") -> Path:
    for name in ("im0001", "im0002"):
        save_ppm(root / "stare-images" / f"{name}{ending}", eye(name))
        for annotator in ("ah", "vk"):
            save_ppm(root / f"labels-{annotator}" / f"{name}.{annotator}{ending}", mask(name + annotator))
    return root


def cell_tracking(root: Path, truths=("GT", "ST")) -> Path:
    for sequence in ("01", "02"):
        for frame in ("000", "001", "002"):
            save_image(root / sequence / f"t{frame}.tif", grey(sequence + frame))
            for truth in truths:
                if truth == "ST" or frame == "002":  # the gold truth has some of the frames
                    save_image(root / f"{sequence}_{truth}" / "SEG" / f"man_seg{frame}.tif", numbered(truth))
        save_image(root / f"{sequence}_GT" / "TRA" / "man_track000.tif", numbered("TRA"))
        (root / f"{sequence}_GT" / "TRA" / "man_track.txt").write_text("1 0 2 0\n")
    return root


def cells_in_3d(sequence: str, frame: str) -> np.ndarray:
    """Two cells of a volume, numbered."""
    cells = np.zeros((9, 8, 5), np.uint16)
    cells[1:4, 2:6, 1 : 2 + int(frame)] = 7
    cells[5:8, 1:3, int(sequence) : 4] = 300
    return cells


def cell_tracking_in_3d(root: Path, frames=("001", "002"), truth="GT") -> Path:
    """Stacks, of which some frames are annotated completely, and others in a slice."""
    for sequence in ("01", "02"):
        for frame in ("000", "001", "002", "003"):
            image, cells = image_of(sequence + frame, shape=(9, 8, 5)), cells_in_3d(sequence, frame)
            folder = root / f"{sequence}_{truth}" / "SEG"
            folder.mkdir(parents=True, exist_ok=True)
            (root / sequence).mkdir(exist_ok=True)
            tifffile.imwrite(root / sequence / f"t{frame}.tif", image.T)
            if frame in frames:
                tifffile.imwrite(folder / f"man_seg{frame}.tif", cells.T)
            elif frame != "003":
                tifffile.imwrite(folder / f"man_seg_{frame}_002.tif", cells.T[2])
    return root


def bowl(root: Path, names=("00071198d059", "003cee89357d")) -> Path:
    for name in names:
        save_image(root / name / "images" / f"{name}.png", np.dstack([colours(name), np.full(SIZE, 255, np.uint8)]))
        for number in range(2):
            nucleus = np.zeros(SIZE, np.uint8)
            nucleus[4 * number : 4 * number + 3, 5:9] = 255
            save_image(root / name / "masks" / f"{name[::-1]}{number}.png", nucleus)
    return root


def bowl_stages(root: Path) -> Path:
    bowl(root / "stage1_train")
    save_image(root / "stage1_test" / "0114f484a16c" / "images" / "0114f484a16c.png", colours("0114"))
    return root


def train_and_val(root: Path) -> Path:
    """The numbers of the images start again in each part."""
    for part, names in (("train", ("1", "2", "3")), ("val", ("1", "2"))):
        for name in names:
            save_image(root / part / "images" / f"{name}.png", grey(part + name))
            save_image(root / part / "masks" / f"{name}.png", mask(part + name))
    return root


def images_train_and_val(root: Path) -> Path:
    for part, names in (("train", ("a", "b", "c")), ("val", ("d",))):
        pairs(root / "images" / part, root / "masks" / part, names, ".png", "{}.png")
    return root


def train_masks_and_val_masks(root: Path) -> Path:
    pairs(root / "train", root / "train_masks", ("a", "b"), form="{}.png")
    pairs(root / "val", root / "val_masks", ("c",), form="{}.png")
    return root


def train_and_val_of_cases(root: Path) -> Path:
    kits19(root / "train", ("case_00000", "case_00001"))
    kits19(root / "val", ("case_00002",))
    return root


@dataclass(frozen=True)
class Download:
    """A data set, and what should be found in it."""

    write: Callable[[Path], Path]
    layout: str
    samples: tuple[str, ...]
    channels: int
    values: tuple[int, ...]
    prediction: str  # ending
    names: tuple[str, ...] | None = None
    validation: tuple[str, ...] = ()
    three_dim: bool = True


_TUMOUR = ("background", "necrotic core", "oedema", "enhancing tumour")
_HEART = ("background", "right ventricle", "myocardium", "left ventricle")
_STRUCTURES = ("background", "adrenal_gland_left", "liver", "spleen")
_FRAMES = tuple(f"{sequence}_t{frame}" for sequence in ("01", "02") for frame in ("000", "001", "002"))
_CELLS = {"channels": 1, "values": (0, 1), "prediction": ".tif", "names": ("background", "cell")}
_EYES = {"channels": 3, "values": (0, 255), "three_dim": False}
_PHOTOS = _EYES | {"prediction": ".png"}

DOWNLOADS = {
    "BraTS 2020": Download(
        brats, "BRATS", ("BraTS20_Training_001", "BraTS20_Training_002"), 4, (0, 1, 2, 4), ".nii.gz", _TUMOUR
    ),
    "BraTS 2018": Download(
        brats_2018, "BRATS", ("Brats18_2013_0_1", "Brats18_2013_2_1"), 4, (0, 1, 2, 4), ".nii.gz", _TUMOUR
    ),
    "BraTS 2023": Download(
        brats_2023, "BRATS", ("BraTS-GLI-00000-000", "BraTS-GLI-00002-000"), 4, (0, 1, 2, 3), ".nii.gz"
    ),
    "ACDC": Download(
        acdc,
        "ACDC",
        ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12"),
        1,
        (0, 1, 2, 3),
        ".nii.gz",
        _HEART,
    ),
    "ACDC's database": Download(
        acdc_database,
        "SPLIT",
        ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12"),
        1,
        (0, 1, 2, 3),
        ".nii.gz",
        _HEART,
    ),
    "LiTS": Download(lits, "PAIRED", ("volume-0", "volume-1"), 1, (0, 1, 2), ".nii.gz"),
    "LiTS' batches": Download(lits_batches, "SPLIT", ("volume-0", "volume-1", "volume-28"), 1, (0, 1, 2), ".nii.gz"),
    "LiTS in gzip": Download(lits_compressed, "PAIRED", ("volume-0", "volume-1"), 1, (0, 1, 2), ".nii.gz"),
    "LiTS of Kaggle": Download(lits_of_kaggle, "PAIRED", ("volume-0", "volume-1"), 1, (0, 1, 2), ".nii.gz"),
    "KiTS19": Download(kits19, "NIFTI", ("case_00000", "case_00001"), 1, (0, 1, 2, 3), ".nii.gz"),
    "KiTS21": Download(kits21, "NIFTI", ("case_00000", "case_00001"), 1, (0, 1, 2, 3), ".nii.gz"),
    "KiTS23": Download(kits23, "NIFTI", ("case_00000", "case_00001"), 1, (0, 1, 2, 3), ".nii.gz"),
    "TotalSegmentator": Download(
        totalsegmentator, "TOTALSEGMENTATOR", ("s0000", "s0001"), 1, (0, 1, 2, 3), ".nii.gz", _STRUCTURES
    ),
    "TotalSegmentator MRI": Download(
        lambda root: totalsegmentator(root, "mri"),
        "TOTALSEGMENTATOR",
        ("s0000", "s0001"),
        1,
        (0, 1, 2, 3),
        ".nii.gz",
        _STRUCTURES,
    ),
    "AMOS": Download(
        amos,
        "DATASET_JSON",
        ("amos_0001", "amos_0004", "amos_0008"),
        1,
        (0, 1, 2),
        ".nii.gz",
        ("background", "spleen", "right kidney"),
        ("amos_0008",),
    ),
    "ISIC 2018": Download(isic_2018, "PAIRED", ("ISIC_0000000", "ISIC_0000001"), **_PHOTOS),
    "ISIC 2018 with validation": Download(
        isic_2018_split,
        "SPLIT",
        ("ISIC_0000000", "ISIC_0000001", "ISIC_0012255"),
        validation=("ISIC_0012255",),
        **_PHOTOS,
    ),
    "ISIC 2017": Download(isic_2017, "PAIRED", ("ISIC_0000000", "ISIC_0000001"), **_PHOTOS),
    "Carvana": Download(carvana, "PAIRED", ("0cdf5b5d0ce1_01", "0cdf5b5d0ce1_02"), **_PHOTOS),
    "Kvasir": Download(kvasir, "PAIRED", ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4"), **_PHOTOS),
    "CHASE": Download(chase, "PAIRED", ("Image_01L", "Image_01R"), **_PHOTOS),
    "DRIVE's training": Download(drive_part, "PAIRED", ("21_training", "22_training"), prediction=".tif", **_EYES),
    "DRIVE": Download(drive, "SPLIT", ("21_training", "22_training"), prediction=".tif", **_EYES),
    "DRIVE as downloaded": Download(
        drive_as_downloaded, "SPLIT", ("21_training", "22_training", "23_training"), prediction=".tif", **_EYES
    ),
    "DRIVE without labels of the test": Download(
        lambda root: drive_as_downloaded(root, ()),
        "SPLIT",
        ("21_training", "22_training", "23_training"),
        prediction=".tif",
        **_EYES,
    ),
    "CHASE with both observers": Download(
        chase_as_downloaded, "PAIRED", ("Image_01L", "Image_01R"), 3, (0, 1), ".png", three_dim=False
    ),
    "STARE": Download(stare, "PAIRED", ("im0001", "im0002"), **_PHOTOS),
    "STARE as downloaded": Download(stare_as_downloaded, "PAIRED", ("im0001", "im0002"), **_PHOTOS),
    "STARE unpacked": Download(
        lambda root: stare_as_downloaded(root, ".ppm"), "PAIRED", ("im0001", "im0002"), **_PHOTOS
    ),
    "Cell Tracking Challenge": Download(cell_tracking, "CELL_TRACKING", _FRAMES, three_dim=False, **_CELLS),
    "Cell Tracking Challenge without gold truth": Download(
        lambda root: cell_tracking(root, ("ST",)), "CELL_TRACKING", _FRAMES, three_dim=False, **_CELLS
    ),
    "Cell Tracking Challenge in 3D": Download(
        cell_tracking_in_3d, "CELL_TRACKING", ("01_t001", "01_t002", "02_t001", "02_t002"), **_CELLS
    ),
    "Data Science Bowl 2018": Download(
        bowl,
        "OBJECT_MASKS",
        ("00071198d059", "003cee89357d"),
        3,
        (0, 1),
        ".png",
        ("background", "object"),
        three_dim=False,
    ),
    "Data Science Bowl 2018, stages": Download(
        bowl_stages,
        "SPLIT",
        ("00071198d059", "003cee89357d"),
        3,
        (0, 1),
        ".png",
        ("background", "object"),
        three_dim=False,
    ),
    "train and val": Download(
        train_and_val,
        "SPLIT",
        ("train_1", "train_2", "train_3", "val_1", "val_2"),
        1,
        (0, 255),
        ".png",
        validation=("val_1", "val_2"),
        three_dim=False,
    ),
    "images/train and images/val": Download(
        images_train_and_val, "SPLIT", ("a", "b", "c", "d"), validation=("d",), **_PHOTOS
    ),
    "train_masks and val_masks": Download(
        train_masks_and_val_masks, "SPLIT", ("a", "b", "c"), validation=("c",), **_PHOTOS
    ),
    "train and val of cases": Download(
        train_and_val_of_cases,
        "SPLIT",
        ("case_00000", "case_00001", "case_00002"),
        1,
        (0, 1, 2, 3),
        ".nii.gz",
        validation=("case_00002",),
    ),
}
