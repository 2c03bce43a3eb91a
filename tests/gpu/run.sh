#!/usr/bin/env bash
# What to do with some minutes on a GPU, from the project's root; needs Python with torch, timm, pandas and pytest, no
# network, no git and no installation. In order, each a file or folder under OUT:
#
#   machine.txt   what card, driver, Python and torch these are
#   tests.log     the GPU's tests
#   profile.json  a step of every method: ResNet-18, 32 px, batch 512, bf16, on the digits' images
#   records.tgz   study cells on CIFAR-10, shortest first, until the time is over: records and logs, no checkpoints
#
#   GPU_MINUTES=10       for all of it; what is not done by then is left out
#   STEPS="tests profile cells"
#   DATA=folder          that holds cifar-10-batches-py; without it no cell is trained
#   CELLS="methods=..."  words of the cells
#   BENCHMARK_COMMIT=    of this copy, for the records
#   OUT=runs/gpu         where all of it goes, the cells' own folders too
set -uo pipefail

PYTHON=${PYTHON:-python3} OUT=${OUT:-runs/gpu} STEPS=${STEPS:-tests profile cells}
CELLS=${CELLS:-methods=random,simclr,swav,moco,byol,barlow_twins,vicreg,simsiam,supervised seeds=0}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 WANDB_MODE=disabled COLUMNS=200
end=$((SECONDS + ${GPU_MINUTES:-10} * 60))

left() { echo $((end - SECONDS > 1 ? end - SECONDS : 1)); }
lap() { printf '\n== %s, %s s left\n' "$1" "$(left)"; }

if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "error: $PYTHON sees no GPU, or has no torch; PYTHON=... names another"
    exit 2
fi
mkdir -p "$OUT"
{
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
    "$PYTHON" -c 'import sys, torch, timm; print("Python", sys.version.split()[0], "torch", torch.__version__, "timm", timm.__version__, "cuDNN", torch.backends.cudnn.version())'
    echo "commit ${BENCHMARK_COMMIT:-not said}"
} | tee "$OUT/machine.txt"

if [[ $STEPS == *tests* ]]; then
    lap "the GPU's tests"
    spread=$("$PYTHON" -c 'import xdist' 2>/dev/null && echo "-n 6 --dist worksteal")
    # shellcheck disable=SC2086
    timeout "$(left)" "$PYTHON" -m pytest -m gpu tests/gpu tests/data/test_augment.py $spread -p no:cacheprovider \
        -o addopts=-q >"$OUT/tests.log" 2>&1
    tail -n 12 "$OUT/tests.log"
fi

if [[ $STEPS == *profile* ]]; then
    lap "a step of every method"
    trained=$("$PYTHON" -c 'import methods; print(",".join(n for n in methods.names() if methods.describe(n).trains))')
    timeout "$(left)" "$PYTHON" -m benchmark profile methods="$trained" dataset=digits view_size=32 preset=cifar \
        backbone=resnet18 batch_size=512 precision=bf16 --json >"$OUT/profile.json" || rm -f "$OUT/profile.json"
fi

if [[ $STEPS == *cells* && -n ${DATA:-} ]]; then
    lap "study cells"
    # shellcheck disable=SC2086
    timeout -s TERM -k 20 "$(left)" "$PYTHON" -m benchmark run $CELLS dataset=cifar10 dataset.root="$DATA" \
        backbone=resnet18 batch_size=512 epochs="${EPOCHS:-100}" precision=bf16 wandb=off log_every=100 out="$OUT/cells"
    tar czf "$OUT/records.tgz" -C "$OUT/cells" --exclude='last.pt*' --exclude='lock*' .
fi
lap "done"
