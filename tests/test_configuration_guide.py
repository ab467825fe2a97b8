"""The reference of the configuration is that of the schema, and its example is one."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from miscnn_tf.experiment.schema import Experiment
from miscnn_tf.experiment.toml_file import read_experiment

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "guides" / "configuration.md"


def test_the_page_is_what_the_schema_says() -> None:
    written = runpy.run_path(str(DOCS / "make_configuration.py"))["page"]()
    assert PAGE.read_text(encoding="utf-8") == written, "run: python docs/make_configuration.py"


def test_every_key_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, field in Experiment.model_fields.items():
        part = page.partition(f"## `[{name}]`")[2].partition("\n## ")[0]
        keys = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
        assert keys == list(field.annotation.model_fields)


def test_the_example_can_be_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "example.toml").write_text(example, encoding="utf-8")
    experiment = read_experiment(tmp_path / "example.toml")
    assert experiment.network.epochs == 50
    assert len(experiment.preprocessing.make_steps()) == 3
