"""Steps of the build that mkdocs calls: run the notebooks as pages, shorten references to names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

NOTEBOOKS = Path(__file__).parent / "notebooks"
SECONDS = 300
"""Longest that one cell may take; a notebook takes well under a minute on two cores."""
ROLE = re.compile(r":(?:class|func|meth|data|mod|attr):(<code>)~?(?:[\w.]*\.)?(\w+)(</code>)")
"""A name as docstrings refer to it, in HTML: ``:class:`~package.Name```."""


def on_files(files: Files, config: Any) -> Files:
    """Add a page and its pictures for every notebook.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails: the build ends there.
    """
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, pictures = run_notebook(path)
        page = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, page, content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def run_notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook after it ran, as markdown and its pictures by name."""
    notebook = nbformat.read(path, as_version=4)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3").execute()
    for cell in notebook.cells:
        # Warnings of libraries name files of the machine that builds the site.
        cell["outputs"] = [item for item in cell.get("outputs", []) if item.get("name") != "stderr"]
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, resources={"unique_key": path.stem, "output_files_dir": path.stem}
    )
    return text, {str(name): content for name, content in resources["outputs"].items()}


def on_page_content(html: str, **_: Any) -> str:
    """Show ``:class:`~package.Name``` as ``Name``."""
    return ROLE.sub(r"\1\2\3", html)
