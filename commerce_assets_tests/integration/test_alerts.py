"""Alerts: what is told of runs and checks, once, to a receiver that may be down; and what must not be in it."""

import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
    DefaultSensorStatus,
    build_sensor_context,
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.test_utils import create_run_for_test
from dagster_shared.serdes import serialize_value

from commerce_assets.access import checked_webhook_url
from commerce_assets.definitions import build_definitions
from commerce_assets.defs.alerts import webhook
from commerce_assets.defs.alerts.history import latest_positions, read
from commerce_assets.defs.alerts.news import Sighting, Trouble, harmless, message_of, news_of
from commerce_assets.defs.alerts.sensor import AlertWebhook
from commerce_assets.defs.alerts.webhook import DeliveryError, post
from commerce_assets.settings import SettingError
from commerce_assets_tests.support.canaries import BUYER, CREDENTIALS, EMAIL, KEY, SECRET, canary_order
from commerce_assets_tests.support.leftovers import forms_of, search
from commerce_assets_tests.support.project import Project, endpoint_named
from commerce_assets_tests.support.pulling import Sleeper, product
from commerce_assets_tests.support.receiver import TOKEN, Receiver, receiving

DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VARIABLE = "COMMERCE_ALERT_WEBHOOK_URL"
WHEN = r"\(\d{4}-\d\d-\d\d \d\d:\d\d UTC, run [0-9a-f]{8}\)"


@dataclass
class Alerts:
    """The sensor `alerts` of a project, tick by tick, as the daemon has it evaluated."""

    project: Project
    receiver: Receiver
    cursor: str | None = None

    def tick(self) -> str:
        """Returns why nothing was launched. A cursor is kept only if the tick does not fail."""
        definitions = self.project.definitions
        sensor = definitions.resolve_sensor_def("alerts")
        context = build_sensor_context(
            instance=self.project.instance,
            cursor=self.cursor,
            definitions=definitions,
            resources={name: (definitions.resources or {})[name] for name in sensor.required_resource_keys},
        )
        ticked = sensor.evaluate_tick(context)
        assert not ticked.run_requests
        self.cursor = ticked.cursor
        return ticked.skip_message or ""

    def told(self) -> list[str]:
        """The lines that the receiver gets with the next tick, without the heading."""
        before = len(self.receiver.bodies)
        self.tick()
        return [line for text in self.receiver.texts[before:] for line in text.splitlines()[1:]]

    def offer(self, *products: dict[str, object]) -> None:
        self.project.store.shop.products[:] = products
        self.project.store.touch()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    sleeper = Sleeper()
    monkeypatch.setattr(webhook, "post", partial(post, sleep=sleeper))
    return sleeper


