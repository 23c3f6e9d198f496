#!/usr/bin/env bash
# launch/local.sh [--dry-run] shards_dir=DIR run_dir=DIR …: train on this machine, one rank per GPU, or NPROC ranks.
#
# The same command resumes. SIGTERM, SIGUSR1 and Ctrl-C save and leave, with torchrun's exit code 1. When a rank dies,
# all start anew from the last checkpoint, PET_MAX_RESTARTS times. The rest stands in launch/env.sh.
set -euo pipefail
# shellcheck source=launch/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

dry_run=
if [[ ${1:-} == --dry-run ]]; then dry_run=yes && shift; fi
if (($# == 0)) || [[ $1 != *=* ]]; then sed -n '2s/^# //p' "${BASH_SOURCE[0]}" >&2 && exit 2; fi

die() { echo "error: $*" >&2 && exit 2; }
if [[ -n ${NPROC:-} ]]; then
  [[ $NPROC =~ ^[1-9][0-9]*$ ]] || die "NPROC=$NPROC: must be a number of ranks, 1 or more"
elif [[ $DS_ACCELERATOR == cpu ]]; then
  NPROC=1
elif [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
  NPROC=$(tr , '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l)
else
  gpus=$(nvidia-smi --list-gpus) || die "nvidia-smi lists no GPU ($gpus); DS_ACCELERATOR=cpu trains without"
  NPROC=$(wc -l <<<"$gpus")
fi

check=("$PYTHON" -m pretrain.check "world_size=$NPROC" "$@")
train=("$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$NPROC" -m pretrain "$@")
if [[ -n $dry_run ]]; then
  printf '%q ' "${check[@]}" && echo && printf '%q ' "${train[@]}" && echo
  exit
fi
"${check[@]}"
exec "${train[@]}"
