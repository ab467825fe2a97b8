"""Without the extra: importing works, and using it says what to install."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from miscnn_tf.data_loading.dicom import extra
from miscnn_tf.errors import MissingExtraError

# Python finds no package of this name, as if it were not installed.
HIDE = """
    import sys
    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {"pydicom", "highdicom"}:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Hidden())
"""


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HIDE) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_missing_package_and_the_extra_are_named(monkeypatch):
    monkeypatch.setattr(extra.importlib.util, "find_spec", lambda name: None if name == "highdicom" else object())
    with pytest.raises(MissingExtraError, match=r"need the package highdicom: pip install 'miscnn_tf\[dicom\]'"):
        extra.require_dicom()


def test_everything_else_works_without_it():
    run(
        """
        import miscnn_tf.data_loading.dicom, miscnn_tf.data_loading.interfaces as interfaces
        import miscnn_tf.datasets
        from miscnn_tf.errors import MissingExtraError
        assert interfaces.get_data_interface_from_file_term(".dcm") is interfaces.DICOM_interface
        for call in (interfaces.DICOM_interface, lambda: miscnn_tf.datasets.write_lctsc_phantoms("never")):
            try:
                call()
            except MissingExtraError as error:
                assert "pip install 'miscnn_tf[dicom]'" in str(error), error
            else:
                raise AssertionError("nothing was said")
        """
    )


def test_highdicom_is_not_imported_before_it_is_needed():
    script = """
        import sys
        import miscnn_tf.data_loading.interfaces, miscnn_tf.data_loading.dicom, miscnn_tf.datasets
        # nibabel looks for pydicom itself.
        assert "highdicom" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


def test_nothing_needs_an_older_pydicom():
    import pydicom

    assert int(pydicom.__version__.partition(".")[0]) >= 3
