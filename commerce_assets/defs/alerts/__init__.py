"""Alerts on failed runs, checks, backfills and ticks: to a webhook, and in the log."""
