"""The `retinue` command. It reports errors in one line on stderr, and missing extras with a remedy."""

import errno
import gc
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from retinue import streams
from retinue.cli.output import warn
from retinue.errors import ClosedPipe, RetinueError

_FAILED = 2  # as 1 has other meanings, such as "problems found"
_READER_GONE = 128 + signal.SIGPIPE  # as a shell reports a program that this signal ended
_OUT_OF_MEMORY = ("OutOfMemoryException", "NoMemError")  # of DuckDB and SQLite, which may not be installed
_UNMAPPED = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
_NO_THREAD = "can't start new thread"  # Python's message, whatever the cause
_NEEDS = "this command needs more than the base package: pip install 'retinue[server]' (missing: {})"


def main() -> None:
    """Run the command line."""
    streams.install()
    try:
        _run()
    except SystemExit:
        # If Ctrl-C comes while code from a string runs, such as that of a dataclass, `python -m` ends by SIGINT
        # whatever the exit code is. Running other such code resets that (`run_eval_code_obj` in CPython).
        exec("")  # noqa: S102 - nothing
        raise
    except KeyboardInterrupt:  # before a command runs
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
    # NumPy's BLAS, which is not used, allocates memory for each core, and ends the process if that fails.
    os.putenv("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # objects of imported modules stay; visiting them would take a fifth of a --help
    from retinue.cli.main import app  # noqa: PLC0415 - its libraries come with an extra

    gc.freeze()
    gc.enable()
    app()


def _fail(message: str) -> NoReturn:
    warn(" ".join(message.split()))  # messages of libraries may have several lines
    sys.exit(_FAILED)


def _show_traceback(error: Exception) -> None:
    import logging  # noqa: PLC0415 - --help does without these

    if logging.getLogger().handlers:  # only servers set up logging
        logging.getLogger("retinue").critical("this process ends by an error", exc_info=error)
    elif sys.flags.dev_mode:
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)


def _message_of(error: BaseException) -> str:
    if any(_is_out_of_memory(each) for each in _chain(error)):
        return "out of memory: close other programs, or raise the limit of this one (ulimit -v, or the container's)"
    match error:
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] != "retinue":
            return _NEEDS.format(name)
        case OSError(filename=str(name)):
            return f"{name}: {error.strerror}"
        case RuntimeError() if str(error) == _NO_THREAD:
            return "no thread can be started: raise the limit of memory or of processes (ulimit, container)"
        case _:
            return f"unexpected error (PYTHONDEVMODE=1 shows where): {type(error).__name__}: {error}"


def _is_out_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in _OUT_OF_MEMORY
        or getattr(error, "errno", None) == errno.ENOMEM
        or (isinstance(error, ImportError) and any(words in str(error) for words in _UNMAPPED))
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
