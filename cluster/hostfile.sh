#!/usr/bin/env bash
# The grid part of the demo on machines that ssh reaches without a password and that see this directory under the same
# path, without a batch system:  cluster/hostfile.sh [host:ranks ...]
# Edit from here ...
hosts=(localhost:2)      # e.g. (node01:16 node02:16); arguments replace this list
modules=""               # e.g. "gcc openmpi python petsc4py"
conda_environment=""     # e.g. "distdiff"
size=full                # small: a trial of a few seconds
binding=core             # none: where the machines are shared with others
# ... to here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ $# -gt 0 ]; then hosts=("$@"); fi
. cluster/activate.sh
activate "$modules" "$conda_environment"
out=out/cluster-$(date +%Y%m%d-%H%M%S)
mkdir -p "$out"

# Open MPI writes `host slots=n`, MPICH `host:n`.
ranks=0
for host in "${hosts[@]}"; do
    case "$host" in *:*) ;; *) host=$host:1 ;; esac
    ranks=$((ranks + ${host##*:}))
    if is_openmpi; then echo "${host%:*} slots=${host##*:}"; else echo "$host"; fi
done >"$out/hostfile"

# One rank alone compiles and caches the kernels; then all of them only read.
python -m distdiff.cli warm

# With a hostfile, more ranks than the slots it grants are a mistake.
unset OMPI_MCA_rmaps_base_oversubscribe PRTE_MCA_rmaps_default_mapping_policy
if is_openmpi; then
    launch=(mpirun -n "$ranks" --hostfile "$out/hostfile" --bind-to "$binding" -x PATH -x OMP_NUM_THREADS)
    [ -z "${LD_LIBRARY_PATH:-}" ] || launch+=(-x LD_LIBRARY_PATH)
else
    launch=(mpirun -n "$ranks" -f "$out/hostfile" -bind-to "$binding")
fi
"${launch[@]}" "$(command -v python)" -m distdiff.examples.demo --part grid --size "$size" --no-figures --out "$out"
