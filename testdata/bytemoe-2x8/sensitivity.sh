#!/usr/bin/env bash
# Measures sensitivity.csv anew: the KL divergence that each expert tensor of
# this model causes when it alone is at Q2_K, on the first half of eval.txt.
# Needs llama.cpp v0.5.0's libraries (npm install
# @node-llama-cpp/linux-x64@3.22.1 in the project's folder).
set -euo pipefail
cd "$(dirname "$0")/../.."
GGUFPLAN_REQUIRE_LLAMA=1 go test ./cmd/ggufplan -count=1 -run '^TestSensitivityTable$' -args -update-sensitivity
