"""`retinue openapi`."""

from retinue.cli.output import print_lines


def openapi() -> None:
    """Print the OpenAPI document of the public API."""
    from msgspec import json

    from retinue.web.openapi import document

    print_lines(json.format(json.encode(document()), indent=2).decode() + "\n")
