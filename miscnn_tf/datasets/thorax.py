"""Random thoraces: body wall, ribs, spine with its cord, lungs, heart, great vessels, trachea and oesophagus.

Sizes and Hounsfield units are those of adults in CT without or with little contrast medium, rounded. Coordinates are
patient mm: x to the patient's right, y to the front, z to the head, the origin in the middle of the chest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miscnn_tf.datasets.canvas import AIR, Canvas
from miscnn_tf.datasets.scan_grid import axis_rotation

#: Labels of the thoracic challenge's structures, in its order.
ESOPHAGUS, HEART, LUNG_L, LUNG_R, SPINAL_CORD = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Chest:
    """Random properties of a patient.

    Attributes:
        half_width: Half the width of the chest, mm.
        half_depth: Half its depth from front to back, mm.
        fat: Thickness of the wall in front of the ribs, mm.
        breath: Filling of the lungs, 0 to 1.
        contrast: HU that contrast medium adds to blood.
    """

    half_width: float
    half_depth: float
    fat: float
    breath: float
    contrast: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Chest:
        """Draw a random adult."""
        build = rng.uniform(0, 1)  # slim to heavy
        half_width = 150 + 34 * build + rng.normal(0, 5)
        return cls(
            half_width=half_width,
            half_depth=half_width * rng.uniform(0.62, 0.7),
            fat=float(np.clip(14 + 20 * build + rng.normal(0, 3), 10, 40)),
            breath=rng.uniform(0, 1),
            contrast=float(rng.choice([0.0, rng.uniform(60, 150)])),
        )

    @property
    def cavity(self) -> tuple[float, float]:
        """Half width and half depth of the space within the ribs, mm."""
        return self.half_width - self.fat - 12, self.half_depth - 0.8 * self.fat - 8

    @property
    def spine(self) -> float:
        """Position (y) of the centre of the vertebral bodies, mm."""
        return -self.cavity[1] + 14

    @property
    def cord(self) -> np.ndarray:
        """Centre of the spinal canal (x, y), mm."""
        return np.array([0.0, self.spine - 25.0])


def draw_thorax(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    """Paint everything, from the outside to the inside."""
    _wall(canvas, chest, rng)
    _lungs(canvas, chest, rng)
    _heart_and_vessels(canvas, chest, rng)
    _spine(canvas, chest, rng)
    _airway_and_oesophagus(canvas, chest, rng)


def _wall(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    x, y, z = canvas.points
    a, b = chest.half_width, chest.half_depth
    ca, cb = chest.cavity
    where = canvas.everywhere
    body = (np.abs(x) / a) ** 2.3 + (np.abs(y) / b) ** 2.3 < 1
    wall = (np.abs(x) / ca) ** 2.2 + (np.abs(y) / cb) ** 2.2
    canvas.paint(where, body, -105.0, unevenness=7, organ=False)
    canvas.paint(where, body & (wall < 1.32), 48.0, unevenness=9, organ=False)
    # Ribs run down and forward, so that slices show them as short ovals.
    angle = np.arctan2(np.abs(x), -y)
    shift = rng.uniform(0, 26)
    rib = np.abs((z + shift + 38 * angle) % 26 - 13) < 4.5
    canvas.paint(where, rib & (np.abs(wall - 1.14) < 0.07) & (angle > 0.35) & (angle < 2.7), 350.0, organ=False)
    sternum = (np.abs(x) < 17) & (np.abs(y - cb - 7) < 5)
    canvas.paint(where, sternum, 260.0, unevenness=40, organ=False)
    # The space between the lungs is fat; the wall is blocked for organs.
    canvas.paint(where, wall < 1, -95.0, unevenness=9, organ=False)
    canvas.blocked = wall >= 1
    table = (np.abs(y + b + 14) < 4) & (np.abs(x) < 1.3 * a) & ~body
    canvas.paint(where, table, -640.0, organ=False)


def _lungs(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    x, y, z = canvas.points
    ca, cb = chest.cavity
    where = canvas.everywhere
    inside = (np.abs(x) / (ca - 3)) ** 2.2 + (np.abs(y) / (cb - 3)) ** 2.2 < 1
    for side, label in ((1, LUNG_R), (-1, LUNG_L)):
        # The diaphragm is a dome under each lung, higher on the right, where the liver is.
        dome = -78 - 30 * chest.breath + (12 if side > 0 else 0)
        below = z < dome + 55 * (1 - ((x - side * 0.55 * ca) / (0.6 * ca)) ** 2 - (y / cb) ** 2) - 30
        apex = z > 125 + 10 * chest.breath
        medial = side * x > 26 + 0.1 * np.abs(z) * (z > 60)
        lung = inside & medial & ~below & ~apex
        canvas.paint(where, inside & medial & below, 60.0, unevenness=12)
        value = -860 + 70 * (1 - chest.breath)
        canvas.paint(where, lung, value, unevenness=18, label=label)
        for _ in range(14):
            start = np.array([side * 0.25 * ca, rng.normal(0, 8), rng.normal(15, 12)])
            end = np.array([side * rng.uniform(0.45, 0.85) * ca, rng.uniform(-0.6, 0.6) * cb, rng.uniform(-60, 90)])
            bend = (start + end) / 2 + rng.normal(0, 9, 3)
            # Vessels are part of the lung in annotations.
            canvas.tube(np.stack([start, bend, end]), (4.5, 3.0, 1.6), 30 + chest.contrast, over=label)


def _heart_and_vessels(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    ca, cb = chest.cavity
    blood = 42 + chest.contrast
    size = rng.uniform(0.9, 1.12)
    centre = np.array([-0.17 * ca + rng.normal(0, 4), 0.22 * cb, -22 + rng.normal(0, 6)])
    axes = _turned(rng)
    canvas.ellipsoid(centre, np.array([58, 44, 50]) * size + 3, -85.0, axes, bumps=0.02)
    canvas.ellipsoid(centre, np.array([58, 44, 50]) * size, 52.0, axes, unevenness=6, bumps=0.02, label=HEART)
    for offset in ((-16, 6, -4), (18, 4, 4), (-4, -14, 14)):
        place = centre + axes.T @ (np.array(offset, float) * size)
        canvas.ellipsoid(place, np.array([17, 14, 17]) * size, blood, axes, unevenness=5, label=HEART)
    # The aorta: up from the heart, over the left bronchus, and down beside the spine.
    top = 62 + rng.normal(0, 5)
    down = np.array([-24.0, chest.spine + 14])
    path = [(-4, centre[1], 20), (8, centre[1] - 2, top - 14), (-2, centre[1] - 16, top), (-20, down[1] + 24, top - 2)]
    path += [(*down, top - 20), (*down, 0.0), (*down + (4, 0), -160.0)]
    canvas.tube(np.array(path, float), rng.uniform(11, 14), blood, label=0)
    canvas.tube(np.array([(20.0, 12, 120), (20, 16, 30)]), 9, blood - 6, label=0)


def _spine(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    x, y, z = canvas.points
    where = canvas.everywhere
    phase = (z + rng.uniform(0, 28)) % 28

    def column(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    def paint(mask: np.ndarray, value: float, unevenness: float, label: int = 0) -> None:
        canvas.paint(where, mask, value, unevenness=unevenness, label=label, organ=False)

    for side in (-1, 1):
        paint(column(side * 32, chest.spine - 38, 24, 15), 55, 12)
    body = column(0, chest.spine, 18, 14)
    paint(body, 210.0, 30)
    paint(body & (phase < 6), 90.0, 6)
    cx, cy = chest.cord
    paint(column(cx, cy, 14, 12) & (phase > 5), 380.0, 60)
    paint((np.abs(x) < 3.5) & (y < cy - 8) & (y > cy - 38) & (phase > 9), 320.0, 50)
    paint(column(cx, cy, 9, 8), 12.0, 3)
    cord = rng.uniform(5.2, 6.4)
    paint(column(cx, cy, cord + 0.8, cord), 38.0, 2, SPINAL_CORD)


def _airway_and_oesophagus(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    front = chest.spine + 15
    carina = 34 + rng.normal(0, 4)
    windpipe = np.array([(0, front + 20, 170), (0, front + 18, carina)], float)
    branches = [np.array([(0, front + 18, carina), (side * 34, front + 16, carina - 26)], float) for side in (1, -1)]
    for path, radius in ((windpipe, 9.0), *((branch, 6.5) for branch in branches)):
        canvas.tube(path, radius + 1.8, 30.0, label=0)
    for path, radius in ((windpipe, 9.0), *((branch, 6.5) for branch in branches)):
        canvas.tube(path, radius, AIR, label=0)
    z = np.linspace(165, -165, 12)
    sway = -6 + 5 * np.sin(z / 45 + rng.uniform(0, 6)) - 0.05 * np.clip(-z, 0, None)
    path = np.stack([sway, np.full(12, front + 4.0) + 0.06 * np.clip(-z - 40, 0, None), z], axis=1)
    radius = rng.uniform(7.0, 9.0)
    canvas.tube(path, radius, 36.0, unevenness=6, label=ESOPHAGUS)
    # Some air or fluid.
    for point in path[1:-1]:
        if rng.random() < 0.4:
            canvas.ellipsoid(point, (2.6, 1.8, 7), float(rng.choice([AIR, -200.0, 10.0])), label=ESOPHAGUS)


def _turned(rng: np.random.Generator) -> np.ndarray:
    return axis_rotation(2, 32 + rng.normal(0, 6)) @ axis_rotation(1, -18 + rng.normal(0, 5))
