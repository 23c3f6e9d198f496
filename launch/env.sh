# shellcheck shell=bash
# launch/env.sh: the settings that every way in shares, sourced on each node before torchrun. What is set already stays.

# The interpreter; every script starts `$PYTHON -m …`.
: "${PYTHON:=python}"

# --- What computes ---
# DeepSpeed otherwise finds out by importing one accelerator after the other, with a warning for each.
if [ -z "${DS_ACCELERATOR:-}" ]; then
  if command -v nvidia-smi >/dev/null 2>&1; then DS_ACCELERATOR=cuda; else DS_ACCELERATOR=cpu; fi
fi
# One thread per rank: the pools of several ranks fight for the same cores. Never "as many as there are": sums in
# another order would end bit-equal resumes. With engine.offload_optimizer=true set it to cores / ranks.
: "${OMP_NUM_THREADS:=1}"

# --- Memory ---
# Flat batches differ in tokens from step to step; segments that grow keep the CUDA allocator from falling to pieces.
: "${PYTORCH_ALLOC_CONF:=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}}"
# On CPU the allocator can be a bottleneck of small models; tcmalloc is taken where it is installed.
if [ "$DS_ACCELERATOR" = cpu ] && [ -z "${LD_PRELOAD:-}" ]; then
  for library in /usr/lib/*-linux-gnu/libtcmalloc_minimal.so.4 /usr/lib64/libtcmalloc_minimal.so.4; do
    if [ -r "$library" ]; then LD_PRELOAD=$library; break; fi
  done
  unset library
fi

# --- Network ---
# gloo listens where the host's own name leads to, which on Debian is 127.0.1.1, out of the others' reach. A launcher
# that sets PEER_HOST to the name of any other node gets the interface that leads there.
if [ -z "${GLOO_SOCKET_IFNAME:-}" ] && [ -n "${PEER_HOST:-}" ] && command -v ip >/dev/null 2>&1; then
  peer_address=$(getent ahosts "$PEER_HOST" | awk 'NR == 1 {print $1}') || true
  GLOO_SOCKET_IFNAME=$(ip -o route get "${peer_address:-$PEER_HOST}" 2>&1 | sed -n 's/.* dev \([^ ]*\) .*/\1/p') || true
  unset peer_address
fi
# NCCL finds the fastest network by itself: NCCL_SOCKET_IFNAME and NCCL_IB_HCA are for where it errs (NCCL_DEBUG=INFO
# shows its choice). At WARN it says why it failed, by default nothing.
: "${NCCL_DEBUG:=WARN}"
# After a timeout each rank writes down its last 2,000 collectives, so that the rank that differs can be found.
: "${TORCH_FR_BUFFER_SIZE:=2000}"

# --- Time ---
# How long a collective may wait is the trainer's: engine.collective_timeout_seconds. It bounds a hang; 300 suits most
# clusters. join: how long a node waits for the others. last call: how long the fewest nodes wait for more. A node that
# does not say within 3 × 5 s that it lives is dropped, and so is one whose clock differs by more.
: "${PET_RDZV_CONF:=join_timeout=300,last_call_timeout=15,keep_alive_interval=5,keep_alive_max_attempt=3}"
# How often torchrun starts the ranks anew after one has died. A lost or new node does not count.
: "${PET_MAX_RESTARTS:=3}"
# After a kill torchrun's workers may meet the old store on its port and hang.
: "${TORCH_DISABLE_SHARE_RDZV_TCP_STORE:=1}"
# torchrun passes these on to its ranks; one that is not listed would end torchrun alone and leave the ranks behind.
: "${PET_SIGNALS_TO_HANDLE:=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1}"
# torchrun then waits so long for them to save before it kills: one step and two saves. Its own default is 30.
: "${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:=300}"
# A host that does not answer is given up after 10 s, one that falls silent within 30 s: two questions of ssh without an
# answer, and their 10 s. No password is asked for.
: "${SSH_OPTIONS:=-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=2}"

# --- Output ---
# A line is seen when it is printed, also through ssh, srun and kubectl; a crash in native code shows where it was.
: "${PYTHONUNBUFFERED:=1}" "${PYTHONFAULTHANDLER:=1}"

export PYTHON DS_ACCELERATOR OMP_NUM_THREADS PYTORCH_ALLOC_CONF NCCL_DEBUG TORCH_FR_BUFFER_SIZE
export PET_RDZV_CONF PET_MAX_RESTARTS TORCH_DISABLE_SHARE_RDZV_TCP_STORE PET_SIGNALS_TO_HANDLE
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT SSH_OPTIONS PYTHONUNBUFFERED PYTHONFAULTHANDLER
if [ -n "${LD_PRELOAD:-}" ]; then export LD_PRELOAD; fi
if [ -n "${GLOO_SOCKET_IFNAME:-}" ]; then export GLOO_SOCKET_IFNAME; fi
