"""Random abdomens around the kidneys: body wall, spine, muscles, organs, bowel and vessels.

Sizes and Hounsfield units are those of adults in contrast-enhanced CT, rounded. Coordinates are patient mm: x to the
patient's right, y to the front, z to the head, the origin between the kidneys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscnn_tf.datasets.canvas import AIR, Canvas
from miscnn_tf.datasets.scan_grid import axis_rotation

KIDNEY, TUMOUR = 1, 2


@dataclass(frozen=True)
class Patient:
    """Random properties of a patient, shared by the organs.

    Attributes:
        half_width: Half the width of the body, mm.
        half_depth: Half its depth from front to back, mm.
        fat: Thickness of the fat under the skin at the sides, mm.
        phase: Contrast phase, 0 (late arterial) to 1 (nephrographic).
    """

    half_width: float
    half_depth: float
    fat: float
    phase: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """Draw a random adult."""
        build = rng.uniform(0, 1)  # slim to heavy
        half_width = 138 + 42 * build + rng.normal(0, 5)
        return cls(
            half_width=half_width,
            half_depth=half_width * rng.uniform(0.66, 0.74),
            fat=float(np.clip(7 + 26 * build + rng.normal(0, 4), 5, 40)),
            phase=rng.uniform(0, 1),
        )

    @property
    def cavity(self) -> tuple[float, float]:
        """Half width and half depth of the abdominal cavity, mm."""
        return self.half_width - self.fat - 13, self.half_depth - 0.75 * self.fat - 13

    @property
    def cavity_centre(self) -> float:
        """Distance of the centre of the cavity from that of the body, towards the front, mm."""
        return 0.12 * self.half_depth - 0.15 * self.fat

    @property
    def spine(self) -> float:
        """Position (y) of the centre of the vertebral bodies, mm."""
        return self.cavity_centre - 0.52 * self.cavity[1]

    def enhanced(self, arterial: float, nephrographic: float) -> float:
        """Return the Hounsfield units of a tissue in the patient's contrast phase."""
        return arterial + (nephrographic - arterial) * self.phase


