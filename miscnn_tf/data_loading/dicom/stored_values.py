"""From the bits that a file allocates for a pixel to the number that is stored in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.errors import DataError

_RLE = "1.2.840.10008.1.2.5"


def stored_values(decoded: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """The numbers in the lowest BitsStored bits, with the sign that PixelRepresentation gives them.

    The bits above them may hold overlays or anything else (DICOM PS3.5, 8.1.1).

    Args:
        decoded: A frame as the decoder gives it, with all bits that are allocated.
        dataset: The file's content.
        path: The file, for messages.

    Raises:
        DataError: If the numbers are elsewhere, as HighBit says.
    """
    if decoded.dtype.kind not in "iu":
        return decoded
    stored, syntax = int(dataset.BitsStored), dataset.file_meta.TransferSyntaxUID
    # Codecs other than RLE give the number alone, whatever its place was.
    placed = not syntax.is_compressed or syntax == _RLE
    if placed and int(dataset.get("HighBit", stored - 1)) != stored - 1:
        # Allowed by ACR-NEMA, and read differently by different programs.
        raise DataError(
            f"{path}: HighBit is {dataset.HighBit} and BitsStored {stored}, but only HighBit {stored - 1} is read; "
            "correct the header where it is wrong, or export the file again"
        )
    size = decoded.dtype.itemsize
    unused = 8 * size - stored
    if unused <= 0:
        return decoded
    # To the left end, and back: the sign goes along.
    bits = decoded.astype(decoded.dtype.newbyteorder("="), copy=False).view(f"u{size}") << np.uint8(unused)
    return bits.view(f"{'i' if int(dataset.PixelRepresentation) == 1 else 'u'}{size}") >> np.uint8(unused)


def inverted(stored: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """The values of a picture whose smallest ones are white (MONOCHROME1), so that the largest ones are.

    Raises:
        DataError: If a look-up table or fractions stand in the way.
    """
    if dataset.get("ModalityLUTSequence") or stored.dtype.kind not in "iu":
        raise DataError(
            f"{path}: PhotometricInterpretation MONOCHROME1 with ModalityLUTSequence or fractions is not "
            "supported; export the picture as MONOCHROME2"
        )
    highest = -1 if int(dataset.PixelRepresentation) == 1 else 2 ** int(dataset.BitsStored) - 1
    return highest - stored.astype(np.int64)
