"""The site of the pages: `make docs`."""

from tuneagent import __version__

project = "tuneagent"
author = "The tuneagent developers"
release = __version__
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"tuneagent {release}"
# Pages link to headings of other pages.
myst_heading_anchors = 3
