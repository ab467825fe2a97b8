"""Pictures of cases in an earlier report, for a report whose images or predictions cannot be read any more."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from miscnn_tf._base.files import read_bounded
from miscnn_tf._base.plain_limits import parse_json
from miscnn_tf._base.typed_data import Document
from miscnn_tf.errors import DataError, MissingDataError

_LARGEST = 64 * 2**20
_CASE = re.compile(r'<script type="application/json" id="case-\d+">(.*?)</script>', re.DOTALL)

Picture = Annotated[str, Field(pattern=r"^data:image/(webp|png);base64,[A-Za-z0-9+/=]*$")]
Labels = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=]*$")]
Pixels = Annotated[int, Field(ge=1, le=4096)]
Grey = Annotated[int, Field(ge=0, le=255)]


class _Slice(Document):
    number: int
    image: Picture | None
    truth: Labels | None
    prediction: Labels | None


class _Scale(Document):
    greys: Annotated[list[Grey], Field(min_length=2)]
    values: Annotated[list[float], Field(min_length=2)]
    levels: Annotated[list[float], Field(min_length=2, max_length=2)]
    modality: str | None


class _Pictures(Document):
    width: Pixels
    height: Pixels
    slices: Annotated[list[_Slice], Field(min_length=1)]
    total: int
    start: Annotated[int, Field(ge=0)]
    sides: Annotated[list[str], Field(min_length=4, max_length=4)] | None
    plane: str | None
    problems: list[str]
    # Missing in the pages of version 0.2.
    scale: _Scale | None = None
    colours: list[Annotated[list[Grey], Field(min_length=3, max_length=3)]] | None = None


class _Class(Document):
    label: int
    dice: str


class _Case(Document):
    fold: int | None
    name: str
    dice: list[_Class]
    scores: str | None = None
    pictures: _Pictures


#: Fold and name of a case, and either the digest of its scores or, in the pages of version 0.2, its Dice as text.
Key = tuple[int | None, str, str]


def digest_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a digest of the scores of a case, which differ if its prediction or truth differ."""
    text = repr(sorted(repr(sorted(row.items())) for row in rows))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def key_of(fold: int | None, name: str, dice: Sequence[Mapping[str, Any]], scores: str | None) -> Key:
    """Return the key of a case in the result of `read_pictures`."""
    return fold, name, scores or "; ".join(f"{one['label']}: {one['dice']}" for one in dice)


def read_pictures(page: Path) -> dict[Key, dict[str, Any]]:
    """Read the pictures in a report, without damaged ones; a file that is not a report gives none."""
    try:
        text = read_bounded(page, _LARGEST).decode("utf-8")
    except (MissingDataError, DataError, OSError, UnicodeDecodeError):
        return {}
    found: dict[Key, dict[str, Any]] = {}
    for content in _CASE.findall(text):
        try:
            case = _Case.model_validate(parse_json(content.encode(), page, "")).model_dump()
        except (DataError, ValidationError):
            continue
        pictures = case["pictures"]
        if pictures["start"] < len(pictures["slices"]):
            found[key_of(case["fold"], case["name"], case["dice"], case["scores"])] = pictures
    return found


def parts_of(pictures: Mapping[str, Any]) -> int:
    """Return how many of image, truth and prediction the pictures of a case show."""
    return sum(pictures["slices"][0][part] is not None for part in ("image", "truth", "prediction"))
