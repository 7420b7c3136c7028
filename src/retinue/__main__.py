"""The `retinue` command. Turns errors into one line on stderr, and a missing extra into what to install."""

import gc
import signal
import sys
from typing import NoReturn

from retinue.cli import output
from retinue.errors import ClosedPipe, RetinueError

_FAILED = 2
_READER_GONE = 128 + signal.SIGPIPE  # as a shell reports a program that this signal ended
_NEEDS = "this command needs more than the base package: pip install 'retinue[server]' (missing: {})"


def main() -> None:
    """Run the command line."""
    output.install()
    try:
        _run()
    except KeyboardInterrupt:  # before a command has taken over
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    except ClosedPipe:
        sys.exit(_READER_GONE)
    except RetinueError as error:
        _fail(str(error))
    except UnicodeEncodeError:
        _fail("an argument or file name is not text in UTF-8")
    except Exception as error:  # noqa: BLE001 - unexpected ones end as the others do
        _show_traceback(error)
        _fail(_message_of(error))


def _run() -> None:
    gc.disable()  # what is made while modules are imported stays; to look it through would take a fifth of a --help
    from retinue.cli.main import app  # noqa: PLC0415 - its libraries come with an extra

    gc.freeze()
    gc.enable()
    app()


def _fail(message: str) -> NoReturn:
    """Exit with 2: exit code 1 has a meaning of its own, such as "problems found"."""
    sys.stderr.write(f"retinue: {' '.join(message.split())}\n")  # one line, whatever a library put into it
    sys.exit(_FAILED)


def _show_traceback(error: Exception) -> None:
    """Write the traceback of an unexpected error to a server's log, or for developers to stderr."""
    import logging  # noqa: PLC0415 - --help does without these

    if logging.getLogger().handlers:  # only servers set up logging
        logging.getLogger("retinue").critical("this process ends by an error", exc_info=error)
    elif sys.flags.dev_mode:
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)


def _message_of(error: Exception) -> str:
    match error:
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] != "retinue":
            return _NEEDS.format(name)
        case MemoryError():
            return "out of memory"
        case OSError(filename=str(name)):
            return f"{name}: {error.strerror}"
        case _:
            return f"unexpected error (PYTHONDEVMODE=1 shows where): {type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
