"""The check of words: `make lint` runs it over the repository."""

import pytest

from tools.words import find


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a filter that is honoured\n", []),
        ("first\nnot heeded\n", [(2, "heed")]),
        ("def test_what_is_told_is_kept() -> None: ...", [(1, "told")]),
        ("a folder of\nits own", [(1, "of its own")]),
        ("# one of\n# its own", [(1, "of its own")]),
        ("Amid all", [(1, "amid")]),
        ("families, pyramid, untold", []),
        ("xheed_heed", [(1, "heed")]),
    ],
)
def test_banned_words_are_found_whole_and_in_names(text: str, found: list[tuple[int, str]]) -> None:
    assert find(text) == found
