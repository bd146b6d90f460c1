"""Finds the verb and runs it, and turns errors into one line and an exit code.

Nothing heavy is imported before the verb is known, so that ``lorasub --help`` and ``--version`` answer at once.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from lorasub._version import __version__
from lorasub.errors import ConfigError, LorasubError, RunInterruptedError

#: verb -> what it does
VERBS: dict[str, str] = {
    "fit": "fit an adapter; --config geometry",
    "validate": "score a checkpoint on validation data",
    "test": "score a checkpoint on test data",
    "compare": "set the results of several tests side by side, with intervals",
    "predict": "write depth, cameras and point clouds for images",
    "mine": "find the subspace that several adapters share",
    "overlap": "measure how far subspaces overlap, against chance",
    "split": "split attributes into what all share and what is each one's own",
    "combine": "join several bases into one",
    "inspect": "say what is in an adapter, a basis, a checkpoint; inspect backbone CLASS: check a model",
    "merge": "write a model with an adapter merged into its weights",
    "export": "write an adapter or a basis in another project's format",
    "configs": "list the configs that come with the package, or copy one to edit",
    "generate": "write synthetic scenes to disk",
    "audit": "is a set of synthetic scenes worth fitting an adapter to?",
    "data": "data check PATH: was this capture read right?",
    "study": "study plan|run|report FILE: the whole experiment, from one YAML",
    "view": "show captures and predictions in a browser",
}

USAGE = """usage: lorasub VERB [OPTIONS]

Mine attribute subspaces of 3D foundation models from synthetic scenes, and fine-tune in them.

verbs:
{verbs}

options:
  --version   print the version
  --debug     show the full traceback of an error
  -h, --help  this text; `lorasub VERB --help` for a verb's options

example:
  lorasub fit --config geometry --trainer.max_steps 100
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: as on the command line, without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    if not given or given[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] == "--version":
        print(f"lorasub {__version__}")  # noqa: T201
        return 0
    if given[0] not in VERBS:
        return _fail(f"there is no verb '{given[0]}'; the verbs are {', '.join(VERBS)}", 2)
    # a user's own task or data module lives in a file beside the config, not in site-packages
    if os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.append(os.getcwd())  # noqa: PTH109
    with _short_warnings(debug):
        try:
            run_verb(given[0], given[1:])
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
        except KeyboardInterrupt:
            return _fail("interrupted", 130)
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _explain(error)
    return 0


@contextlib.contextmanager
def _short_warnings(debug: bool) -> Iterator[None]:
    """Let warnings be one line of words, without a place in the code, unless everything is to be seen."""
    usual = warnings.formatwarning
    if not debug:
        warnings.formatwarning = _in_one_line
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {' '.join(str(message).split())}\n"


def run_verb(verb: str, arguments: Sequence[str]) -> None:
    """Run a verb of the table; only its own part of the package is imported."""
    match verb:
        case "fit" | "validate" | "test" | "predict":
            import lorasub.training

            lorasub.training.run(verb, arguments)
        case "mine" | "overlap" | "split" | "combine":
            import lorasub.cli.subspaces

            lorasub.cli.subspaces.run(verb, arguments)
        case "inspect" | "merge" | "export":
            import lorasub.cli.artefacts

            lorasub.cli.artefacts.run(verb, arguments)
        case "generate":
            import lorasub.cli.generation

            lorasub.cli.generation.run(arguments)
        case "audit":
            import lorasub.cli.audit

            lorasub.cli.audit.run(arguments)
        case "configs":
            import lorasub.cli.configs

            lorasub.cli.configs.run(arguments)
        case "compare":
            import lorasub.cli.comparison

            lorasub.cli.comparison.run(arguments)
        case "data":
            import lorasub.cli.captures

            lorasub.cli.captures.run(arguments)
        case "study":
            import lorasub.cli.study

            lorasub.cli.study.run(verb, arguments)
        case "view":
            import lorasub.cli.view

            lorasub.cli.view.run(arguments)


def usage() -> str:
    """The text of ``lorasub --help``."""
    width = max(map(len, VERBS))
    return USAGE.format(verbs="\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()))


def _explain(error: Exception) -> int:
    """Print what a person needs: our own errors say it all; others are defects, here or in a user's code."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LorasubError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        code = 2 if isinstance(cause, ConfigError) else 130 if isinstance(cause, RunInterruptedError) else 1
        return _fail(str(cause), code)
    return _fail(f"{type(error).__name__}: {error}\n(run again with --debug for the traceback)", 1)


def _fail(message: str, code: int) -> int:
    line = f"lorasub: {message}"
    if "tqdm" in sys.modules:  # bars may be open: the message gets a line of its own
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
