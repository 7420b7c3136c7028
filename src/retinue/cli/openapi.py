"""`retinue openapi`."""

import typer


def openapi() -> None:
    """Print the OpenAPI document of the public API."""
    from msgspec import json

    from retinue.web.openapi import document

    typer.echo(json.format(json.encode(document()), indent=2).decode())
