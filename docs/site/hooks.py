"""What MkDocs does not do itself: equations, the command line's page, and files outside docs/."""

import posixpath
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")
"""`](` and a link's target that starts above the page's own folder."""
PAGES = "ARCHITECTURE.md", "CHANGELOG.md"
"""Pages of the site that stand at the top of the repository."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Takes the repository's address, if there is one, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if (address := project.get("urls", {}).get("Repository")) is not None:
        config.repo_url, config.repo_name = address, project["name"]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the command line's page, and every file outside docs/ that is a page or linked to."""
    sys.path.insert(0, str(Path(__file__).parent))
    from command_line import page

    files.append(File.generated(config, "command_line.md", content=page()))
    linked = set(PAGES)
    for file in files.documentation_pages():
        if file.src_uri.endswith(".md"):
            for _, target in LINK.findall(file.content_string):
                linked |= {_outside(target, file.src_uri)} - {None}
    for path in sorted(linked):
        uri = f"repository/{path}"
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Points links to files outside docs/ at their copies."""
    uri = page.file.src_uri

    def at_copy(match: re.Match[str]) -> str:
        path = _outside(match[2], uri)
        if path is None:
            return match[0]
        return match[1] + posixpath.relpath(f"repository/{path}", posixpath.dirname(uri))

    return LINK.sub(at_copy, markdown)


def on_page_content(html: str, page: Page, files: Files, **_: Any) -> str:
    """LaTeX to MathML, which browsers draw without a script; links of notebooks to pages."""

    def mathml(match: re.Match[str]) -> str:
        inline, block = match[1], match[2]
        latex = (inline or block).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        return convert(latex, display="block" if block else "inline")

    pattern = r'<(?:span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</(?:span|div)>'
    html = re.sub(pattern, mathml, html, flags=re.DOTALL)
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def to_page(match: re.Match[str]) -> str:
        folder = posixpath.dirname(page.file.src_uri)
        target = files.get_file_from_path(posixpath.normpath(posixpath.join(folder, match[1])))
        if target is None:
            raise PluginError(f"{page.file.src_uri} links to {match[1]}, which is no page")
        return f'href="{target.url_relative_to(page.file)}'

    return re.sub(r'href="(\.\./[^"#]+\.(?:md|ipynb))', to_page, html)


def _outside(target: str, page: str) -> str | None:
    """The path in the repository of a link's target; None if it lies within docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    inside = path.startswith(("docs/", "../")) or not (ROOT / path).is_file()
    return None if inside else path
