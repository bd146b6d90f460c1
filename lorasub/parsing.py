"""Errors of command lines in one line, whatever parser finds them."""

from __future__ import annotations

import argparse
from typing import NoReturn

from lorasub.errors import ConfigError


class OneLineErrors(argparse.ArgumentParser):
    """Makes the errors of jsonargparse's parser ours; stands before it among the bases of a class."""

    def explained(self, message: str) -> str:
        """Returns in one line what a message of jsonargparse says, with what was probably meant."""
        raise NotImplementedError

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises what the message says.

        Raises:
            ConfigError: in one line; within jsonargparse's own trials of types, its own error.
        """
        if not self.exit_on_error:
            super().error(message, ex)  # type: ignore[call-arg] # of jsonargparse
        raise ConfigError(self.explained(message)) from None
