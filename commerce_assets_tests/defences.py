"""What stands between each fault of docs/faults.md and the data: a piece of code, and what is left without it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """One fault's defence.

    Attributes:
        fault: Its number in docs/faults.md, whose test there goes red without the defence.
        file: Where it is, below `commerce_assets/`.
        code: A piece of that file that occurs once.
        without: What stands there when the defence is taken out.
    """

    fault: int
    file: str
    code: str
    without: str
