"""Where things are in a frame, and GIF files read back."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from PIL import Image

from miscnn_tf._base.class_colours import class_colours
from miscnn_tf.errors import StorageError
from miscnn_tf.pictures.animation import Sheet, overlay_palette, panel_size, write_gif
from miscnn_tf.pictures.overlay import overlay
from miscnn_tf.pictures.slices import View


def read(path):
    """All frames of a GIF as an array ``(frames, rows, columns, 3)``, and what the file says of itself."""
    with Image.open(path) as gif:
        assert gif.format == "GIF"
        frames = []
        for number in range(gif.n_frames):
            gif.seek(number)
            frames.append(np.asarray(gif.convert("RGB")))
        return np.stack(frames), gif.info


def pictures(count, shape=(20, 30)):
    for number in range(count):
        yield Image.fromarray(np.full((*shape, 3), 10 * number, np.uint8))


def test_a_gif_has_its_frames_in_order_and_begins_again(tmp_path):
    palette = overlay_palette(class_colours(3), 0.5)
    write_gif(tmp_path / "new" / "a.gif", pictures(12), seconds=0.2, palette=palette)
    frames, info = read(tmp_path / "new" / "a.gif")
    assert frames.shape == (12, 20, 30, 3)
    # The greys are 1.2 apart.
    np.testing.assert_allclose(frames[:, 0, 0], 10 * np.arange(12)[:, None] + np.zeros(3), atol=1)
    assert info["loop"] == 0
    assert info["duration"] == 200
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.gif"]


def test_one_frame_is_a_gif_too(tmp_path):
    write_gif(tmp_path / "a.gif", pictures(1))
    assert read(tmp_path / "a.gif")[0].shape == (1, 20, 30, 3)


def test_frames_are_asked_for_one_at_a_time(tmp_path):
    alive = []

    def frames():

        for number in range(30):
            picture = Image.fromarray(np.full((8, 8, 3), number * 8, np.uint8))
            alive.append(weakref.ref(picture))
            yield picture
            del picture
            assert sum(reference() is not None for reference in alive) <= 2

    write_gif(tmp_path / "a.gif", frames())
    assert len(alive) == 30


def test_a_broken_picture_leaves_the_file_of_before(tmp_path):
    write_gif(tmp_path / "a.gif", pictures(2))
    before = (tmp_path / "a.gif").read_bytes()

    def broken():
        yield from pictures(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_gif(tmp_path / "a.gif", broken())
    assert (tmp_path / "a.gif").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_gif(tmp_path / "file" / "a.gif", pictures(2))


@pytest.mark.parametrize("classes", [1, 2, 4, 8, 22, 60])
@pytest.mark.parametrize("alpha", [0.0, 0.45, 1.0])
def test_overlays_keep_their_colours(tmp_path, classes, alpha):
    """Every grey under every class is stored within half the distance of two shades."""
    colours = class_colours(classes)
    ramp = np.repeat(np.arange(256.0)[None], classes, axis=0)
    labels = np.repeat(np.arange(classes)[:, None], 256, axis=1)
    exact = overlay(ramp, labels, classes, alpha, (0, 255))
    palette = overlay_palette(colours, alpha)
    assert palette.shape == (256, 3)
    write_gif(tmp_path / "a.gif", [Image.fromarray(exact)], palette=palette)
    stored = read(tmp_path / "a.gif")[0][0]
    kinds = min(classes - 1, 21)
    shades = min(32, 128 // max(1, kinds))
    coarsest = max(255 * (1 - alpha) / (shades - 1), 255 / (256 - kinds * (shades + 1) - 1))
    apart = np.linalg.norm(stored.astype(float) - exact, axis=-1)
    assert apart.max() <= np.sqrt(3) * (coarsest / 2 + 0.5)


def test_the_legends_colours_are_exact_also_beside_colour_images(tmp_path, rng):
    noise = rng.integers(0, 256, (60, 60, 3)).astype(np.uint8)
    fixed = class_colours(8)
    noise[0, :8] = fixed
    write_gif(tmp_path / "a.gif", [Image.fromarray(noise)], palette=fixed)
    stored = read(tmp_path / "a.gif")[0][0]
    np.testing.assert_array_equal(stored[0, :8], fixed)
    assert np.abs(stored.astype(int) - noise).mean() < 25


def test_white_stays_white(tmp_path):
    sheet = Sheet("a", ("image",), (40, 40))
    write_gif(tmp_path / "a.gif", [sheet.blank()], palette=overlay_palette(class_colours(4), 0.45))
    assert read(tmp_path / "a.gif")[0][0][-1, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("panels", [1, 2, 4, 5, 9])
def test_panels_do_not_touch_each_other_nor_what_is_written(panels):
    sheet = Sheet("title", tuple(f"panel {n}" for n in range(panels)), (90, 70), (("one", (255, 0, 0)),))
    blank = sheet.blank()
    black = np.zeros((7, 9, 3), np.uint8)
    frame = np.asarray(sheet.frame(blank, [black] * panels, "slice 7")).copy()
    covered = np.zeros(frame.shape[:2], int)
    for left, top in sheet.corners():
        assert frame[top : top + 70, left : left + 90].max() == 0
        assert np.asarray(blank)[top : top + 70, left : left + 90].min() == 255
        covered[top : top + 70, left : left + 90] += 1
    assert covered.max() == 1
    assert covered.sum() == panels * 90 * 70


def test_the_legend_is_wrapped_and_shows_each_colour_once():
    colours = [(255, 0, number) for number in range(40)]
    sheet = Sheet("t", ("p",), (50, 50), tuple((f"organ {n}", colour) for n, colour in enumerate(colours)))
    pixels = np.asarray(sheet.blank())
    for colour in colours:
        rows, columns = np.nonzero(np.all(pixels == colour, axis=-1))
        assert len(rows) == 13 * 13
        assert np.ptp(rows) == np.ptp(columns) == 12


@pytest.mark.parametrize("name", ["x" * 3000, "a\nb\tc\0", "$_$ \\b", "\udcff", "", "肾 نعم Ω", "%s{}<b>&amp;"])
def test_any_name_fits(name):
    sheet = Sheet(name, (name, name), (100, 30), ((name, (1, 2, 3)), (name, (4, 5, 6))))
    frame = sheet.frame(sheet.blank(), [np.zeros((3, 10, 3), np.uint8)] * 2, "slice 1")
    assert frame.width == sheet.width
    assert frame.height < 200
    pixels = np.asarray(frame)
    # Nothing is written over the borders.
    for border in (pixels[:, :8], pixels[:, -8:], pixels[:8], pixels[-3:]):
        assert border.min() == 255


@pytest.mark.parametrize(
    ("shape", "millimetres", "size", "expected"),
    [
        ((1, 10, 20), (1, 1), 100, (100, 50)),
        ((1, 30, 20), (1, 1), 100, (60, 90)),
        ((1, 300, 200), (1, 1), 100, (67, 100)),
        ((9, 20, 20), (0.8, 0.4), 100, (40, 80)),
        ((9, 20, 20), (0.4, 0.8), 100, (80, 40)),
        ((1, 1, 5000), (1, 1), 100, (100, 1)),
    ],
)
def test_panels_have_the_proportions_of_the_voxels(shape, millimetres, size, expected):
    assert panel_size(View((0, 1, 2), (False,) * 3, shape[0], *millimetres), shape, size) == expected


def test_larger_voxels_stay_voxels_and_smaller_ones_are_averaged():
    sheet = Sheet("", ("",), (40, 20))
    chess = (np.indices((2, 4)).sum(axis=0) % 2 * 255).astype(np.uint8)
    left, top = sheet.corners()[0]

    def panel(values):
        frame = np.asarray(sheet.frame(sheet.blank(), [np.repeat(values[..., None], 3, axis=2)], ""))
        return frame[top : top + 20, left : left + 40, 0]

    np.testing.assert_array_equal(panel(chess), np.kron(chess, np.ones((10, 10))))
    fine = (np.indices((40, 160)).sum(axis=0) % 2 * 255).astype(np.uint8)
    np.testing.assert_allclose(panel(fine), 127.5, atol=1)
