"""Finds the verb and runs it, and turns errors into one line and an exit code.

Nothing heavy is imported before the verb is known, so that ``lorasub --help`` and ``--version`` answer at once.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from lorasub._version import __version__
from lorasub.errors import ConfigError, LorasubError

#: verb -> (module with ``run(verb, arguments)``, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "fit": ("lorasub.cli.training", "fit an adapter; --config configs/geometry.yaml"),
    "validate": ("lorasub.cli.training", "score a checkpoint on validation data"),
    "test": ("lorasub.cli.training", "score a checkpoint on test data"),
    "compare": ("lorasub.cli.comparison", "set the results of several tests side by side, with intervals"),
    "predict": ("lorasub.cli.training", "write depth, cameras and point clouds for images"),
    "mine": ("lorasub.cli.subspaces", "find the subspace that several adapters share"),
    "overlap": ("lorasub.cli.subspaces", "measure how far subspaces overlap, against chance"),
    "split": ("lorasub.cli.subspaces", "split attributes into what all share and what is each one's own"),
    "combine": ("lorasub.cli.subspaces", "join several bases into one"),
    "inspect": ("lorasub.cli.artefacts", "say what is in an adapter, a basis, a checkpoint"),
    "merge": ("lorasub.cli.artefacts", "write a model with an adapter merged into its weights"),
    "export": ("lorasub.cli.artefacts", "write an adapter or a basis in another project's format"),
    "generate": ("lorasub.cli.scenes", "write synthetic scenes to disk"),
    "audit": ("lorasub.cli.scenes", "measure how much each attribute varies in synthetic scenes"),
    "data": ("lorasub.cli.captures", "data check PATH: was this capture read right?"),
    "study": ("lorasub.cli.study", "study plan|run|report FILE: the whole experiment, from one YAML"),
    "view": ("lorasub.cli.view", "show captures and predictions in a browser"),
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
  lorasub fit --config configs/geometry.yaml --trainer.max_steps 100
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
    try:
        importlib.import_module(VERBS[given[0]][0]).run(given[0], given[1:])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error)
    return 0


def usage() -> str:
    """The text of ``lorasub --help``."""
    width = max(map(len, VERBS))
    return USAGE.format(verbs="\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()))


def _explain(error: Exception) -> int:
    """Print what a person needs: our own errors say it all; others are defects, here or in a user's code."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LorasubError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return _fail(str(cause), 2 if isinstance(cause, ConfigError) else 1)
    return _fail(f"{type(error).__name__}: {error}\n(run again with --debug for the traceback)", 1)


def _fail(message: str, code: int) -> int:
    print(f"lorasub: {message}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
