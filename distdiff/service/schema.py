"""What is said over HTTP: plain data of systems, jobs and errors, and the OpenAPI description of bodies."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel

from ..errors import BrokenCommunicatorError, DistdiffError, FormatError, ServiceError
from . import wire
from .jobs import Job

POINT = "distdiff-point"  # the header that says at which point an answer holds
PROBLEM = "application/problem+json"


class Problem(BaseModel):
    """What is wrong: the error's name and its message."""

    type: str
    title: str
    status: int
    detail: str


class Nesting(BaseModel):
    """Leaves one after another: how they nest ("*" a leaf), and their shapes."""

    tree: Any
    shapes: list[list[int]]


class SystemInfo(BaseModel):
    id: str
    name: str
    function: str | None
    created: float
    point: int
    lines: int
    predicted_memory: int
    names: list[str] | None
    settings: dict[str, Any]
    arguments: Nesting
    result: Nesting


class JobInfo(BaseModel):
    id: str
    system: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    columns: int
    done: int
    submitted: float
    began: float | None
    ended: float | None
    error: Problem | None


class Cancelled(JobInfo):
    """A job that was cancelled, and where its work ends."""

    ends: str


class FunctionInfo(BaseModel):
    name: str
    parameters: list[str]
    integers: list[str]  # those that take integers: whole numbers in JSON are ints for them, for all others floats
    summary: str  # the first line of its docstring


class ModuleInfo(BaseModel):
    """A module's functions; error: why its file can't be read, as far as that shows without running it."""

    module: str
    functions: list[FunctionInfo]
    error: str | None


class Health(BaseModel):
    status: Literal["ok"]
    version: str
    api: int
    ranks: int
    tracing: int  # functions, in processes beside the ranks


NUMBERS = (
    "Numbers or nested lists of numbers, by parameter. JSON does not tell 1 from 1.0, so all are floats, by which the "
    "function is differentiated, but for parameters that its `def` annotates `int`, or gives an integer as default and "
    "no annotation (`integers` in /v1/functions): they take one whole number, which is held fixed. Arrays of integers "
    "are sent as .npz, whose arrays say what they hold.")
LEAVES = (
    "An array for each leaf, which its name tells, in any order: the argument's, as `names` of the system lists them, "
    "where each of them is one leaf; or its number, as leaf0, leaf1, ... (so in answers), or arr_0, arr_1, ... as "
    "numpy.savez writes arrays without names. Other names, one twice, one too many or too few are refused (422).")
BINARY = {"schema": {"type": "string", "format": "binary"}}
ARRAYS = {"schema": {**BINARY["schema"], "description": LEAVES}}
VECTOR = {"content": {wire.NPY: BINARY, wire.NPZ: ARRAYS, wire.JSON: {"schema": {
    "type": "object", "properties": {"leaves": {"type": "array", "items": {}}}, "required": ["leaves"],
    "additionalProperties": False}}}}
ARGUMENTS = {"content": {wire.NPZ: BINARY, wire.JSON: {"schema": {
    "type": "object", "properties": {"arguments": {"type": "object", "description": NUMBERS}},
    "required": ["arguments"], "additionalProperties": False}}}}
ANSWER: dict[int | str, dict[str, Any]] = {200: {"description": "The numbers", **VECTOR, "headers": {
    POINT: {"schema": {"type": "integer"}, "description": "The number of the point at which it holds"}}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM: {"schema": Problem.model_json_schema()}}}
    for status in (400, 401, 404, 409, 413, 415, 422, 431, 500, 501, 503, 507)}
UNREADABLE: dict[int | str, dict[str, Any]] = {k: PROBLEMS[k] for k in (400, 431)}  # whatever it asks for
LATER: dict[int | str, dict[str, Any]] = {202: {
    "description": "With 'Prefer: respond-async': the job, to be asked about", "model": JobInfo}}


def body(**content: Any) -> dict[str, Any]:
    return {"requestBody": {"required": True, **content}}


def problem_of(error: BaseException) -> Problem:
    """An error as it is answered."""
    status = 500
    if isinstance(error, ServiceError):
        status = error.status or 500
    elif isinstance(error, FormatError):
        status = 400
    elif isinstance(error, DistdiffError) and not isinstance(error, BrokenCommunicatorError):
        status = 422
    name, detail = type(error).__name__, str(error)
    if not isinstance(error, DistdiffError):
        detail = f"{name}: {error}"
        if notes := getattr(error, "__notes__", None):
            detail += "\n" + "\n".join(notes)
    return Problem(type=f"urn:distdiff:error:{name}", title=HTTPStatus(status).phrase, status=status,
                   detail=detail.encode(errors="replace").decode())


def described(job: Job) -> dict[str, Any]:
    """Plain data."""
    return {"id": job.id, "system": job.system, "kind": job.kind, "state": job.state, "columns": job.columns,
            "done": job.done, "submitted": job.submitted, "began": job.began, "ended": job.ended,
            "error": None if job.error is None else problem_of(job.error).model_dump()}
