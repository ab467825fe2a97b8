"""How the documentation is built: ``sphinx-build -W docs build/docs`` in the root of the repository."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

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
    "plain_names",
    "command_line",
    "source_links",
]
exclude_patterns = ["extensions", "pictures"]
# Whatever has a name has to be found: `plain_names` says what becomes of names without a page.
nitpicky = True

# Guides in Markdown; the tutorials are notebooks, shown as they were saved. A copy of them has to lie here.
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
    """The tutorials in the index of their section, where there are any."""
    if page == "tutorials/index" and NOTEBOOKS:
        entries = "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)
        source[0] += f"\n```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"


def setup(app: Sphinx) -> None:
    """What has no setting of its own."""
    app.connect("source-read", list_notebooks)


html_theme = "pydata_sphinx_theme"
html_title = "miscnn_tf"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_favicon = "_static/mark.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "miscnn_tf", "image_light": "_static/mark.svg", "image_dark": "_static/mark.svg"},
    "header_links_before_dropdown": 7,
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
html_sidebars = {"index": [], "getting_started": [], "concepts": [], "speed": [], "command_line": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
