"""Start the server process and read its statistics."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from bench.data import DataSet

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Stats:
    """The requests to a server since the last call, and the sums of the orders of a window."""

    requests: int
    refused: int
    bytes: int
    seconds: float
    server_cpu: float
    rows: int
    cents: int


@dataclass(frozen=True)
class Store:
    """A running server: `base_url` is that of COMMERCE_API_BASE_URL, `orders_url` that of the list."""

    port: int
    largest_id: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/"

    @property
    def orders_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1_3/orders"

    def stats(self, window: tuple[str, str] | None = None) -> Stats:
        query = f"?from={window[0]}&to={window[1]}" if window else ""
        with urlopen(f"http://127.0.0.1:{self.port}/stats{query}") as answer:
            return Stats(**json.load(answer))


@contextmanager
def running(
    data: DataSet, folder: Path, *, latency: float = 0, rate: float = 0, changed: float = 0, port: int = 0
) -> Iterator[Store]:
    """Create the data set if it is missing, in a separate process, and serve it, on a free port unless one is given."""
    make = f"from pathlib import Path; from bench.data import DataSet; {data!r}.make(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", make], cwd=ROOT, check=True)
    options = {"--latency": latency, "--rate": rate, "--changed": changed, "--port": port}
    command = [sys.executable, "-m", "bench.server", str(data.base(folder))]
    command += [word for name, value in options.items() for word in (name, str(value))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield Store(int(process.stdout.readline()), data.orders)
        finally:
            process.terminate()
