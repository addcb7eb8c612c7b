"""What an order of the sample shop is for, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import NamedTuple

from sample_store.catalog import build_packages, build_products, build_subscriptions
from sample_store.values import Item, cents

_SUBSCRIPTION_SHARE = 0.08
_PACKAGE_SHARE = 0.10


class Purchase(NamedTuple):
    """One product, package or plan in the cart; `price` in cents, for the whole quantity, before discount and tax."""

    name: str
    products: Sequence[Item]
    quantity: int
    price: int
    ships: bool = False
    plan: Item | None = None


@dataclass(frozen=True)
class Catalog:
    products: list[Item] = field(default_factory=build_products)
    packages: list[Item] = field(default_factory=build_packages)
    subscriptions: list[Item] = field(default_factory=build_subscriptions)

    def choose(self, rng: Random) -> Purchase:
        """Draw a purchase; the first products of the catalogue sell best."""
        chance = rng.random()
        if chance < _SUBSCRIPTION_SHARE:
            return rng.choice(self._plans)
        if chance < _SUBSCRIPTION_SHARE + _PACKAGE_SHARE:
            return rng.choice(self._bundles)
        single = self._singles[int(len(self._singles) * rng.random() ** 1.6)]
        if single.ships:
            quantity = rng.choice((1, 1, 1, 2, 3))
            return single._replace(quantity=quantity, price=single.price * quantity)
        return single

    @cached_property
    def _singles(self) -> list[Purchase]:
        return [self._purchase(product["name"], [product], product["price"]) for product in self.products]

    @cached_property
    def _bundles(self) -> list[Purchase]:
        return [
            self._purchase(package["name"], self._components(package), package["price"]) for package in self.packages
        ]

    @cached_property
    def _plans(self) -> list[Purchase]:
        return [
            self._purchase(plan["name"], self._components(plan), plan["trial_price"] or plan["recurring_price"], plan)
            for plan in self.subscriptions
        ]

    def _components(self, bundle: Item) -> list[Item]:
        wanted = bundle["components"]["product_ids"]
        return [product for product in self.products if product["id"] in wanted]

    def _purchase(self, name: str, products: list[Item], price: str | float, plan: Item | None = None) -> Purchase:
        ships = any(product["product_type"] == "tangible" for product in products)
        return Purchase(name, products, 1, cents(price), ships, plan)
