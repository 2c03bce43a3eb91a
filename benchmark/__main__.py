"""The command line: `python -m benchmark COMMAND [key=value ...]`, parsed and handed to the command's function."""

from __future__ import annotations

import sys

from benchmark import environment, start
from benchmark.cli import help
from benchmark.errors import UsageError


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 a cell, a check, a disk or SLURM failed, 2 bad input, 3 a cell was left to another process,
    128 + N stopped by signal N."""
    start.let_threads_sleep()
    start.promise_float32()
    try:
        start.refuse_windows()
        start.refuse_namesakes()
        parsed = help.parse(arguments if arguments is not None else sys.argv[1:])
        from benchmark.cli.commands import COMMANDS  # behind what is refused, and the help

        flags = {name: value for name, value in vars(parsed).items() if name not in ("command", "words")}
        return COMMANDS[parsed.command](parsed.words, **flags)
    except UsageError as error:
        if environment.is_main() or not environment.is_torchrun():  # else a variable that is left over would silence it
            _print_error(error)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` closed the pipe
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        _print_error(error)
        return 1


def _print_error(error: Exception) -> None:
    """In one line, without what a terminal obeys. Not by `results`, which a file of the user's may stand for."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(error))
    print("error:", " ".join(text.split()), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
