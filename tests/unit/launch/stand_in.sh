#!/usr/bin/env bash
# Stands in for the interpreter of container.sh: `-m pretrain.check` exits with CHECK, `-m torch.distributed.run` starts a
# "rank", anew while SIGTERM ends it. The rank writes STATE and REASON into the run's status.json and exits. When STATE is
# "waits", it does so when it gets SIGTERM; when it is "imports", the first one dies of the signal, and the next waits.
say() { echo "{\"state\": \"$1\", \"step\": 3, \"reason\": \"${REASON:-}\"}" >status.json; }

case $2 in
  pretrain.check) exit "${CHECK:-0}" ;;
  torch.distributed.run)
    run_dir=${!#}
    until "$0" -m rank "${run_dir#run_dir=}"; code=$?; ((code != 143)); do :; done
    exit $((code + ${CODE:-0}))
    ;;
  rank)
    cd "$3" || exit
    if [[ ${STATE:-} == imports && ! -e started ]]; then touch started && exec sleep 60; fi
    if [[ ${STATE:-} == waits || ${STATE:-} == imports ]]; then
      trap 'say stopped; exit 0' TERM
      touch started
      for _ in {1..200}; do sleep 0.05; done
      exit 9
    fi
    [[ -z ${STATE:-} ]] || say "$STATE"
    ;;
esac
