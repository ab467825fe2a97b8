from __future__ import annotations

import os
import socket

import pytest

from miscnn_tf._base.files import open_regular
from miscnn_tf.errors import DataError, MissingDataError


def test_a_file_and_a_link_to_it_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")

    for name in ("a", "link"):
        with open_regular(tmp_path / name) as stream:
            assert stream.read() == b"content"


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")

    with pytest.raises(DataError, match=r"pipe\.nii: not a regular file but a named pipe"):
        open_regular(tmp_path / "pipe.nii")


@pytest.mark.parametrize(("path", "kind"), [("/dev/null", "character device"), ("/tmp", "folder")])
def test_what_is_not_a_file_is_refused_with_its_kind(path, kind):
    with pytest.raises(DataError, match=f"not a regular file but a {kind}"):
        open_regular(path)


def test_a_socket_a_missing_file_and_one_without_permission(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(DataError, match=r"s: cannot be read \(No such device or address\)"):
            open_regular(tmp_path / "s")
    with pytest.raises(MissingDataError, match="missing: the file does not exist"):
        open_regular(tmp_path / "missing")
