"""Write docs/guides/configuration.md, the reference of the configuration, from the schema and the Python interface."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, miscnn_data_interfaces
from miscnn_tf.evaluation.cross_validation import cross_validation
from miscnn_tf.evaluation.split_validation import split_validation
from miscnn_tf.experiment.build import _ATTRIBUTES, default_of
from miscnn_tf.experiment.build_network import known_losses, known_metrics
from miscnn_tf.experiment.schema import Data, Experiment, Table, layouts
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.processing.data_augmentation import SETTINGS, SWITCHES, Data_Augmentation
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions import subfunctions

PAGE = Path(__file__).parent / "guides" / "configuration.md"

HEAD = """\
<!-- Written by docs/make_configuration.py from miscnn_tf/experiment/schema.py; change it there. -->

# The configuration file

`miscnn-tf train` and `miscnn-tf cross-validate` read a [TOML](https://toml.io) file. `miscnn-tf init FOLDER -o
experiment.toml` writes one for a folder of data, with a reason for each value; this page lists all keys.

- Only `[data] path` and, except for whole images, `[preprocessing] patch_shape` are required.
- Unknown keys and tables, and invalid values, are errors before a run starts; all mistakes are listed, with
  suggestions.
- Paths are relative to the folder of the file, and `~` is the home folder.
- `--set network.epochs=5` overrides a value of the file for one run.
- A run stores its configuration in its folder, and can be continued only with the same one.

An example:

```toml
[data]
path = "data"

[preprocessing]
clip = [-79, 304]
spacing = [3.2, 1.6, 1.6]
normalization = "z-score"
patch_shape = [48, 128, 128]
overlap = 0.5

[network]
architecture = {name = "unet_standard", n_filters = 16, depth = 3}
loss = "dice_crossentropy"
epochs = 50
```
"""


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page."""
    defaults = _defaults()
    parts = [HEAD]
    for name, field in Experiment.model_fields.items():
        table = field.annotation
        assert isinstance(table, type)
        assert issubclass(table, Table)
        rows = ["| key | value | meaning | default |", "|---|---|---|---|"]
        for key, inner in table.model_fields.items():
            default = defaults.get((name, key), inner.default)
            if inner.is_required():
                default = "required"
            rows.append(f"| `{key}` | {_kind(table, key)} | {_cell(inner.description or '')} | {_shown(default)} |")
        parts.append(f"## `[{name}]`\n\n{table.__doc__}\n\n" + "\n".join(rows) + "\n")
    parts.append(_names())
    return "\n".join(parts)


def _defaults() -> dict[tuple[str, str], Any]:
    """Return the defaults of the Python interface."""
    sample = {"a": (np.zeros((4, 4, 4)), np.zeros((4, 4, 4), np.uint8))}
    preprocessor = Preprocessor(Data_IO(Dictionary_interface(sample), ""), batch_size=1, patch_shape=(2, 2, 2))
    found: dict[tuple[str, str], Any] = {
        ("split", "validation_share"): default_of(split_validation, "percentage"),
        ("split", "seed"): default_of(cross_validation, "seed"),
        ("cross_validation", "k_fold"): default_of(cross_validation, "k_fold"),
        ("network", "epochs"): default_of(cross_validation, "epochs"),
        ("network", "architecture"): "unet_standard",
        ("network", "loss"): default_of(Neural_Network, "loss").__name__,
        ("network", "metrics"): ["dice_soft"],
        ("network", "shuffle_batches"): True,
    }
    for key in ("analysis", "prepare_subfunctions", "prepare_batches", "use_multiprocessing"):
        found["preprocessing", key] = default_of(Preprocessor, key)
    for key, attribute in _ATTRIBUTES.items():
        found["preprocessing", key] = getattr(preprocessor, attribute)
    for key in ("learning_rate", "precision", "deterministic", "multi_gpu", "workers", "batch_queue_size", "best_by"):
        found["network", key] = default_of(Neural_Network, key)
    for name in (*SWITCHES, *SETTINGS):
        found["augmentation", name.removeprefix("config_")] = getattr(Data_Augmentation(), name)
    return found


def _kind(table: type[Table], key: str) -> str:
    """Return the type of a key in words."""
    schema = table.model_json_schema()
    return _words(schema["properties"][key], schema.get("$defs", {}))


def _words(schema: dict[str, Any], known: dict[str, Any]) -> str:
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    if len(options) > 1:
        return " or ".join(_words(one, known) for one in options)
    (one,) = options
    if "$ref" in one:
        return "name, or table"
    kind = one.get("type")
    if kind == "array":
        item = one["items"]
        if "$ref" in item:
            return "list of tables" if item["$ref"].endswith("Step") else "list of names or tables"
        inner = {"integer": "integers", "number": "numbers", "string": "strings"}[item["type"]]
        return f"two {inner}" if one.get("minItems") == one.get("maxItems") == 2 else f"list of {inner}"
    words = {"integer": "integer", "number": "number", "boolean": "true, false", "string": "string"}
    return words.get(str(kind), "table")


def _shown(default: Any) -> str:
    if default is None or default == {} or repr(default) == "PydanticUndefined":
        return "–"
    if default == "required":
        return "required"
    if isinstance(default, float):
        return f"{default:.4g}"
    if isinstance(default, tuple | list):
        return "[" + ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in default) + "]"
    return json.dumps(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _names() -> str:
    """List the layouts, steps, architectures, losses and metrics with their arguments."""
    losses = known_losses()
    lines = [
        "## Names and their arguments\n",
        "Layouts, `[data] layout`, and the keys of `[data] settings` for each:\n",
        *_list({name: miscnn_data_interfaces[name] for name in layouts()}, leave={*Data.model_fields, "file_ending"}),
        "\nSteps, `[[preprocessing.steps]]`:\n",
        *_list(subfunctions),
        "\nArchitectures, `[network] architecture`:\n",
        *_list(architectures),
        "\nLosses, `[network] loss`, in addition to those of Keras:\n",
        *_list({name: _settings_of(losses[name]) for name in sorted(losses)}, leave={"name", "reduction"}),
        "\nMetrics, `[network] metrics`, in addition to all losses and those of Keras:\n",
        *_list({name: metric for name, metric in known_metrics().items() if name not in losses}, leave=_TENSORS),
    ]
    return "\n".join(lines) + "\n"


_TENSORS = {"y_true", "y_pred", "smooth", "class_weights"}


def _settings_of(loss: Any) -> Any:
    """Return the callable that takes the settings of a loss: its class, or a function without arguments."""
    if inspect.isfunction(loss):
        return loss if loss.__name__ == "dice_weighted" else (lambda: None)
    return type(loss)


def _list(known: Any, leave: Any = ()) -> list[str]:
    lines = []
    for name in known:
        arguments = [
            _argument(one)
            for one in inspect.signature(known[name]).parameters.values()
            if one.name not in leave and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        ]
        lines.append(f"- `{name}`" + (f": {', '.join(arguments)}" if arguments else ""))
    return lines


def _argument(one: inspect.Parameter) -> str:
    if one.default is one.empty:
        return f"`{one.name}` (required)"
    return f"`{one.name}`" if one.default is None else f"`{one.name} = {_shown(one.default)}`"


if __name__ == "__main__":
    main()
