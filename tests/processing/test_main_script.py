from __future__ import annotations

import subprocess
import sys

import pytest

ASK = "from miscnn_tf.processing.main_script import can_be_imported_by_workers as ask\n"

# use_multiprocessing in a script as MIScnn's users write it: everything at the top level.
SCRIPT = """
import logging
import numpy as np
from miscnn_tf import Data_IO, Preprocessor
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logging.basicConfig()
print("started")

class Shift(Abstract_Subfunction):
    def preprocessing(self, sample, training=True):
        sample.img_data = sample.img_data + 5.0

    def postprocessing(self, sample, prediction, activation_output=False):
        return prediction

data = {name: (np.zeros((6, 6)), np.zeros((6, 6))) for name in "abc"}
data_io = Data_IO(Dictionary_interface(data, channels=1, classes=2, three_dim=False), "")
pp = Preprocessor(data_io, 3, [Shift()], analysis="fullimage", data_aug=None, use_multiprocessing=True)
pp.run_subfunctions(["a", "b", "c"])
((images, _),) = pp.run(["a", "b", "c"], training=True)
print(images.mean())
"""


def run(*arguments, text=None):
    done = subprocess.run(
        [sys.executable, *arguments], input=text, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("print(ask())", False),
        ("if __name__ == '__main__':\n    print(ask())", True),
        ("def main():\n    print(ask())\nif '__main__' == __name__: main()", True),
        ("name = '__main__'\nif name: print(ask())", False),
        # A guard inside of a function guards nothing.
        ("def never():\n    if __name__ == '__main__': pass\nprint(ask())", False),
    ],
)
def test_scripts_with_and_without_a_guard(body, expected, tmp_path):
    (tmp_path / "script.py").write_text(ASK + body)
    assert run(str(tmp_path / "script.py")).stdout.strip() == str(expected)


def test_what_workers_do_not_import_needs_no_guard():
    assert run("-c", ASK + "print(ask())").stdout.strip() == "True"
    assert run("-", text=ASK + "print(ask())").stdout.strip() == "True"


def test_use_multiprocessing_in_a_script_without_a_guard_runs_once_in_threads_and_says_so(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run(str(tmp_path / "script.py"))
    assert done.stdout.split() == ["started", "5.0"]
    assert done.stderr.count("use_multiprocessing=True needs") == 1
    assert "Traceback" not in done.stderr


def test_with_a_guard_processes_are_used(tmp_path):
    lines = SCRIPT.strip().splitlines()
    cut = lines.index('print("started")')
    definitions = [line for line in lines if not line.startswith(("print", "data", "pp", "((images"))]
    work = [line for line in lines[cut:] if line.startswith(("print", "data", "pp", "((images"))]
    definitions.insert(0, "import os")
    text = "\n".join(definitions).replace("+ 5.0", "+ float(os.getpid())") + "\nif __name__ == '__main__':\n"
    text += "\n".join("    " + line for line in work) + "\n    print(os.getpid())"
    (tmp_path / "script.py").write_text(text)
    done = run(str(tmp_path / "script.py"))
    started, mean, parent = done.stdout.split()
    assert started == "started"
    assert float(mean) != float(parent)
    assert "use_multiprocessing" not in done.stderr
