"""`python -m tools.words`: find words in code and docs that this project does not use; see CONTRIBUTING.md."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

BANNED = {
    "heed": r"heed\w*",
    "reckon": r"reckon\w*",
    "anew": r"anew",
    "amid": r"amid",
    "whoever": r"whoever",
    "be it": r"be it",
    "lies": r"lies",
    "told": r"told|tells",
    "stands": r"stands|standings?",
    "judge": r"judg\w*",
    "verdict": r"verdicts?",
    "believe": r"believ\w*",
    "treated": r"treated",
    "so many": r"so many",
    "of its own": r"of its own",
    "in small letters": r"in small letters",
    "what to do": r"what to do",
    "with no word": r"with no word",
}
_FILES = (
    "*.py",
    "*.md",
    "*.sql",
    "*.toml",
    "*.yaml",
    "*.yml",
    "*.service",
    "*.timer",
    "Makefile",
    ".env.example",
    ".ci/*",
)
_WITH_EXAMPLES = {"tools/words.py", "commerce_assets_tests/unit/test_words.py"}
# Without a look behind and a flag, a pattern begins with a literal, which `re` finds many times faster.
_PATTERNS = {
    word: re.compile(rf"(?:{pattern})(?![a-z])".replace(" ", r"[\s_]+(?:#\s*)?")) for word, pattern in BANNED.items()
}


def find(text: str) -> list[tuple[int, str]]:
    """Return the line and the banned word of each occurrence; names with underscores count too."""
    lowered = text.lower()
    return sorted(
        (lowered.count("\n", 0, start) + 1, word)
        for word, pattern in _PATTERNS.items()
        for start in _starts(pattern, lowered)
    )


def _starts(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    """Yield where the pattern matches at the start of a word."""
    match = pattern.search(text)
    while match:
        is_inside_a_word = "a" <= text[match.start() - 1 : match.start()] <= "z"
        if not is_inside_a_word:
            yield match.start()
        # A match inside a word may contain another one: xheed_heed.
        match = pattern.search(text, match.start() + 1 if is_inside_a_word else match.end())


def main() -> int:
    """Print each occurrence of a banned word; return 1 if there is one."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *_FILES]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")  # noqa: S603
    paths = [path for name in names if name and (path := Path(name)).is_file() and name not in _WITH_EXAMPLES]
    found = [(path, line, word) for path in paths for line, word in find(path.read_text(encoding="utf-8"))]
    for path, line, word in found:
        sys.stdout.write(f"{path}:{line}: {word!r}. Fix: use the field's word, or a plain one.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
