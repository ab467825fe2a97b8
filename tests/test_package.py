"""The package itself: what it declares that it needs, what it imports, and what starts with it."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.util
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import miscnn_tf

PACKAGE = Path(miscnn_tf.__file__).parent
ROOT = PACKAGE.parent

#: The benchmark of the structure, which counts import circles.
_spec = importlib.util.spec_from_file_location("structure", ROOT / "benchmarks" / "structure.py")
structure = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(structure)

#: Declared, but imported by no module of the package.
NOT_IMPORTED: dict[str, str] = {}

#: Lower numbers import nothing of higher ones, not even in functions.
FLOORS = {
    "errors": 0,
    "_base": 0,
    "registry": 0,
    "_machine": 1,
    "data_loading": 2,
    "datasets": 3,
    "processing": 3,
    "runs": 4,
    "neural_network": 5,
    "pictures": 4,
    "explore": 4,
    "report": 6,
    "xai": 6,
    "evaluation": 7,
    "multi_model": 8,
    "experiment": 8,
    "utils": 8,
    "nnunet": 9,
    "cli": 10,
}


def read_setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def requirements() -> dict[str, list[str]]:
    """The lines of requirements: "" for the package itself, and by extra."""
    setup = read_setup()
    extras = {name: text.split("\n") for name, text in setup["options.extras_require"].items()}
    lists = {"": setup["options"]["install_requires"].split("\n"), **extras}
    return {name: [line.strip() for line in lines if line.strip()] for name, lines in lists.items()}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """The distributions that these lists of requirements name."""
    lines = [line for extra in extras for line in requirements()[extra]]
    return {normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in lines}


def imports(path: Path, at_start: bool = False) -> Iterator[tuple[str, int]]:
    """Absolute imports in a file, anywhere in it, or those that importing it makes."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_start and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def undeclared(files: Iterator[Path], allowed: set[str], own: set[str]) -> list[str]:
    known = packages_distributions()
    bad = []
    for path in files:
        for module, line in imports(path):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in own:
                continue
            if not {normal(name) for name in known.get(top, [top])} & allowed:
                bad.append(f"{path.relative_to(ROOT)}:{line}: {top}")
    return bad


@pytest.mark.parametrize(
    ("extra", "line"), [(extra, line) for extra, lines in requirements().items() for line in lines]
)
def test_a_requirement_has_a_lower_bound_and_no_upper_one(extra, line):
    assert re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?>=\d+(\.\d+)*", line), line


def test_python_has_a_lower_bound_only_and_the_tools_agree():
    assert read_setup()["options"]["python_requires"] == ">=3.11"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'target-version = "py311"' in project
    assert 'python_version = "3.11"' in project


def test_the_extras_are_there_and_nothing_abandoned_is_needed():
    lists = requirements()
    assert {"test", "gpu", "dicom", "onnx"} <= set(lists)
    assert [line.partition(">=")[0] for line in lists["gpu"]] == ["tensorflow[and-cuda]"]
    assert "pytest" in declared("test")
    assert "pydicom" in declared("dicom")
    assert not declared(*lists) & {"tensorflow-addons", "sklearn", "miscnn"}


def test_what_is_imported_is_declared():
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 80
    assert undeclared(iter(files), declared("", "dicom", "onnx", "staple", "tensorboard"), own={"miscnn_tf"}) == []
    tests = (ROOT / "tests").rglob("*.py")
    # Helpers lie beside the tests, or in their folders.
    own = {"miscnn_tf", "conftest", *(path.stem for path in (ROOT / "tests").iterdir())}
    assert undeclared(tests, declared("", "test"), own) == []


def test_what_is_declared_is_imported():
    tops = {module.partition(".")[0] for path in PACKAGE.rglob("*.py") for module, _ in imports(path)}
    known = packages_distributions()
    used = {normal(name) for top in tops for name in known.get(top, [])}
    assert declared("") - used == set(NOT_IMPORTED)


def test_files_that_are_no_code_are_installed_too():
    patterns = {
        Path(*package.split(".")) / pattern
        for package, listed in read_setup()["options.package_data"].items()
        for pattern in re.split(r"[\s,]+", listed.strip())
    }
    installed = {path for pattern in patterns for path in ROOT.glob(str(pattern))}
    data = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert data - installed == set()
    assert PACKAGE / "py.typed" in installed


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_a_floor_imports_only_floors_below_it():
    bad = []
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).with_suffix("").parts
        if len(place) == 1 and place[0] in {"__init__", "__main__"}:
            continue  # the door to all floors
        for module, line in imports(path):
            _, _, inside = module.partition("miscnn_tf.")
            floor = inside.partition(".")[0]
            if module.startswith("miscnn_tf.") and floor in FLOORS and FLOORS[floor] > FLOORS[place[0]]:
                bad.append(f"{path.relative_to(ROOT)}:{line}: {module}")
    assert bad == []


def test_modules_named_in_a_text_to_import_them_are_these():
    named = {
        (path.relative_to(PACKAGE).as_posix(), ast.unparse(node.args[0]))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))
    }
    assert named == {
        ("__init__.py", "f'{__name__}.{name}'"),
        ("cli/main.py", "command.module"),
        # Upwards: MIScnn's paths of three functions.
        ("data_loading/data_io.py", "'miscnn_tf.runs.tables'"),
    }


