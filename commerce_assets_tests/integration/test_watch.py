"""The watch from outside: what no sensor can see, asked of Dagster's real webserver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from commerce_assets.defs.alerts.webhook import DeliveryError
from commerce_assets.ops import watch
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.processes import free_port, start, wait_until
from commerce_assets_tests.support.receiver import TOKEN, Receiver, receiving
from commerce_assets_tests.support.world import World

NOW = datetime(2026, 3, 1, 3, tzinfo=UTC)


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@contextmanager
def webserver(project: World) -> Iterator[str]:
    """Run Dagster's UI in the project's folder, without the daemon; yields its URL once it answers."""
    shutil.copy(ROOT / "workspace.yaml", project.folder)
    url = f"http://127.0.0.1:{(port := free_port())}"
    arguments = ("-w", "workspace.yaml", "-p", str(port))
    process = start(project, "dagster_webserver", *arguments, DAGSTER_HOME=str(project.folder))
    try:
        wait_until(lambda: next(watch.look(url, NOW)).fault is None)
        yield url
    finally:
        process.terminate()
        process.communicate()


def alerts(project: World, url: str, webhook: Receiver, now: datetime = NOW) -> tuple[bool, str]:
    """Watch once; whether all is well, and what was alerted on."""
    memory = project.folder / "data" / "watch.json"
    webhook.bodies.clear()
    is_well = watch.watch(url, memory=memory, webhook=webhook.url, now=now)
    return is_well, "".join(webhook.texts)


def test_a_code_location_that_does_not_load_is_alerted_on(project: World, webhook: Receiver) -> None:
    """Fault 110."""
    project.settings["COMMERCE_ORDERS_START_DATE"] = "soon"
    with webserver(project) as url:
        is_well, text = alerts(project, url, webhook)
        again = alerts(project, url, webhook, NOW + timedelta(minutes=5))
    down = alerts(project, url, webhook, NOW + timedelta(minutes=10))
    project.settings["COMMERCE_ORDERS_START_DATE"] = "2026-01-01"
    with webserver(project) as restarted:
        _, gone = alerts(project, restarted, webhook, NOW + timedelta(minutes=15))

    assert not is_well
    assert "- code location commerce_assets does not load, so no schedule and no sensor runs: COMMERCE_ORDERS_" in text
    assert "'soon'. Fix: set it to a UTC day" in text
    assert "- daemon does not run (" in text
    assert again == (False, "")
    assert f"UI at {url} does not answer (ConnectionError)" in down[1]
    assert "- code location commerce_assets is good again" in gone


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"data": null}', "does not answer (TypeError)"),
        (
            (
                '{"data": {"workspaceOrError": {"className": "E", "message": "a secret"}, '
                '"instance": {"daemonHealth": {"allDaemonStatuses": []}}}}'
            ),
            "- workspace does not load, so no code location does: see Deployment",
        ),
    ],
)
def test_an_answer_without_code_locations_is_alerted_on(
    project: World, webhook: Receiver, answer: str, said: str
) -> None:
    """Fault 110. After a kill the memory may be damaged."""
    (project.folder / "data").mkdir(exist_ok=True)
    (project.folder / "data" / "watch.json").write_text("{")
    with receiving() as ui:
        ui.answer = answer.encode()
        is_well, text = alerts(project, ui.url, webhook)
        again = alerts(project, ui.url, webhook)

    assert not is_well
    assert said in text
    assert "a secret" not in text
    assert again == (False, "")


def test_an_alert_that_is_not_delivered_is_sent_again(project: World, webhook: Receiver) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    webhook.statuses[:] = [400]
    with pytest.raises(DeliveryError) as refused:
        alerts(project, url, webhook)

    assert TOKEN not in str(refused.value)
    assert "does not answer" in alerts(project, url, webhook)[1]
    assert alerts(project, url, webhook) == (False, "")
