#!/usr/bin/env bash
# launch/slurm/rank.sh shards_dir=DIR run_dir=DIR …: one rank of a training, as srun starts it in pretrain.sbatch.
set -euo pipefail

mapfile -t nodes < <(scontrol show hostnames "$SLURM_STEP_NODELIST")
if ((SLURM_NODEID == 0)); then PEER_HOST=${nodes[-1]}; else PEER_HOST=${nodes[0]}; fi
# shellcheck source=launch/env.sh
source "${LAUNCH_DIR:-launch}/env.sh"

export MASTER_ADDR=${nodes[0]}
# Jobs of one node differ, and it is below the ports that systems hand out.
export MASTER_PORT=${MASTER_PORT:-$((10000 + SLURM_JOB_ID % 20000))}
export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
exec "$PYTHON" -m pretrain "$@"
