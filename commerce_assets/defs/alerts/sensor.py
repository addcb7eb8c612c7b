"""The sensor `alerts`: read events, send what is new, then move the cursor."""

from datetime import UTC, datetime
from typing import Final

import dagster as dg
import msgspec

from commerce_assets.defs.alerts.events import Cursors, latest_cursors, read_events
from commerce_assets.defs.alerts.message import Trouble, select_new, write_message
from commerce_assets.defs.shop import Shop
from commerce_assets.settings import checked_webhook_url, resource_field
from commerce_assets.wording import counted

ALERT_WEBHOOK: Final = "alert_webhook"


class AlertWebhook(dg.ConfigurableResource[None]):
    """The webhook for alerts. Its URL is a secret: anyone who has it can post."""

    url: str | None = resource_field("alert_webhook_url")


class _Memory(msgspec.Struct, frozen=True):
    """The sensor's cursor."""

    cursors: Cursors
    troubles: dict[str, Trouble] = {}


def build_alerts_sensor(*, shop: Shop) -> dg.SensorDefinition:
    """Build the sensor that alerts on the shop's failed runs, checks, backfills and ticks.

    It is on by default: it launches nothing. A message that is not delivered fails the tick; the next tick retries.
    """

    @dg.sensor(
        name=shop.named("alerts"),
        required_resource_keys={shop.named(ALERT_WEBHOOK)},
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts on failed runs, checks, backfills and ticks: in the log and, if set, to "
        "COMMERCE_ALERT_WEBHOOK_URL.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        alert_webhook: AlertWebhook = getattr(context.resources, shop.named(ALERT_WEBHOOK))
        # Checked in each tick, so that a wrong URL is noticed before there is an alert.
        url = checked_webhook_url(alert_webhook.url) if alert_webhook.url else None
        memory, repository = _memory(context), context.repository_def
        if memory is None or repository is None:
            _remember(context, _Memory(latest_cursors(context.instance, datetime.now(UTC))))
            return dg.SkipReason("Initialised: alerting on new events from now on.")
        location = context.code_location_origin.location_name if context.code_location_origin else None
        sightings, cursors = read_events(context.instance, memory.cursors, repository, location, shop)
        new, troubles = select_new(sightings, memory.troubles)
        if new:
            message = write_message(new, shop.name)
            if url:
                # requests opens a socket when it is imported.
                from commerce_assets.defs.alerts.webhook import post  # noqa: PLC0415

                post(url, message)
            context.log.warning(message)
        _remember(context, _Memory(cursors, troubles))
        return dg.SkipReason(f"Sent {counted(len(new), 'alert')}." if new else "No new alerts.")

    return alerts


def _memory(context: dg.SensorEvaluationContext) -> _Memory | None:
    """Return what the last tick stored; None at the first tick or after a change of this format."""
    try:
        return msgspec.json.decode(context.cursor, type=_Memory) if context.cursor else None
    except msgspec.MsgspecError:
        context.log.warning("The cursor cannot be read: events before this tick are not alerted on.")
        return None


def _remember(context: dg.SensorEvaluationContext, memory: _Memory) -> None:
    context.update_cursor(msgspec.json.encode(memory).decode())
