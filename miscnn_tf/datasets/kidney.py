"""Random kidneys with cortex, medulla and sinus, tumours and cysts.

Labels are those of KiTS19: 1 kidney with simple cysts, 2 tumour. Fat and vessels in the renal sinus are background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miscnn_tf.datasets.abdomen import Patient
from miscnn_tf.datasets.canvas import Canvas
from miscnn_tf.datasets.scan_grid import axis_rotation

KIDNEY, TUMOUR = 1, 2


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
