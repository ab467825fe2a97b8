"""The page of ``miscnn-tf look``, and pictures of samples."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import miscnn_tf
from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, NIFTI_interface
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.datasets import write_kits_phantoms
from miscnn_tf.explore.data_exploration import explore
from miscnn_tf.report.data_page import data_remarks, write_data_page


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("look") / "scans"
    write_kits_phantoms(folder, cases=4, shape=(16, 32, 40), progress=False)
    return folder


def test_the_page_shows_samples_and_figures(scans: Path, tmp_path: Path, capsys) -> None:
    page = tmp_path / "scans.html"
    assert cli.main(["look", str(scans), "-o", str(page)]) == 0
    assert capsys.readouterr().out.rstrip().endswith(page.as_uri())
    text = page.read_text(encoding="utf-8")
    assert "4 samples in scans" in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)" loading="lazy" alt="Slices of (\w+)', text)
    assert len(pictures) == 4
    # From the least to the most foreground, counted here from the files.
    share = {
        path.parent.name: float((nibabel.load(path).get_fdata() > 0).mean())
        for path in scans.glob("*/segmentation.nii.gz")
    }
    assert [name for _, name in pictures] == sorted(share, key=lambda name: share[name])
    for content, _ in pictures:
        colours = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"), int)
        assert np.ptp(colours, axis=-1).max() > 50  # a label map is drawn in colour
    assert not re.search(r"(?:src|href)=\"https?:", text)


def test_a_damaged_sample_is_listed_and_the_others_are_shown(scans: Path, tmp_path: Path, capsys) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(scans, copy)
    (copy / "case_00001" / "imaging.nii.gz").write_bytes(b"damaged")
    assert cli.main(["look", str(copy), "-o", str(tmp_path / "look.html")]) == 1
    assert "could not be read: case_00001" in capsys.readouterr().out
    text = (tmp_path / "look.html").read_text(encoding="utf-8")
    assert "case_00001</strong> cannot be read" in text
    assert "3 samples in copy" in text


def sample(value: float, labels: list[int], spacing: tuple[float, float, float] = (1, 1, 1)) -> tuple:
    seg = np.zeros((8, 8, 8), np.uint8)
    for number, label in enumerate(labels):
        seg[number] = label
    return np.full((8, 8, 8), value, np.float32), seg, None, {"spacing": spacing}


def test_samples_that_need_attention_are_named() -> None:
    samples = {
        "a": sample(1, [1]),
        "b": sample(1, [1, 2], (1, 1, 3)),
        "c": sample(2, []),
        "d": sample(900, [1]),
    }
    interface = Dictionary_interface(samples, classes=4)
    data_io = Data_IO(interface, "")
    found = "\n".join(data_remarks(explore(data_io)))
    assert "The class 1 is missing in 1 sample, such as c." in found
    assert "The class 2 is missing in 3 samples, such as a." in found
    assert "The class 3 is in no sample" in found
    assert "The voxels of 1 sample are at least 2 times as large or as small as the median along an axis" in found
    assert "such as 900 in d" in found


def test_a_page_without_label_maps(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    data_io = Data_IO(Dictionary_interface({"a": (image,)}, classes=2), "")
    text = write_data_page(explore(data_io), data_io, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "1 sample without a label map, such as a." in text
    assert 'alt="Slices of a ' in text
    assert "<h2>Classes</h2>" not in text


@pytest.mark.parametrize("kinds", ["image", "image and truth", "prediction", "probabilities"])
@pytest.mark.parametrize("axes", [2, 3])
def test_show_draws_what_a_sample_has(kinds: str, axes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shape = (12, 14, 10)[:axes]
    one = miscnn_tf.Sample("x", rng.normal(size=shape), 1, 3, {"spacing": (1.0, 2.0, 3.0)[:axes]}, axes == 3)
    if kinds == "image and truth":
        one.add_segmentation(rng.integers(0, 3, shape))
    if kinds == "prediction":
        one.add_prediction(rng.integers(0, 3, shape))
    if kinds == "probabilities":
        one.add_prediction(rng.dirichlet((1, 1, 1), shape), activation_output=True)
    picture = miscnn_tf.show(one, ["", "liver", "tumour"])
    panels = {"image": 1}.get(kinds, 2)
    assert len({axes.get_title() for axes in picture.figure.axes} - {""}) == panels
    assert Image.open(io.BytesIO(picture._repr_png_())).size[0] > 200
    assert Image.open(picture.save(tmp_path / "x.png")).format == "PNG"
    legend = [text.get_text() for text in (picture.figure.legends[0].get_texts() if picture.figure.legends else [])]
    assert legend == ([] if kinds == "image" else ["liver", "tumour"])


def test_show_uses_the_orientation_of_the_file(scans: Path) -> None:
    data_io = Data_IO(NIFTI_interface(channels=1, classes=3), scans)
    loaded = data_io.sample_loader(data_io.get_indiceslist()[0])
    assert any("slice" in axes.get_ylabel() for axes in miscnn_tf.show(loaded).figure.axes)


def test_photos_have_pixels_without_a_size(tmp_path: Path) -> None:
    """Defect: the page of photos had "Voxel sizes", and areas of "mm²" that were unknown."""
    labels = np.zeros((8, 8), np.uint8)
    labels[:3, :4] = 1
    interface = Dictionary_interface({"a": (np.zeros((8, 8)), labels)}, classes=2, three_dim=False)
    data_io = Data_IO(interface, "")
    text = write_data_page(explore(data_io), data_io, tmp_path / "look.html").read_text("utf-8")
    assert "pixels: least" in text
    assert "12 … 12 … 12" in text
    for word in ("Voxel sizes", "Pixel sizes", "mm"):
        assert f">{word}<" not in text
    assert "mm²" not in text


def test_all_channels_of_a_sample_are_shown_by_name(tmp_path: Path) -> None:
    """Defect: only the first contrast was to be seen."""
    rng = np.random.default_rng(0)
    for case in ("BraTS_1", "BraTS_2"):
        for word in ("t1", "t1ce", "t2", "flair", "seg"):
            volume = rng.integers(0, 2 if word == "seg" else 99, (6, 7, 8)).astype(np.int16)
            (tmp_path / "data" / case).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "data" / case / f"{case}_{word}.nii.gz")
    assert cli.main(["look", str(tmp_path / "data"), "-o", str(tmp_path / "look.html")]) == 0
    text = (tmp_path / "look.html").read_text(encoding="utf-8")
    assert re.findall(r"<strong>Channel (\d: \w+)</strong>", text) == ["0: t1", "1: t1ce", "2: t2", "3: flair"]
    found = find_interface(tmp_path / "data")
    found.initialize(tmp_path / "data")
    assert found.channel_names == ("t1", "t1ce", "t2", "flair")
