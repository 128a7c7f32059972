#!/usr/bin/env bash
# The grid part of the demo on several nodes under Slurm. From the project's directory:  sbatch cluster/slurm.sh
# Edit from here ...
#SBATCH --job-name=distdiff
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=16
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=00:20:00
#SBATCH --output=distdiff-%j.out
##SBATCH --partition=compute
##SBATCH --account=project
modules=""               # e.g. "gcc openmpi python petsc4py"
conda_environment=""     # e.g. "distdiff"
launch=(srun --cpu-bind=cores)    # where srun and the MPI don't fit together: add --mpi=pmix or --mpi=pmi2, or (mpirun)
size=full                # small: a trial of a few seconds
# ... to here.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?submit this with sbatch, from the directory of the project}"
. cluster/activate.sh
activate "$modules" "$conda_environment"
out=out/cluster-$SLURM_JOB_ID

# Two ranks compile and keep the kernels; then all of them only read.
srun --ntasks=2 python -m distdiff.cli warm

"${launch[@]}" python -m distdiff.examples.demo --part grid --size "$size" --no-figures --out "$out"
