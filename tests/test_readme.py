"""The README's programs do what the README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_the_programs_print_what_the_readme_shows(tmp_path):
    """The example to the letter, and what comes after it, which goes on from there; the last one needs a service."""
    text = README.read_text()
    example, compiled, recorded, client = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    shown = text.split("```\n")[2].split("```")[0]
    assert len([line for line in example.splitlines() if line]) <= 12
    compile(client, "README.md", "exec")
    (tmp_path / "example.py").write_text(example + compiled + recorded + "print(found.success, found.fun < 1e-6)\n")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(shown)
    gradient, counts, end = done.stdout[len(shown):].splitlines()
    assert np.isfinite([float(number) for number in gradient.strip("[]").split()]).all()
    assert counts.startswith("1 traces, ") and "retraces" not in counts and end == "True True"