@pytest.fixture
def alerts(project: Project, receiver: Receiver, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> Alerts:
    """After its first tick; the store sells products, and has orders."""
    assert not sleeper.seconds
    project.endpoints = [endpoint_named("products"), endpoint_named("orders")]
    project.settings[VARIABLE] = receiver.url
    monkeypatch.setenv(VARIABLE, receiver.url)
    alerts = Alerts(project, receiver)
    alerts.tick()
    return alerts


@pytest.fixture
def alerts_on_disk(alerts: Alerts) -> Iterator[Alerts]:
    """With a history on disk, where each run has a file of its own, and what is reported without a run another one."""
    home = alerts.project.folder / "home"
    home.mkdir()
    quiet = {"python_logs": {"python_log_level": "WARNING"}, "telemetry": {"enabled": False}}
    with DagsterInstance.local_temp(str(home), overrides=quiet) as instance:
        alerts.project.instance, alerts.cursor = instance, None
        alerts.tick()
        yield alerts


def fail(alerts: Alerts, monkeypatch: pytest.MonkeyPatch, job: str = "orders_refresh") -> None:
    with monkeypatch.context() as patched:
        patched.setenv("COMMERCE_API_SECRET", "not-the-secret")
        alerts.project.run(job, expect_success=False)


def report(alerts: Alerts, *, passed: bool, asset: str = "orders") -> None:
    alerts.project.instance.report_runless_asset_event(
        AssetCheckEvaluation(
            asset_key=AssetKey(asset),
            check_name="complete",
            passed=passed,
            severity=AssetCheckSeverity.WARN,
            description="2 of 3",
            metadata={},
        )
    )


# What is told


def test_a_run_that_fails_is_told_with_its_job_its_step_and_what_to_do(
    alerts: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(alerts, monkeypatch)

    (line,) = alerts.told()

    assert line.startswith(
        "- job orders_refresh: failed: step pull_late_changes_of_orders, PullError: orders changed since "
    )
    assert "401 Unauthorized. Fix: The key or the secret is wrong" in line
    assert alerts.receiver.texts[-1].startswith("commerce_assets: 1 failed\n- ")
    assert alerts.receiver.headers[-1]["content-type"] == "application/json"
    assert pytest.approx(datetime.now(UTC).timestamp(), abs=120) == (
        datetime.strptime(line.split("(")[-1][:16], "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()
    )


def test_a_check_that_fails_in_a_green_run_is_told_once_until_it_has_been_good(alerts: Alerts) -> None:
    alerts.offer(product(1, colour="red"))
    assert alerts.project.run("catalog").success
    told = alerts.told()
    alerts.project.run("catalog")
    told_again = alerts.told()
    alerts.offer(product(1))
    alerts.project.run("catalog")
    told_when_good = alerts.told()
    alerts.offer(product(1, colour="red"))
    alerts.project.run("catalog")
    told_when_bad_again = alerts.told()

    (line,) = told
    assert line.startswith(
        "- check no_undeclared_fields on products: warns: "
        "fields that are not declared, kept in _extra: colour in 1 rows (20"
    )
    assert [text.partition("\n")[0] for text in alerts.receiver.texts] == [
        "commerce_assets: 1 warn",
        "commerce_assets: 1 good again",
        "commerce_assets: 1 warn",
    ]
    assert told_again == []
    assert [line.partition(" (")[0] for line in told_when_good] == [
        "- check no_undeclared_fields on products: is good again"
    ]
    assert [line.partition(" (")[0] for line in told_when_bad_again] == [line.partition(" (")[0]]


def test_a_check_that_fails_is_told_of_the_days_that_it_looked_at(alerts: Alerts) -> None:
    shop = alerts.project.store.shop
    shop.orders[:] = [canary_order(1, NOON), canary_order(2, NOON + timedelta(days=2))]
    alerts.project.store.touch()
    alerts.project.run("orders", days=(DAY, DAY + timedelta(days=1)))
    alerts.project.run("orders", days=(DAY + timedelta(days=2),) * 2)

    told = alerts.told()

    assert [line.partition(": ")[0] for line in told if "fresh" in line] == ["- check fresh on orders"]
    assert sorted(line.partition(": ")[0] for line in told if " of " in line.partition(": ")[0]) == [
        f"- check {check} on orders of {days}"
        for check in ("no_undeclared_fields", "values_fit_their_types")
        for days in ("2026-01-01...2026-01-02", "2026-01-03")
    ]


def test_a_check_that_fails_the_run_is_told_with_it_and_not_once_more(alerts: Alerts) -> None:
    alerts.offer(*(product(number) for number in range(1, 6)))
    alerts.project.run("catalog")
    alerts.offer()
    alerts.project.run("catalog", expect_success=False)

    told = alerts.told()

    (line,) = [line for line in told if "row_count_not_collapsed" in line]
    failed = "failed: the store gives 0 rows where 5 were stored"
    assert line.startswith(f"- job catalog: failed: check row_count_not_collapsed on products: {failed}")


def test_a_standing_check_is_told_when_it_turns_bad_and_as_good_when_the_job_reconcile_reports_it_so(
    alerts: Alerts,
) -> None:
    alerts.project.settings["COMMERCE_ORDERS_START_DATE"] = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    alerts.project.run("orders", days=(yesterday,) * 2)
    alerts.tick()
    for _ in range(2):
        alerts.project.run("health_checks")
    told = alerts.told()
    alerts.project.run("reconcile")
    told_after = alerts.told()

    assert [line for line in told if "complete" in line] == [
        line for line in told if line.startswith("- check complete on orders: warns: never compared with the store")
    ]
    assert len({line.partition(": ")[0] for line in told}) == len(told)
    (line,) = told_after
    assert line.startswith("- check complete on orders: is good again (")


def test_what_was_before_the_first_tick_is_not_told(alerts_on_disk: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = alerts_on_disk
    fail(alerts, monkeypatch)
    report(alerts, passed=False)
    alerts.cursor = None

    assert alerts.tick() == "What happens from now on will be told."
    assert alerts.tick() == "Nothing new."
    assert not alerts.receiver.bodies
    fail(alerts, monkeypatch)
    report(alerts, passed=False)
    assert len(alerts.told()) == 2


def test_a_cursor_that_cannot_be_read_begins_anew(alerts: Alerts) -> None:
    alerts.cursor = "12"
    report(alerts, passed=False)

    assert alerts.tick() == "What happens from now on will be told."


def test_more_than_a_tick_can_read_is_told_by_the_next_ones_in_the_order_in_which_it_happened(alerts: Alerts) -> None:
    instance = alerts.project.instance
    for day in range(60):
        tags = {"dagster/partition": (DAY + timedelta(days=day)).isoformat()}
        instance.report_run_failed(create_run_for_test(instance, "orders", tags=tags))
    report(alerts, passed=False)

    told = [alerts.told() for _ in range(4)]

    assert [len(lines) for lines in told] == [25, 25, 11, 0]
    days = [line.split()[4].strip(":") for lines in told for line in lines if "job" in line]
    assert days == [(DAY + timedelta(days=day)).isoformat() for day in range(60)]
    assert "complete" in told[2][-1]


def test_what_belongs_to_another_code_location_is_passed_by(alerts: Alerts) -> None:
    instance, repository = alerts.project.instance, alerts.project.definitions.get_repository_def()
    positions = latest_positions(instance)
    report(alerts, passed=False, asset="theirs")
    instance.report_run_failed(create_run_for_test(instance, "their_job"))
    for location in ("theirs", "ours"):
        there = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
        run = create_run_for_test(instance, "orders", remote_job_origin=RemoteJobOrigin(there, "orders"))
        instance.report_run_failed(run)

    sightings, reached = read(instance, positions, repository=repository, location="ours")

    assert [seen.run_id for seen in sightings] == [run.run_id]
    assert reached != positions


def test_without_the_setting_alerts_are_logged(
    alerts: Alerts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del alerts.project.settings[VARIABLE]
    monkeypatch.delenv(VARIABLE)
    report(alerts, passed=False)

    assert alerts.tick() == "1 told."
    assert "check complete on orders: warns: 2 of 3" in capsys.readouterr().err
    assert alerts.tick() == "Nothing new."
    assert not alerts.receiver.bodies


def test_the_sensor_runs_unless_somebody_stops_it() -> None:
    sensor = build_definitions(environment={}).resolve_sensor_def("alerts")

    assert sensor.default_status == DefaultSensorStatus.RUNNING


# What is worth telling


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ({}, []),
        ({0: "a"}, [0]),
        ({0: None}, []),
        ({0: "a", 1: "a", 19: "a"}, [0]),
        # A daily run that fails is told each day.
        ({0: "a", 23: "a", 25: "a", 47: "a"}, [0, 23, 47]),
        ({0: "a", 1: "b", 2: "b"}, [0, 1]),
        ({0: "a", 1: None, 2: None, 3: "a"}, [0, 1, 3]),
    ],
)
def test_the_same_trouble_is_told_once_a_day(hours: dict[int, str | None], told: list[int]) -> None:
    sightings = [Sighting(subject="s", at=NOON + timedelta(hours=hour), fault=fault) for hour, fault in hours.items()]
    together, _ = news_of(sightings, {})
    one_by_one: list[Sighting] = []
    troubles: dict[str, Trouble] = {}
    for sighting in sightings:
        news, troubles = news_of([sighting], troubles)
        one_by_one += news

    assert [seen.at for seen in together] == [NOON + timedelta(hours=hour) for hour in told]
    assert one_by_one == together


def test_what_is_remembered_does_not_grow_without_end() -> None:
    sightings = [
        Sighting(subject=f"orders of day {day}", at=NOON + timedelta(minutes=day), fault="a") for day in range(1000)
    ]
    news, troubles = news_of(sightings, {})
    _, later = news_of([Sighting(subject="s", at=NOON + timedelta(days=30), fault="a")], troubles)

    assert len(news) == 1000
    assert (min(troubles), max(troubles), len(troubles)) == ("orders of day 800", "orders of day 999", 200)
    assert set(later) == {"s"}
    assert len(message_of(news).splitlines()) == 32
    assert message_of(news).endswith("- and 970 more: see the runs in Dagster's UI")


@pytest.mark.parametrize(
    ("text", "put"),
    [
        ("a\nb\t c", "a b c"),
        (f"kept in _extra: {EMAIL} in 1 rows", "kept in _extra: [...] in 1 rows"),
        ("@channel", "[...]"),
        ("x" * 1000, "x" * 300 + "..."),
    ],
)
def test_a_text_is_put_on_one_line_without_addresses(text: str, put: str) -> None:
    assert harmless(text) == put


# How it gets there


def test_a_receiver_that_is_down_gets_everything_once_it_is_up(
    alerts: Alerts, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts.receiver.statuses[:] = [503] * 6
    fail(alerts, monkeypatch)
    cursor = alerts.cursor
    for _ in range(2):
        with pytest.raises(DeliveryError, match="answered 503; it is tried again with the next tick"):
            alerts.tick()
        report(alerts, passed=False)
    assert (alerts.cursor, len(alerts.receiver.bodies), sleeper.seconds) == (cursor, 6, [1, 2, 1, 2])

    told = alerts.told()

    assert [line.split(":")[0] for line in told] == ["- job orders_refresh", "- check complete on orders"]
    assert alerts.told() == []


@pytest.mark.parametrize(
    ("statuses", "attempts", "says"),
    [
        ([200], 1, None),
        ([204], 1, None),
        ([500, 200], 2, None),
        ([429, 503, 200], 3, None),
        ([500] * 4, 3, "answered 500; it is tried again"),
        ([0] * 3, 3, "could not be reached, or did not answer in time"),
        ([404], 1, "answered 404; look at COMMERCE_ALERT_WEBHOOK_URL"),
        ([410], 1, "answered 410"),
        ([302], 1, "answered 302"),
        ([308], 1, "answered 308"),
    ],
)
def test_what_can_be_mended_is_tried_again_and_no_redirect_is_followed(
    receiver: Receiver, statuses: list[int], attempts: int, says: str | None
) -> None:
    """Fault 20. Fault 65: no error shows the URL, which holds a secret."""
    receiver.statuses[:] = statuses
    receiver.location = f"http://127.0.0.1:{receiver.port}/elsewhere"
    error = None
    try:
        post(receiver.url, "text", seconds=0.2, sleep=Sleeper())
    except DeliveryError as raised:
        error = raised

    assert len(receiver.bodies) == attempts
    assert "/elsewhere" not in receiver.paths
    assert (error is None) == (says is None)
    if error:
        assert says is not None
        assert says in str(error)
        assert TOKEN not in "".join(traceback.format_exception(error))


def test_a_receiver_that_is_not_there_is_named_by_no_more_than_its_setting() -> None:
    with receiving() as receiver:
        url = receiver.url

    with pytest.raises(DeliveryError, match="could not be reached") as raised:
        post(url, "text", sleep=Sleeper())

    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_nothing_in_the_environment_has_a_say_in_where_a_message_goes(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 26."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password something")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")

    post(receiver.url, "text", sleep=Sleeper())

    assert "authorization" not in receiver.headers[0]


def test_markup_in_a_name_is_text_to_the_receiver(receiver: Receiver) -> None:
    post(receiver.url, 'a <!channel> & "b"\n', sleep=Sleeper())

    assert receiver.texts == ['a &lt;!channel&gt; &amp; "b"\n']


# Secrets and data


def test_no_secret_and_nothing_of_a_buyer_is_told(alerts: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults 65 and 66."""
    monkeypatch.setenv("COMMERCE_API_KEY", KEY)
    monkeypatch.setenv("COMMERCE_API_SECRET", SECRET)
    alerts.project.store.credentials = (KEY, SECRET)
    alerts.project.store.shop.orders[:] = [canary_order(1, NOON, **{EMAIL: EMAIL})]
    alerts.project.store.touch()
    alerts.project.run("orders", days=(DAY, DAY))
    told = alerts.told()
    with monkeypatch.context() as patched:

        def broken(*_: object) -> None:
            raise ValueError(f"{KEY} {SECRET} {EMAIL} {alerts.receiver.url}")

        patched.setattr("commerce_assets.defs.assets.check_results", broken)
        alerts.project.run("orders", days=(DAY, DAY), expect_success=False)
    told += alerts.told()

    assert [line.partition(": ")[2].partition(" (2")[0] for line in told if "of 2026-01-01" in line] == [
        "warns: values that do not fit, kept in _invalid: download_attempts in 1 rows",
        "warns: fields that are not declared, kept in _extra: [...] in 1 rows, newsletter_email in 1 rows",
        "failed: step pull_orders, ValueError",
    ]
    needles = {**CREDENTIALS, **BUYER, "token": forms_of(TOKEN)}
    sent = "\n".join(alerts.receiver.bodies).encode()
    assert not [what for what, forms in needles.items() if any(form in sent for form in forms)]


def test_the_url_is_in_no_history_no_log_no_snapshot_and_no_repr(
    alerts_on_disk: Alerts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Fault 65."""
    alerts = alerts_on_disk
    caplog.set_level(logging.DEBUG)
    fail(alerts, monkeypatch)
    alerts.receiver.statuses[:] = [404]
    with pytest.raises(DeliveryError):
        alerts.tick()
    alerts.tick()

    shown = [
        *capfd.readouterr(),
        *(record.getMessage() for record in caplog.records if record.name.partition(".")[0] != "urllib3"),
        repr(AlertWebhook(url=alerts.receiver.url)),
        repr(alerts.project.definitions),
        serialize_value(RepositorySnap.from_def(alerts.project.definitions.get_repository_def())),
        alerts.cursor or "",
    ]
    assert [text for text in shown if TOKEN in text] == []
    assert search(alerts.project.folder, {"token": forms_of(TOKEN)}) == set()
    assert VARIABLE in shown[-2]


# The setting


@pytest.mark.parametrize(
    "url",
    [
        f"https://hooks.example/services/{TOKEN}",
        f"  https://hooks.example/{TOKEN}?key=a\n",
        f"http://127.0.0.1:8065/hooks/{TOKEN}",
        f"http://localhost/{TOKEN}",
    ],
)
def test_a_webhook_that_is_encrypted_or_on_this_machine_is_taken(url: str) -> None:
    assert checked_webhook_url(url) == url.strip()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"http://hooks.example/{TOKEN}", "is not encrypted"),
        (f"http://169.254.169.254/{TOKEN}", "is not encrypted"),
        (f"hooks.example/{TOKEN}", "is no URL"),
        (f"file:///{TOKEN}", "is no URL"),
        (f"https://hooks.example:{TOKEN}/", "is no URL"),
        (f"https://hooks.example/{TOKEN} {TOKEN}", "is no URL"),
    ],
)
def test_another_is_refused_by_the_name_of_its_variable_and_not_shown(url: str, says: str) -> None:
    """Fault 67."""
    with pytest.raises(SettingError, match=f"^{VARIABLE} {says}") as raised:
        checked_webhook_url(url)
    assert TOKEN not in "".join(traceback.format_exception(raised.value))
