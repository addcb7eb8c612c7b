"""A world whose warehouse is a lake."""

from dataclasses import dataclass
from typing import Any

from commerce_assets.warehouse.lake import Lake
from commerce_assets_tests.support.world import LOG, World


@dataclass
class LakeWorld(World):
    """Its rows are in a lake with the catalog in a database of PostgreSQL, its other files in the folder."""

    url: str = ""

    @property
    def file(self) -> Lake:  # type: ignore[override] # the interface that both have
        return Lake(
            data=f"{self.folder}/lake/shop/",
            postgres_url=self.url,
            lock_timeout=5,
            memory_limit=self.memory_limit,
            log=LOG,
        )

    @property
    def warehouse_fields(self) -> dict[str, Any]:
        return super().warehouse_fields | {"postgres_url": self.url, "lake_data": str(self.folder / "lake")}

    @property
    def environment(self) -> dict[str, str]:
        lake = {"COMMERCE_POSTGRES_URL": self.url, "COMMERCE_LAKE_DATA": str(self.folder / "lake")}
        return super().environment | lake
