# Sourced by the job scripts of this directory: selects the environment named at their top, and says what it is.
# shellcheck shell=bash

activate() { # activate "modules" "conda environment": either may be empty; with both empty, what scripts/setup made
    if [ -n "$1" ]; then
        # shellcheck disable=SC2086  # a list of modules
        module load $1
    fi
    if [ -n "$2" ]; then
        # shellcheck disable=SC1091
        . "$(conda info --base)/etc/profile.d/conda.sh"
        conda activate "$2"
    fi
    # After scripts/setup was called with these modules or this conda environment, env.sh finds what it installed there.
    if [ -n "$1$2" ]; then export DISTDIFF_ENV=active; fi
    # shellcheck disable=SC1091
    . scripts/env.sh || return 1
    echo "$(date '+%F %T') on $(hostname): $(command -v python), $(command -v mpirun || echo no mpirun)"
}

is_openmpi() { case "$(mpirun --version 2>&1)" in *Open*MPI* | *OpenRTE* | *PRTE*) true ;; *) false ;; esac; }
