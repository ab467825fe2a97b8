"""One sample whose files cannot be read or written is named and skipped; the others are looked at and segmented."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from permissions import obey_permissions
from processes import hear_interrupts
from small_data import write_case, write_cases

from miscnn_tf import Data_IO
from miscnn_tf._base import files
from miscnn_tf.cli.main import main
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import DataError, ModelFileError
from miscnn_tf.neural_network.model_description import read_metadata

Start = Callable[..., subprocess.Popen[str]]


def permissions_bind() -> bool:
    try:
        code = "import os; os.mkdir('x', 0); os.listdir('x')"
        done = subprocess.run(
            [sys.executable, "-c", f"import tempfile; import os; os.chdir(tempfile.mkdtemp()); {code}"],
            preexec_fn=obey_permissions,
            capture_output=True,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, AttributeError):
        return False
    return b"PermissionError" in done.stderr


needs_permissions = pytest.mark.skipif(not permissions_bind(), reason="permissions do not bind here")


def obeying() -> None:
    hear_interrupts()
    obey_permissions()


def without_permission(data: Path) -> str:
    (data / "case_1").chmod(0)
    return "Permission denied"


def without_entry(data: Path) -> str:
    (data / "case_1").chmod(0o444)  # may be listed, but nothing in it opened
    return "cannot be read"


def file_without_permission(data: Path) -> str:
    (data / "case_1" / "imaging.nii.gz").chmod(0)
    return "Permission denied"


def folder_loop(data: Path) -> str:
    shutil.rmtree(data / "case_1")
    (data / "case_1").symlink_to("case_1")
    return "case_1"


def file_loop(data: Path) -> str:
    (data / "case_1" / "imaging.nii.gz").unlink()
    (data / "case_1" / "imaging.nii.gz").symlink_to("imaging.nii.gz")
    return "symbolic links"


def folder_as_file(data: Path) -> str:
    (data / "case_1" / "imaging.nii.gz").unlink()
    (data / "case_1" / "imaging.nii.gz").mkdir()
    return "folder"


FAULTS = [folder_loop, file_loop, folder_as_file]
PERMISSIONS = [without_permission, file_without_permission]


@pytest.mark.parametrize("break_sample", FAULTS)
def test_verify_names_the_sample_and_looks_at_the_others(
    break_sample: Callable[[Path], str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = break_sample(data)
    assert main(["verify", str(data), "--classes", "3"]) == 1
    printed = capsys.readouterr()
    assert "BAD  case_1\n" in printed.out
    assert said in " ".join(printed.out.split())
    assert "4 samples" in printed.out
    assert printed.out.count("BAD") == 1


@needs_permissions
@pytest.mark.parametrize("break_sample", [*PERMISSIONS, without_entry])
def test_verify_names_the_sample_without_permission(
    break_sample: Callable[[Path], str], data: Path, start: Start
) -> None:
    said = break_sample(data)
    try:
        program = start("verify", "data", "--classes", "3", preexec_fn=obeying)
        out, error = program.communicate(timeout=200)
    finally:
        (data / "case_1").chmod(0o755)
    assert program.returncode == 1, error
    assert "BAD  case_1\n" in out
    assert said in " ".join(out.split())
    assert out.count("BAD") == 1


def predicted(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["predict", *map(str, arguments)])
    return code, capsys.readouterr().err


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "predictions.json")


@pytest.mark.parametrize("break_sample", FAULTS)
def test_predict_skips_the_sample_and_counts_it(
    break_sample: Callable[[Path], str],
    data: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = break_sample(data)
    code, error = predicted(capsys, model, data, tmp_path / "out")
    assert code == 1
    assert "1 of 4 images could not be segmented; the others are done" in error
    assert "'case_1'" in error
    assert said in error
    assert names_in(tmp_path / "out") == ["case_0.nii.gz", "case_2.nii.gz", "case_3.nii.gz"]


@pytest.mark.slow
@needs_permissions
@pytest.mark.parametrize("break_sample", PERMISSIONS)
def test_predict_skips_the_sample_without_permission(
    break_sample: Callable[[Path], str], data: Path, model: Path, tmp_path: Path, start: Start
) -> None:
    said = break_sample(data)
    try:
        program = start("predict", model, "data", "out", preexec_fn=obeying)
        _, error = program.communicate(timeout=300)
    finally:
        (data / "case_1").chmod(0o755)
    assert program.returncode == 1
    assert "1 of 4 images could not be segmented; the others are done" in error
    assert said in error
    assert names_in(tmp_path / "out") == ["case_0.nii.gz", "case_2.nii.gz", "case_3.nii.gz"]


def test_a_case_name_of_255_bytes_costs_only_its_own_prediction(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "n" * 255
    write_case(data / name, 9)
    assert main(["verify", str(data)]) == 0
    code, error = predicted(capsys, model, data, tmp_path / "out")
    assert code == 1
    assert "1 of 5 images could not be segmented; the others are done" in error
    assert f"{name}.nii.gz: File name too long" in error
    assert names_in(tmp_path / "out") == [f"case_{number}.nii.gz" for number in range(4)]


def test_a_link_to_itself_in_a_folder_of_files(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(2):
        shutil.copy(data / f"case_{number}" / "imaging.nii.gz", flat / f"scan{number}.nii.gz")
    (flat / "loop.nii.gz").symlink_to("loop.nii.gz")
    code, error = predicted(capsys, model, flat, tmp_path / "out")
    assert code == 1
    assert "1 of 3 images could not be segmented" in error
    assert "loop.nii.gz: cannot be read (Too many levels of symbolic links)" in error
    assert names_in(tmp_path / "out") == ["scan0.nii.gz", "scan1.nii.gz"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOMEM])
def test_an_error_of_the_system_while_reading_one_file(
    code: int, data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:

    opened = os.open

    def failing(path: object, *arguments: object, **options: object) -> int:
        if "case_1" in str(path) and "imaging" in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(files.os, "open", failing)
    status, error = predicted(capsys, model, data, tmp_path / "out")
    assert status == 1
    assert f"cannot be read ({os.strerror(code)})" in error
    assert "damaged" not in error
    assert names_in(tmp_path / "out") == ["case_0.nii.gz", "case_2.nii.gz", "case_3.nii.gz"]


def test_a_sample_that_vanishes_after_it_was_listed(data: Path) -> None:
    data_io = Data_IO(NIFTI_interface(1, 3), data)
    shutil.rmtree(data / "case_2")
    found = verify(data_io)
    assert found.bad == ["case_2"]
    assert found.of_kind("missing") == ["case_2"]


def test_predict_stops_when_the_disk_is_full(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """No other prediction could be written: the time that they take would be lost."""
    written = []

    def full(*arguments: object) -> None:
        written.append(arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("miscnn_tf.data_loading.interfaces.nifti_io.write_volume", full)
    code, error = predicted(capsys, model, data, tmp_path / "out")
    assert code == 1
    assert "case_0" in error
    assert "No space left on device" in error
    assert len(written) == 1


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_model_without_permission_is_not_called_damaged(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"whatever")

    def forbidden(path: object, *arguments: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("miscnn_tf._base.files.os.open", forbidden)
    with pytest.raises(ModelFileError) as raised:
        read_metadata(path)
    assert str(raised.value) == f"{path}: cannot be read (Permission denied); check its type and permissions"


def test_a_users_interface_without_permission_names_sample_and_file(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 1)

    class Forbidden(NIFTI_interface):
        def load_image(self, index):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/mnt/scan.raw")

    with pytest.raises(DataError, match=r"sample 'case_0': /mnt/scan.raw: cannot be read \(Permission denied\)"):
        Data_IO(Forbidden(1, 3), tmp_path / "data").sample_loader("case_0")
