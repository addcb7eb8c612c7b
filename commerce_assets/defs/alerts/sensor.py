"""The sensor `alerts`: reads what has happened, tells what is new, and only then moves on."""

import msgspec
from dagster import (
    ConfigurableResource,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from commerce_assets.defs.alerts.history import latest_positions, read
from commerce_assets.defs.alerts.news import Trouble, message_of, news_of
from commerce_assets.settings import checked_webhook_url, resource_field

_SECONDS_BETWEEN_TICKS = 60


class AlertWebhook(ConfigurableResource[None]):
    """Where alerts are posted, if anywhere. Whoever knows the URL can post too: it is a secret."""

    url: str | None = resource_field("alert_webhook_url")


class _Memory(msgspec.Struct, frozen=True):
    """The sensor's cursor: what has been read, and the troubles that have been told."""

    positions: dict[str, str]
    troubles: dict[str, Trouble] = {}


def build_alerts_sensor() -> SensorDefinition:
    """The sensor that tells of failed runs, and of failed checks in runs that did not fail.

    It runs unless somebody stops it: it starts nothing, and who forgets to switch it on is who needs it. It begins with
    what happens after its first tick. A message that could not be delivered fails the tick; the next one tries again.
    """

    @sensor(
        name="alerts",
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Tells of failed runs and failed checks: in the log and, with COMMERCE_ALERT_WEBHOOK_URL, there.",
    )
    def alerts(context: SensorEvaluationContext, alert_webhook: AlertWebhook) -> SkipReason:
        # Looked at in each tick: that it cannot be used is seen before there is something to tell.
        url = checked_webhook_url(alert_webhook.url) if alert_webhook.url else None
        memory = _memory(context)
        if memory is None:
            _remember(context, _Memory(dict(latest_positions(context.instance))))
            return SkipReason("What happens from now on will be told.")
        if context.repository_def is None:
            raise ValueError("the sensor needs the repository that it is in, to know which runs are its own")
        origin = context.code_location_origin
        sightings, positions = read(
            context.instance,
            memory.positions,
            repository=context.repository_def,
            location=origin.location_name if origin else None,
        )
        news, troubles = news_of(sightings, memory.troubles)
        if news:
            message = message_of(news)
            if url:
                # requests opens a socket as it is imported, to see whether there is IPv6.
                from commerce_assets.defs.alerts.webhook import post  # noqa: PLC0415

                post(url, message)
            context.log.warning(message)
        _remember(context, _Memory(dict(positions), troubles))
        return SkipReason(f"{len(news)} told." if news else "Nothing new.")

    return alerts


def _memory(context: SensorEvaluationContext) -> _Memory | None:
    """What the last tick left; None if there was none, or another version of this code wrote it."""
    try:
        return msgspec.json.decode(context.cursor, type=_Memory) if context.cursor else None
    except msgspec.MsgspecError:
        context.log.warning("the cursor cannot be read: what happened before now is not told")
        return None


def _remember(context: SensorEvaluationContext, memory: _Memory) -> None:
    context.update_cursor(msgspec.json.encode(memory).decode())
