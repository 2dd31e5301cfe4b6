"""The notebook docs/tour.ipynb: it runs from top to bottom on the demo's finished run (see test_demo)."""

import json

from helpers import ROOT

NOTEBOOK = ROOT / "docs" / "tour.ipynb"


def cells() -> list[dict]:
    """The cells of the notebook."""
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_the_notebook_is_stored_with_what_it_showed():
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert all(cell["outputs"] for cell in code[1:])


def test_the_notebook_names_no_folder_of_the_machine_on_which_it_ran():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "/home/" not in text
    assert str(ROOT) not in text
