"""The templates of pages and pictures."""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from halfpipe import paths
from halfpipe.causes import CODES, PHASES, Verdict
from halfpipe.decode.shortfall import sentences
from halfpipe.formats.met import met_to_unix
from halfpipe.words import lasted

SIGNS = {Verdict.ACTION: "✗", Verdict.NOTE: "!", Verdict.GOOD: ""}


def render(template: str, values: Mapping[str, object]) -> bytes:
    """Render a template with values: a page or a picture."""
    return _environment().get_template(template).render(values).encode()


@cache
def _environment() -> Environment:
    """Return the templates of the package, with their filters and shared values."""
    made = Environment(
        loader=PackageLoader("halfpipe.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # the templates of the package do not change
    )
    made.filters |= {"utc": _utc, "grouped": "{:,}".format, "lasted": lasted, "unix": met_to_unix}
    made.globals |= {
        "SIGNS": SIGNS,
        "PHASES": PHASES,
        "CODES": CODES,
        "lacks": sentences,
        "index": paths.BOARD,
        "page_of": paths.board_page,
        "run_page": paths.board_run,
        "runs_page": paths.BOARD_RUNS,
        "codes_page": paths.BOARD_CODES,
        "trends_page": paths.BOARD_TRENDS,
    }
    # A browser uses only this script and style, and asks only the page's own server, whether there is a newer page.
    # Comments and indentation are removed.
    allowed = "default-src 'none'; connect-src 'self'; img-src data:"
    for what, name in {"style": "board.css", "script": "board.js"}.items():
        text = re.sub(r"^(\s+|//.*\n)+", "", made.get_template(name).render(), flags=re.MULTILINE)
        made.globals[what] = Markup(text)  # noqa: S704 - of the package
        allowed += (
            f"; {what}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        )
    made.globals["policy"] = allowed
    return made


def _utc(unix: float, form: str = "%Y-%m-%d %H:%M UTC") -> str:
    return f"{datetime.fromtimestamp(unix, UTC):{form}}"
