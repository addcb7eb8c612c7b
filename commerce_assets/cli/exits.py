"""The exit statuses."""

OK = 0
NOT_SO = 1
"""It failed, or what was asked is not so."""
USAGE = 2
"""The command or a setting cannot be used."""
INTERRUPTED = 130
"""Ended by Ctrl-C, as shells count it."""
