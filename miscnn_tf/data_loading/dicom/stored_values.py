"""Conversion of the allocated bits of a pixel to the stored number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.errors import DataError

_RLE = "1.2.840.10008.1.2.5"


def stored_values(decoded: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """Extract the numbers in the lowest BitsStored bits, signed according to PixelRepresentation.

    The bits above them may hold overlays or other data (DICOM PS3.5, 8.1.1).

    Args:
        decoded: A frame from the decoder, with all allocated bits.
        dataset: The file's content.
        path: The file, for messages.

    Raises:
        DataError: If HighBit is not BitsStored - 1.
    """
    if decoded.dtype.kind not in "iu":
        return decoded
    stored, syntax = int(dataset.BitsStored), dataset.file_meta.TransferSyntaxUID
    # Codecs other than RLE return the number alone, independent of its position.
    placed = not syntax.is_compressed or syntax == _RLE
    if placed and int(dataset.get("HighBit", stored - 1)) != stored - 1:
        # Allowed by ACR-NEMA, and read differently by different programs.
        raise DataError(
            f"{path}: HighBit is {dataset.HighBit} and BitsStored {stored}, but only HighBit {stored - 1} is "
            "supported; correct the header if it is wrong, or export the file again"
        )
    size = decoded.dtype.itemsize
    unused = 8 * size - stored
    if unused <= 0:
        return decoded
    # Shift to the left end and back, which extends the sign.
    bits = decoded.astype(decoded.dtype.newbyteorder("="), copy=False).view(f"u{size}") << np.uint8(unused)
    return bits.view(f"{'i' if int(dataset.PixelRepresentation) == 1 else 'u'}{size}") >> np.uint8(unused)


def inverted(stored: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """Invert the values of a MONOCHROME1 image, so that large values are bright.

    Raises:
        DataError: If the image has a look-up table or fractional values.
    """
    if dataset.get("ModalityLUTSequence") or stored.dtype.kind not in "iu":
        raise DataError(
            f"{path}: PhotometricInterpretation MONOCHROME1 with ModalityLUTSequence or fractional values is not "
            "supported; export the image as MONOCHROME2"
        )
    highest = -1 if int(dataset.PixelRepresentation) == 1 else 2 ** int(dataset.BitsStored) - 1
    return highest - stored.astype(np.int64)
