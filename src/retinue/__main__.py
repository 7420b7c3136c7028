"""The `retinue` command. Turns our errors into one line on stderr, and a missing extra into what to install."""

import gc
import sys

from retinue.errors import RetinueError

_NEEDS = "retinue: this command needs more than the base package: pip install 'retinue[server]' (missing: {})"


def main() -> None:
    """Run the command line."""
    try:
        _run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "retinue":
            raise
        sys.exit(_NEEDS.format(error.name))
    except UnicodeEncodeError:
        sys.stderr.write("retinue: an argument or file name is not text in UTF-8\n")
        sys.exit(2)
    except RetinueError as error:
        sys.stderr.write(f"retinue: {error}\n")
        sys.exit(2)


def _run() -> None:
    gc.disable()  # what is made while modules are imported stays; to look it through would take a fifth of a --help
    from retinue.cli.main import app  # noqa: PLC0415 - its libraries come with an extra

    gc.freeze()
    gc.enable()
    app()


if __name__ == "__main__":
    main()
