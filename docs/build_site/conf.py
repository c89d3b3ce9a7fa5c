"""How Sphinx builds the site.  Nothing is fetched by it, nor by those who read it."""

from mergecore import __version__

project = "mergecore"
author = "The mergecore authors"
version = release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 4  # the anchors that code hosts make
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = "mergecore"
html_static_path = ["_static"]
html_favicon = "_static/mark.svg"
html_css_files = ["mergecore.css"]
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
