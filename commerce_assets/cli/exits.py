"""The exit statuses."""

from http import HTTPStatus

OK = 0
NOT_SO = 1
"""It failed, or what was asked is not so."""
USAGE = 2
"""The command or a setting cannot be used."""
INTERRUPTED = 130
"""Ended by Ctrl-C, as shells count it."""


def exit_status(error: str, http_status: object) -> int:
    """Return the exit status of a known error, by its class and the HTTP status that caused it."""
    return USAGE if error == "SettingError" or http_status == HTTPStatus.UNAUTHORIZED else NOT_SO
