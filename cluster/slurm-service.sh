#!/usr/bin/env bash
# The resident solver service on several nodes under Slurm. From the project's directory:  sbatch cluster/slurm-service.sh
# Its output says how to reach it. `scancel JOB` ends it; a later job with the same spool has the same systems.
# Edit from here ...
#SBATCH --job-name=distdiff-service
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=16
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@60
#SBATCH --output=distdiff-service-%j.out
##SBATCH --partition=compute
##SBATCH --account=project
modules=""               # e.g. "gcc openmpi python petsc4py"
conda_environment=""     # e.g. "distdiff"
launch=(srun --cpu-bind=cores)    # where srun and the MPI don't fit together: add --mpi=pmix or --mpi=pmi2, or (mpirun)
login=login.example.org  # the machine that you log in to
port=8765
state=$HOME/distdiff-service      # the token, and what survives this job: on a file system that you and the nodes see
reach=node               # node: the service listens on its node alone, and you may ssh to nodes on which a job of yours runs
                         # cluster: it listens on the cluster's network, where the token protects it but nothing is encrypted
# ... to here.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?submit this with sbatch, from the directory of the project}"
. cluster/activate.sh
activate "$modules" "$conda_environment"
mkdir -p -m 700 "$state"

# Two ranks compile and keep the kernels; then all of them only read.
srun --ntasks=2 python -m distdiff.cli warm

node=$(hostname) # of rank 0, which speaks HTTP: a batch script runs on the first node of its job
case "$reach" in
    node) host=127.0.0.1 tunnel=(ssh -N -L "$port:127.0.0.1:$port" -J "$login" "$node") ;;
    cluster) host=$(hostname -I | cut -d' ' -f1) tunnel=(ssh -N -L "$port:$host:$port" "$login") ;;
    *) echo "reach=$reach is neither node nor cluster" >&2; exit 2 ;;
esac
cat <<TEXT

The tunnel, on your own machine:   ${tunnel[*]}
The token, once for each machine:  scp $login:$state/token . && chmod 600 token
In Python there:                   client = distdiff.connect("http://127.0.0.1:$port", token="./token")
In a browser there:                http://127.0.0.1:$port

TEXT
exec "${launch[@]}" python -m distdiff.cli serve --host "$host" --port "$port" --token-file "$state/token" --spool "$state/spool"
