"""Configuration of Sphinx. To build: ``sphinx-build -W docs build/docs`` in the root of the repository."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# The package of this clone, and the extensions beside this file.
sys.path[:0] = [str(ROOT), str(HERE / "extensions")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


project = "miscnn_tf"
author = "the authors of miscnn_tf"
copyright = "the authors of miscnn_tf, Apache License 2.0"
version = release = importlib.import_module("miscnn_tf").__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    # Beside this file:
    "offline_math",
    "command_line",
]
exclude_patterns = ["extensions", "pictures"]
# Two classes of the API share a short name (`Architecture`): the first one is linked.
suppress_warnings = ["ref.python"]

# Guides in Markdown; the tutorials are notebooks, shown as they were saved. They are copied because Sphinx reads only
# files below this folder.
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
shutil.rmtree(HERE / "tutorials" / "notebooks", ignore_errors=True)
if NOTEBOOKS:
    (HERE / "tutorials" / "notebooks").mkdir(parents=True)
    for notebook in NOTEBOOKS:
        shutil.copy(notebook, HERE / "tutorials" / "notebooks")
    extensions.append("myst_nb")
    nb_execution_mode = "off"
else:
    extensions.append("myst_parser")
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_block"]
myst_heading_anchors = 3

# Docstrings: Google's sections; types come from the annotations.
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "no-value": True}
autodoc_inherit_docstrings = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
python_trailing_comma_in_multi_line_signatures = False
toc_object_entries_show_parents = "hide"
default_role = "py:obj"
viewcode_line_numbers = True


def list_notebooks(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the tutorials to the index of their section."""
    if page == "tutorials/index" and NOTEBOOKS:
        entries = "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)
        source[0] += f"\n```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"


def find_classes_anywhere(app: Sphinx, doctree: nodes.document) -> None:
    """Link class names in docstrings (`Sample`) across modules, as a leading dot does (`.Sample`)."""
    for reference in doctree.findall(addnodes.pending_xref):
        if reference.get("refdomain") == "py" and reference["reftarget"][:1].isupper():
            reference["refspecific"] = True


def forget_builtins(app: Sphinx, env: BuildEnvironment) -> None:
    """Drop aliases without source, such as of ``dict[…]``: viewcode links their module page, but does not write it."""
    modules = getattr(env, "_viewcode_modules", {})
    for name in [name for name, entry in modules.items() if not entry]:
        del modules[name]


def remove_links_back(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Remove viewcode's links from source to documentation: they are broken for objects that are re-exported."""
    if page.startswith("_modules/"):
        context["body"] = re.sub(r'<a class="viewcode-back".*?</a>', "", context.get("body", ""))


def setup(app: Sphinx) -> None:
    """Connect the functions of this file."""
    app.connect("source-read", list_notebooks)
    app.connect("doctree-read", find_classes_anywhere)
    app.connect("env-check-consistency", forget_builtins)
    app.connect("html-page-context", remove_links_back)


html_theme = "pydata_sphinx_theme"
html_title = "miscnn_tf"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_favicon = "_static/mark.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "miscnn_tf", "image_light": "_static/mark.svg", "image_dark": "_static/mark.svg"},
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    "index": [],
    "getting_started": [],
    "concepts": [],
    "speed": [],
    "command_line": [],
    "architecture": [],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
