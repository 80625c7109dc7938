#!/usr/bin/env bash
# Probes this model with the real llama-perplexity on the first half of
# eval.txt, by tensor and in four bands, and runs plans from what was found on
# the second half, beside plans from sensitivity.csv. Takes some minutes.
# Needs .ci/llama-cpp.
set -euo pipefail
cd "$(dirname "$0")/../.."
GGUFPLAN_REQUIRE_LLAMA=1 go test ./cmd/ggufplan -count=1 -timeout 60m -v -run '^TestProbeTable$' -args -probe-table
