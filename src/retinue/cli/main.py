"""The command line: its commands, which import their libraries when they run."""

from typing import Annotated

import typer

from retinue.cli import (
    apply,
    audit,
    client,
    collect,
    erase,
    export,
    following,
    generate,
    import_,
    run,
    serve,
    store,
)
from retinue.cli.commands import group
from retinue.cli.output import print_line


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print_line(f"retinue {metadata.version('retinue')}")
        raise typer.Exit


app = group()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Serve a follow graph through TikTok's endpoint Query User Following."""
    _ = version  # its callback prints it


app.command("serve")(serve.serve)
app.command("import")(import_.import_)
app.command("export")(export.export)
app.command("apply")(apply.apply)
app.command("erase")(erase.erase)
app.command("generate")(generate.generate)
app.command("following")(following.following)
app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("check")(store.check)
app.command("openapi")(serve.openapi)
app.command("backup")(store.backup)
app.add_typer(collect.app, name="collect")
app.add_typer(store.app, name="store")
app.add_typer(client.app, name="client")
app.add_typer(audit.app, name="audit")
