"""`make docs`: write the generated parts of docs/, and the column lineage of the marts."""

from pathlib import Path
from tempfile import TemporaryDirectory

from commerce_assets.analytics.metadata import LINEAGE
from tools.docs.cookbook import cookbook
from tools.docs.dictionary import data_dictionary
from tools.docs.lineage import lineage_json
from tools.docs.sample import build_sample_database, connect
from tools.docs.settings import settings_page

_DOCS = Path("docs")


def main() -> None:
    Path(str(LINEAGE)).write_text(lineage_json())
    (_DOCS / "data-dictionary.md").write_text(data_dictionary())
    settings = _DOCS / "settings.md"
    settings.write_text(settings_page(settings.read_text()))
    page = _DOCS / "cookbook.md"
    with TemporaryDirectory() as folder, connect(build_sample_database(Path(folder))) as connection:
        page.write_text(cookbook(page.read_text(), connection))


if __name__ == "__main__":
    main()
