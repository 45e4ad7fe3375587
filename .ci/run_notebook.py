"""Executes a notebook in a folder, leaves the result there, and checks that cells show pictures.

Run:  python .ci/run_notebook.py examples/tour.ipynb FOLDER            (needs the extra `notebook`)
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SVG = "image/svg+xml"
DRAWN = ("graph", "model", "history", "program", "plan")  # the last lines of cells that show a picture


def main(source: str, folder: str) -> None:
    """Execute each cell; an error in one, or a picture that is missing, ends this program with a traceback."""
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(cell.outputs or cell.execution_count for cell in cells):
        sys.exit(f"{source} holds outputs: clear them, so that changes can be read")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    nbformat.write(notebook, Path(folder) / Path(source).name)
    shown = {cell.source.splitlines()[-1]: cell for cell in cells}
    for name in DRAWN:
        if not any(SVG in output.get("data", {}) for output in shown[name].outputs):
            sys.exit(f"the cell that ends with `{name}` shows no {SVG}")
    (curve,) = [cell for cell in cells if "LiveCurve" in cell.source]
    pictures = [output for output in curve.outputs if SVG in output.get("data", {})]
    if len(pictures) != 1:
        sys.exit(f"the live curve stands in {len(pictures)} places, where 1 was expected")


main(*sys.argv[1:])
