#!/usr/bin/env bash
# Prints the README's table: what plans for this model cost, measured by
# simulating each and running it in llama.cpp on eval.txt in windows of 128
# tokens. Needs llama.cpp v0.5.0's libraries (npm install
# @node-llama-cpp/linux-x64@3.22.1 in the project's folder).
set -euo pipefail
cd "$(dirname "$0")/../.."
GGUFPLAN_REQUIRE_LLAMA=1 go test ./cmd/ggufplan -count=1 -run '^TestQualityTable$' -v -args -quality-table | grep '^|'