def test_no_import_leads_in_a_circle():
    """Imports in functions count too."""
    modules = {structure.module(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: structure.imported(path) for name, path in modules.items()}
    assert sum(map(len, graph.values())) > 1000
    assert structure.circles(graph) == []
    packages: dict[str, set[str]] = {}
    for name, found in graph.items():
        own = name.split(".")[1:2]
        packages.setdefault("".join(own), set()).update(
            other.split(".")[1] for other in found if other.split(".")[1:2] not in ([], own)
        )
    assert structure.circles(packages) == []


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert structure.circles(graph) == [{"a", "b", "c"}]


def test_imports_are_absolute():
    """The other tests of imports look at absolute ones."""
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_evaluation_knows_models_by_protocols():
    """Defect: it imported Neural_Network in functions and for type checkers, and probed other models."""
    bad = [
        f"{path.name}:{line}: {module}"
        for folder in ("evaluation", "runs")
        for path in (PACKAGE / folder).rglob("*.py")
        for module, line in imports(path)
        if module.startswith("miscnn_tf.neural_network") or "Neural_Network" in module
    ]
    assert bad == []


def test_no_class_of_the_package_is_imported_for_type_checkers_only():
    bad = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                inside = [inner.module or "" for inner in ast.walk(node) if isinstance(inner, ast.ImportFrom)]
                bad += [f"{path.relative_to(ROOT)}: {name}" for name in inside if name.startswith("miscnn_tf")]
    assert bad == []


def test_few_files_read_the_cluster_from_the_environment():
    """Defect: 17 files read TF_CONFIG."""
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for module, _ in imports(path)
        if module == "miscnn_tf._machine.tf_config.read_cluster"
    }
    assert readers == {"runs/writer.py", "neural_network/device_probe.py", "neural_network/hardware.py"}
    messages = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "TF_CONFIG" in node.value
        if '"""' not in (ast.get_source_segment(path.read_text(encoding="utf-8"), node) or "")
    }
    assert messages == {"_machine/tf_config.py"}  # others use its constant


def test_only_the_network_and_what_runs_it_import_tensorflow():
    bad = []
    for path in PACKAGE.rglob("*.py"):
        if FLOORS.get(path.relative_to(PACKAGE).parts[0], 0) == FLOORS["neural_network"]:
            continue
        heavy = [module for module, _ in imports(path, at_start=True) if re.match(r"(tensorflow|keras)\b", module)]
        bad += [f"{path.relative_to(ROOT)}: {module}" for module in heavy]
    assert bad == []


