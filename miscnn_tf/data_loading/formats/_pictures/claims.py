"""Check of the image size in a header against the size of the file, before memory is allocated."""

from __future__ import annotations

from pathlib import Path

from miscnn_tf.errors import DataError

#: Bytes of samples that a file of any size may claim.
ALWAYS_ALLOWED = 2**24
#: Bytes of samples that Deflate can make of one byte.
DEFLATE_RATIO = 1032


def check_claim(path: str | Path, size: tuple[int, int], claimed: int, held: int, ratio: float) -> None:
    """Check that a file is large enough for the image that its header describes.

    Args:
        path: The file, for the message.
        size: Rows and columns of the header.
        claimed: Bytes of samples.
        held: Bytes of compressed data in the file.
        ratio: Bytes of samples that the compression can make of one byte.

    Raises:
        DataError: If the image is empty, or needs more than `ALWAYS_ALLOWED` and more than the file can hold.
    """
    if min(size) < 1:
        raise DataError(f"{path}: the image is damaged (size {size[0]} x {size[1]} pixels); copy or save it again")
    if claimed > max(ALWAYS_ALLOWED, held * ratio):
        raise DataError(
            f"{path}: the header claims {size[0]} x {size[1]} pixels ({claimed} bytes), but the {held} bytes of "
            f"compressed data hold at most {int(held * ratio)}; the image is truncated or damaged: copy or save it "
            "again"
        )
