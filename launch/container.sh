#!/usr/bin/env bash
# launch/container.sh [--dry-run] ARGS…: a node of a training, in a container (kubernetes/*.yaml, docker/compose.yaml).
# It checks the command, trains, and ends with an exit code that tells the platform whether to start it again:
#     0 done, or at stop_after    2 refused    143 stopped after a save: start again    138 failed: try again
# PET_… variables, which Kubeflow sets, tell torchrun of the nodes; GRACE_SECONDS lie between SIGTERM and the kill.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/env.sh
. launch/env.sh

DONE=0 REFUSED=2 FAILED=138 STOPPED=143

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=1; shift; fi
run_dir=
for argument in "$@"; do
  case $argument in run_dir=*) run_dir=${argument#run_dir=} ;; esac
done
nodes=${PET_NNODES:-1} ranks_per_node=${PET_NPROC_PER_NODE:-1}
if ! [[ $nodes =~ ^[1-9][0-9]*(:[1-9][0-9]*)?$ && $ranks_per_node =~ ^[1-9][0-9]*$ ]]; then
  echo "container.sh: PET_NNODES=$nodes PET_NPROC_PER_NODE=$ranks_per_node: set both to numbers in the manifest" >&2
  exit "$REFUSED"
fi
check=("$PYTHON" -m pretrain.check ${GRACE_SECONDS:+"grace_seconds=$GRACE_SECONDS"} "$@")
world_sizes=() # of MIN:MAX nodes both are checked
for number in $(printf '%s\n' "${nodes%:*}" "${nodes#*:}" | uniq); do world_sizes+=($((number * ranks_per_node))); done
train=("$PYTHON" -m torch.distributed.run -m pretrain "$@")
if [ -n "$dry_run" ]; then
  for world_size in "${world_sizes[@]}"; do printf '%q ' "${check[@]}" "world_size=$world_size"; echo; done
  env | grep '^PET_' | sort
  printf '%q ' "${train[@]}"; echo
  exit "$DONE"
fi

child='' told='' stopped='' code=0
trap 'stopped=1' TERM INT USR1

# A rank that is told to stop tells all ranks of all nodes: they finish the step, save and leave. torchrun is told only
# where it had no ranks: those of the other nodes would wait for it at their exit barrier, 300 s.
tell() { # each rank once, also those that torchrun starts anew meanwhile: a rank that still imports dies of the signal
  local process
  for process in $(pgrep -P "$child" || echo "${told:-$child}"); do
    case " $told " in *" $process "*) ;; *) told+=" $process" && kill -TERM "$process" || true ;; esac
  done
}

attend() { # runs a command to its end, whatever signals come meanwhile; its exit code is in $code
  "$@" &
  child=$! told='' code=0
  while kill -0 "$child" 2>/dev/null; do
    if [ -n "$stopped" ]; then sleep 1; tell; else wait "$child" || true; fi
  done
  wait "$child" || code=$?
}

status() { cat "$run_dir/status.json" 2>/dev/null || true; }

for world_size in "${world_sizes[@]}"; do
  attend "${check[@]}" "world_size=$world_size"
  if [ -n "$stopped" ]; then exit "$STOPPED"; fi
  if [ "$code" = "$REFUSED" ]; then exit "$REFUSED"; fi
  if [ "$code" != 0 ]; then exit "$FAILED"; fi
done

before=$(status)
attend "${train[@]}"
# The ranks left in good order. A network file system may show another node's status a minute late.
for _ in {1..60}; do
  now=$(status)
  if [ "$code" != 0 ] || [[ $now != '{"state": "running"'* ]]; then break; fi
  sleep 1
done
if [ "$code" = 0 ] || [ "$now" != "$before" ]; then # else it tells of an earlier start
  case $now in
    '{"state": "done"'* | '{"state": "stopped"'*'"reason": "stop_after='*) exit "$DONE" ;;
    '{"state": "stopped"'*) exit "$STOPPED" ;;
  esac
fi
if [ -n "$stopped" ]; then exit "$STOPPED"; fi
exit "$FAILED"
