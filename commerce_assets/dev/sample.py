"""Where the sample store listens and where its orders begin: the same after every restart, as a real store's."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from commerce_assets.dev.net import is_free, next_free_port

_STATE = Path("data/sample_store.json")
_PREFERRED_PORT = 8765
_DAYS = 60


def port_and_start_date() -> tuple[int, str]:
    """Return a free port and the first day of orders to pull, both as they were the last time if possible."""
    if not _STATE.exists():
        start = datetime.now(UTC).date() - timedelta(days=_DAYS)
        state = {"port": next_free_port(_PREFERRED_PORT), "start_date": start.isoformat()}
        _STATE.parent.mkdir(parents=True, exist_ok=True)
        _STATE.write_text(json.dumps(state) + "\n")
    remembered = json.loads(_STATE.read_text())
    port = remembered["port"]
    return (port if is_free(port) else next_free_port(port)), remembered["start_date"]
