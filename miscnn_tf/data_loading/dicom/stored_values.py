"""From the bits that a file allocates for a pixel to the number that is stored in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.errors import DataError

_RLE = "1.2.840.10008.1.2.5"


def stored_values(decoded: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """The numbers in the bits that BitsStored and HighBit name, with the sign that PixelRepresentation gives them.

    The bits beside them may hold overlays or anything else (DICOM PS3.5, 8.1.1).

    Args:
        decoded: A frame as the decoder gives it, with all bits that are allocated.
        dataset: The file's content.
        path: The file, for messages.

    Raises:
        DataError: If BitsStored and HighBit cannot be.
    """
    if decoded.dtype.kind not in "iu":
        return decoded
    stored = int(dataset.BitsStored)
    # Codecs give the number alone, whatever the place is that it had.
    raw = not dataset.file_meta.TransferSyntaxUID.is_compressed or dataset.file_meta.TransferSyntaxUID == _RLE
    shift = int(dataset.get("HighBit", stored - 1)) + 1 - stored if raw else 0
    allocated = int(dataset.BitsAllocated) if raw else 8 * decoded.dtype.itemsize
    if shift < 0 or shift + stored > int(dataset.BitsAllocated):
        raise DataError(
            f"{path}: BitsStored is {stored} and HighBit {dataset.get('HighBit')} of {dataset.BitsAllocated} bits, "
            "which cannot be; correct the header, or export the file again"
        )
    unused = allocated - stored
    if unused <= 0:
        return decoded
    signed = int(dataset.PixelRepresentation) == 1
    width = 8 * decoded.dtype.itemsize
    # To the left end, and back: the sign goes along.
    bits = decoded.astype(decoded.dtype.newbyteorder("="), copy=False).view(f"u{decoded.dtype.itemsize}")
    aligned = (bits << np.uint8(width - stored - shift)).view(f"{'i' if signed else 'u'}{decoded.dtype.itemsize}")
    return aligned >> np.uint8(width - stored)


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
