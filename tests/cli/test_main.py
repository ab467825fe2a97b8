from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

import miscnn_tf
from miscnn_tf.cli import main as cli
from miscnn_tf.errors import DataError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command ``try`` whose ``run`` each test writes itself."""
    module = types.ModuleType("command_to_try", "Tries something.")
    module.add_arguments = lambda parser: parser.add_argument("--number", type=int, default=1)
    monkeypatch.setitem(sys.modules, "command_to_try", module)
    monkeypatch.setitem(cli.COMMANDS, "try", cli.Command("try something", "command_to_try"))
    return module


def test_a_command_gets_its_arguments_and_its_exit_code_is_returned(command: types.ModuleType) -> None:
    command.run = lambda arguments: arguments.number
    assert cli.main(["try", "--number", "7"]) == 7
    assert cli.main(["try"]) == 1


def test_our_errors_are_one_line_without_traceback(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: object) -> int:
        raise DataError("scan.nii.gz is truncated; copy it again")

    command.run = run
    assert cli.main(["try"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "miscnn-tf: error: scan.nii.gz is truncated; copy it again\n"
    assert printed.out == ""


def test_other_errors_are_not_hidden(command: types.ModuleType) -> None:
    def run(arguments: object) -> int:
        raise RuntimeError("a mistake of ours")

    command.run = run
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.main(["try"])


def test_interrupting_is_130(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: object) -> int:
        raise KeyboardInterrupt

    command.run = run
    assert cli.main(["try"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["dmeo"], "invalid choice: 'dmeo'"),
        (["demo", "--cases", "1"], "whole number of at least 2"),
        (["demo", "--epochs", "many"], "whole number of at least 1"),
        (["demo", "--sede", "1"], "--sede"),
    ],
)
def test_wrong_usage_is_2_and_says_why(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert "usage: miscnn-tf" in printed.err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"miscnn-tf {miscnn_tf.__version__}"
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert cli.main([]) == 0
    assert capsys.readouterr().out == shown
    assert all(name in shown for name in cli.COMMANDS)
    for name in cli.COMMANDS:
        assert cli.main([name, "--help"]) == 0
        assert "--verbose" in capsys.readouterr().out


def test_help_loads_no_heavy_library() -> None:
    """Half a second for --help: measured as what is imported, which no busy machine changes."""
    code = (
        "import sys, miscnn_tf.cli.main as cli\n"
        "cli.main(['--help']); cli.main(['demo', '--help'])\n"
        "heavy = ('tensorflow', 'keras', 'numpy', 'scipy', 'matplotlib', 'nibabel', 'jinja2')\n"
        "print('HEAVY', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = (
        "import sys, types, miscnn_tf.cli.main as cli\n"
        "module = types.ModuleType('talker', 'Talks.')\n"
        "module.add_arguments = lambda parser: None\n"
        "module.run = lambda arguments: [print('word ' * 1000) for _ in range(1000)] and 0\n"
        "sys.modules['talker'] = module\n"
        "cli.COMMANDS['talk'] = cli.Command('talk', 'talker')\n"
        "sys.exit(cli.main(['talk']))"
    )
    talker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert talker.stdout is not None
    assert talker.stderr is not None
    talker.stdout.read(10)
    talker.stdout.close()
    assert talker.stderr.read() == ""
    talker.stderr.close()
    assert talker.wait(timeout=60) == 0


def test_python_m_miscnn_tf_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "miscnn_tf", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr


def test_errors_of_the_system_are_one_line_with_the_path(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(arguments: object) -> int:
        (tmp_path / ("n" * 300)).stat()
        return 0

    command.run = run
    assert cli.main(["try"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"miscnn-tf: error: {tmp_path / 'nnn'}")
    assert printed.endswith("n: File name too long\n")
    (tmp_path / "a.toml").write_text("")
    assert cli.main(["train", str(tmp_path / "a.toml" / "b.toml")]) == 1
    path = tmp_path / "a.toml" / "b.toml"
    assert capsys.readouterr().err == (
        f"miscnn-tf: error: {path}: cannot be read (Not a directory); check its type and permissions\n"
    )


def test_a_misspelt_option_gets_a_suggestion(capsys) -> None:
    assert cli.main(["run", "data", "--minuts", "1"]) == 2
    assert "unrecognized arguments: --minuts 1. Did you mean '--minutes'?" in capsys.readouterr().err
    assert cli.main(["run", "data", "new", "more"]) == 2
    assert "unrecognized arguments: more" in capsys.readouterr().err
