"""The README's example does what the README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_prints_what_the_readme_shows(tmp_path):
    text = README.read_text()
    code = text.split("```python\n")[1].split("```")[0]
    shown = text.split("```\n")[2].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 12
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown
