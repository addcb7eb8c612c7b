"""The command behind `make docs`: writes those parts of docs/ that follow from the code."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tools.docs.cookbook import cookbook
from tools.docs.dictionary import data_dictionary
from tools.docs.sample import build_sample_database, connect

_DOCS = Path("docs")


def main() -> None:
    (_DOCS / "data-dictionary.md").write_text(data_dictionary())
    page = _DOCS / "cookbook.md"
    with TemporaryDirectory() as folder, connect(build_sample_database(Path(folder))) as connection:
        page.write_text(cookbook(page.read_text(), connection))


if __name__ == "__main__":
    main()
