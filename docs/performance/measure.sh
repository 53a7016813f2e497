#!/usr/bin/env bash
# Makes every file of this folder that needs no GPU, in about two and a half hours on two cores. Leave the machine
# alone meanwhile.
# Run it from the root of the repository, in an environment with the package and matplotlib.
set -euo pipefail
out=docs/performance
python docs/performance/selection.py --output $out/selection-cpu.json
python docs/performance/selection_profile.py --output $out/selection-profile-cpu.md
hf-zspa bench --shape llava-1.5-7b-small --seconds 600 --output $out/llava-1.5-7b-small
methods="zspa,limit,divprune (published)"
hf-zspa bench --shape llava-1.5-7b-small --methods "$methods" --new-tokens 2 --seconds 330 --output $out/first-token-cpu
hf-zspa bench --shape qwen2.5-vl-7b-small --patches 32x32 --methods "$methods" --new-tokens 2 --seconds 200 \
  --output $out/first-token-qwen-cpu
hf-zspa bench embedded --table 3 --seconds 60 --output $out/embedded
python docs/performance/scaling.py --output $out/scaling-cpu
python docs/performance/chart.py
# In an environment with the extra `vllm`:
# python docs/performance/serving.py --requests 8 --output $out/serving-cpu
# python docs/performance/serving.py --shape qwen3-vl-8b-small --eager --loads 1,3 \
#   --methods unpruned,zspa,weighted --rounds 4 --requests 4 --output $out/serving-qwen3-cpu
# python docs/performance/serving_cost.py --output $out/serving-cost-cpu
