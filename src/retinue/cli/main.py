"""The command line: one file for each noun, put together here. Commands import what they need when they run."""

import typer

from retinue.cli import check, client, imports, openapi, sample, serve

app = typer.Typer(
    name="retinue",
    help="Serve a follow graph through TikTok's Research API contract of Query User Following.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("import")(imports.import_)
app.command("generate")(sample.generate)
app.command("check")(check.check)
app.command("openapi")(openapi.openapi)
app.add_typer(client.app, name="client")
