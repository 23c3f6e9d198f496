#!/usr/bin/env bash
# Stands in for the interpreter of container.sh: `-m pretrain.check` exits with CHECK, `-m torch.distributed.run` starts a
# "rank" that writes STATE into the run's status.json and exits, or waits for SIGTERM when STATE is "waits".
case $2 in
  pretrain.check) exit "${CHECK:-0}" ;;
  torch.distributed.run)
    run_dir=${!#}
    run_dir=${run_dir#run_dir=}
    bash -c '
      if [ "$1" = waits ]; then
        trap "echo \"{\\\"state\\\": \\\"stopped\\\", \\\"step\\\": 3}\" > \"$0/status.json\"; exit 0" TERM
        touch "$0/started"
        for _ in {1..200}; do sleep 0.05; done
        exit 9
      fi
      [ -z "$1" ] || echo "{\"state\": \"$1\", \"step\": 3}" > "$0/status.json"
    ' "$run_dir" "${STATE:-}"
    exit $(($? + ${CODE:-0}))
    ;;
esac
