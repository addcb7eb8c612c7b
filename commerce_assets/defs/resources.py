"""The Dagster resources: the API, and the warehouse."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource
from pydantic import Field

from commerce_assets.access import build_client
from commerce_assets.ingest.staging import Staging
from commerce_assets.settings import checked_hash_key
from commerce_assets.warehouse import MEMORY_LIMIT
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.privacy.policy import Masking, PersonalDataPolicy
from commerce_assets.warehouse.publish import PublishedCopy

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient


class CommerceApiResource(ConfigurableResource[Any]):
    """The store's commerce API: where it is, who asks, how fast and how patiently."""

    base_url: str = Field(description="What the endpoints' paths are relative to (COMMERCE_API_BASE_URL).")
    api_key: str = Field(description="The API key, user name of Basic auth (COMMERCE_API_KEY).", repr=False)
    api_secret: str = Field(description="The API secret, its password (COMMERCE_API_SECRET).", repr=False)
    paths: dict[str, str] = Field(
        default={}, description="Endpoint name to path, where it differs (COMMERCE_API_ORDERS_PATH)."
    )
    requests_per_second: float = Field(
        default=1.0,
        ge=0,
        description="Requests a second, of all processes together; 0: no pacing (COMMERCE_API_REQUESTS_PER_SECOND).",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=32,
        description="Pages in flight at most, where answers take longer than the pace (COMMERCE_API_CONCURRENCY).",
    )
    overlap_windows: bool = Field(
        default=False,
        description="Let the pages of days of orders overlap, as those of other lists do: then no order is passed by "
        "when another is deleted during a pull, for a fifth more requests (COMMERCE_ORDERS_OVERLAP).",
    )
    connect_timeout: float = Field(default=10.0, gt=0, description="Seconds to wait for a connection.")
    read_timeout: float = Field(default=60.0, gt=0, description="Seconds to wait for the next bytes of an answer.")
    total_timeout: float = Field(default=180.0, gt=0, description="Seconds that a request may take as a whole.")

    def client(self, log: logging.Logger) -> "CommerceClient":
        """A client that tells `log` how it gets on.

        Raises:
            SettingError: Names what is missing or cannot be used.
        """
        # requests opens a socket as it is imported, to see whether there is IPv6: that is for runs that pull.
        from commerce_assets.api.client import Limits  # noqa: PLC0415

        return build_client(
            base_url=self.base_url,
            key=self.api_key,
            secret=self.api_secret,
            paths=self.paths,
            requests_per_second=self.requests_per_second,
            concurrency=self.concurrency,
            overlap_windows=self.overlap_windows,
            limits=Limits(
                connect_seconds=self.connect_timeout, read_seconds=self.read_timeout, total_seconds=self.total_timeout
            ),
            log=log,
        )


class Warehouse(ConfigurableResource[Any]):
    """The DuckDB file, the staging directory that belongs to it, and the copy for readers."""

    database_path: str = Field(description="The DuckDB file (COMMERCE_DUCKDB_PATH).")
    staging_dir: str = Field(description="Where pulled pages lie until they are loaded (COMMERCE_STAGING_DIR).")
    lock_timeout: float = Field(
        default=300.0, ge=0, description="Seconds to wait for who holds the file (COMMERCE_DUCKDB_LOCK_TIMEOUT)."
    )
    memory_limit: str = Field(
        default=MEMORY_LIMIT, description="What DuckDB may use before it spills to disk (COMMERCE_DUCKDB_MEMORY_LIMIT)."
    )
    publish_path: str | None = Field(
        default=None, description="Where a copy for readers is kept, if anywhere (COMMERCE_DUCKDB_PUBLISH_PATH)."
    )

    personal_data: str = Field(
        default=Masking.KEEP.value, description="What becomes of personal columns (COMMERCE_PERSONAL_DATA)."
    )
    capability_urls: str = Field(
        default=Masking.DROP.value, description="What becomes of URLs that open downloads (COMMERCE_CAPABILITY_URLS)."
    )
    personal_data_key: str = Field(
        default="", description="The key of the hash (COMMERCE_PERSONAL_DATA_KEY).", repr=False
    )

    def prepare(self, log: logging.Logger) -> None:
        """Sees that what is pulled can be stored and published; says what to do if not."""
        self.database(log).prepare()
        if copy := self._copy(log):
            copy.prepare()

    def publish(self, log: logging.Logger) -> None:
        """Renews the copy for readers, if there is to be one and anything has changed.

        To be called last: it raises if it cannot, so that readers are not left with old data in silence, and by then
        all that is true of the load has been recorded.
        """
        if copy := self._copy(log):
            copy.renew()

    def database(self, log: logging.Logger) -> DatabaseFile:
        return DatabaseFile(
            path=Path(self.database_path),
            lock_timeout=self.lock_timeout,
            memory_limit=self.memory_limit,
            log=log,
        )

    def staging(self, log: logging.Logger) -> Staging:
        return Staging(Path(self.staging_dir), log=log)

    def _copy(self, log: logging.Logger) -> PublishedCopy | None:
        if not self.publish_path:
            return None
        return PublishedCopy(path=Path(self.publish_path), source=self.database(log), log=log)

    def policy(self) -> PersonalDataPolicy:
        """The policy for personal data, with the key of the hash if it needs one.

        Raises:
            SettingError: The key is missing or cannot be used.
        """
        policy = PersonalDataPolicy.parse(self.personal_data, capability_urls=self.capability_urls)
        return policy.with_key(checked_hash_key(self.personal_data_key)) if policy.hashes else policy
