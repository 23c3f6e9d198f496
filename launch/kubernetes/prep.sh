#!/usr/bin/env bash
# launch/kubernetes/prep.sh ARGS…: one pod of data_prep.yaml. ARGS are those of `python -m data_prep`, no executor.*.
# A pod alone runs the tasks itself. Of several, number 0 starts Ray and hands them out, and all of them run them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=launch/env.sh
. launch/env.sh

need() { # refuse with 2, which data_prep.yaml does not try again, unless a variable is set
  if [ -z "${!1:-}" ]; then echo "prep.sh: $1 is not set: $2" >&2; exit 2; fi
}
need NUM_PODS "spec.completions of the Job"
need CPUS "the CPUs of a pod"
RAY_PORT=6379
RAY_BYTES=100000000 # of its object store: only the executor itself, some kilobytes, goes through it

if [ "$NUM_PODS" = 1 ]; then
  exec "$PYTHON" -m data_prep "$@" executor.kind=local "executor.workers=$CPUS"
fi

need JOB_COMPLETION_INDEX "Kubernetes sets it in an indexed Job"
need HEAD "the host name of pod 0"
need RAY_AUTH_TOKEN "a secret of all pods, or anyone who reaches the ports of pod 0 runs code there"
export RAY_AUTH_MODE=token
ray=(ray start "--num-cpus=$CPUS" "--object-store-memory=$RAY_BYTES" --disable-usage-stats)

if [ "$JOB_COMPLETION_INDEX" = 0 ]; then
  "${ray[@]}" --head "--port=$RAY_PORT" --include-dashboard=false
  exec "$PYTHON" -m data_prep "$@" executor.kind=ray executor.ray.address=auto "executor.workers=$((NUM_PODS * CPUS))"
fi

# Pod 0 may start later, or again: wait for it as long as the Job lives. --block ends when it goes.
until (exec 3<>"/dev/tcp/$HEAD/$RAY_PORT") 2>/dev/null; do sleep 2; done
exec "${ray[@]}" "--address=$HEAD:$RAY_PORT" --block
