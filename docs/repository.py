"""A hook of MkDocs: pages of the repository that lie outside of docs/, and the files they show."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {".csv", ".json", ".md", ".png", ".svg", ".txt"}


def on_files(files, config):
    """Show results/ with all that its pages link to, the index of benchmarks, and notebooks."""
    paths = [path for path in (ROOT / "results").rglob("*") if path.suffix in SHOWN]
    paths += [ROOT / "benchmarks" / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]
    for path in sorted(paths):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links that leave docs/, as they do in the repository, stay within the site."""
    if not Path(page.file.abs_src_path).is_relative_to(config.docs_dir):
        return markdown
    climb = "../" * page.file.src_uri.count("/")
    return re.sub(rf"\]\({re.escape(climb)}\.\./(?=\w)", f"]({climb}", markdown)
