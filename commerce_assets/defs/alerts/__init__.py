"""Speaks up when a run fails, or a check fails in a run that does not: to a webhook, or in the log."""
