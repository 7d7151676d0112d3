"""HTML pages from templates in which every value is escaped: rows, labels and file names are hostile until shown
harmless. base.html holds what all pages share, with a content policy that forbids scripts and anything from elsewhere.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from .content import printable


def fill(template: str, longest: int, **values: Any) -> str:
    """The template with its values. `template`: its path within `luthier.evidence`; `longest`: characters of a text
    that are shown, for a page is to be read.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def clean(value: Any) -> Any:
        return printable(value, longest) if isinstance(value, str) and not isinstance(value, Markup) else value

    pages = Environment(
        loader=PackageLoader("luthier", "evidence"),
        autoescape=True,
        finalize=clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["percent"] = lambda value: f"{100 * value:.0f}\u00a0%"
    pages.filters["sentence"] = lambda text: text.replace(" %", "\u00a0%")  # no line begins with a percent sign
    css = resources.files(__package__).joinpath("report.css").read_text("utf-8")
    return pages.get_template(template).render(css=Markup(css), **values)  # the style is ours, not data
