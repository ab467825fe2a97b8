"""How many modules of data_loading a sample goes through."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from small_data import write_cases

from miscnn_tf.data_loading import data_io as data_io_module
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import NIFTI_interface

FOLDER = Path(data_io_module.__file__).parent


def test_reading_a_case_enters_few_files(tmp_path: Path) -> None:
    write_cases(tmp_path)
    io = Data_IO(NIFTI_interface(classes=3), tmp_path)
    entered: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(FOLDER):
            entered.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        sample = io.sample_loader(io.indices_list[0])
    finally:
        sys.setprofile(before)
    assert np.any(sample.seg_data)
    assert len(entered) <= 12, sorted(entered)
