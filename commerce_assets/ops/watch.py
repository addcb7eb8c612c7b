"""Alert on what the sensor `alerts` cannot see: the UI, the daemon or a code location is down. For a timer or cron.

`python -m commerce_assets.ops.watch http://127.0.0.1:3000` asks the UI. It alerts like the sensor: in the log and, if
set, to COMMERCE_ALERT_WEBHOOK_URL; once per fault and day, and once more when the fault is gone. Exit status 1 while
something is down, 2 if the alert was not delivered.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import requests

from commerce_assets.defs.alerts.message import Sighting, Trouble, select_new, write_message
from commerce_assets.defs.alerts.webhook import DeliveryError, post
from commerce_assets.settings import SettingError, checked_webhook_url, load_environment

_SECONDS = 20.0
_OWN = f"{__name__.partition('.')[0]}."
_ERROR = "... on PythonError { className message errorChain { error { message } } }"
_QUERY = f"""{{
  workspaceOrError {{
    ... on Workspace {{ locationEntries {{ name locationOrLoadError {{ {_ERROR} }} }} }}
    {_ERROR}
  }}
  instance {{ daemonHealth {{ allDaemonStatuses {{ daemonType required healthy }} }} }}
}}"""


def look(url: str, now: datetime) -> Iterator[Sighting]:
    """Yield the state of the UI at `url`, of its code locations and of the daemon."""
    ui = f"UI at {url}"
    try:
        response = requests.post(f"{url.rstrip('/')}/graphql", json={"query": _QUERY}, timeout=_SECONDS)
        response.raise_for_status()
        data = response.json()["data"]
        workspace, health = data["workspaceOrError"], data["instance"]["daemonHealth"]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        yield Sighting(
            subject=ui,
            at=now,
            fault=type(error).__name__,
            detail=f"does not answer ({type(error).__name__}), so nothing is known of the daemon and the code "
            "location. Fix: start the webserver, or look at its log",
        )
        return
    yield Sighting(subject=ui, at=now)
    entries = workspace.get("locationEntries")
    yield Sighting(
        subject="workspace",
        at=now,
        fault=None if entries is not None else "PythonError",
        detail=f"does not load, so no code location does: {_said(workspace)}",
    )
    for entry in entries or []:
        said = _said(entry["locationOrLoadError"] or {})
        yield Sighting(
            subject=f"code location {entry['name']}",
            at=now,
            fault=said or None,
            detail=f"does not load, so no schedule and no sensor runs: {said}",
        )
    down = sorted(
        each["daemonType"].lower() for each in health["allDaemonStatuses"] if each["required"] and not each["healthy"]
    )
    yield Sighting(
        subject="daemon",
        at=now,
        fault=" ".join(down) or None,
        detail=f"does not run ({', '.join(down)}), so no schedule and no sensor does. "
        "Fix: start dagster-daemon, or look at its log",
    )


def _said(error: dict[str, Any]) -> str:
    """Return the message of a load error if it is this project's; others may quote secrets."""
    if error.get("className") == SettingError.__name__:
        return str(error["message"])
    # A project with the component sends the error itself.
    messages = [error.get("message", ""), *(link["error"]["message"] for link in error.get("errorChain", []))]
    known = [message for message in messages if message.startswith(_OWN)]
    if known:
        return str(known[-1]).partition(": ")[2].strip()
    return "see Deployment, Code locations, in Dagster's UI" if any(messages) else ""


def _read(memory: Path) -> dict[str, Trouble]:
    """Return what was alerted on; nothing if the file is missing or damaged, so that all is alerted on again."""
    try:
        return msgspec.json.decode(memory.read_bytes(), type=dict[str, Trouble])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


def watch(url: str, *, memory: Path, webhook: str | None, now: datetime, shop: str = "") -> bool:
    """Look, alert on what is new, and remember it in a file; returns whether all is well.

    Raises:
        DeliveryError: The webhook did not accept the alert; the next call tries again.
    """
    troubles = _read(memory)
    seen = [*look(url, now)]
    new, troubles = select_new(seen, troubles)
    if new:
        message = write_message(new, shop)
        print(message, flush=True)  # noqa: T201 - the log of the timer
        if webhook:
            post(webhook, message)
    memory.parent.mkdir(parents=True, exist_ok=True)
    part = memory.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(troubles))
    part.replace(memory)
    return not any(each.fault for each in seen)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m commerce_assets.ops.watch", description=__doc__)
    parser.add_argument("url", help="the UI, such as http://127.0.0.1:3000")
    parser.add_argument("--memory", type=Path, default=Path("data/watch.json"), help="file that remembers the alerts")
    arguments = parser.parse_args()
    # Not all settings: an unusable one is what keeps the code location from loading.
    environment = load_environment()
    webhook = environment.get("COMMERCE_ALERT_WEBHOOK_URL", "").strip()
    os.umask(0o077)
    try:
        is_well = watch(
            arguments.url,
            memory=arguments.memory,
            webhook=checked_webhook_url(webhook) if webhook else None,
            now=datetime.now(UTC),
            shop=environment.get("COMMERCE_SHOP", "").strip(),
        )
    except (DeliveryError, SettingError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
