# Source this file: `. scripts/env.sh`. (First version: the distribution's environment only.)
if [ -n "${BASH_SOURCE:-}" ]; then _dd_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd); else _dd_root=$PWD; fi
PATH="$_dd_root/.venv/bin:$PATH"
export PATH OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
unset _dd_root
