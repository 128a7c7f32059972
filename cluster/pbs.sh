#!/usr/bin/env bash
# The grid part of the demo on several nodes under PBS. From the project's directory:  qsub cluster/pbs.sh
# Edit from here ...
#PBS -N distdiff
#PBS -l select=2:ncpus=16:mpiprocs=16:mem=32gb
#PBS -l walltime=00:20:00
#PBS -j oe
##PBS -q workq
##PBS -A project
modules=""               # e.g. "gcc openmpi python petsc4py"
conda_environment=""     # e.g. "distdiff"
size=full                # small: a trial of a few seconds
# ... to here.
set -euo pipefail
cd "${PBS_O_WORKDIR:?submit this with qsub, from the directory of the project}"
. cluster/activate.sh
activate "$modules" "$conda_environment"
out=out/cluster-${PBS_JOBID%%.*}
ranks=$(wc -l <"$PBS_NODEFILE") # one line for every process asked for with mpiprocs

# One rank alone compiles and caches the kernels; then all of them only read.
python -m distdiff.cli warm

if is_openmpi; then
    launch=(mpirun -n "$ranks" --hostfile "$PBS_NODEFILE" --bind-to core -x PATH -x OMP_NUM_THREADS)
    [ -z "${LD_LIBRARY_PATH:-}" ] || launch+=(-x LD_LIBRARY_PATH)
else
    launch=(mpirun -n "$ranks" -f "$PBS_NODEFILE" -bind-to core)
fi
"${launch[@]}" python -m distdiff.examples.demo --part grid --size "$size" --no-figures --out "$out"
