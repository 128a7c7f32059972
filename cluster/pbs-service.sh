#!/usr/bin/env bash
# The resident solver service on several nodes under PBS. From the project's directory:  qsub cluster/pbs-service.sh
# Its output says how to reach it. `qdel JOB` ends it; a later job with the same spool has the same systems.
# Edit from here ...
#PBS -N distdiff-serve
#PBS -l select=2:ncpus=16:mpiprocs=16:mem=32gb
#PBS -l walltime=08:00:00
#PBS -j oe
#PBS -k oed
##PBS -q workq
##PBS -A project
modules=""               # e.g. "gcc openmpi python petsc4py"
conda_environment=""     # e.g. "distdiff"
login=login.example.org  # the machine that you log in to
port=8765
state=$HOME/distdiff-service      # the token, and what survives this job: on a file system that you and the nodes see
reach=node               # node: the service listens on its node alone, and you may ssh to nodes on which a job of yours runs
                         # cluster: it listens on the cluster's network, where the token protects it but nothing is encrypted
# ... to here.
set -euo pipefail
cd "${PBS_O_WORKDIR:?submit this with qsub, from the directory of the project}"
. cluster/activate.sh
activate "$modules" "$conda_environment"
mkdir -p -m 700 "$state"

ranks=$(wc -l <"$PBS_NODEFILE") # one line for every process asked for with mpiprocs

# One rank alone compiles and caches the kernels; then all of them only read.
python -m distdiff.cli warm

node=$(hostname) # of rank 0, which speaks HTTP: a job script runs on the first node of its job
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
if is_openmpi; then
    launch=(mpirun -n "$ranks" --hostfile "$PBS_NODEFILE" --bind-to core -x PATH -x OMP_NUM_THREADS)
    [ -z "${LD_LIBRARY_PATH:-}" ] || launch+=(-x LD_LIBRARY_PATH)
else
    launch=(mpirun -n "$ranks" -f "$PBS_NODEFILE" -bind-to core)
fi
exec "${launch[@]}" python -m distdiff.cli serve --host "$host" --port "$port" --token-file "$state/token" --spool "$state/spool"
