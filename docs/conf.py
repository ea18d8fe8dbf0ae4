"""
Sphinx: the prose.  The API is pydoctor's: C{pydoctor dtt}.
"""

project = "dtt"
author = "the dtt contributors"
project_copyright = "2026, the dtt contributors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "newsfragments"]
html_theme = "furo"
html_title = "dtt"
