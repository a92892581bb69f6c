#!/bin/sh
# On a machine with a GPU: the tests that need one, then training and scoring there.
#
#     sh benchmarks/gpu.sh TABLE WORK [MINUTES of training]
#
# TABLE is a phrase table; WORK a new folder, in which the trained model and the rescored table stay.
set -eu
table=$1 work=$2 minutes=${3:-5}
mkdir -p "$work"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
python3 -m pytest -q tests/test_cuda.py tests/phrase_scorer/runtime/test_device.py
for preset in small paper; do
    echo "preset $preset"
    python3 benchmarks/scoring.py "$table" --preset "$preset" --entries 100000 --device cuda \
        --precisions float32 bfloat16 --plain-batch 8192
done
python3 -m moses_integration train "$table" --every-pair-once --model "$work/rnn" --max-minutes "$minutes" \
    --precision bfloat16 --device cuda
for precision in float32 bfloat16; do
    for processes in 1 4; do
        echo "rescore, $precision, $processes processes"
        began=$(date +%s.%N)
        python3 -m moses_integration rescore "$table" "$work/$precision.gz" --model "$work/rnn" \
            --precision "$precision" --device cuda --threads "$processes" --quiet
        echo "$began $(date +%s.%N)" | awk '{printf "%.1f s\n", $2 - $1}'
    done
done
