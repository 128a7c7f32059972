"""The machine's rates: where they are found, and what is not taken for rates."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from distdiff import machine
from distdiff.errors import InputError
from distdiff.machine import VERSION, Machine


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file that is looked for first, not there yet."""
    monkeypatch.setenv("DISTDIFF_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(machine.VARIABLE)
    machine.current.cache_clear()
    yield machine.files()[0]
    machine.current.cache_clear()


def written(path, rates, version=VERSION):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": version, "rates": rates}))
    return path


def test_rates_of_this_machine_are_found(file, monkeypatch):
    mine = replace(Machine(), row=1.25e-9, source="measured")
    path = written(file, mine.to_dict())
    assert machine.current() == mine
    machine.current.cache_clear()
    monkeypatch.setenv(machine.VARIABLE, "default")
    assert machine.current() == Machine()
    machine.current.cache_clear()
    monkeypatch.setenv(machine.VARIABLE, str(path))
    assert machine.current() == mine


@pytest.mark.parametrize("change", [{"row": -1.0}, {"row": float("inf")}, {"row": "fast"}, {"new": 1.0}])
def test_what_is_no_rate_is_not_read(file, monkeypatch, change):
    path = written(file, {**Machine().to_dict(), **change})
    with pytest.raises(ValueError):
        machine.read(path)
    monkeypatch.setenv(machine.VARIABLE, str(path))
    with pytest.raises(InputError, match="distdiff calibrate"):
        machine.current()


def test_a_rate_that_was_not_measured_then_is_the_usual_one(file):
    rates = replace(Machine(), row=1.25e-9).to_dict()
    del rates["share_item"]
    assert machine.read(written(file, rates)) == replace(Machine(), row=1.25e-9)


def test_another_version_is_not_read(file):
    with pytest.raises(ValueError, match="version"):
        machine.read(written(file, Machine().to_dict(), VERSION + 1))
