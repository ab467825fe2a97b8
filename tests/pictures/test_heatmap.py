"""What a drawn map shows."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.pictures.heatmap import draw_heatmap, telling_slices


@pytest.fixture
def saved(monkeypatch):
    """Keeps the figures instead of drawing them, and writes an empty file in their place."""
    figures = []

    def savefig(self, path, **kwargs):
        figures.append(self)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def panels(figure):
    """Each panel's pictures, by rows of three; the colour bar comes last."""
    shown = [axes.images for axes in figure.axes[:-1]]
    return [shown[first : first + 3] for first in range(0, len(shown), 3)]


def test_a_picture_is_written(tmp_path, rng):
    path = tmp_path / "pictures" / "heat.png"
    draw_heatmap(rng.normal(size=(20, 30, 8)), rng.random((20, 30, 8)), path, title="case", spacing=(1, 1, 3))
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    assert [file.name for file in path.parent.iterdir()] == ["heat.png"]


def test_each_row_is_the_image_the_map_over_it_and_the_map(saved, tmp_path, rng):
    image, heat = rng.normal(size=(6, 5, 9)).astype(np.float32), np.zeros((6, 5, 9), np.float32)
    heat[:, :, 4] = rng.random((6, 5))
    draw_heatmap(image, heat, tmp_path / "a.png", "share", spacing=(1, 1, 3), slices=1)
    ((plain, over, alone),) = panels(saved[0])
    assert [len(each) for each in (plain, over, alone)] == [1, 2, 1]
    # Slices are cut across the coarsest axis; columns are the first axis, rows the second from top down.
    expected = heat[:, ::-1, 4].T
    np.testing.assert_array_equal(alone[0].get_array(), expected)
    np.testing.assert_array_equal(over[1].get_array(), expected)
    np.testing.assert_array_equal(over[0].get_array(), plain[0].get_array())
    # Where the map says nothing, the image is seen.
    np.testing.assert_allclose(over[1].get_alpha(), 0.8 * expected / heat.max(), rtol=1e-6)
    assert saved[0].axes[0].get_ylabel() == "slice 4"
    assert saved[0].axes[-1].get_ylabel() == "share"


def test_colours_go_from_0_or_both_ways_from_it(saved, tmp_path):
    image, heat = np.zeros((4, 4)), np.linspace(0, 0.3, 16).reshape(4, 4)
    draw_heatmap(image, heat, tmp_path / "a.png")
    draw_heatmap(image, heat - 0.2, tmp_path / "b.png")
    draw_heatmap(image, heat, tmp_path / "c.png", limits=(0, 1))
    draw_heatmap(image, heat * 0, tmp_path / "d.png")
    limits = [panels(figure)[0][2][0].get_clim() for figure in saved]
    np.testing.assert_allclose(limits, [(0, 0.3), (-0.2, 0.2), (0, 1), (0, 1)], atol=1e-12)
    maps = [panels(figure)[0][2][0].get_cmap().name for figure in saved]
    assert maps == ["inferno", "RdBu_r", "inferno", "inferno"]
    opacity = panels(saved[1])[0][1][1].get_alpha()
    np.testing.assert_allclose(opacity, 0.8 * np.abs(heat - 0.2) / 0.2, atol=1e-9)


def test_colour_images_and_channels(saved, tmp_path, rng):
    colours = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    draw_heatmap(colours, np.ones((6, 5)), tmp_path / "a.png")
    np.testing.assert_array_equal(panels(saved[0])[0][0][0].get_array(), colours)
    channels = rng.normal(size=(6, 5, 4))
    draw_heatmap(channels, np.ones((6, 5)), tmp_path / "b.png")
    draw_heatmap(channels[..., 0], np.ones((6, 5)), tmp_path / "c.png")
    np.testing.assert_array_equal(*(panels(figure)[0][0][0].get_array() for figure in saved[1:]))


def test_telling_slices_lie_apart():
    heat = np.zeros((30, 2, 2))
    heat[10:14] = 5
    heat[22] = -4
    assert telling_slices(heat, 2) == [10, 22] or telling_slices(heat, 2) == [13, 22]
    assert telling_slices(np.zeros((9, 2, 2)), 1) == [4]
    assert telling_slices(np.full((1, 2, 2), np.nan), 3) == [0]


def test_what_does_not_fit_is_refused(tmp_path):
    for image, heat in ((np.zeros((4, 4)), np.zeros((4, 5))), (np.zeros((4, 4, 4, 1)), np.zeros((4, 4)))):
        with pytest.raises(ConfigurationError, match="grids must be equal"):
            draw_heatmap(image, heat, tmp_path / "a.png")


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path):
    draw_heatmap(np.zeros((5, 6)), np.ones((5, 6)), tmp_path / "heat.png", title=r"case$_$, $\b$")
    assert (tmp_path / "heat.png").is_file()


def test_maps_in_half_precision_of_binary_images_are_drawn(tmp_path):
    draw_heatmap(np.eye(6, dtype=bool), np.eye(6, dtype=np.float16), tmp_path / "heat.png")
    assert (tmp_path / "heat.png").is_file()
