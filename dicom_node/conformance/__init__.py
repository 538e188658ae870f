"""Conformance: what this node promises to others (PS3.2), tables from the code, prose from a template."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from dicom_node.conformance import content, network, objects, security, statuses, terms

PATH = "deploy/CONFORMANCE.md"
"""Where the statement of this version is kept."""


def statement() -> str:
    """The conformance statement as Markdown; the same code gives the same text."""
    environment = Environment(
        loader=PackageLoader("dicom_node.conformance"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    parts = (network, statuses, objects, content, security, terms)
    tables = {key: value for part in parts for key, value in part.tables().items()}
    return environment.get_template("statement.md").render(tables)
