#!/usr/bin/env bash
# launch/slurm/chain.sh [--dry-run] A -- B -- C -- D: corpus to a model trained in two phases, as five jobs in a chain.
#
# A: options of sbatch and B: keys of data_prep, C: options of submit.sh and D: keys of pretrain, such as
#   --partition=cpu -- corpus.paths=[DIR] corpus.format=jsonl tokenizer.vocab_file=FILE executor.workers=256 -- \
#   --nodes=16 --gpus-per-node=8 --time=1-00:00:00 -- shards_dir=DIR run_dir=DIR experiment=bert_large_lamb
# The jobs: shards of 128 tokens; of 512; a check of the training; its first phase; its second, which is the same run
# without stop_after. One that fails cancels those after it: mend it, give the command again; what is done ends at once.
set -euo pipefail

refuse() { echo "error: $*" >&2 && exit 2; }

dry_run=
if [[ ${1:-} == --dry-run ]]; then dry_run=yes && shift; fi
prep_options=() prep_keys=() options=() keys=() part=0 shards_dir=''
for argument in "$@"; do
  if [[ $argument == -- ]]; then part=$((part + 1)) && continue; fi
  case $part in
    0) prep_options+=("$argument") ;;
    1) prep_keys+=("$argument") ;;
    2) options+=("$argument") ;;
    *) keys+=("$argument") ;;
  esac
  if [[ $argument == shards_dir=* ]]; then shards_dir=${argument#*=}; fi
done
((part == 3)) || refuse "-- stands $part times among the arguments, must 3 times: A -- B -- C -- D"
[[ -n $shards_dir ]] || refuse "shards_dir=DIR is missing"
: "${PYTHON:=python}" "${LAUNCH_DIR:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
export LAUNCH_DIR

first_phase_steps() {
  "$PYTHON" - "$@" <<'PYTHON'
import sys

from conf.compose import compose
from pretrain.config import PretrainConfig

try:
    print(compose("pretrain", PretrainConfig, sys.argv[1:]).phases[0].max_steps)
except ValueError as error:
    sys.exit(f"error: {error}")
PYTHON
}

queue() { # NAME COMMAND: sets `job` to the id that the command prints last
  if [[ -n $dry_run ]]; then
    local command=("${@:2}")
    echo "${command[*]@Q}" && job=$1
  else
    job=$("${@:2}" | tail -n 1)
    echo "job $job: $1"
  fi
}

queue_shards() { # TOKENS [OPTION]
  queue "shards_$1" sbatch --parsable --kill-on-invalid-dep=yes --output="$shards_dir/data_prep-%j.log" "${@:2}" \
    "${prep_options[@]}" "$LAUNCH_DIR/slurm/data_prep.sbatch" "${prep_keys[@]}" "output_dir=$shards_dir/seq$1" \
    "sequence.max_seq_length=$1" "executor.work_dir=$shards_dir/tokens"
}

steps=$(first_phase_steps "${keys[@]}")
submit=$LAUNCH_DIR/slurm/submit.sh
if [[ -z $dry_run ]]; then mkdir -p "$shards_dir"; fi
queue_shards 128
queue_shards 512 --dependency="afterok:$job"
queue check sbatch --parsable --job-name=check --dependency="afterok:$job" --kill-on-invalid-dep=yes \
  --output="$shards_dir/check-%j.log" "${prep_options[@]}" "$submit" --check "${options[@]}" -- "${keys[@]}"
queue phase_1 "$submit" --after="$job" "${options[@]}" -- "${keys[@]}" "stop_after=$steps"
queue phase_2 "$submit" --after="$job" "${options[@]}" -- "${keys[@]}"
