"""How `make docs` makes pages of the documents, which are read in the repository as they are.

The source is the project's root, so that all documents and the files that they lead to are inside.
"""

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import halfpipe
from halfpipe.tables.columns import FRAMES

sys.path.insert(0, str(Path(__file__).parents[1]))
from docs import config_table, flowchart
from halfpipe import settings
from halfpipe.causes import registry

project = "HalfPipe"
author = "the HalfPipe developers"
version = release = halfpipe.__version__

# The notebook is executed each time; the API is from numpydoc docstrings.
extensions = ["myst_nb", "sphinx_click", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_render_markdown_format = "myst"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/*/*.md", "docs/notebooks/*.ipynb", "config/*.md"]
exclude_patterns = [".*", "build", "demo", "work", "stage", "src", "tests"]
myst_heading_anchors = 4
myst_fence_as_directive = ["codes", "keys", "mermaid"]
html_theme = "furo"
html_title = f"HalfPipe {version}"
html_show_sphinx = html_show_copyright = smartquotes = False
html_copy_source = False
html_theme_options = {"light_css_variables": {"font-stack": "system-ui, sans-serif"}}


def examples(_app: Sphinx, ctx: object, lines: list[str]) -> None:
    """Add to a verb its examples and what its exit statuses mean, as its own help has them."""
    verb = getattr(ctx, "command", None)
    for line, said in getattr(verb, "examples", ()):
        lines += ["", f"``{line}``", f"    {said}"]
    statuses = getattr(verb, "statuses", {})
    if statuses:
        lines += [
            "",
            "Exit status: " + "; ".join(f"``{number}`` {said}" for number, said in statuses.items()),
        ]


def code(_app: Sphinx, _ctx: object, lines: list[str]) -> None:
    """Show as code what the text of a verb has between backticks, as a terminal would have it."""
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line) for line in lines]


def nameless(_app: Sphinx, _ctx: object, lines: list[str]) -> None:
    """Leave out an argument without a name, which a verb takes only to refuse it."""
    if lines[:1] == [".. option:: "]:
        lines.clear()


class Mermaid(SphinxDirective):
    """A drawing in Mermaid: as SVG inside the page, for to draw it in the browser takes a script."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        self.env.note_dependency(flowchart.__file__)
        try:
            return [nodes.raw("", flowchart.html("\n".join(self.content)), format="html")]
        except ValueError as error:
            raise self.error(str(error)) from error


class Frames(SphinxDirective):
    """A table of the columns of each frame, from `halfpipe.tables.columns`."""

    def run(self) -> list[nodes.Node]:
        """Make the tables."""
        lines = []
        for name, frame in FRAMES.items():
            index = ", ".join(f"``{column.name}``" for column in frame.index)
            lines += ["", f".. rubric:: {name}", "", f"Index: {index}.", "", ".. list-table::", ""]
            for column in frame.index + frame.data:
                unit = f" ({column.unit})" if column.unit else ""
                lines += [
                    f"   * - ``{column.name}``",
                    f"     - {column.dtype}{unit}",
                    f"     - {column.meaning}",
                ]
        return self.parse_text_to_nodes("\n".join(lines))


class Codes(SphinxDirective):
    """The table of all codes, made from the registry."""

    def run(self) -> list[nodes.Node]:
        """Make it."""
        self.env.note_dependency(registry.__file__)
        rows = (
            f"| `{one.code}` | {one.phase} | {one.meaning} | {one.action} |"
            for one in registry.CODES.values()
        )
        return self.parse_text_to_nodes(
            "\n".join(["| code | phase | meaning | what to do |", "|---|---|---|---|", *rows])
        )


class Keys(SphinxDirective):
    """The tables of the config's keys, made from the settings."""

    def run(self) -> list[nodes.Node]:
        """Make them."""
        self.env.note_dependency(settings.__file__)
        return self.parse_text_to_nodes("\n".join(config_table.table()))


def setup(app: Sphinx) -> None:
    """Add what these pages need."""
    app.add_directive("frames", Frames)
    app.add_directive("mermaid", Mermaid)
    app.add_directive("codes", Codes)
    app.add_directive("keys", Keys)
    app.connect("sphinx-click-process-description", code)
    app.connect("sphinx-click-process-arguments", nameless)
    app.connect("sphinx-click-process-epilog", examples)
