"""The sensor `alerts`: what is sent, how often, to a receiver that may be down, and what must not be sent."""

import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from dagster_shared.error import SerializableErrorInfo
from dagster_shared.serdes import serialize_value

from commerce_assets.composition import build_definitions
from commerce_assets.defs.alerts import events, webhook
from commerce_assets.defs.alerts.events import latest_cursors, read_events
from commerce_assets.defs.alerts.message import Sighting, Trouble, clean, select_new, write_message
from commerce_assets.defs.alerts.sensor import AlertWebhook
from commerce_assets.defs.alerts.webhook import DeliveryError, post
from commerce_assets.settings import CommerceSettings, SettingError, checked_webhook_url
from commerce_assets_tests.support.canaries import BUYER, CREDENTIALS, EMAIL, KEY, SECRET, canary_order
from commerce_assets_tests.support.clock import Sleeper
from commerce_assets_tests.support.items import BY_NAME, order, product
from commerce_assets_tests.support.leftovers import forms_of, search
from commerce_assets_tests.support.receiver import TOKEN, Receiver, receiving
from commerce_assets_tests.support.world import World

DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VARIABLE = "COMMERCE_ALERT_WEBHOOK_URL"
HERE = "commerce_assets"
ERROR = SerializableErrorInfo(f"ValueError: {EMAIL}", [], "ValueError")
WHEN = r"\(\d{4}-\d\d-\d\d \d\d:\d\d UTC, run [0-9a-f]{8}\)"


@dataclass
class Alerts:
    """The sensor `alerts` of a project, tick by tick, as the daemon has it evaluated."""

    project: World
    receiver: Receiver
    cursor: str | None = None

    def tick(self) -> str:
        """Returns why nothing was launched. A cursor is kept only if the tick does not fail."""
        definitions = self.project.definitions
        sensor = definitions.resolve_sensor_def("alerts")
        context = dg.build_sensor_context(
            instance=self.project.instance,
            cursor=self.cursor,
            definitions=definitions,
            resources={name: (definitions.resources or {})[name] for name in sensor.required_resource_keys},
        )
        ticked = sensor.evaluate_tick(context)
        assert not ticked.run_requests
        self.cursor = ticked.cursor
        return ticked.skip_message or ""

    def sent(self) -> list[str]:
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
def alerts(project: World, receiver: Receiver, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> Alerts:
    """After its first tick; the store sells products, and has orders."""
    assert not sleeper.seconds
    project.endpoints = [BY_NAME["products"], BY_NAME["orders"]]
    project.settings[VARIABLE] = receiver.url
    monkeypatch.setenv(VARIABLE, receiver.url)
    alerts = Alerts(project, receiver)
    alerts.tick()
    return alerts


@pytest.fixture
def alerts_on_disk(alerts: Alerts) -> Iterator[Alerts]:
    """With a history on disk, with one file per run, and one for events without a run."""
    home = alerts.project.folder / "home"
    home.mkdir()
    quiet = {"python_logs": {"python_log_level": "WARNING"}, "telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(home), overrides=quiet) as instance:
        alerts.project.running_instance, alerts.cursor = instance, None
        alerts.tick()
        yield alerts


def fail(alerts: Alerts, monkeypatch: pytest.MonkeyPatch, job: str = "orders_refresh") -> None:
    with monkeypatch.context() as patched:
        patched.setenv("COMMERCE_API_SECRET", "not-the-secret")
        alerts.project.run(job, expect_success=False)


def report(alerts: Alerts, *, passed: bool, asset: str = "orders") -> None:
    alerts.project.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset),
            check_name="complete",
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description="2 of 3",
            metadata={},
        )
    )


def tick(instance: dg.DagsterInstance, state: InstigatorState, status: TickStatus) -> None:
    instance.create_tick(
        TickData(
            state.instigator_origin_id,
            state.instigator_name,
            InstigatorType.SCHEDULE,
            status,
            datetime.now(UTC).timestamp(),
            selector_id=state.selector_id,
            error=ERROR if status == TickStatus.FAILURE else None,
        )
    )


# What is sent