def draw_abdomen(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint everything except the kidneys."""
    _body(canvas, patient, rng)
    _back(canvas, patient, rng)
    _large_vessels(canvas, patient, rng)
    _liver(canvas, patient, rng)
    _left_upper_organs(canvas, patient, rng)
    _bowel(canvas, patient, rng)


def _body(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    x, y, z = canvas.points
    a, b = patient.half_width, patient.half_depth
    # A superellipse, slightly flatter in front than an ellipse, with a waist.
    waist = 1 + 0.0004 * z * rng.uniform(-1, 1)
    reach = _superellipse(x / (a * waist), y / (b * waist), 2.35)
    inside = reach < 1
    where = canvas.everywhere
    canvas.paint(where, inside, -104.0, unevenness=7, organ=False)
    canvas.paint(where, inside & (reach > 1 - 2.2 / b), 15.0, organ=False)

    ca, cb = patient.cavity
    middle = patient.cavity_centre
    cavity = _superellipse(x / ca, (y - middle) / cb, 2.2)
    wall = _superellipse(x / (ca + 13), (y - middle) / (cb + 11), 2.2)
    # Three muscle layers with thin fat between them at the sides; the rectus in front, divided in the middle.
    canvas.paint(where, (wall < 1) & inside, patient.enhanced(52, 62), unevenness=6, organ=False)
    layers = (np.abs(cavity - 1 - 4 / ca) < 0.8 / ca) & (np.abs(x) > 0.45 * ca)
    canvas.paint(where, layers, -60.0, organ=False)
    canvas.paint(where, (np.abs(x) < 5) & (y > middle) & (cavity > 1) & (wall < 1), -80.0, organ=False)
    canvas.paint(where, cavity < 1, -102.0, unevenness=9, organ=False)
    canvas.blocked = cavity >= 1

    # Ribs run down and forward around the wall, so that slices show them as short ovals.
    angle = np.abs(np.arctan2(x / ca, -(y - middle) / cb))
    first = rng.uniform(0, 26)
    for rib in range(-1, 4):
        height = z - (38 + first + 26 * rib - 42 * angle)
        bone = (np.abs(height) < 5.5) & (np.abs(wall - 1) < 3.6 / ca) & (angle > 0.35) & (angle < 2.1) & (z > -25)
        canvas.paint(where, bone, 330.0, unevenness=60, organ=False)
    # The table of the scanner.
    table = np.abs(np.hypot(x, y - 210) - (210 + b + 10)) < 3.5
    canvas.paint(where, table & ~inside & (np.abs(x) < 1.25 * a), -640.0, organ=False)


def _superellipse(x: np.ndarray, y: np.ndarray, power: float) -> np.ndarray:
    return (np.abs(x) ** power + np.abs(y) ** power) ** np.float32(1 / power)


def _back(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint the spine and the muscles beside it."""
    muscle = patient.enhanced(54, 64)
    spine = patient.spine
    back = -patient.half_depth + 0.55 * patient.fat
    x, y, z = canvas.points
    solid = np.zeros_like(canvas.blocked)

    def add(mask: np.ndarray, value: float, unevenness: float) -> None:
        canvas.paint(canvas.everywhere, mask, value, unevenness=unevenness, organ=False)
        solid[mask] = True

    def column(cx: float | np.ndarray, cy: float, rx: float | np.ndarray, ry: float | np.ndarray) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    depth = max(12.0, (spine - 26 - back) / 2)
    for side in (-1, 1):
        add(column(side * 36, back + depth + 6, 30, depth), muscle, 14)
        # The psoas gets thicker downwards; the quadratus lumborum is behind the kidney.
        width = np.clip(12 - 0.11 * z, 4, 22)
        add(column(side * (22 + 0.75 * width), spine - 5, width, width + 3), muscle, 6)
        add(column(side * 68, spine - 27, 20, 8), muscle, 8)
    body = column(0, spine, 23, 17)
    add(body, 180.0, 28)
    add(body & ~column(0, spine, 20.5, 14.5), 420.0, 50)
    phase = (z + rng.uniform(0, 36)) % 36
    disc = body & (phase < 8)
    add(disc, 88.0, 5)
    add(body & ((np.abs(phase - 9) < 1.2) | (np.abs(phase - 35) < 1.2)), 450.0, 40)
    # Behind the body: pedicles and laminae around the canal, spinous and transverse processes.
    ring = column(0, spine - 26, 16, 13) & (phase > 6)
    add(ring, 390.0, 80)
    process = (np.abs(x) < 3.5) & (y < spine - 34) & (y > spine - 66) & (phase > 12) & (phase < 32) & (y > back + 5)
    add(process, 340.0, 60)
    add((np.abs(y - spine + 30) < 3.5) & (np.abs(x) < 40) & (np.abs(phase - 22) < 5), 320.0, 60)
    add(column(0, spine - 25, 10.5, 8), 32.0, 3)
    canvas.blocked |= solid


def _large_vessels(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    z = np.linspace(160, -160, 9)
    front = patient.spine + 17
    aorta = np.stack([-9 + rng.normal(0, 3) + 4 * np.sin(z / 60), np.full(9, front + 11.0), z], axis=1)
    cava = np.stack([19 + rng.normal(0, 3) + 3 * np.sin(z / 70 + 1), np.full(9, front + 8.0), z], axis=1)
    arterial = patient.enhanced(290, 165)
    size = rng.uniform(8, 11)
    canvas.tube(aorta, size, arterial)
    if rng.random() < 0.4:  # calcified wall
        for _ in range(6):
            point = aorta[rng.integers(1, 8)] + rng.normal(0, 1, 3) * (0, 0, 14)
            turn = rng.uniform(0, 2 * np.pi)
            canvas.ellipsoid(point + size * np.array([np.cos(turn), np.sin(turn), 0]), (3, 3, 6), 650.0)
    canvas.tube(cava, rng.uniform(9, 13), patient.enhanced(110, 155), unevenness=8)
    mesenteric = aorta + np.array([6, 26, 0])
    canvas.tube(mesenteric[2:], 4.5, arterial)
    canvas.tube(mesenteric[2:] + (11, 2, 0), 6.5, patient.enhanced(130, 165))


def _liver(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    ca, cb = patient.cavity
    middle = patient.cavity_centre
    value = patient.enhanced(82, 112) - (rng.uniform(20, 50) if rng.random() < 0.2 else 0)  # some are fatty
    low = rng.normal(0, 14)
    how: dict[str, Any] = {"unevenness": 4.0, "bumps": 0.03}
    right = np.array([0.58 * ca, middle + 0.06 * cb, 62 + low])
    canvas.ellipsoid(right, (0.52 * ca, 0.98 * cb, 88), value, axis_rotation(2, -8), **how)
    canvas.ellipsoid((0.08 * ca, middle + 0.52 * cb, 100 + low), (0.62 * ca, 0.44 * cb, 66), value, **how)
    vein = patient.enhanced(95, 165)
    for _ in range(7):
        start = right + rng.uniform(-1, 1, 3) * (0.1 * ca, 0.2 * cb, 20)
        end = right + rng.uniform(-1, 1, 3) * (0.36 * ca, 0.62 * cb, 66)
        bend = (start + end) / 2 + rng.normal(0, 8, 3)
        canvas.tube(np.stack([start, bend, end]), (4.5, 3.5, 2), vein)
    if rng.random() < 0.8:
        place = right + (-0.34 * ca, 0.55 * cb, -44)
        canvas.ellipsoid(place, (15, 19, 27), rng.uniform(70, 90), axis_rotation(0, 25))
        canvas.ellipsoid(place, (13, 17, 25), rng.uniform(4, 18), axis_rotation(0, 25))


def _left_upper_organs(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint spleen, stomach and pancreas."""
    ca, cb = patient.cavity
    middle = patient.cavity_centre
    size = rng.uniform(0.85, 1.2)
    place = np.array([-0.74 * ca, middle - 0.3 * cb, 66 + rng.normal(0, 10)])
    canvas.ellipsoid(
        place, (26 * size, 44 * size, 50 * size), patient.enhanced(120, 125), axis_rotation(2, -28), unevenness=5
    )
    centre = np.array([-0.42 * ca, middle + 0.42 * cb, 72 + rng.normal(0, 10)])
    _hollow(canvas, rng, centre, np.array([0.36, 0.3, 0.0]) * (ca, cb, 0) + (0, 0, 46), wall=4.5)
    head = np.array([0.26 * ca, middle - 0.02 * cb, 6.0])
    tail = np.array([-0.56 * ca, middle - 0.12 * cb, 42.0])
    bend = np.array([0.0, middle + 0.22 * cb, 18.0])
    share = np.linspace(0, 1, 9)[:, np.newaxis]
    path = (1 - share) ** 2 * head + 2 * share * (1 - share) * bend + share**2 * tail
    path += rng.normal(0, 1.5, path.shape)
    canvas.tube(path, np.linspace(13, 8.5, 9), patient.enhanced(105, 92), unevenness=14)
    # The duodenum around the pancreas' head.
    down = np.stack([head + (17, 4, 22), head + (20, 0, 0), head + (14, -4, -26), head + (-16, -6, -34)])
    canvas.tube(down, 12, 75.0)
    canvas.tube(down, 9, rng.choice([20.0, 35.0, 180.0]), unevenness=20)


def _bowel(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    ca, cb = patient.cavity
    middle = patient.cavity_centre
    # Colon: up on the right, across in front, down on the left, filled with stool and gas.
    for side in (1, -1):
        z = np.linspace(-150, -25 if side > 0 else 45, 11)
        path = np.stack(
            [side * (0.8 * ca + rng.normal(0, 3, 11)), middle - 0.12 * cb + rng.normal(0, 4, 11), z], axis=1
        )
        radius = np.clip(rng.normal(19 if side > 0 else 14, 3, 11), 9, 25)
        _filled_loop(canvas, rng, path, radius, gas=0.35, content=rng.choice([-60.0, 20.0, 260.0]), unevenness=70)
    x = np.linspace(0.72 * ca, -0.7 * ca, 13)
    across = np.stack([x, middle + 0.72 * cb - 0.3 * cb * (x / ca) ** 2, -18 + rng.normal(0, 6, 13)], axis=1)
    _filled_loop(canvas, rng, across, np.clip(rng.normal(16, 3, 13), 9, 21), gas=0.7, content=0.0, unevenness=50)
    # Small bowel: random loops in the front of the cavity below the organs.
    contrast = rng.random() < 0.5
    for _ in range(13):
        point = np.array([rng.uniform(-0.6, 0.6) * ca, middle + rng.uniform(0.15, 0.7) * cb, rng.uniform(-110, 25)])
        direction = rng.normal(0, 1, 3)
        points = [point]
        for _ in range(7):
            direction = 0.6 * direction + rng.normal(0, 0.7, 3)
            step = points[-1] + 15 * direction / np.linalg.norm(direction)
            step[0] = np.clip(step[0], -0.66 * ca, 0.66 * ca)
            step[1] = np.clip(step[1], middle + 0.12 * cb, middle + 0.8 * cb)
            points.append(step)
        content = rng.choice([15.0, 30.0, 300.0 if contrast else 25.0])
        _filled_loop(canvas, rng, np.array(points), rng.uniform(9, 14), gas=0.12, content=content, unevenness=12)
    # Thin vessels of the mesentery in the fat between.
    for _ in range(16):
        start = np.array([rng.uniform(-0.5, 0.5) * ca, middle + rng.uniform(-0.05, 0.6) * cb, rng.uniform(-120, 60)])
        canvas.tube(np.stack([start, start + rng.normal(0, 16, 3)]), 2.2, patient.enhanced(120, 130))


def _filled_loop(
    canvas: Canvas,
    rng: np.random.Generator,
    path: np.ndarray,
    radius: float | np.ndarray,
    gas: float,
    content: float,
    unevenness: float,
) -> None:
    """Paint a loop of bowel: wall, content, and gas bubbles at the top."""
    canvas.tube(path, np.asarray(radius) + 2.5, rng.uniform(70, 105))
    canvas.tube(path, radius, content, unevenness=unevenness)
    radii = np.broadcast_to(radius, (len(path),))
    for point, size in zip(path, radii, strict=True):
        if rng.random() < gas:
            canvas.ellipsoid(point + (0, 0.4 * size, 0), (0.85 * size, 0.55 * size, 1.1 * size), AIR + 30)


def _hollow(canvas: Canvas, rng: np.random.Generator, centre: np.ndarray, radii: np.ndarray, wall: float) -> None:
    """Paint the stomach: wall, fluid or contrast medium, and gas above it (the patient is supine)."""
    canvas.ellipsoid(centre, radii, rng.uniform(75, 100), bumps=0.03)
    inner = radii - wall
    canvas.ellipsoid(centre, inner, rng.choice([10.0, 40.0, 230.0]), unevenness=10)
    region = canvas.region(centre, float(max(inner)))
    if region is None:
        return
    local = canvas.local(region, centre)
    inside = np.einsum("i...,i...->...", *[local / inner.astype(np.float32)[:, None, None, None]] * 2) < 1
    canvas.paint(region, inside & (local[1] > rng.uniform(0.1, 0.9) * inner[1]), AIR + 20)


@dataclass(frozen=True)
class Kidney:
    """Position and shape of a kidney.

    Attributes:
        side: 1 for the patient's right, -1 for the left.
        centre: Patient mm.
        radii: Half lengths in mm: from hilum to the outer edge, front to back, pole to pole.
        axes: 3x3, rows are the directions of `radii` (the first points away from the spine).
        bend: Shift of the poles towards the spine, mm.
    """

    side: int
    centre: np.ndarray
    radii: np.ndarray
    axes: np.ndarray
    bend: float

    def outside(self, direction: np.ndarray, share: float) -> np.ndarray:
        """Return the point at the fraction `share` from the centre to the surface, in a direction along `axes`."""
        unit = direction / np.linalg.norm(direction)
        offset = share * self.radii * unit
        offset[0] -= self.bend * (share * unit[2]) ** 2
        return self.centre + self.axes.T @ offset


def draw_kidneys(canvas: Canvas, patient: Patient, rng: np.random.Generator, tumours: int | None = None) -> None:
    """Paint one or two kidneys with tumours (None: a random number up to three, mostly one) and cysts."""
    present: Sequence[int] = (1, -1)
    if rng.random() < 0.08:
        present = (int(rng.choice([1, -1])),)
    # A single kidney is larger; one of two may be smaller.
    growth = 1.14 if len(present) == 1 else 1.0
    size = rng.normal(1.0, 0.07)
    shrunken = rng.choice([1, -1]) if rng.random() < 0.07 and len(present) == 2 else 0
    kidneys = [_place(patient, rng, side, size * growth * (0.72 if side == shrunken else 1.0)) for side in present]
    tissue = _Tissue.draw(patient, rng)
    for kidney in kidneys:
        _draw_kidney(canvas, kidney, tissue, patient, rng)
        for _ in range(rng.choice(3, p=[0.6, 0.28, 0.12])):
            _cyst(canvas, kidney, rng)
    count = int(rng.choice(4, p=[0.1, 0.68, 0.16, 0.06])) if tumours is None else tumours
    for _ in range(count):
        _tumour(canvas, kidneys[rng.integers(len(kidneys))], patient, rng)


def _place(patient: Patient, rng: np.random.Generator, side: int, size: float) -> Kidney:
    ca, _ = patient.cavity
    radii = np.array([25.0, 24.0, 54.0]) * size * rng.normal(1, 0.05, 3)
    centre = np.array(
        [
            side * (0.3 * ca + 28 + rng.normal(0, 3)),
            patient.spine + 1 + rng.normal(0, 4),
            (-6 if side > 0 else 8) + rng.normal(0, 9),
        ]
    )
    # Upper poles are closer to the spine and back; the hilum points forward and inward.
    axes = np.diag([side, 1.0, 1.0])
    axes = axes @ axis_rotation(2, side * rng.normal(28, 9))
    axes = axes @ axis_rotation(1, side * rng.normal(13, 5)) @ axis_rotation(0, rng.normal(9, 6))
    return Kidney(side, centre, radii, axes, bend=rng.uniform(5, 11) * size)


@dataclass(frozen=True)
class _Tissue:
    cortex: float
    medulla: float
    pelvis: float

    @classmethod
    def draw(cls, patient: Patient, rng: np.random.Generator) -> _Tissue:
        # Late arterial: bright cortex, dark pyramids. Nephrographic: nearly equal.
        excretory = patient.phase > 0.8 and rng.random() < 0.5
        return cls(
            cortex=patient.enhanced(185, 178) + rng.normal(0, 10),
            medulla=patient.enhanced(95, 162) + rng.normal(0, 8),
            pelvis=rng.uniform(250, 420) if excretory else rng.uniform(5, 20),
        )


def _draw_kidney(canvas: Canvas, kidney: Kidney, tissue: _Tissue, patient: Patient, rng: np.random.Generator) -> None:
    # Fat around the kidney displaces the organs in front of it; heavier patients have more.
    capsule = 3 + 0.3 * patient.fat
    canvas.ellipsoid(kidney.centre, kidney.radii + capsule, -103.0, kidney.axes, unevenness=8.0)
    region = canvas.region(kidney.centre, 1.25 * float(kidney.radii.max()))
    if region is None:
        return
    local = canvas.local(region, kidney.centre, kidney.axes)
    u, v, w = local / kidney.radii.astype(np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    u = u + np.float32(kidney.bend / kidney.radii[0]) * w * w
    # The shape of a bean: the bend, a notch at the hilum, and shallow (fetal) lobes of some kidneys.
    angle = np.arctan2(w, u)
    lobes = np.float32(rng.uniform(0, 0.035)) * np.cos(7 * angle + np.float32(rng.uniform(0, 6))) * np.cos(3 * v)
    depth = np.sqrt(u * u + v * v + w * w) + lobes
    notch = ((u + 1.02) / 0.52) ** 2 + (v / 0.5) ** 2 + (w / 0.36) ** 2 < 1
    inside = (depth < 1) & ~notch
    canvas.paint(region, inside, tissue.cortex, unevenness=5, label=KIDNEY)

    sinus = ((u + 0.42) / 0.52) ** 2 + (v / 0.36) ** 2 + (w / 0.5) ** 2
    # Pyramids between sinus and cortex, separated by columns of cortex.
    part = np.cos(4.5 * angle + np.float32(rng.uniform(0, 6))) + 0.35 * np.cos(5 * v + np.float32(rng.uniform(0, 6)))
    cortex_depth = 1 - 7.5 / float(kidney.radii[:2].mean())
    canvas.paint(region, inside & (depth < cortex_depth) & (sinus > 1) & (part > -0.45), tissue.medulla, unevenness=6)
    canvas.paint(region, (sinus < 1) & (depth < 1), -85.0, unevenness=12, label=0)

    # Pelvis and calyces inside the sinus, then vein and artery to the great vessels.
    calyces = [kidney.outside(np.array([0.1, rng.normal(0, 0.1), s]), 0.4) for s in (-1, -0.35, 0.35, 1)]
    pelvis = kidney.outside(np.array([-1.0, 0.0, 0.0]), 0.55)
    for calyx in calyces:
        canvas.tube(np.stack([pelvis, calyx]), (4, 2.6), tissue.pelvis)
    canvas.ellipsoid(pelvis, (6, 5, 9), tissue.pelvis, kidney.axes)
    drop = np.array([kidney.side * 34.0, patient.spine + 10, kidney.centre[2] - 60])
    canvas.tube(np.stack([pelvis, (pelvis + drop) / 2 + (0, 4, 0), drop, drop - (0, 0, 80)]), 2.2, tissue.pelvis)
    front = patient.spine + 28
    vein_end = np.array([19.0, front - 2, kidney.centre[2] + 6])
    arch = (pelvis + vein_end) / 2 + (0, 10 if kidney.side > 0 else 16, 4)
    canvas.tube(np.stack([pelvis + (0, 5, 4), arch, vein_end]), 4.8, patient.enhanced(150, 165))
    artery_end = np.array([-9.0, front - 1, kidney.centre[2] + 10])
    canvas.tube(np.stack([pelvis + (0, -3, 6), artery_end]), 2.8, patient.enhanced(270, 165))


def _cyst(canvas: Canvas, kidney: Kidney, rng: np.random.Generator) -> None:
    """Paint a simple cyst: water with a sharp border, part of the kidney in KiTS19's labels."""
    direction = rng.normal(0, 1, 3) + (0.8, 0, 0)
    radius = float(np.clip(rng.lognormal(np.log(8), 0.45), 4, 20))
    centre = kidney.outside(direction, rng.uniform(0.75, 1.05))
    canvas.ellipsoid(centre, (radius, radius, radius), rng.uniform(0, 14), label=KIDNEY)


def _tumour(canvas: Canvas, kidney: Kidney, patient: Patient, rng: np.random.Generator) -> None:
    """Paint an endophytic or exophytic tumour, which may have a necrotic core."""
    direction = rng.normal(0, 1, 3) * (1, 0.8, 1.3) + (0.9, 0.4, 0)
    radius = float(np.clip(rng.lognormal(np.log(16), 0.35), 8, 32))
    exophytic = rng.uniform(0.55, 1.1)
    # Large tumours are moved outwards, because they do not fit into the kidney.
    centre = kidney.outside(direction, exophytic + 0.25 * max(0.0, radius / 25 - 1))
    radii = radius * rng.uniform(0.85, 1.15, 3)
    axes = axis_rotation(2, rng.uniform(0, 180)) @ axis_rotation(0, rng.uniform(0, 180))
    kind = rng.choice(["clear cell", "papillary", "chromophobe"], p=[0.6, 0.2, 0.2])
    value = {
        "clear cell": patient.enhanced(88, 72) + rng.normal(0, 8),
        "papillary": rng.uniform(38, 60),
        "chromophobe": rng.uniform(65, 90),
    }[str(kind)]
    uneven = {"clear cell": rng.uniform(10, 18), "papillary": 5.0, "chromophobe": 8.0}[str(kind)]
    # It displaces the fat around the kidney, so that a thin layer separates it from liver and bowel.
    canvas.ellipsoid(centre, radii + 5, -100.0, axes, unevenness=8, over=0)
    canvas.ellipsoid(centre, radii, value, axes, bumps=0.05, unevenness=uneven, label=TUMOUR)
    if radius > 16 and rng.random() < 0.55:
        core = centre + axes.T @ (rng.uniform(-0.25, 0.25, 3) * radii)
        share = rng.uniform(0.35, 0.6)
        canvas.ellipsoid(core, radii * share, rng.uniform(12, 35), axes, bumps=0.15, unevenness=8, label=TUMOUR)
    if radius > 20 and rng.random() < 0.15:
        canvas.ellipsoid(centre + rng.normal(0, 0.3, 3) * radii, (3, 3, 4), 420.0, label=TUMOUR)
