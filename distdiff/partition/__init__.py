"""Which rank owns which node: candidates, one quality measure, and every rank's share of the tape.

    tape.homebound = homebound(tape, comm)       collective
    plan = partition(tape, n_ranks)              on rank 0
    local = distribute(tape, plan, comm)         collective
    locals = localize_all(tape, plan)            all ranks' shares in one process
"""

from .afar import skeleton, structure
from .check import check
from .choose import STRATEGIES, partition, run_by_run, table, wants_petsc
from .distribute import amounts, distribute, localize_all
from .holdings import Holdings
from .local import LocalTape, whole
from .parcel import with_arrays
from .placement import Candidate, Partition
from .quality import Quality
from .travel import homebound

__all__ = ["STRATEGIES", "Candidate", "Holdings", "LocalTape", "Partition", "Quality", "amounts", "check", "distribute",
           "homebound", "localize_all", "partition", "run_by_run", "skeleton", "structure", "table", "wants_petsc",
           "whole", "with_arrays"]