def test_importing_these_modules_above_the_network_loads_tensorflow():
    started = {
        structure.module(path): {name for name, _ in imports(path, at_start=True)} for path in PACKAGE.rglob("*.py")
    }
    heavy = {
        name for name, found in started.items() if any(re.match(r"(tensorflow|keras)\b", other) for other in found)
    }

    def loaded(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = {start}
        while waiting:
            parts = waiting.pop().split(".")
            # Importing a.b.c runs a and a.b; its last part may be a class or a function.
            new = {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & started.keys() - seen
            seen |= new
            waiting |= {other for name in new for other in started[name]}
        return seen

    above = [name for name in started if not name.startswith("miscnn_tf.neural_network")]
    loading = {name.removeprefix("miscnn_tf.") for name in above if loaded(name) & heavy}
    assert loading == {"experiment.build_network", "cli.demo_run", "cli.training_run", "cli.prediction_run"}


def test_the_architecture_page_lists_the_files_that_ask_for_the_class_of_an_interface():
    asking = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
        if re.search(r"_interface\b|Abstract_IO\b", ast.unparse(node.args[1]))
    }
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paragraph = re.search(r"Six files ask for the\sclass of an interface:(.*?)arrays in memory", page, re.DOTALL)
    assert set(re.findall(r"`(\S+\.py)`", paragraph[1])) == asking
    assert len(asking) == 6


def test_every_import_of_the_package_leads_to_a_module():
    """mypy takes a missing module of ours for a library without types; imports in functions fail only when they run."""

    def is_module(file: Path) -> bool:
        return file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()

    bad = []
    for path in PACKAGE.rglob("*.py"):
        for name, line in imports(path):  # of a module, or of something in it
            file = ROOT / name.replace(".", "/")
            if name.startswith("miscnn_tf.") and not is_module(file) and not is_module(file.parent):
                bad.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert bad == []


def private_names(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of each private name of the package that a test imports, reads or patches in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "miscnn_tf":
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                if re.match("_(?!_)", alias.name):
                    yield node.lineno, node.module, alias.name
        elif isinstance(node, ast.Import):
            modules |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            owner, name = node.args[0], str(node.args[1].value)  # monkeypatch.setattr(module, "_name", …)
        else:
            continue
        if isinstance(owner, ast.Name) and owner.id in modules and re.match("_(?!_)", name):
            yield node.lineno, modules[owner.id], name


def private_to(name: str) -> Path | None:
    """The folder to which a private module, or a private name in a module, is private; None for public ones."""
    parts = name.split(".")
    private = [place for place, part in enumerate(parts) if re.match("_(?!_)", part)]
    if parts[:1] != ["miscnn_tf"] or not private or (parts[1] in ("_base", "_machine") and private == [1]):
        return None
    folder = ROOT.joinpath(*parts[: private[-1]])
    while not folder.is_dir():
        folder = folder.parent
    return folder


def test_private_names_belong_to_the_package_that_contains_them():
    assert private_to("miscnn_tf.data_loading._discovery.image_forms.have_colours") == PACKAGE / "data_loading"
    assert private_to("miscnn_tf.runs.fold._read") == private_to("miscnn_tf.runs.fold.Fold._read") == PACKAGE / "runs"
    assert private_to("miscnn_tf._base.messages._text") == PACKAGE / "_base"
    assert private_to("miscnn_tf._base.messages.some_of") is private_to("numpy._core") is None


def test_the_package_uses_private_names_in_their_own_package_only():
    bad = []
    for path in PACKAGE.rglob("*.py"):
        used = [(line, f"{module}.{name}") for line, module, name in private_names(path)]
        used += [(line, module) for module, line in imports(path)]
        for line, name in used:
            owner = private_to(name)
            if owner is not None and not path.is_relative_to(owner):
                bad.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert bad == []


def test_tests_use_private_names_of_their_own_package_only():
    bad = []
    for path in (ROOT / "tests").rglob("*.py"):
        # A folder of tests is that of a package; beside the folders, a file is that of a module.
        subject = path.relative_to(ROOT / "tests").with_suffix("").parts[0].removeprefix("test_")
        for line, module, name in private_names(path):
            if subject not in [part.removeprefix("_") for part in module.split(".")]:
                bad.append(f"{path.relative_to(ROOT)}:{line}: {module}.{name}")
    assert bad == []


def test_the_package_and_its_help_load_no_heavy_library():
    script = """
        import sys
        import miscnn_tf
        from miscnn_tf.cli.main import main
        main(["--help"])
        heavy = {"tensorflow", "keras", "numpy", "scipy", "matplotlib", "nibabel"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, timeout=60)


def test_importing_the_package_takes_no_time():
    script = "import time; begin = time.perf_counter(); import miscnn_tf; print(time.perf_counter() - begin)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", script], timeout=60)) for _ in range(3)]
    assert min(seconds) < 0.15


def test_the_public_names_are_the_same_in_dir_stub_and_documentation():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imported = [alias for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [alias.name for alias in imported] == [alias.asname for alias in imported]  # exported, for type checkers
    page = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    on_the_page = re.findall(r":py:\w+:`[.~](?:\w+\.)*(\w+)`", page)
    assert dir(miscnn_tf) == sorted(alias.name for alias in imported) == sorted(on_the_page)


def test_every_public_name_is_what_its_long_path_leads_to():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            home = importlib.import_module(".".join(["miscnn_tf", node.module] if node.module else ["miscnn_tf"]))
            for alias in node.names:
                assert getattr(miscnn_tf, alias.name) is getattr(home, alias.name)
    assert miscnn_tf.neural_network.metrics.dice_soft  # subpackages, as in scripts for MIScnn
    with pytest.raises(AttributeError, match="no_such_name"):
        miscnn_tf.no_such_name  # noqa: B018


def test_the_version_comes_from_one_place_and_is_the_latest_in_the_changelog():
    assert read_setup()["metadata"]["version"] == "attr: miscnn_tf.__version__"
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert releases[0] == miscnn_tf.__version__
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_paths_that_contributors_are_shown_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:miscnn_tf|tests)/[\w/.]+)`", text)
    assert len(paths) > 12
    assert [path for path in paths if not (ROOT / path).exists()] == []
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`(\w+/[\w/.*]*)`", text)
    assert len(paths) > 50
    assert [path for path in paths if not [*PACKAGE.rglob(path), *ROOT.glob(path)]] == []


def test_the_workflow_runs_the_lowest_and_the_newest_python():
    versions = re.findall(
        r"^ *Programming Language :: Python :: (3\.\d+)$", read_setup()["metadata"]["classifiers"], re.M
    )
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert f'python: ["{versions[0]}", "{versions[-1]}"]' in workflow
    assert read_setup()["options"]["python_requires"] == f">={versions[0]}"


def test_the_lower_floors_do_not_import_the_network():
    script = """
        import sys
        import miscnn_tf.processing.preprocessor, miscnn_tf.data_loading.interfaces, miscnn_tf.evaluation
        import miscnn_tf.datasets, miscnn_tf.utils.patch_operations, miscnn_tf.processing.subfunctions
        assert "tensorflow" not in sys.modules and "keras" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, timeout=120)


def test_a_clone_in_the_current_folder_does_not_pass_for_the_package(tmp_path):
    """A person who cloned the repository starts Python beside it: the clone's folder has the package's name."""
    (tmp_path / "miscnn_tf").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "import miscnn_tf; print(miscnn_tf.__version__)"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stdout.strip() == miscnn_tf.__version__, done.stderr
