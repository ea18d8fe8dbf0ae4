"""
Sphinx makes the prose, and calls pydoctor for the API reference.
"""

from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent

project = "dtt"
author = "the dtt contributors"
project_copyright = "2026, the dtt contributors"
extensions = ["myst_parser", "sphinx.ext.intersphinx", "pydoctor.sphinx_ext.build_apidocs"]
intersphinx_mapping = {}
pydoctor_args = [
    "--quiet",
    "--project-name=dtt",
    "--docformat=epytext",
    "--html-output={outdir}/api",
    f"--project-base-dir={_ROOT}",
    str(_ROOT / "dtt"),
]
pydoctor_url_path = "/en/{rtd_version}/api/"
myst_heading_anchors = 3
exclude_patterns = ["_build", "newsfragments"]
html_theme = "furo"
html_title = "dtt"
