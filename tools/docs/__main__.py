"""`make docs`: write the generated parts of docs/."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tools.docs.cookbook import cookbook
from tools.docs.dictionary import data_dictionary
from tools.docs.sample import build_sample_database, connect
from tools.docs.settings import settings_page

_DOCS = Path("docs")


def main() -> None:
    (_DOCS / "data-dictionary.md").write_text(data_dictionary())
    settings = _DOCS / "settings.md"
    settings.write_text(settings_page(settings.read_text()))
    page = _DOCS / "cookbook.md"
    with TemporaryDirectory() as folder, connect(build_sample_database(Path(folder))) as connection:
        page.write_text(cookbook(page.read_text(), connection))


if __name__ == "__main__":
    main()
