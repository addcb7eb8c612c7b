"""The code location of a shop, which Dagster loads: definitions for the settings of the environment and `.env`."""

import dagster as dg

from commerce_assets.composition import build_definitions
from commerce_assets.defs.executor import build_executor
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.settings import CommerceSettings

with known_errors_as_failures():
    _settings = CommerceSettings.read()

defs = dg.Definitions.merge(
    build_definitions(_settings),
    # For runs that are not of a job, such as those of *Materialize*.
    dg.Definitions(executor=build_executor(_settings.coordination)),
)
