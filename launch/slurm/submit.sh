#!/usr/bin/env bash
# launch/slurm/submit.sh [--dry-run | --check] [OPTIONS OF SBATCH] -- shards_dir=DIR run_dir=DIR …: check, then queue.
#
#   launch/slurm/submit.sh --nodes=4 --gpus-per-node=8 --time=1-00:00:00 -- shards_dir=DIR run_dir=DIR model=large …
# It prints the job's id last. --nodes=2-4 takes what there is. Two options are ours: --grace=SECONDS, for the last step
# and its saves before the time limit; --after=JOB, which must end well before this one starts and may be what makes the
# shards: then nothing is checked. --dry-run prints what would run, --check does not queue.
set -euo pipefail

refuse() { echo "error: $*" >&2 && exit 2; }

seconds_of() { # [DAYS-]HOURS:MINUTES:SECONDS, or less of it as SLURM reads it
  local days=0 time=$1 parts
  [[ $time =~ ^([0-9]+-)?[0-9]+(:[0-9]+){0,2}$ ]] || refuse "--time=$time is not valid: write DAYS-HOURS:MIN:SEC"
  if [[ $time == *-* ]]; then days=${time%%-*} time=${time#*-}:0:0; fi
  IFS=: read -ra parts <<<"$time"
  case ${#parts[@]} in
    1) parts=(0 "${parts[0]}" 0) ;;
    2) parts=(0 "${parts[@]}") ;;
  esac
  echo $((((10#$days * 24 + 10#${parts[0]}) * 60 + 10#${parts[1]}) * 60 + 10#${parts[2]}))
}

mode='' grace=600 nodes=1 gpus='' tasks='' after='' limit='' options=()
while (($#)) && [[ $1 != -- ]]; do
  case $1 in
    --nodes | --gpus-per-node | --ntasks-per-node | --time | --grace | --after)
      (($# > 1)) || refuse "$1 has no value"
      set -- "$1=$2" "${@:3}" && continue ;;
    --dry-run | --check) mode=$1 ;;
    --grace=*) grace=${1#*=} ;;
    --after=*) after=${1#*=} ;;
    --nodes=*) nodes=${1#*=} options+=("$1") ;;
    --gpus-per-node=*) gpus=${1##*[=:]} options+=("$1") ;; # also with a type: a100:8
    --ntasks-per-node=*) tasks=${1#*=} ;;
    --time=*) limit=$(seconds_of "${1#*=}") options+=("$1") ;;
    -[NnGt]* | --ntasks | --ntasks=* | --gpus | --gpus=* | --signal | --signal=* | -d* | --dependency | --dependency=*)
      refuse "$1 is not valid: write --nodes, --gpus-per-node or --ntasks-per-node, --time, --grace, --after" ;;
    -J* | --job-name | --job-name=*) refuse "$1 is not valid: the name is that of run_dir, for one job at a time" ;;
    *) options+=("$1") ;;
  esac
  shift
done
[[ ${1:-} == -- ]] || refuse "-- is missing: it parts the options of sbatch from the training's KEY=VALUE"
shift
number='[1-9][0-9]*' ranks=${tasks:-$gpus}
[[ $nodes =~ ^$number(-$number)?$ ]] || refuse "--nodes=$nodes is not valid: write a number, or LEAST-MOST"
[[ $ranks =~ ^$number$ ]] || refuse "--gpus-per-node=$ranks is not valid: write how many, or --ntasks-per-node"
[[ $grace =~ ^$number$ ]] || refuse "--grace=$grace is not valid: write seconds"
[[ -z $limit ]] || ((limit > grace)) || refuse "--time is $limit s and --grace=$grace: no time to train; raise --time"
# SLURM 22.05 takes --nodes=1-4 --ntasks-per-node=1 for one task in all, on one node; one a node is the default.
((ranks == 1)) || options+=("--ntasks-per-node=$ranks")
run_dir=
for argument in "$@"; do
  if [[ $argument == run_dir=* ]]; then run_dir=${argument#*=}; fi
done
[[ -n $run_dir ]] || refuse "run_dir=DIR is missing"
: "${PYTHON:=python}" "${LAUNCH_DIR:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
export LAUNCH_DIR # no env.sh: what it finds on this machine need not be on the nodes

run() { if [[ $mode == --dry-run ]]; then echo "${*@Q}"; else "$@"; fi; }
if [[ -z $after ]]; then
  for number in $(printf '%s\n' "${nodes%-*}" "${nodes#*-}" | uniq); do
    run "$PYTHON" -m pretrain.check "world_size=$((number * ranks))" "grace_seconds=$grace" "$@"
  done
fi
if [[ $mode == --check ]]; then exit; fi
run mkdir -p "$run_dir"
# Jobs of one name wait for each other (singleton): a run that is queued twice must not run twice at a time.
run sbatch --parsable --job-name="pretrain $(realpath -m "$run_dir")" --output="$run_dir/slurm-%j.log" \
  --signal="B:USR1@$grace" --dependency="${after:+afterok:$after,}singleton" --kill-on-invalid-dep=yes \
  "${options[@]}" "$LAUNCH_DIR/slurm/pretrain.sbatch" "$@"
