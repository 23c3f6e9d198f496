#!/usr/bin/env bash
# launch/hosts/on_host.sh ACTION JOB …: what launch/hosts.sh does on a host. JOB is one launch's folder inside run_dir.
set -euo pipefail
action=$1 job=$2 run_dir=${2%/*}
shift 2

refuse() { echo "$*" && exit 1; }

# processes_with NAME=VALUE: print the ids of this host's processes that were started with it in their environment.
processes_with() {
  (unset "${1%%=*}" && grep -lsFxz -e "$1" /proc/[0-9]*/environ | cut -d / -f 3) || true
}

# end_all_with NAME=VALUE: end these at once.
end_all_with() {
  local left
  while left=$(processes_with "$1") && [[ -n $left ]]; do
    xargs kill -KILL <<<"$left" 2>/dev/null || true
    sleep 0.2
  done
}

case $action in
check) # DIRECTORY PORT: print this host's time in seconds and PORT, or if it is in use one that is free.
  cd "$1" 2>/dev/null || refuse "has no directory $1, from where it was launched"
  [[ -r $job/environment ]] || refuse "does not see $job, which the launcher has just written:" \
    "run_dir must be on a file system that all hosts share"
  touch "$job/seen" 2>/dev/null || refuse "cannot write into run_dir=$run_dir"
  ranks=
  for process in $(processes_with "LAMBERT_RUN_DIR=$run_dir"); do
    if grep -qsz ^RANK= "/proc/$process/environ"; then ranks+=" $process"; fi
  done
  [[ -z $ranks ]] || refuse "still trains into $run_dir (processes$ranks): ranks that a lost link has left behind end" \
    "after engine.collective_timeout_seconds; or kill -9 them"
  end_all_with "LAMBERT_RUN_DIR=$run_dir" # a torchrun that waits for a lost rendezvous, as long as TCP does
  # shellcheck source=/dev/null
  source "$job/environment"
  "${PYTHON:-python}" - "$2" <<'END'
import importlib.util, socket, sys, time

if importlib.util.find_spec("pretrain") is None or importlib.util.find_spec("torch") is None:
    print(f"finds no pretrain and torch with {sys.executable}: install the project there, or set PYTHON")
    sys.exit(1)
for port in (int(sys.argv[1]), 0):
    try:
        # Not listened on: that would refuse the port to a check of another launch, or of another name of this host.
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("", port))
            print(int(time.time()), server.getsockname()[1])
            break
    except OSError:
        continue
END
  ;;
run) # DIRECTORY NUMBER PEER COMMAND…: run COMMAND with the launcher's environment and this host's settings.
  cd "$1"
  # shellcheck source=/dev/null
  source "$job/environment"
  export LAMBERT_RUN_DIR=$run_dir LAMBERT_JOB=$job/$2 PEER_HOST=$3
  # shellcheck source=launch/env.sh
  source "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
  "${@:4}" &
  echo $! >"$job/$2.pid"
  code=0
  wait $! || code=$?
  end_all_with "LAMBERT_JOB=$LAMBERT_JOB" # ranks outlive a torchrun that was killed, and would train on
  exit "$code"
  ;;
stop) # NUMBER: have torchrun tell its ranks to save and leave, as soon as it is there.
  for _ in {1..50}; do if [[ -s $job/$1.pid ]]; then break; else sleep 0.2; fi; done
  kill -TERM "$(<"$job/$1.pid")"
  ;;
end) # NUMBER
  end_all_with "LAMBERT_JOB=$job/$1"
  ;;
esac
