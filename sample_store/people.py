"""Who buys from the sample shop: invented people, at reserved domains and documentation IP ranges (RFC 2606, 5737)."""

from random import Random
from typing import NamedTuple


class Place(NamedTuple):
    country: str
    currency: str
    vat_percent: int
    region: str | None
    city: str
    postcode: str
    street: str


class Buyer(NamedTuple):
    name: str
    email: str
    place: Place
    ip_address: str


_GERMANY = Place("DE", "EUR", 19, None, "Köln", "50667", "Lindenstraße 12")
_FRANCE = Place("FR", "EUR", 20, None, "Besançon", "25000", "8 rue des Granges")
_UNITED_STATES = Place("US", "USD", 0, "OR", "Portland", "97205", "1840 SW Alder St")
_UNITED_KINGDOM = Place("GB", "GBP", 20, None, "York", "YO1 7HH", "3 Stonegate")
_PLACES = (
    *(_UNITED_STATES,) * 5,
    Place("US", "USD", 0, "TX", "Austin", "78701", "77 Congress Ave"),
    Place("CA", "USD", 0, "QC", "Montréal", "H2X 1Y4", "455 rue Saint-Urbain"),
    *(_UNITED_KINGDOM,) * 2,
    *(_GERMANY,) * 2,
    _FRANCE,
    Place("NL", "EUR", 21, None, "Utrecht", "3511 AB", "Oudegracht 101"),
    Place("BE", "EUR", 21, None, "Gent", "9000", "Korenlei 9"),
    Place("PL", "EUR", 23, None, "Łódź", "90-001", "Piotrkowska 44"),
    Place("JP", "USD", 0, "京都府", "京都市", "604-8005", "恵比須町 427"),
)
_NAMES = (
    ("Amelia Hart", "amelia.hart"),
    ("José Álvarez", "jose.alvarez"),
    ("Zoë van der Meer", "zoe.vandermeer"),
    ("Jürgen Groß", "juergen.gross"),
    ("Chloé Lefèvre", "chloe.lefevre"),
    ("Łukasz Wójcik", "lukasz.wojcik"),
    ("佐藤 花子", "hanako.sato"),
    ("Siobhán O'Neill", "siobhan.oneill"),
    ("Marcus Bell", "marcus.bell"),
    ("Priya Raman", "priya.raman"),
    ("Noah Kim", "noah.kim"),
    ("Ingrid Sørensen", "ingrid.sorensen"),
    ("Daniel Osei", "daniel.osei"),
    ("Мария Иванова", "maria.ivanova"),
    ("Grace Liu", "grace.liu"),
    ("Tom Ashworth", "tom.ashworth"),
)
_DOMAINS = ("example.com", "example.org")
_IP_PREFIXES = ("192.0.2", "198.51.100", "203.0.113")


def any_buyer(rng: Random) -> Buyer:
    """One of some 1,600 people, so that some come back."""
    number = int(rng.random() * 100)
    name, mailbox = rng.choice(_NAMES)
    return Buyer(
        name=name,
        email=f"{mailbox}{number}@{_DOMAINS[number % 2]}",
        place=rng.choice(_PLACES),
        ip_address=f"{rng.choice(_IP_PREFIXES)}.{number + 1}",
    )