def test_a_failed_run_is_alerted_on_with_job_step_and_fix(alerts: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(alerts, monkeypatch)

    (line,) = alerts.sent()

    assert line.startswith("- job orders_refresh failed with PullError: orders changed since ")
    assert "401 Unauthorized: the key or the secret is wrong. Fix: correct COMMERCE_API_KEY" in line
    assert alerts.receiver.texts[-1].startswith("commerce_assets: 1 failed\n- ")
    assert alerts.receiver.headers[-1]["content-type"] == "application/json"
    assert pytest.approx(datetime.now(UTC).timestamp(), abs=120) == (
        datetime.strptime(line.split("(")[-1][:16], "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()
    )


def test_a_failed_check_is_alerted_on_once_until_it_passes(alerts: Alerts) -> None:
    alerts.offer(product(1, colour="red"))
    assert alerts.project.run("catalog").success
    sent = alerts.sent()
    alerts.project.run("catalog")
    sent_again = alerts.sent()
    alerts.offer(product(1))
    alerts.project.run("catalog")
    sent_when_good = alerts.sent()
    alerts.offer(product(1, colour="red"))
    alerts.project.run("catalog")
    sent_when_bad_again = alerts.sent()

    (line,) = sent
    assert line.startswith(
        "- check no_undeclared_fields on products warns: undeclared fields, stored in _extra: colour in 1 row (20"
    )
    assert [text.partition("\n")[0] for text in alerts.receiver.texts] == [
        "commerce_assets: 1 warning",
        "commerce_assets: 1 good again",
        "commerce_assets: 1 warning",
    ]
    assert sent_again == []
    assert [line.partition(" (")[0] for line in sent_when_good] == [
        "- check no_undeclared_fields on products is good again"
    ]
    assert [line.partition(" (")[0] for line in sent_when_bad_again] == [line.partition(" (")[0]]


def test_a_check_in_a_partitioned_run_names_its_days(alerts: Alerts) -> None:
    shop = alerts.project.store.shop
    shop.orders[:] = [canary_order(1, NOON), canary_order(2, NOON + timedelta(days=2))]
    alerts.project.store.touch()
    alerts.project.run("orders", days=(DAY, DAY + timedelta(days=1)))
    alerts.project.run("orders", days=(DAY + timedelta(days=2),) * 2)

    sent = alerts.sent()

    assert [line.partition(": ")[0] for line in sent if "fresh" in line] == ["- check fresh on orders warns"]
    assert sorted(line.partition(": ")[0] for line in sent if " of " in line.partition(": ")[0]) == [
        f"- check {check} on orders of {days} warns"
        for check in ("no_undeclared_fields", "values_fit_their_types")
        for days in ("2026-01-01...2026-01-02", "2026-01-03")
    ]


def test_a_blocking_check_is_part_of_the_failed_runs_line(alerts: Alerts) -> None:
    alerts.offer(*(product(number) for number in range(1, 6)))
    alerts.project.run("catalog")
    alerts.offer()
    alerts.project.run("catalog", expect_success=False)

    sent = alerts.sent()

    (line,) = [line for line in sent if "row_count_not_collapsed" in line]
    failed = "failed: products: the store returns 0 rows where 5 are stored. Nothing was stored."
    assert line.startswith(f"- job catalog failed: check row_count_not_collapsed on products {failed}")


def test_a_warning_does_not_hide_the_error_of_the_run(alerts: Alerts) -> None:
    alerts.offer(product(1, colour="red"))
    alerts.project.endpoints = [BY_NAME[name] for name in ("products", "packages", "orders")]
    alerts.project.settings["COMMERCE_API_PACKAGES_PATH"] = "nowhere"
    alerts.project.run("catalog", expect_success=False)

    sent = alerts.sent()

    assert [line for line in sent if line.startswith("- job catalog failed with PullError: packages, page 1, ")]
    assert [line for line in sent if line.startswith("- check no_undeclared_fields on products warns: ")]


def test_a_first_load_sends_no_alert_and_reconcile_clears_one(alerts: Alerts) -> None:
    project = alerts.project
    start, yesterday = ((datetime.now(UTC) - timedelta(days=back)).date() for back in (3, 1))
    project.settings["COMMERCE_ORDERS_START_DATE"] = start.isoformat()
    project.run("catalog")
    project.run("orders", days=(start, yesterday))
    project.run("health_checks")
    assert alerts.sent() == []

    project.store.add_order(order(7_000, datetime.combine(yesterday, NOON.timetz())))
    project.run("reconcile", config={"ops": {"reconcile_orders": {"config": {"repair": False}}}})
    (line,) = alerts.sent()
    assert line.startswith(f"- check complete on orders warns: {yesterday}: ")

    project.run("reconcile")
    (line,) = alerts.sent()
    assert line.startswith("- check complete on orders is good again (")


def test_events_before_the_first_tick_are_ignored(alerts_on_disk: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = alerts_on_disk
    fail(alerts, monkeypatch)
    report(alerts, passed=False)
    alerts.cursor = None

    assert alerts.tick() == "Initialised: alerting on new events from now on."
    assert alerts.tick() == "No new alerts."
    assert not alerts.receiver.bodies
    fail(alerts, monkeypatch)
    report(alerts, passed=False)
    assert len(alerts.sent()) == 2


def test_an_unreadable_cursor_initialises_again(alerts: Alerts) -> None:
    alerts.cursor = "12"
    report(alerts, passed=False)

    assert alerts.tick() == "Initialised: alerting on new events from now on."


def test_the_next_ticks_send_what_one_tick_cannot_read(alerts: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_BATCH", 25)
    instance = alerts.project.instance
    for day in range(60):
        tags = {"dagster/partition": (DAY + timedelta(days=day)).isoformat()}
        instance.report_run_failed(create_run_for_test(instance, "orders", tags=tags))
    report(alerts, passed=False)

    sent = [alerts.sent() for _ in range(4)]

    assert [len(lines) for lines in sent] == [26, 25, 10, 0]
    days = [line.split()[4].strip(":") for lines in sent for line in lines if "job" in line]
    assert days == [(DAY + timedelta(days=day)).isoformat() for day in range(60)]
    assert "complete" in sent[0][-1]


def test_events_of_other_code_locations_are_ignored(alerts: Alerts) -> None:
    instance, repository = alerts.project.instance, alerts.project.definitions.get_repository_def()
    positions = latest_cursors(instance, NOON)
    report(alerts, passed=False, asset="theirs")
    instance.report_run_failed(create_run_for_test(instance, "their_job"))
    for location in ("theirs", "ours"):
        there = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
        run = create_run_for_test(instance, "orders", remote_job_origin=RemoteJobOrigin(there, "orders"))
        instance.report_run_failed(run)

    sightings, reached = read_events(instance, positions, repository, "ours")

    assert [seen.run_id for seen in sightings] == [run.run_id]
    assert reached != positions


def test_a_failed_tick_is_alerted_on_until_one_succeeds(
    alerts_on_disk: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts, instance = alerts_on_disk, alerts_on_disk.project.instance
    monkeypatch.setattr(dg.SensorEvaluationContext, "code_location_origin", RegisteredCodeLocationOrigin(HERE))
    for location in ("elsewhere", None):
        origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location or HERE), "__repository__")
        schedule = RemoteInstigatorOrigin(origin, "orders_daily" if location is None else "theirs")
        state = InstigatorState(
            schedule, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, ScheduleInstigatorData("0 * * * *")
        )
        instance.add_instigator_state(state)
        tick(instance, state, TickStatus.FAILURE)

    sent = alerts.sent()
    sent_again = alerts.sent()
    tick(instance, state, TickStatus.STARTED)
    sent_meanwhile = alerts.sent()
    tick(instance, state, TickStatus.SKIPPED)
    sent_when_good = alerts.sent()

    (line,) = sent
    assert line.partition(" (")[0] == (
        "- schedule orders_daily failed with an unexpected ValueError. It started no run. Fix: see Automation, "
        "orders_daily, in the UI"
    )
    assert sent_again == sent_meanwhile == []
    assert [line.partition(" (")[0] for line in sent_when_good] == ["- schedule orders_daily is good again"]


def test_a_failed_backfill_is_alerted_on_once(alerts: Alerts) -> None:
    """Fault 110."""
    now = datetime.now(UTC).timestamp()
    for number, (status, asset) in enumerate(
        [
            (BulkActionStatus.FAILED, "orders"),
            (BulkActionStatus.FAILED, "theirs"),
            # Of a job, perhaps one of another code location.
            (BulkActionStatus.FAILED, None),
            (BulkActionStatus.COMPLETED_FAILED, "orders"),
        ]
    ):
        alerts.project.instance.add_backfill(
            PartitionBackfill(
                f"backfill{number}",
                status,
                from_failure=False,
                tags={},
                backfill_timestamp=now,
                backfill_end_timestamp=now + 1,
                error=ERROR,
                asset_selection=[dg.AssetKey(asset)] if asset else None,
            )
        )

    sent = [line for _ in range(2) for line in alerts.sent()]

    (line,) = sent
    assert line.startswith(
        "- backfill backfill0 of orders failed with an unexpected ValueError. It starts no more runs. Fix: launch it"
    )


def test_without_the_setting_alerts_are_logged(
    alerts: Alerts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del alerts.project.settings[VARIABLE]
    monkeypatch.delenv(VARIABLE)
    report(alerts, passed=False)

    assert alerts.tick() == "Sent 1 alert."
    assert "check complete on orders warns: 2 of 3" in capsys.readouterr().err
    assert alerts.tick() == "No new alerts."
    assert not alerts.receiver.bodies


def test_the_sensor_runs_by_default() -> None:
    sensor = build_definitions(CommerceSettings.read({})).resolve_sensor_def("alerts")

    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


# What is new


@pytest.mark.parametrize(
    ("hours", "sent"),
    [
        ({}, []),
        ({0: "a"}, [0]),
        ({0: None}, []),
        ({0: "a", 1: "a", 19: "a"}, [0]),
        # A daily run that fails is alerted on each day.
        ({0: "a", 23: "a", 25: "a", 47: "a"}, [0, 23, 47]),
        ({0: "a", 1: "b", 2: "b"}, [0, 1]),
        ({0: "a", 1: None, 2: None, 3: "a"}, [0, 1, 3]),
    ],
)
def test_the_same_fault_is_alerted_on_once_a_day(hours: dict[int, str | None], sent: list[int]) -> None:
    sightings = [Sighting(subject="s", at=NOON + timedelta(hours=hour), fault=fault) for hour, fault in hours.items()]
    together, _ = select_new(sightings, {})
    one_by_one: list[Sighting] = []
    troubles: dict[str, Trouble] = {}
    for sighting in sightings:
        news, troubles = select_new([sighting], troubles)
        one_by_one += news

    assert [seen.at for seen in together] == [NOON + timedelta(hours=hour) for hour in sent]
    assert one_by_one == together


def test_remembered_faults_and_lines_are_bounded() -> None:
    sightings = [
        Sighting(subject=f"orders of day {day}", at=NOON + timedelta(minutes=day), fault="a") for day in range(1000)
    ]
    news, troubles = select_new(sightings, {})
    _, later = select_new([Sighting(subject="s", at=NOON + timedelta(days=30), fault="a")], troubles)

    assert len(news) == 1000
    assert (min(troubles), max(troubles), len(troubles)) == ("orders of day 800", "orders of day 999", 200)
    assert set(later) == {"s"}
    assert len(write_message(news).splitlines()) == 32
    assert write_message(news).endswith("- and 970 more: see the runs in Dagster's UI")


@pytest.mark.parametrize(
    ("text", "put"),
    [
        ("a\nb\t c", "a b c"),
        (f"kept in _extra: {EMAIL} in 1 row", "kept in _extra: [...] in 1 row"),
        ("@channel", "[...]"),
        ("x" * 1000, "x" * 500 + "..."),
    ],
)
def test_details_are_one_line_without_addresses(text: str, put: str) -> None:
    assert clean(text) == put


# Delivery


def test_a_receiver_that_was_down_gets_every_alert(
    alerts: Alerts, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts.receiver.statuses[:] = [503] * 6
    fail(alerts, monkeypatch)
    cursor = alerts.cursor
    for _ in range(2):
        with pytest.raises(DeliveryError, match=r"HTTP 503\. Fix: none; the next tick retries"):
            alerts.tick()
        report(alerts, passed=False)
    assert (alerts.cursor, len(alerts.receiver.bodies), sleeper.seconds) == (cursor, 6, [1, 2, 1, 2])

    sent = alerts.sent()

    assert [line.split(":")[0] for line in sent] == [
        "- job orders_refresh failed with PullError",
        "- check complete on orders warns",
    ]
    assert alerts.sent() == []


@pytest.mark.parametrize(
    ("statuses", "attempts", "says"),
    [
        ([200], 1, None),
        ([204], 1, None),
        ([500, 200], 2, None),
        ([429, 503, 200], 3, None),
        ([500] * 4, 3, "HTTP 500. Fix: none; the next tick retries"),
        ([0] * 3, 3, "ReadTimeout at the webhook"),
        ([404], 1, "HTTP 404. Fix: check COMMERCE_ALERT_WEBHOOK_URL"),
        ([410], 1, "HTTP 410"),
        ([302], 1, "HTTP 302"),
        ([308], 1, "HTTP 308"),
    ],
)
def test_transient_errors_are_retried_redirects_are_not_followed(
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


def test_a_refused_connection_does_not_show_the_url() -> None:
    with receiving() as receiver:
        url = receiver.url

    with pytest.raises(DeliveryError, match="ConnectionError at the webhook") as raised:
        post(url, "text", sleep=Sleeper())

    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_proxies_and_netrc_are_ignored(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 26."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password something")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")

    post(receiver.url, "text", sleep=Sleeper())

    assert "authorization" not in receiver.headers[0]


def test_markup_is_escaped(receiver: Receiver) -> None:
    post(receiver.url, 'a <!channel> & "b"\n', sleep=Sleeper())

    assert receiver.texts == ['a &lt;!channel&gt; &amp; "b"\n']


# Secrets and data


def test_alerts_hold_no_secrets_and_no_personal_data(alerts: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults 65 and 66."""
    monkeypatch.setenv("COMMERCE_API_KEY", KEY)
    monkeypatch.setenv("COMMERCE_API_SECRET", SECRET)
    alerts.project.store.credentials = (KEY, SECRET)
    alerts.project.store.shop.orders[:] = [canary_order(1, NOON, **{EMAIL: EMAIL})]
    alerts.project.store.touch()
    alerts.project.run("orders", days=(DAY, DAY))
    sent = alerts.sent()
    with monkeypatch.context() as patched:

        def broken(*_: object) -> None:
            raise ValueError(f"{KEY} {SECRET} {EMAIL} {alerts.receiver.url}")

        patched.setattr("commerce_assets.defs.assets.check_results", broken)
        alerts.project.run("orders", days=(DAY, DAY), expect_success=False)
    sent += alerts.sent()

    assert [line.partition(" of 2026-01-01 ")[2].partition(" (2")[0] for line in sent if " of 2026-01-01 " in line] == [
        "warns: values that do not fit their column, stored in _invalid: download_attempts in 1 row",
        "warns: undeclared fields, stored in _extra: [...] in 1 row, newsletter_email in 1 row",
        "failed with an unexpected ValueError in step extract_orders",
    ]
    needles = {**CREDENTIALS, **BUYER, "token": forms_of(TOKEN)}
    posted = "\n".join(alerts.receiver.bodies).encode()
    assert not [what for what, forms in needles.items() if any(form in posted for form in forms)]


def test_the_url_is_stored_and_logged_nowhere(
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
def test_https_and_loopback_webhooks_are_accepted(url: str) -> None:
    assert checked_webhook_url(url) == url.strip()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"http://hooks.example/{TOKEN}", "is not encrypted"),
        (f"http://169.254.169.254/{TOKEN}", "is not encrypted"),
        (f"hooks.example/{TOKEN}", "is not a valid URL"),
        (f"file:///{TOKEN}", "is not a valid URL"),
        (f"https://hooks.example:{TOKEN}/", "is not a valid URL"),
        (f"https://hooks.example/{TOKEN} {TOKEN}", "is not a valid URL"),
    ],
)
def test_other_webhooks_are_refused_without_showing_them(url: str, says: str) -> None:
    """Fault 67."""
    with pytest.raises(SettingError, match=f"^{VARIABLE} {says}") as raised:
        checked_webhook_url(url)
    assert TOKEN not in "".join(traceback.format_exception(raised.value))
