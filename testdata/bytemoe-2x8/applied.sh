#!/usr/bin/env bash
# Prints the KL divergence of applied files beside that of the files which
# llama-quantize writes of the same plans: uniform types and budgets, on
# eval.txt in windows of 128 tokens. Needs llama.cpp v0.5.0 (.ci/llama-cpp).
set -euo pipefail
cd "$(dirname "$0")/../.."
GGUFPLAN_REQUIRE_LLAMA=1 go test ./cmd/ggufplan -count=1 -timeout 2h -run '^TestAppliedQuality$' -v -args -apply-quality | grep -E '^\||two standard errors|^(---|FAIL|ok)'
