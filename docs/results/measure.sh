#!/bin/sh
# Makes every table of docs/results anew, from the small models inside the package: some nine hours on one core,
# as estimated from its parts. Run it from the root of a clone, in an environment with `pip install '.[eval]'`. WORK keeps the cells; a second run
# goes on where the first one stopped.
set -eu
WORK=${WORK:-build/results}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1

run() { # MODEL STEM NAME ARGUMENTS...
  model=$1 stem=$2 name=$3
  shift 3
  hf-zspa eval "$model" --batch-size 50 --output "$WORK/$model" "$@"
  for kind in json md; do cp "$WORK/$model/$stem.$kind" "docs/results/$model-$name.$kind"; done
}

for model in embedded embedded-qwen embedded-photo; do
  run $model table-1 table-1 --table 1
  run $model table-2 table-2 --table 2
  run $model table-4 table-4 --table 4
  run $model results methods --keep-ratio 0.25,0.1,0.05 \
    --methods original,random,resized,tome,par,relevance,divprune,zspa,conditional_dpp,mmtok,weighted,dpp
done
python docs/results/study.py --output docs/results/settings-llava.json
python docs/results/study.py --family qwen2_5_vl --output docs/results/settings-qwen.json
python docs/results/methods_study.py --work "$WORK/methods" --output docs/results/methods.json
python docs/results/fastv.py --output docs/results/fastv.json
python docs/results/tune_check.py --work "$WORK/tune-check"
python docs/results/page.py
